"""What a list of senders to refuse (DNSBL, RFC 5782) says of an address or a domain.

The invariant: **an answer that a list did not give is never taken for one.** There are three answers: listed, not
listed, and unknown. A list answers in 127.0.0.0/8; whatever is said otherwise comes from somebody else: a resolver that
rewrites what does not exist, or a domain that the list has let go. 127.255.255.0/24 is how Spamhaus says that it was
asked in a way that it does not answer (through a public resolver, too often), and 127.0.0.1 means nothing (section 5).
So a list is asked for its own test entries first: where it does not list the one that must be listed, or lists the one
that must not be, what it says of others is unknown.

It takes the time of a few look-ups, and never raises but when it is cancelled. The words of a TXT record are a
stranger's: what is kept of them is short and printable.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final, NamedTuple, TypeAlias

from relay.internet.resolver import LookupFailed, NoSuchName, Resolver

TEXT_CHARACTERS_MAX: Final = 500
CODES_MAX: Final = 20
NAME_CHARACTERS_MAX: Final = 253

_ANSWERS: Final = IPv4Network("127.0.0.0/8")
_NO_ANSWERS: Final = (IPv4Network("127.255.255.0/24"), IPv4Network("127.0.0.1/32"))

#: RFC 5782 section 5, by what is asked for: what every list must name, and what none may.
_TESTS: Final = {
    "ipv4": ("127.0.0.2", "127.0.0.1"),
    "ipv6": ("::ffff:7f00:2", "::ffff:7f00:1"),
    "domain": ("test", "invalid"),
}


class Listed(NamedTuple):
    #: Sorted.
    codes: tuple[str, ...]
    text: str | None


class NotListed(NamedTuple):
    pass


class Unknown(NamedTuple):
    #: A sentence.
    because: str


Verdict: TypeAlias = Listed | NotListed | Unknown


def kind_of(source: str) -> str:
    """`ipv4`, `ipv6` or `domain`."""
    try:
        return f"ipv{ip_address(source).version}"
    except ValueError:
        return "domain"


def query_name(source: str, dnsbl: str) -> str:
    """What is asked for: the octets of an address, or the nibbles, backwards; a domain as it is."""
    try:
        address = ip_address(source)
    except ValueError:
        return f"{source}.{dnsbl}"
    if isinstance(address, IPv6Address):
        return f"{'.'.join(reversed(address.exploded.replace(':', '')))}.{dnsbl}"
    return f"{'.'.join(reversed(str(address).split('.')))}.{dnsbl}"


def can_be_asked(source: str, dnsbl: str) -> bool:
    """Whether there can be such a name (RFC 1035 section 2.3.4): a domain may be as long as all of it."""
    return len(query_name(source, dnsbl)) <= NAME_CHARACTERS_MAX


async def ask_list(resolver: Resolver, dnsbl: str, source: str) -> Verdict:
    """Of a list that was seen to answer (`why_no_answers`)."""
    name = query_name(source, dnsbl)
    codes = await _codes(resolver, name)
    if isinstance(codes, NotListed | Unknown):
        return codes
    return Listed(codes.codes, await _text(resolver, name))


async def why_no_answers(resolver: Resolver, dnsbl: str, kind: str) -> str | None:
    """Why nothing is known of what this list says of sources of that kind; None: it gives answers."""
    listed, unlisted = _TESTS[kind]
    for source, is_wanted in ((listed, True), (unlisted, False)):
        found = await _codes(resolver, query_name(source, dnsbl))
        if isinstance(found, Unknown):
            return found.because
        if isinstance(found, Listed) and not is_wanted:
            return f"it names its test entry {source}, which no list may: it names everything"
        if isinstance(found, NotListed) and is_wanted:
            return f"it does not name its test entry {source}, which every list must"
    return None


async def _codes(resolver: Resolver, name: str) -> Verdict:
    """What the A records say, without words."""
    try:
        found = await resolver.lookup_addresses(name)
    except NoSuchName:
        return NotListed()
    except LookupFailed as error:
        return Unknown(f"the DNS could not tell: {error}")
    addresses = sorted({address for text in found if isinstance(address := ip_address(text), IPv4Address)})
    return _read(addresses[:CODES_MAX])


def _read(addresses: Sequence[IPv4Address]) -> Verdict:
    if not addresses:
        return NotListed()
    for address in addresses:
        if address not in _ANSWERS:
            return Unknown(
                f"the answer {address} is no list's: a resolver rewrites answers, or the list is gone"
            )
        if any(address in network for network in _NO_ANSWERS):
            return Unknown(f"the list gives no answers to this resolver ({address})")
    return Listed(tuple(map(str, addresses)), None)


async def _text(resolver: Resolver, name: str) -> str | None:
    try:
        records = await resolver.lookup_txt(name)
    except (NoSuchName, LookupFailed):
        return None
    for strings in records:
        said = b"".join(strings)[: 4 * TEXT_CHARACTERS_MAX].decode("utf-8", errors="replace")
        shown = "".join(character if character.isprintable() else " " for character in said)
        return " ".join(shown.split())[:TEXT_CHARACTERS_MAX] or None
    return None
