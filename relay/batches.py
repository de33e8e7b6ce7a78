"""Many sends that come in one request.

Each is a send as any other (`relay.acceptance`), with a record, a key and an answer of its own. They are decided in
their order, each beside what was decided before it and is not in the views yet, and written in their order, as many at
a time as the log takes: a hundred sends cost one sync, or a few where they have many recipients.

- `send_batch`: each has its own fate. Cancelled, or ended by a crash: some were written; under their keys they are
  found again, and the others are tried.
- `send_all`: all of them or none, whatever happens: they are one append. So there is a bound on what they come to.

Each send is one write of the member's quota, also one that a door has refused: who asks a hundred things has asked a
hundred. The first is the request itself, which the door has counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import NamedTuple

import msgspec

from relay.acceptance import Idempotency, Send, Sent, decide_send, first_use, octets_of, sent_of
from relay.core import Core
from relay.edge import LOG_UNAVAILABLE
from relay.events import Event, SendAccepted
from relay.principals import SEND, Principal
from relay.refusals import Refusal, unavailable
from relay.registry import Arguments, decision
from spool.errors import ReadersFullError

#: Of one request.
SENDS_MAX = 100
#: Of `send_all`, records and octets, about: one batch of the log takes 1,024 and 16 MiB.
RECORDS_TOGETHER_MAX = 1_000
OCTETS_TOGETHER_MAX = 15 * 1024 * 1024


class SendBatch(Arguments, frozen=True, kw_only=True):
    """The arguments of `send_batch`: in their order; None: the door has refused it."""

    sends: list[Send | None]


class Refused(NamedTuple):
    """A refusal of one among many."""

    code: str
    message: str
    retry_after_seconds: int | None = None

    @classmethod
    def by(cls, refusal: Refusal) -> Refused:
        return cls(refusal.code, refusal.message, refusal.retry_after_seconds)


class Outcome(msgspec.Struct, frozen=True):
    """What became of one; neither: the door has refused it."""

    sent: Sent | None = None
    refused: Refused | None = None


class SendAll(Arguments, frozen=True, kw_only=True):
    """The arguments of `send_all`. The sends have no keys of their own."""

    sends: list[Send]
    idempotency: Idempotency | None = None


class AllSent(NamedTuple):
    #: Of each `send.accepted`.
    seqs: list[int]
    is_replay: bool = False


@decision(by=Principal, scope=SEND)
async def send_batch(core: Core, wanted: SendBatch, member: Principal) -> list[Outcome]:
    """Accept each by itself, or find the send that its key stands for."""
    _check_count(wanted.sends)
    outcomes = [Outcome() for _ in wanted.sends]
    waiting = deque(enumerate(wanted.sends))
    while waiting:
        begun: list[int] = []
        try:
            for number, sent in (await _send_some(core, waiting, member, outcomes, begun)).items():
                outcomes[number] = Outcome(sent)
            continue
        except Refusal as refusal:
            refused = Refused.by(refusal)
        except (*LOG_UNAVAILABLE, ReadersFullError):
            refused = Refused.by(core.why_stalled() or unavailable())
        for number in begun:
            outcomes[number] = Outcome(refused=refused)
    return outcomes


async def _send_some(
    core: Core,
    waiting: deque[tuple[int, Send | None]],
    member: Principal,
    outcomes: list[Outcome],
    begun: list[int],
) -> dict[int, Sent]:
    """As many of those that wait as one append takes, by their numbers; what is known of others without writing goes
    into `outcomes`, and the numbers of those that are to be written into `begun`."""
    together = _Together()
    async with AsyncExitStack() as reserved:
        while waiting and together.has_room_for(waiting[0][1]):
            number, send = waiting.popleft()
            try:
                _count(core, member, number)
                if send is None:
                    continue
                key = None if send.idempotency is None else send.idempotency.key_sha256
                # All who take several take them in the order of their places: nobody waits in a circle.
                await reserved.enter_async_context(core.reservations.key_in_turn(member.did, key))
                first = None if send.idempotency is None else first_use(core.store, member, send.idempotency)
                if first is not None:
                    outcomes[number] = Outcome(first)
                    continue
                events = decide_send(core, send, member)
            except Refusal as refusal:
                outcomes[number] = Outcome(refused=Refused.by(refusal))
                continue
            reserved.enter_context(core.reservations.hold(events))
            begun.append(number)
            together.add(send, events)
            await core.pause()
        if not begun:
            return {}
        records = await core.writes.append(member, together.events, size=together.octets)
    return {number: sent_of(records[place]) for number, place in zip(begun, together.places, strict=True)}


class _Together:
    """Sends that are to be one append."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        #: Where the events of each stand.
        self.places: list[slice] = []
        self.octets = 0

    def has_room_for(self, send: Send | None) -> bool:
        """Also for the first one, whatever it is."""
        if send is None or not self.events:
            return True
        records = 1 + len(send.request.recipients)
        return (
            len(self.events) + records <= RECORDS_TOGETHER_MAX
            and self.octets + octets_of(send, records) <= OCTETS_TOGETHER_MAX
        )

    def add(self, send: Send, events: Sequence[Event]) -> None:
        self.places.append(slice(len(self.events), len(self.events) + len(events)))
        self.events += events
        self.octets += octets_of(send, len(events))


