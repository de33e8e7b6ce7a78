"""The next events that a webhook is told of, from its place in the log on.

The invariant: **however far behind a webhook is, reading holds neither memory nor the loop**: a call finds what one
request can bring, looks at LOOKED_AT_MAX events at most, and does so in steps of a millisecond with others' work in
between. Who finds nothing so far goes on from there the next time.

A member's events are a range of the view of streams. The operator's webhooks are told of everybody's: they walk along
the log itself, which needs no second table that every write would have to pay for. What has just become true, `Latest`
knows; what is behind that is looked through in a thread, because a record may be as large as a mail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import cbor2
import msgspec

from relay.codec import Recorded
from relay.events import EVENT_TYPES, NOBODY, OwnedEvent
from relay.heavy_work import ON_LOOP_OCTETS_MAX, HeavyWork
from relay.store import Store
from relay.stream_events import StreamEvent
from relay.stream_pages import kept_from, stream_events
from relay.views.stream import sequence_numbers
from relay.views.webhooks import WebhookState
from relay.webhooks.endpoint import Wanted
from relay.webhooks.frames import Told

#: Of one request's body, about. One event is always brought, whatever its size.
BODY_OCTETS_MAX: Final = 64 * 1024
LOOKED_AT_MAX: Final = 1024
#: On the loop at a time: so many are read and shown, or looked at.
STEP_EVENTS: Final = 8
STEP_LOOKED_AT: Final = 32
#: In a thread at a time: so many records, and about so much of the log, is looked through.
STEP_RECORDS: Final = 2048
STEP_OCTETS: Final = 8 * 1024 * 1024
LATEST_MAX: Final = 4096

_encode = msgspec.json.Encoder().encode


class Found(NamedTuple):
    told: Sequence[Told]
    #: All up to here was looked at.
    passed: int
    #: There is nothing behind that, as it was then.
    is_all: bool


class Latest:
    """The sequence numbers of streamed events, of the latest that became true. `observe` is one of the views'
    observers."""

    def __init__(self, last_seq: int) -> None:
        self._streamed: deque[int] = deque()
        #: All behind this one are known.
        self._known_from = last_seq
        self.last_seq = last_seq

    def skip(self, recorded: Sequence[Recorded]) -> None:
        """As `observe`, while nobody asks: it is not known what is among them."""
        self._streamed.clear()
        self._known_from = self.last_seq = recorded[-1].seq

    def observe(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            if item.event.STREAMED:
                self._streamed.append(item.seq)
        while len(self._streamed) > LATEST_MAX:
            self._known_from = self._streamed.popleft()
        self.last_seq = recorded[-1].seq

    def after(self, seq: int) -> list[int] | None:
        """Those behind `seq`; None where that is longer ago."""
        if seq < self._known_from:
            return None
        newest_first = []
        for number in reversed(self._streamed):
            if number <= seq:
                break
            newest_first.append(number)
        return newest_first[::-1]


async def find_events(
    store: Store, heavy_work: HeavyWork, latest: Latest, state: WebhookState, wanted: Wanted
) -> Found:
    """What the next request brings."""
    after = max(wanted.after, kept_from(store))
    told: list[Told] = []
    octets = looked_at = 0
    while looked_at < LOOKED_AT_MAX:
        numbers, passed, is_all = await _numbers(store, heavy_work, latest, state, after)
        looked_at += max(STEP_LOOKED_AT, len(numbers))
        if wanted.until is not None and (is_all or passed >= wanted.until):
            numbers, passed, is_all = [n for n in numbers if n <= wanted.until], wanted.until, True
        numbers = [number for number in numbers if number != wanted.beside]
        while numbers:
            some, numbers = numbers[:STEP_EVENTS], numbers[STEP_EVENTS:]
            for one in await heavy_work.step(state.did, _shown, store, state.is_operators, some):
                told.append(one)
                octets += len(one.frame)
                if len(told) == wanted.events or octets >= BODY_OCTETS_MAX:
                    return Found(told, one.seq, False)
        after = passed
        if is_all:
            return Found(told, after, True)
    return Found(told, after, False)


async def _numbers(
    store: Store, heavy_work: HeavyWork, latest: Latest, state: WebhookState, after: int
) -> tuple[list[int], int, bool]:
    """The next events of the webhook's types; up to where was looked; and whether there is nothing behind."""
    if not state.is_operators:
        return await heavy_work.step(state.did, _of_member, store, state, after)
    recent = latest.after(after)
    if recent is not None:
        some = recent[:STEP_LOOKED_AT]
        passed = some[-1] if len(some) < len(recent) else latest.last_seq
        numbers = await heavy_work.step(NOBODY, _of_types, store, state.types, some)
        return numbers, passed, len(some) == len(recent)
    to = min(after + STEP_RECORDS, store.last_seq)
    async with heavy_work.turn("webhooks", ON_LOOP_OCTETS_MAX + 1) as do:
        numbers, passed = await do(partial(_of_log, store, state.types, after, to))
    return numbers, passed, False


def _of_member(store: Store, state: WebhookState, after: int) -> tuple[list[int], int, bool]:
    with store.read() as view:
        numbers = sequence_numbers(view, state.did, after=after, limit=STEP_LOOKED_AT)
    if not numbers:
        return [], after, True
    return _of_types(store, state.types, numbers), numbers[-1], len(numbers) < STEP_LOOKED_AT


def _of_types(store: Store, types: Sequence[str], numbers: Sequence[int]) -> list[int]:
    if not types:
        return list(numbers)
    return [number for number in numbers if store.get(number).event.TYPE in types]


def _of_log(store: Store, types: Sequence[str], after: int, to: int) -> tuple[list[int], int]:
    """In a thread. Only what an event is called is looked at."""
    found = []
    octets = 0
    passed = after
    for record in store.records(after + 1, to):
        name = cbor2.loads(record.skeleton).get("type")
        event_type = EVENT_TYPES.get(name)
        # One that is not known here is for who shows it to refuse.
        if (event_type is None or event_type.STREAMED) and (not types or name in types):
            found.append(record.seq)
        passed = record.seq
        octets += len(record.skeleton) + len(record.payload or b"")
        if octets >= STEP_OCTETS:
            break
    return found, passed


def _shown(store: Store, is_operators: bool, numbers: Sequence[int]) -> list[Told]:
    frame: Callable[[StreamEvent], bytes] = partial(_of_anybody, store) if is_operators else _encode
    return [Told(one.seq, one.time, one.type, frame(one)) for one in stream_events(store, numbers)]


def _of_anybody(store: Store, shown: StreamEvent) -> bytes:
    """As its member sees it, and whose it is; null: nobody's but the relay's own."""
    event = store.get(shown.seq).event
    assert isinstance(event, OwnedEvent)
    return b'{"did":%b,%b' % (_encode(event.did or None), _encode(shown)[1:])
