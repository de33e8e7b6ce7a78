"""Memory for what is large: how many octets of bodies and messages are held at a time, and by whom.

The invariant: **what is held is bounded, no member holds more than a quarter of it, and who holds too much waits for
its own to end, not for another's.** What has at most ALWAYS_OCTETS is not counted: a login link always finds room.

How much there is room for may change at any time; what is held then stays.

Among those who wait, nobody overtakes another of its own party, nor anybody who could be next: a small one must not
keep a large one waiting for ever. Cancelled while waiting: nothing is held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from relay.config_doors import HttpConfig

#: Of large bodies that are received, at least. Read and on its way to the log, a body takes some four times as much.
RECEIVING_OCTETS_LEAST = 16 * 1024 * 1024
#: So small that it always finds room.
ALWAYS_OCTETS = 64 * 1024


class Held:
    """What one work holds, which is nothing at first. Made by `Buffers.held`."""

    def __init__(self, buffers: Buffers, party: str) -> None:
        self._buffers = buffers
        self._party = party
        self._octets = 0

    async def take(self, octets: int) -> None:
        """Hold so many, as soon as there is room for them; once only: who holds some and waits for more can wait for
        ever."""
        assert not self._octets
        if octets > ALWAYS_OCTETS:
            await self._buffers._take(self._party, octets)
            self._octets = octets

    def resize(self, octets: int) -> None:
        """It has turned out to be more, or less. Nobody waits here: the one who comes next does."""
        if octets <= ALWAYS_OCTETS:
            octets = 0
        more, self._octets = octets - self._octets, octets
        if more:
            self._buffers._change(self._party, more)


def receiving_octets(http: HttpConfig, processes: int = 1) -> int:
    """Room for large bodies in each of so many processes: a quarter of it, which one member may have, takes the largest
    that there may be."""
    return max(RECEIVING_OCTETS_LEAST // processes, 4 * http.send_bytes_max)


class Buffers:
    """Room for `octets_max()`. What is larger than a member's share is held when nothing else of that member's is."""

    def __init__(self, octets_max: Callable[[], int]) -> None:
        self._octets_max = octets_max
        self._held = 0
        self._held_by: dict[str, int] = {}
        #: In the order in which they came.
        self._waiting: OrderedDict[trio.Event, tuple[str, int]] = OrderedDict()

    @property
    def octets_max(self) -> int:
        return self._octets_max()

    @property
    def octets_of_one_max(self) -> int:
        return self.octets_max // 4

    @property
    def octets(self) -> int:
        """Held now."""
        return self._held

    @contextmanager
    def held(self, party: str) -> Iterator[Held]:
        """What the block holds is given back at its end."""
        held = Held(self, party)
        try:
            yield held
        finally:
            held.resize(0)

    async def _take(self, party: str, octets: int) -> None:
        called = trio.Event()
        self._waiting[called] = party, octets
        self._call()
        if called.is_set():
            return
        try:
            await called.wait()
        except BaseException:
            if called.is_set():
                self._change(party, -octets)
            else:
                del self._waiting[called]
                self._call()  # who stood behind it may be next
            raise

    def _change(self, party: str, more: int) -> None:
        self._held += more
        mine = self._held_by.get(party, 0) + more
        if mine:
            self._held_by[party] = mine
        else:
            self._held_by.pop(party, None)
        if more < 0:
            self._call()

    def _call(self) -> None:
        """Call all for whom there is room now."""
        passed_over: set[str] = set()
        for called, (party, octets) in list(self._waiting.items()):
            if party in passed_over:
                continue
            if not self._has_share(party, octets):
                passed_over.add(party)
            elif self._has_room(octets):
                del self._waiting[called]
                self._change(party, octets)
                called.set()
            else:
                return

    def _has_share(self, party: str, octets: int) -> bool:
        mine = self._held_by.get(party, 0)
        return not mine or mine + octets <= self.octets_of_one_max

    def _has_room(self, octets: int) -> bool:
        return not self._held or self._held + octets <= self.octets_max
