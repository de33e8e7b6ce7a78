"""What waits, in memory: which lanes have messages due, and when the next one is.

The due view in LMDB has every message; this index has one entry a lane, so that a million waiting messages cost as
much memory as their lanes, and the deliverer sleeps until exactly the next one. It is a cache of the view: times in
it may be too early (the deliverer then looks and finds nothing), never too late.
"""

from __future__ import annotations

import heapq

from relay.views.due import Lane


class Waiting:
    def __init__(self) -> None:
        self._at: dict[Lane, int] = {}
        # Entries that `_at` no longer agrees with are stale, and dropped when they come up.
        self._heap: list[tuple[int, Lane]] = []

    def __len__(self) -> int:
        return len(self._at)

    def add(self, lane: Lane, at_us: int) -> None:
        """A message in `lane` is due at `at_us`."""
        if at_us < self._at.get(lane, 1 << 63):
            self._at[lane] = at_us
            heapq.heappush(self._heap, (at_us, lane))

    def take(self, now_us: int) -> list[Lane]:
        """Remove and return the lanes that have something due."""
        due = []
        while self._heap and self._heap[0][0] <= now_us:
            at, lane = heapq.heappop(self._heap)
            if self._at.get(lane) == at:
                del self._at[lane]
                due.append(lane)
        return due

    def next_at(self) -> int | None:
        """When the next lane becomes due; None while nothing waits."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
