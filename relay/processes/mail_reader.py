"""Mail that came in, read: what it is, and which domains have signed it. Nothing in it is believed for that.

    async with open_mail_reader(resolver, clock) as reader:
        reading = await reader.read(octets, party)
        domains = await reader.signed_by(octets, reading.signatures, party)

What strangers wrote is read in a child (`child`), which has CPU_SECONDS_MAX of processor time and DATA_BYTES_MAX for
each question, so no mail keeps the relay, or fills its memory; and READ_SECONDS_MAX by the clock, which only a machine
that stands still makes it need. A child may also end for no fault of the mail (the machine has no memory left, or
somebody stopped it), and what follows is final: a reply is refused, a bounce is recorded as nothing. So another child
is asked once. A mail that could not be read by that one either is one of which nothing is
known (`Reading()`), and signed by nobody. Where no child can be had at all (no memory, no processes), that is not the
mail's fault: `NotReadNow`, and whoever has brought it should come again.

Keys are looked up by the relay's own resolver, at most SIGNATURES_MAX of them and for DNS_SECONDS_MAX, and handed over.

`in_process` makes the same reader without a child: the same code on the caller's loop, where time is the caller's own.
It is for simulated worlds (whose clock stands still while a process works) and for commands that read one mail.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeVar

import msgspec
import trio

from relay.internet.resolver import LookupFailed, NoSuchName, Resolver
from relay.mail_reading import SIGNATURES_MAX, NotReadNow, Reading, Signature
from relay.message.verifying import PublicKey
from relay.processes.child import ChildStatistics, NoAnswer, Program, open_child
from relay.processes.mail_questions import ReadMail, SignedBy, VerifySignatures

CPU_SECONDS_MAX: Final = 2.0
READ_SECONDS_MAX: Final = 20.0
#: Children, one after the other, about one mail.
ASKED_MAX: Final = 2
DNS_SECONDS_MAX: Final = 5.0
DATA_BYTES_MAX: Final = 64 * 1024 * 1024

PROGRAM: Final = Program("mail_reader", "relay.processes.mail_program", DATA_BYTES_MAX, CPU_SECONDS_MAX)

_US_PER_SECOND: Final = 1_000_000
_DOMAIN_CHARACTERS_MAX: Final = 253
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_is_domain: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*").fullmatch

Answered = TypeVar("Answered")


class Asked(Protocol):
    """Who answers: a child, or this process."""

    async def ask(
        self,
        question: msgspec.Struct,
        octets: bytes = b"",
        *,
        answer: type[Answered],
        seconds: float,
        party: str | None,
    ) -> Answered | NoAnswer: ...

    def statistics(self) -> ChildStatistics: ...


class MailReader:
    """See the module docstring. `party`: of those who wait, who comes next is decided by it; None: first.

    Cancelled: nothing has happened.
    """

    def __init__(self, asked: Asked, resolver: Resolver, clock: Callable[[], int]) -> None:
        self._asked = asked
        self._resolver = resolver
        self._clock = clock

    def statistics(self) -> ChildStatistics:
        return self._asked.statistics()

    async def read(self, octets: bytes, party: str | None) -> Reading:
        """What the mail says. Raises NotReadNow."""
        return await self._answer(ReadMail(), octets, Reading, party) or Reading()

    async def signed_by(
        self, octets: bytes, signatures: Sequence[Signature], party: str | None
    ) -> tuple[str, ...]:
        """Those of the signatures' domains whose signature verifies, in lower case. Raises NotReadNow.

        What is wrong with a signature, its key or the DNS makes it none; `relay.message.verifying` says what counts.
        """
        keys = await self._keys(signatures)
        if not keys:
            return ()
        question = VerifySignatures(keys, self._clock() // _US_PER_SECOND)
        signed = await self._answer(question, octets, SignedBy, party)
        return () if signed is None else signed.domains

    async def _answer(
        self, question: msgspec.Struct, octets: bytes, answer: type[Answered], party: str | None
    ) -> Answered | None:
        """None: there is none to be had. Raises NotReadNow."""
        for _ in range(ASKED_MAX):
            answered = await self._asked.ask(
                question, octets, answer=answer, seconds=READ_SECONDS_MAX, party=party
            )
            if not isinstance(answered, NoAnswer):
                return answered
            if answered.why == "not_begun":
                raise NotReadNow
        return None

    async def _keys(self, signatures: Sequence[Signature]) -> tuple[PublicKey, ...]:
        keys: list[PublicKey] = []

        async def look_up(signature: Signature) -> None:
            name = f"{signature.selector}._domainkey.{signature.domain}"
            if len(name) > _DOMAIN_CHARACTERS_MAX or _is_domain(name) is None:
                return
            try:
                records = [b"".join(strings) for strings in await self._resolver.lookup_txt(name)]
            except (NoSuchName, LookupFailed):
                return
            # Which of several holds is undefined (RFC 6376 section 3.6.2.2), so none does.
            if len(records) == 1:
                keys.append(PublicKey(signature.domain, signature.selector, records[0]))

        with trio.move_on_after(DNS_SECONDS_MAX):
            async with trio.open_nursery() as nursery:
                for signature in list(dict.fromkeys(signatures))[:SIGNATURES_MAX]:
                    nursery.start_soon(look_up, signature)
        return tuple(keys)


@asynccontextmanager
async def open_mail_reader(resolver: Resolver, clock: Callable[[], int]) -> AsyncIterator[MailReader]:
    """A reader with its child, which is being begun, and ends with the block. `clock`: in microseconds."""
    async with open_child(PROGRAM) as child:
        yield MailReader(child, resolver, clock)


def in_process(resolver: Resolver, clock: Callable[[], int]) -> MailReader:
    """See the module docstring. A defect of the code that reads is raised, where a child would have ended."""
    return MailReader(_Here(), resolver, clock)


class _Here:
    """This process as the one that is asked."""

    def __init__(self) -> None:
        # Not above: a relay whose child reads has no use for what it reads with.
        from relay.processes import mail_program

        self._answer = mail_program.answer
        self._answered = 0

    async def ask(
        self,
        question: msgspec.Struct,
        octets: bytes = b"",
        *,
        answer: type[Answered],
        seconds: float,
        party: str | None,
    ) -> Answered | NoAnswer:
        await trio.lowlevel.checkpoint()
        assert isinstance(question, ReadMail | VerifySignatures)
        answered = self._answer(question, octets)
        assert isinstance(answered, answer)
        self._answered += 1
        return answered

    def statistics(self) -> ChildStatistics:
        return ChildStatistics(0, self._answered, {}, 0)
