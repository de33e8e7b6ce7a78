"""What waits, in memory: which recipient domains have messages due, and when the next one is.

The due view in LMDB has every message; this index has one entry a domain, so that a million waiting messages cost as
much memory as their domains, and the deliverer sleeps until exactly the next one. It is a cache of the view: times in
it may be too early (the deliverer then looks and finds nothing), never too late.
"""

from __future__ import annotations

import heapq


class Waiting:
    def __init__(self) -> None:
        self._at: dict[str, int] = {}
        # Entries that `_at` no longer agrees with are stale, and dropped when they come up.
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def add(self, domain: str, at_us: int) -> None:
        """A message to `domain` is due at `at_us`."""
        if at_us < self._at.get(domain, 1 << 63):
            self._at[domain] = at_us
            heapq.heappush(self._heap, (at_us, domain))

    def take(self, now_us: int) -> list[str]:
        """Remove and return the domains that have something due."""
        due = []
        while self._heap and self._heap[0][0] <= now_us:
            at, domain = heapq.heappop(self._heap)
            if self._at.get(domain) == at:
                del self._at[domain]
                due.append(domain)
        return due

    def next_at(self) -> int | None:
        """When the next domain becomes due; None while nothing waits."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
