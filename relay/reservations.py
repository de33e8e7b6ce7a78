"""What has been decided and is not in the views yet, so that decisions made beside each other stay exact.

Between a decision and its event in the views lies an fsync, during which other requests are decided. They must see
what is on its way: how many recipients a domain has in flight (limits), now and at which times, and which idempotency
keys are being used.

A reservation ends at the very moment its event is applied, never earlier or later, or not at all when the append
failed; so no request counts twice and none is missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import NamedTuple

import trio

from relay.codec import Recorded
from relay.events import Event, MessageRescheduled, SendAccepted
from relay.views.warming import minute_of
from spool.errors import LogStalledError


class _Planned(NamedTuple):
    domain: str
    minute_us: int


class Reservations:
    """`observe` must be one of the views' observers."""

    def __init__(self) -> None:
        self._recipients: Counter[str] = Counter()
        #: Of scheduled sends: as in `relay.views.warming`, by minutes.
        self._planned: Counter[_Planned] = Counter()
        #: Message that is being moved -> where to.
        self._moves: dict[int, _Planned] = {}
        self._keys: dict[tuple[str, str], trio.Event] = {}

    def recipients(self, domain: str) -> int:
        """Of sends that are to go out at once."""
        return self._recipients[domain]

    def scheduled(self, domain: str) -> dict[int, int]:
        """Beginning of a minute -> recipients of sends that are scheduled in it, or being moved there."""
        return {planned.minute_us: n for planned, n in self._planned.items() if planned.domain == domain}

    @contextmanager
    def hold(self, events: Sequence[Event]) -> Iterator[None]:
        """Reserve for the send in `events`, which is being appended inside the block."""
        send = events[0]
        assert isinstance(send, SendAccepted)
        self._count(send, send.wanted)
        try:
            yield
        except LogStalledError as stalled:
            # It may be applied yet: then `observe` ends the reservation, and until then it counts.
            stalled.when_absent(partial(self._release, send))
            raise
        except BaseException:
            self._release(send)
            raise

    def move(self, domain: str, events: Sequence[Event]) -> None:
        """Reserve for messages of the domain that are being moved, all to one time. Whoever appends these events says
        `give_up_move` when they will never be true."""
        for event in events:
            assert isinstance(event, MessageRescheduled)
            self.give_up_move(event.message_id)
            planned = _Planned(domain, minute_of(event.next_attempt_at))
            self._moves[event.message_id] = planned
            self._planned[planned] += 1

    def give_up_move(self, message_id: int) -> None:
        planned = self._moves.pop(message_id, None)
        if planned is not None:
            self._plan(planned, -1)

    def observe(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            if isinstance(item.event, MessageRescheduled):
                self.give_up_move(item.event.message_id)  # it is in the view
            elif isinstance(item.event, SendAccepted):
                self._release(item.event)
                if item.event.idempotency_key is not None:
                    key = item.event.did, item.event.idempotency_key
                    if (done := self._keys.get(key)) is not None:
                        self._free(key, done)

    def _release(self, send: SendAccepted) -> None:
        self._count(send, -send.wanted)

    def _count(self, send: SendAccepted, change: int) -> None:
        if send.scheduled_at is not None:
            self._plan(_Planned(send.domain, minute_of(send.scheduled_at)), change)
            return
        self._recipients[send.domain] += change
        if not self._recipients[send.domain]:
            del self._recipients[send.domain]

    def _plan(self, planned: _Planned, change: int) -> None:
        self._planned[planned] += change
        if not self._planned[planned]:
            del self._planned[planned]

    @asynccontextmanager
    async def key_in_turn(self, did: str, key_sha256: str | None) -> AsyncIterator[None]:
        """Requests with the same idempotency key, one after the other; others do not wait."""
        if key_sha256 is None:
            yield
            return
        key = did, key_sha256
        while (busy := self._keys.get(key)) is not None:
            await busy.wait()
        done = self._keys[key] = trio.Event()
        try:
            yield
        except LogStalledError as stalled:
            # It may be applied yet. Until then nobody knows what the key stands for, and whoever asks has to wait.
            stalled.when_absent(partial(self._free, key, done))
            raise
        except BaseException:
            self._free(key, done)
            raise
        else:
            self._free(key, done)

    def _free(self, key: tuple[str, str], done: trio.Event) -> None:
        if self._keys.get(key) is done:
            del self._keys[key]
        done.set()
