"""Whether so many recipients more fit into a domain's rolling windows at a time, and if not, when they do. Pure.

The invariant: **for every recipient, at its time t, there are at most as many in (t - window, t] as the limit that is
in force at t.** Its time is when it was accepted, or the one that its member has scheduled it for. So who sends at
once must fit with what was sent before; and with what is scheduled for later and has this time in its window, which
was promised a place.

Scheduled ones are counted by minutes (`relay.views.warming`), and a window has all of a minute of which it has a
part: it may have a few more than there are, and never fewer.

Nothing is read of scheduled mail where a domain has none, but to see that.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from relay.times import DAY_US, MINUTE_US
from relay.views import warming
from relay.views.warming import minute_of
from spool.views import Snapshot

#: So far behind the time that is asked about a place is looked for, where there is scheduled mail. For a place the
#: mail of a day behind it has to be looked at, too.
AHEAD_US = DAY_US


class Ceiling(NamedTuple):
    """A limit of a window."""

    recipients: int
    window_us: int
    #: What was before counts in no window.
    since_us: int = 0

    def start(self, at_us: int) -> int:
        """Of its window that ends then."""
        return max(at_us - self.window_us, self.since_us)


#: The limits that are in force at a time, and until when; None: for good. They are always in the same order, in which
#: the window of each is a part of that of the one before.
CeilingsAt = Callable[[int], tuple[tuple[Ceiling, ...], int | None]]


class _Full(NamedTuple):
    """The minutes whose windows have no room, as far as was looked."""

    looked_until: int
    minutes: list[int]


class Windows:
    """Of one domain, about a time that is not past (`around_us`).

    `reserved`: accepted recipients that are on their way into the log, and so not in the view yet. `changes`: as many
    more, or fewer, in a minute than the view has, for they are on their way, or about to be moved away.
    """

    def __init__(
        self,
        view: Snapshot,
        domain: str,
        *,
        around_us: int,
        now_us: int,
        reserved: int = 0,
        changes: Mapping[int, int] | None = None,
    ) -> None:
        self._view = view
        self._domain = domain
        self._now_us = now_us
        self._reserved = reserved
        self._total = warming.total_until(view, domain, now_us) + reserved
        self._around_us = around_us
        self._changes = changes or {}
        #: Of scheduled mail: beginnings of minutes, in order, and how many have their time before each of them and, at
        #: last, in all. Both empty but for a 0: there is none.
        self._minutes: list[int] = []
        self._before: list[int] = [0]
        self._read_until = minute_of(around_us - DAY_US) - 1
        if changes or warming.scheduled_since(view, domain, around_us - DAY_US):
            self._read(around_us + DAY_US)

    def _read(self, until_us: int) -> None:
        """On to the minutes that begin until then."""
        first = self._read_until + 1
        counts = dict(warming.scheduled_minutes(self._view, self._domain, first, until_us))
        for minute, change in self._changes.items():
            if first <= minute <= until_us:
                counts[minute] = counts.get(minute, 0) + change
        for minute in sorted(counts):
            if counts[minute] > 0:
                self._minutes.append(minute)
                self._before.append(self._before[-1] + counts[minute])
        self._read_until = until_us

    @property
    def has_scheduled(self) -> bool:
        return bool(self._minutes)

    def counted(self, ceiling: Ceiling, at_us: int) -> int:
        """How many there are in the window that ends then."""
        start = ceiling.start(at_us)
        return self._at_once_after(start) + self._scheduled_in(minute_of(start), minute_of(at_us))

    def _at_once_after(self, start_us: int) -> int:
        if start_us >= self._now_us:
            return 0
        return self._total - warming.total_until(self._view, self._domain, start_us)

    def _scheduled_in(self, first_minute: int, last_minute: int) -> int:
        if not self._minutes:
            return 0
        first, last = bisect_left(self._minutes, first_minute), bisect_left(self._minutes, last_minute + 1)
        return self._before[last] - self._before[first]

    def first_fit(self, recipients: int, at_us: int, ceilings_at: CeilingsAt) -> int | None:
        """The first time, not before `at_us`, at which so many more fit; None: never.

        Where there is mail that is scheduled for later, it is looked for only so far ahead (AHEAD_US), and may be later
        than what is returned.
        """
        full: dict[Ceiling, _Full] = {}
        while True:
            ceilings, until_us = ceilings_at(at_us)
            following: int | None
            if any(recipients > ceiling.recipients for ceiling in ceilings):
                following = until_us
            elif self._minutes and at_us > self._around_us + AHEAD_US:
                return at_us
            else:
                following = self._refused_until(recipients, at_us, ceilings, ceilings_at, full)
                if following == at_us:
                    return at_us
                if self._minutes and self._read_until < self._around_us + AHEAD_US + DAY_US:
                    self._read(self._around_us + AHEAD_US + DAY_US)
            if following is None:
                return None
            # What the limits of then would let pass, later ones may let pass before.
            at_us = following if until_us is None else min(following, until_us)

    def _refused_until(
        self,
        recipients: int,
        at_us: int,
        ceilings: tuple[Ceiling, ...],
        ceilings_at: CeilingsAt,
        full: dict[Ceiling, _Full],
    ) -> int:
        """`at_us` where they fit then; else a time before which they do not."""
        most: int | None = None
        for number, ceiling in enumerate(ceilings):
            # Where a whole day has less than an hour may have, the hour's need not be looked up.
            if most is None or most + recipients > ceiling.recipients:
                most = self.counted(ceiling, at_us)
            excess = most + recipients - ceiling.recipients
            if excess > 0:
                return self._has_left(ceiling, at_us, excess)
            if not self._minutes:
                continue
            # The windows of those who come later, and have this time in theirs.
            of_ceiling = full.setdefault(ceiling, _Full(minute_of(at_us), []))
            last_minute = minute_of(at_us) + ceiling.window_us
            if of_ceiling.looked_until < last_minute:
                found = self._full_minutes(
                    recipients, number, of_ceiling.looked_until, last_minute, ceilings_at
                )
                of_ceiling = full[ceiling] = _Full(last_minute, [*of_ceiling.minutes, *found])
            last = bisect_left(of_ceiling.minutes, last_minute + 1) - 1
            if last >= 0 and of_ceiling.minutes[last] > at_us:
                return of_ceiling.minutes[last]
        return at_us

    def _full_minutes(
        self, recipients: int, number: int, after_us: int, last_minute: int, ceilings_at: CeilingsAt
    ) -> Iterator[int]:
        """The minutes with scheduled mail, in (after, last], whose windows have no room for so many more."""
        index = bisect_left(self._minutes, after_us + 1)
        end = bisect_left(self._minutes, last_minute + 1)
        while index < end:
            minute = self._minutes[index]
            ceilings, until_us = ceilings_at(minute)
            ceiling = ceilings[number]
            room = ceiling.recipients - recipients - self.counted(ceiling, minute)
            if room < 0:
                yield minute
                index += 1
                continue
            # A later window has no more than this one but what came since. So there is room in those before so many
            # have come; as far as the limits are the same.
            following = bisect_left(self._before, self._before[index + 1] + room + 1) - 1
            if until_us is not None:
                following = min(following, bisect_left(self._minutes, until_us))
            index = max(following, index + 1)

    def _has_left(self, ceiling: Ceiling, at_us: int, excess: int) -> int:
        """When so many of those that are in the window at that time are in it no more."""
        start = ceiling.start(at_us)
        for left_at, count in heapq.merge(self._leave_at_once(ceiling, start), self._leave(ceiling, start)):
            excess -= count
            if excess <= 0:
                return left_at
        raise AssertionError("more than there are in a window cannot leave it")

    def _leave_at_once(self, ceiling: Ceiling, start_us: int) -> Iterator[tuple[int, int]]:
        """(when they leave, how many), in order."""
        # One row a send and one recipient a row at least: whoever looks for a place ends after `limit` rows.
        before = warming.total_until(self._view, self._domain, start_us)
        for time_us, total in warming.sends_after(self._view, self._domain, start_us):
            yield time_us + ceiling.window_us, total - before
            before = total
        if self._reserved and start_us < self._now_us:
            yield self._now_us + ceiling.window_us, self._reserved

    def _leave(self, ceiling: Ceiling, start_us: int) -> Iterator[tuple[int, int]]:
        for index in range(bisect_left(self._minutes, minute_of(start_us)), len(self._minutes)):
            count = self._before[index + 1] - self._before[index]
            yield self._minutes[index] + MINUTE_US + ceiling.window_us, count
