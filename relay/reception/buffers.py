"""How much of unfinished messages is held in memory, of everybody together and of each party.

The invariant: **no more than `bytes_max` is held, and one party never has more than a quarter of it**, but that a
message of up to SMALL_BYTES_MAX always finds room and is not counted: so whoever sends large mail slowly keeps nobody
from sending small mail. What is held beyond the bound is at most SMALL_BYTES_MAX and one block for each connection.

Who waits is served in the order of coming. A party that has its quarter waits for itself alone; the others pass it.
Who waits for room that all together have taken is passed by nobody, or a large message would wait for ever behind small
ones. Cancelled while waiting: nothing more is held than before. How much room there is may change at any time; what is
held then stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

SMALL_BYTES_MAX: Final = 64 * 1024
SHARES: Final = 4


class Buffers:
    """Room for so many octets."""

    def __init__(self, bytes_max: Callable[[], int]) -> None:
        self._bytes_max = bytes_max
        self._held_bytes = 0
        self._of_party: dict[str, int] = {}
        self._waiting: dict[Lease, int] = {}
        """Who waits, in the order of coming, and how much more each wants."""

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def lease(self, party: str) -> Lease:
        return Lease(self, party)

    async def more(self, lease: Lease, more_bytes: int) -> None:
        if self._waiting or not self._has_room(lease, more_bytes):
            self._waiting[lease] = more_bytes
            lease.granted = trio.Event()
            self._serve()
            try:
                await lease.granted.wait()
            except BaseException:
                self._waiting.pop(lease, None)
                # It may have stood in the way of those behind it.
                self._serve()
                raise
        else:
            self._hold(lease, more_bytes)

    def less(self, lease: Lease, less_bytes: int) -> None:
        if less_bytes:
            self._hold(lease, -less_bytes)
            self._serve()

    def _has_room(self, lease: Lease, more_bytes: int) -> bool:
        return self._has_share(lease, more_bytes) and self._held_bytes + more_bytes <= self._bytes_max()

    def _has_share(self, lease: Lease, more_bytes: int) -> bool:
        return self._of_party.get(lease.party, 0) + more_bytes <= self._bytes_max() // SHARES

    def _hold(self, lease: Lease, more_bytes: int) -> None:
        lease.held_bytes += more_bytes
        self._held_bytes += more_bytes
        of_party = self._of_party.pop(lease.party, 0) + more_bytes
        if of_party:
            self._of_party[lease.party] = of_party

    def look_again(self) -> None:
        """There may be more room than before."""
        self._serve()

    def _serve(self) -> None:
        for lease, more_bytes in list(self._waiting.items()):
            if self._has_room(lease, more_bytes):
                del self._waiting[lease]
                self._hold(lease, more_bytes)
                lease.granted.set()
            elif self._has_share(lease, more_bytes):
                return


class Lease:
    """What one message holds; made by `Buffers.lease`."""

    def __init__(self, buffers: Buffers, party: str) -> None:
        self.party = party
        self.held_bytes = 0
        """Of what is counted."""
        self.granted = trio.Event()
        self._buffers = buffers

    async def cover(self, message_bytes: int) -> None:
        """Wait until there is room for so much of this message."""
        if message_bytes > max(SMALL_BYTES_MAX, self.held_bytes):
            await self._buffers.more(self, message_bytes - self.held_bytes)

    def release(self) -> None:
        """Nothing of it is held any more."""
        self._buffers.less(self, self.held_bytes)