@decision(by=Principal, scope=SEND)
async def send_all(core: Core, wanted: SendAll, member: Principal) -> AllSent:
    """Accept all of them together, or find those that the key stands for. A Refusal names the one that it is about."""
    _check_count(wanted.sends)
    for number in range(len(wanted.sends)):
        _count(core, member, number)
    key = None if wanted.idempotency is None else wanted.idempotency.key_sha256
    async with core.reservations.key_in_turn(member.did, key):
        if wanted.idempotency is not None:
            first = first_use(core.store, member, wanted.idempotency)
            if first is not None:
                return AllSent(_behind(core, first.seq, len(wanted.sends)), is_replay=True)
        return await _accept_all(core, wanted, member)


async def _accept_all(core: Core, wanted: SendAll, member: Principal) -> AllSent:
    together = _Together()
    with ExitStack() as reserved:
        for number, send in enumerate(wanted.sends):
            if number == 0:  # its record has the key of them all
                send = msgspec.structs.replace(send, idempotency=wanted.idempotency)
            try:
                events = decide_send(core, send, member)
            except Refusal as refusal:
                raise about(number, refusal) from refusal
            if not together.has_room_for(send):
                raise Refusal(
                    "PAYLOAD_TOO_LARGE",
                    f"the batch: up to [{number}] it is as much as can be accepted together or not at all, some "
                    f"{RECORDS_TOGETHER_MAX} recipients and {OCTETS_TOGETHER_MAX} bytes; send it in parts",
                )
            reserved.enter_context(core.reservations.hold(events))
            together.add(send, events)
            await core.pause()
        records = await core.writes.append(member, together.events, size=together.octets)
    return AllSent([records[place.start].seq for place in together.places])


def about(number: int, refusal: Refusal) -> Refusal:
    """The same refusal, of one among many."""
    return Refusal(
        refusal.code, f"[{number}] {refusal.message}", retry_after_seconds=refusal.retry_after_seconds
    )


def _behind(core: Core, seq: int, count: int) -> list[int]:
    """Of sends that were accepted together, which stand one behind the other."""
    seqs: list[int] = []
    for _ in range(count):
        accepted = core.store.get(seq).event
        assert isinstance(accepted, SendAccepted)
        seqs.append(seq)
        seq += 1 + accepted.recipients
    return seqs


def _check_count(sends: Sequence[Send | None]) -> None:
    """A door has looked, in words for who asked; it may be one that somebody has taken over."""
    if not 1 <= len(sends) <= SENDS_MAX:
        raise Refusal("INVALID_REQUEST", f"expected 1 to {SENDS_MAX} sends")


def _count(core: Core, member: Principal, number: int) -> None:
    """Raises Refusal(RATE_LIMITED)."""
    if number:
        core.quota.take_write(member.did)
