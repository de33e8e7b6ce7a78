"""What has been decided and is not in the views yet, so that decisions made beside each other stay exact.

Between a decision and its event in the views lies an fsync, during which other requests are decided. They must see
what is on its way: how many recipients a domain has in flight (limits), and which idempotency keys are being used.

A reservation ends at the very moment its event is applied, never earlier or later, or not at all when the append
failed; so no request counts twice and none is missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio

from relay.codec import Recorded
from relay.events import Event, SendAccepted
from spool.errors import LogStalledError


class Reservations:
    """`observe` must be one of the views' observers."""

    def __init__(self) -> None:
        self._recipients: Counter[str] = Counter()
        self._keys: dict[tuple[str, str], trio.Event] = {}

    def recipients(self, domain: str) -> int:
        return self._recipients[domain]

    @contextmanager
    def hold(self, events: Sequence[Event]) -> Iterator[None]:
        """Reserve for the send in `events`, which is being appended inside the block."""
        send = events[0]
        assert isinstance(send, SendAccepted)
        self._recipients[send.domain] += send.wanted
        try:
            yield
        except LogStalledError:
            # It may be applied yet: then `observe` ends the reservation, and until then it counts.
            raise
        except BaseException:
            self._release(send)
            raise

    def observe(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            if isinstance(item.event, SendAccepted):
                self._release(item.event)
                if item.event.idempotency_key is not None:
                    key = item.event.did, item.event.idempotency_key
                    if (done := self._keys.get(key)) is not None:
                        self._free(key, done)

    def _release(self, send: SendAccepted) -> None:
        self._recipients[send.domain] -= send.wanted
        if not self._recipients[send.domain]:
            del self._recipients[send.domain]

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
        except LogStalledError:
            # It may be applied yet. Until then nobody knows what the key stands for, and whoever asks has to wait.
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
