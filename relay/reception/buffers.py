"""How much of unfinished messages is held in memory, of everybody together and of each party.

The invariant: **no more than `bytes_max` is held, and one party never has more than a quarter of it**, but that a
message of up to SMALL_BYTES_MAX always finds room and is not counted: so whoever sends large mail slowly keeps nobody
from sending small mail. What is held beyond the bound is at most SMALL_BYTES_MAX and one block for each connection.

**Halves do not wait for each other**: of a message whose client has not said how large it is, room is only given where
all that have begun can still come to their ends one after the other, each as large as it may become (the banker's
algorithm, Dijkstra, EWD 108). So of ten messages that come at once, and for which there is room for one and a half,
each is whole at some time.

Who waits is served in the order of coming. A party that has its quarter waits for itself alone; the others pass it.
Who waits for room that all together have taken is passed by those only who have begun, for they must come to their
ends; else a large message would wait for ever behind small ones. Cancelled while waiting: nothing more is held than
before. How much room there is may change at any time; what is held then stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from operator import attrgetter
from typing import Final

import trio

SMALL_BYTES_MAX: Final = 64 * 1024
SHARES: Final = 4


class Buffers:
    """Room for so many octets."""

    def __init__(self, bytes_max: Callable[[], int]) -> None:
        self._bytes_max = bytes_max
        self._held_bytes = 0
        self._holding: dict[str, set[Lease]] = {}
        """Who holds something, by party."""
        self._waiting: dict[Lease, int] = {}
        """Who waits, in the order of coming, and how much more each wants."""

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def lease(self, party: str) -> Lease:
        return Lease(self, party)

    async def more(self, lease: Lease, more_bytes: int) -> None:
        self._waiting[lease] = more_bytes
        lease.granted = trio.Event()
        self._serve()
        if lease not in self._waiting:
            return
        try:
            await lease.granted.wait()
        except BaseException:
            self._waiting.pop(lease, None)
            # It may have stood in the way of those behind it.
            self._serve()
            raise

    def less(self, lease: Lease, less_bytes: int) -> None:
        if less_bytes:
            self._hold(lease, -less_bytes)
            self._serve()

    def look_again(self) -> None:
        """There may be more room than before."""
        self._serve()

    def _hold(self, lease: Lease, more_bytes: int) -> None:
        lease.held_bytes += more_bytes
        self._held_bytes += more_bytes
        of_party = self._holding.setdefault(lease.party, set())
        if lease.held_bytes:
            of_party.add(lease)
        else:
            of_party.discard(lease)
            if not of_party:
                del self._holding[lease.party]

    def _serve(self) -> None:
        is_waited_for_room = False
        for lease, more_bytes in list(self._waiting.items()):
            if is_waited_for_room and not lease.held_bytes:
                continue
            self._hold(lease, more_bytes)
            has_share = can_all_end(self._holding[lease.party], self._bytes_max() // SHARES)
            if has_share and can_all_end(chain(*self._holding.values()), self._bytes_max()):
                del self._waiting[lease]
                lease.granted.set()
                continue
            self._hold(lease, -more_bytes)
            is_waited_for_room = is_waited_for_room or has_share


def can_all_end(leases: Iterable[Lease], bytes_max: int) -> bool:
    """Whether all of them can have what they may come to want, one after the other, the next when one is over."""
    in_order = sorted(leases, key=attrgetter("wanting_bytes"))
    free_bytes = bytes_max - sum(lease.held_bytes for lease in in_order)
    for lease in in_order:
        if lease.wanting_bytes > free_bytes:
            return False
        free_bytes += lease.held_bytes
    return free_bytes >= 0


class Lease:
    """What one message holds; made by `Buffers.lease`."""

    def __init__(self, buffers: Buffers, party: str) -> None:
        self.party = party
        self.held_bytes = 0
        """Of what is counted."""
        self.granted = trio.Event()
        self._most_bytes = 0
        self._buffers = buffers

    @property
    def wanting_bytes(self) -> int:
        """What it may want besides."""
        return max(0, self._most_bytes - self.held_bytes)

    async def cover(self, message_bytes: int, most_bytes: int = 0) -> None:
        """Wait until there is room for so much of this message, which may come to `most_bytes`."""
        if message_bytes > max(SMALL_BYTES_MAX, self.held_bytes):
            self._most_bytes = max(message_bytes, most_bytes)
            await self._buffers.more(self, message_bytes - self.held_bytes)

    def release(self) -> None:
        """Nothing of it is held any more."""
        self._buffers.less(self, self.held_bytes)
