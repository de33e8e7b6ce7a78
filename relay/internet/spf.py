"""Whether the owner of a domain says that its mail comes from this address: SPF (RFC 7208).

The invariant: **it takes bounded time, look-ups and memory, whatever stands in the DNS, and anything but a clear "pass"
is none.** Bounded are: ten mechanisms that ask the DNS and two look-ups that find nothing (section 4.6.4), LOOKUPS_MAX
questions in all (ten `mx` with ten hosts each would be a hundred), SECONDS_MAX, and the length of records and terms:
the patterns of pyspf go back over a long term again and again. No term of an honest record is longer than a domain
name and some letters.

pyspf evaluates, and would ask the DNS itself. Here it is given what is known already; where it needs to know more it
is left, that is looked up, and it begins again. It begins a few times, each time with a result that is the same as
far as it had come. So nothing waits in a thread, and an evaluation can be left at any time.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

import spf
import trio

from relay.addresses import parse_domain
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver

SECONDS_MAX: Final = 20.0
LOOKUPS_MAX: Final = 40
RECORD_CHARACTERS_MAX: Final = 4096
TERM_CHARACTERS_MAX: Final = 320
NAME_CHARACTERS_MAX: Final = 253

_Question = tuple[str, str]
#: As pyspf has them: of TXT the strings, of MX preference and host, of PTR names, else addresses. None: the DNS could
#: not tell.
_Found = list[Any] | None


class _Unknown(Exception):
    """Whatever the evaluation comes to depends on what the DNS says to this."""

    def __init__(self, question: _Question) -> None:
        super().__init__(question)
        self.question = question


async def spf_passes(
    resolver: Resolver, *, client_address: str, mail_from: str, ehlo_name: str
) -> str | None:
    """The domain whose SPF passes for that client, in lower case: that of the envelope's sender, or of EHLO where it is
    null. None: it does not, or there is none. Never raises."""
    local, _, given = mail_from.rpartition("@") if mail_from else ("postmaster", "@", ehlo_name)
    try:
        domain = parse_domain(given)
        ipaddress.ip_address(client_address)
    except ValueError:  # AddressError is one
        return None
    asked = _Evaluation(client_address, f"{local}@{domain}", ehlo_name)
    with trio.move_on_after(SECONDS_MAX):
        for _ in range(LOOKUPS_MAX + 1):
            await trio.lowlevel.checkpoint()
            try:
                return domain if asked.result() == "pass" else None
            except _Unknown as unknown:
                asked.known[unknown.question] = await _look_up(resolver, *unknown.question)
            except Exception:  # noqa: BLE001
                # pyspf stumbles over some records of strangers, in as many ways. That is no pass.
                return None
    return None


async def _look_up(resolver: Resolver, name: str, kind: str) -> _Found:
    try:
        if kind == "TXT":
            return [list(strings) for strings in await resolver.lookup_txt(name)]
        if kind == "MX":
            return [tuple(mx) for mx in await resolver.lookup_mx(name)]
        if kind == "PTR":
            return list(await resolver.lookup_names(name))
        addresses = map(ipaddress.ip_address, await resolver.lookup_addresses(name))
        return [str(address) for address in addresses if address.version == (4 if kind == "A" else 6)]
    except NoSuchName:
        return []
    except LookupFailed:
        return None


class _Evaluation:
    """One client and one sender, and what is known of the DNS."""

    def __init__(self, client_address: str, sender: str, ehlo_name: str) -> None:
        self._arguments = {"i": client_address, "s": sender, "h": ehlo_name}
        self.known: dict[_Question, _Found] = {}
        #: Terms that were read before, by the domain of their record.
        self.terms: dict[tuple[str, str], Any] = {}

    def result(self) -> str:
        """A word of RFC 7208 section 2.6. Raises _Unknown, or what pyspf raises."""
        return str(_Query(self, **self._arguments).check()[0])


class _Query(spf.query):  # type: ignore[misc]
    """pyspf's evaluation, with what is known in place of the DNS."""

    def __init__(self, evaluation: _Evaluation, **arguments: str) -> None:
        super().__init__(**arguments)
        self._evaluation = evaluation

    def dns(
        self, name: str, qtype: str, cnames: dict[str, str] | None = None, ignore_void: bool = False
    ) -> list[Any]:
        """The records. Aliases have been followed. Raises _Unknown, spf.TempError or spf.PermError."""
        found: _Found = []
        question = (str(name).lower().removesuffix("."), qtype)
        if _can_be_asked(question[0]):
            if question not in self._evaluation.known:
                raise _Unknown(question)
            found = self._evaluation.known[question]
        if found is None:
            raise spf.TempError("the DNS could not tell")
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError("too many look-ups that found nothing")
        return found

    def dns_spf(self, domain: str) -> str | None:
        record: str | None = super().dns_spf(domain)
        if record is not None and (
            len(record) > RECORD_CHARACTERS_MAX or max(map(len, record.split(" "))) > TERM_CHARACTERS_MAX
        ):
            raise spf.PermError("a record or a term is longer than is read")
        return record

    def validate_mechanism(self, mech: str) -> Any:
        """Reading a term takes most of the time, and means the same each time."""
        key = (self.d, mech)
        if key not in self._evaluation.terms:
            self._evaluation.terms[key] = super().validate_mechanism(mech)
        return self._evaluation.terms[key]

    def dns_ptr(self, i: str) -> list[str]:
        """The names of the client's address, which pyspf still has to find leading back to it."""
        try:
            return self.dns(self.c, "PTR")
        except spf.TempError:
            return []  # then nothing matches (RFC 7208 section 5.5)

    def get_explanation(self, spec: str) -> None:
        """What a domain says to those whom it does not let pass is not wanted."""


def _can_be_asked(name: str) -> bool:
    """Others are as if they did not exist, as pyspf has it."""
    return (
        len(name) <= NAME_CHARACTERS_MAX
        and name.isascii()
        and name.isprintable()
        and all(0 < len(label) < 64 for label in name.split("."))
    )
