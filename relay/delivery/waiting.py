"""What waits, in memory: which lanes have messages due soon, and when the next one is.

The due view in LMDB has every message. This index knows the lanes of those that are due within a minute, and of all
others only when the first of them is; so a million waiting messages cost as much memory as the next minute has lanes,
and the deliverer sleeps until exactly the next one. It is a cache of the view: times in it may be too early (the
deliverer then looks and finds nothing), never too late.

The contract. Whoever makes a message wait (again) says `add`. `look` reads on in the view where `is_to_look` says so,
and only so far at a time that nobody has to wait for it.
"""

from __future__ import annotations

import heapq
from typing import Final

from relay.times import MINUTE_US
from relay.views import due
from relay.views.due import Lane
from spool.views import Snapshot

LOOK_AHEAD_US: Final = MINUTE_US
#: Rows of the view that are read in one go; some milliseconds.
LOOK_ROWS_MAX: Final = 2000


class Waiting:
    def __init__(self) -> None:
        self._at: dict[Lane, int] = {}
        # Entries that `_at` no longer agrees with are stale, and dropped when they come up.
        self._heap: list[tuple[int, Lane]] = []
        self.forget_what_is_known()

    def __len__(self) -> int:
        return len(self._at)

    def forget_what_is_known(self) -> None:
        """Much has come into the view of which nothing was told here: read it from its beginning."""
        #: What is due up to and at this time is in the heap, but for the rows from `_read_from` on.
        self._known_until = 0
        self._read_from = (0, 0)
        #: When something may be due that is not in the heap; None: never, as far as the view goes.
        self._beyond_at: int | None = 0

    def add(self, lane: Lane, at_us: int) -> None:
        """A message in `lane` is due at `at_us`."""
        if at_us > self._known_until:
            if self._beyond_at is None or at_us < self._beyond_at:
                self._beyond_at = at_us
        elif at_us < self._at.get(lane, 1 << 63):
            self._at[lane] = at_us
            heapq.heappush(self._heap, (at_us, lane))

    def is_to_look(self, now_us: int) -> bool:
        return self._beyond_at is not None and self._beyond_at <= now_us

    def look(self, view: Snapshot, now_us: int) -> None:
        """Read on in the view, as far as a minute from now; or LOOK_ROWS_MAX, and then it is to be done again."""
        until = now_us + LOOK_AHEAD_US
        rows = due.due_from(view, *self._read_from)
        self._known_until, self._read_from, self._beyond_at = until, (until + 1, 0), None
        for number, (at, message_id, lane) in enumerate(rows):
            if at > until:
                self._beyond_at = at
                return
            if number == LOOK_ROWS_MAX:
                self._known_until, self._read_from, self._beyond_at = at, (at, message_id), at
                return
            self.add(lane, at)

    def take(self, now_us: int) -> list[Lane]:
        """Remove and return the lanes that have something due."""
        taken = []
        while self._heap and self._heap[0][0] <= now_us:
            at, lane = heapq.heappop(self._heap)
            if self._at.get(lane) == at:
                del self._at[lane]
                taken.append(lane)
        return taken

    def next_at(self) -> int | None:
        """When to `look` or `take` next; None while nothing waits."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        times = [at for at, _ in self._heap[:1]]
        if self._beyond_at is not None:
            times.append(self._beyond_at)
        return min(times, default=None)
