"""What is counted of mail in one row of a table, and what can be told from it. Words of the views; no table of its own.

Times are counted in buckets, from which medians are told. A row that is counted down to nothing is equal to none, so
that counting a thing and taking it back leaves no trace.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import msgspec

from relay.times import SECOND_US

#: Upper ends of the buckets, in seconds; the last bucket has no end.
BUCKET_SECONDS: Final = (
    *(0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 45),
    *(60, 90, 120, 180, 240, 300, 420, 600, 900, 1200, 1800, 2700),
    *(3600, 5400, 7200, 10800, 14400, 21600, 28800, 43200, 86400, 172800, 259200, 432000),
)
_BUCKETS_US = tuple(round(seconds * SECOND_US) for seconds in BUCKET_SECONDS)


class Traffic(msgspec.Struct, array_like=True):
    """How much mail came to what."""

    #: Messages.
    accepted: int = 0
    sent: int = 0
    #: Of `sent`: over TLS.
    tls: int = 0
    complaints: int = 0
    unsubscribes: int = 0
    #: Attempts that put a message off, by class (`relay.delivery.bounce_classes`).
    deferred: dict[str, int] = msgspec.field(default_factory=dict)
    #: Messages, by class.
    bounced: dict[str, int] = msgspec.field(default_factory=dict)
    #: Messages that were sent, on whatever day, and reported as failed later, by class.
    reported: dict[str, int] = msgspec.field(default_factory=dict)
    #: Of `sent`: bucket of the time from acceptance (of a scheduled one: from its own time) -> how many.
    waits: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, other: Traffic) -> None:
        self.accepted += other.accepted
        self.sent += other.sent
        self.tls += other.tls
        self.complaints += other.complaints
        self.unsubscribes += other.unsubscribes
        for mine, more in (
            (self.deferred, other.deferred),
            (self.bounced, other.bounced),
            (self.reported, other.reported),
        ):
            for name, count in more.items():
                count_in(mine, name, count)
        for bucket, count in other.waits.items():
            count_in(self.waits, bucket, count)

    @property
    def deferred_count(self) -> int:
        return sum(self.deferred.values())

    @property
    def bounced_count(self) -> int:
        return sum(self.bounced.values())

    @property
    def reported_count(self) -> int:
        return sum(self.reported.values())

    def median_seconds(self) -> float | None:
        """From acceptance to `sent`, to within a bucket; None where nothing was sent."""
        total = sum(self.waits.values())
        if not total:
            return None
        middle, below = total / 2, 0
        for bucket in sorted(map(int, self.waits)):
            count = self.waits[str(bucket)]
            if below + count >= middle:
                start = BUCKET_SECONDS[bucket - 1] if bucket else 0.0
                end = BUCKET_SECONDS[bucket] if bucket < len(BUCKET_SECONDS) else start
                return start + (end - start) * (middle - below) / count
            below += count
        raise AssertionError("the middle is behind the end")


def count_in(counts: dict[str, int], name: str, change: int) -> None:
    """What comes to nothing is no entry."""
    count = counts.get(name, 0) + change
    if count:
        counts[name] = count
    else:
        del counts[name]


def bucket_of(wait_us: int) -> int:
    return bisect_left(_BUCKETS_US, wait_us)
