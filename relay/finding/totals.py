"""What became of how many messages: by receiver (MX host), site (recipient domain), class, domain, member or provider.

Rows are those of `relay.views.traffic` and `relay.views.receivers`, so what they count is what these say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from heapq import nlargest
from itertools import islice
from typing import Final

import msgspec

from relay.providers import UNKNOWN
from relay.refusals import invalid
from relay.times import DAY_US, rfc3339
from relay.views import receivers, traffic
from relay.views.counting import Traffic
from spool.views import Snapshot

#: What the rows are put in order by, the largest first, is one of ORDERS.
BYS: Final = ("receiver", "site", "class", "domain", "member", "provider")
ORDERS: Final = ("messages", "sent", "deferred", "bounced", "complaints")
ROWS_MAX: Final = 1_000
#: Of one step: a few milliseconds.
_ROWS_OF_STEP: Final = 200
#: Days, further back than there can be anything.
_PERIODS_MAX: Final = 10_000


class TopRow(msgspec.Struct, rename="camel", kw_only=True):
    """Rates are null where there is nothing to tell them from. Of a class there are `deferred` and `bounced` alone, and
    what it was reported with later; all else is 0 or null there."""

    #: Host, recipient domain, class, sending domain, DID or provider; null: nobody could be asked, or nobody knows it
    #: any more.
    name: str | None
    #: Messages whose provider became known, or that ended without one; null by receiver and site, which come later.
    accepted: int | None
    sent: int
    #: Attempts that put a message off.
    deferred: int
    bounced: int
    #: Messages that were sent, whenever, and reported as failed later.
    reported: int
    complaints: int
    unsubscribes: int
    #: By class, the most first.
    deferred_by_class: dict[str, int]
    bounced_by_class: dict[str, int]
    reported_by_class: dict[str, int]
    #: bounced / (sent + bounced)
    bounce_rate: float | None
    #: complaints / sent. Whether the provider reports any at all, this cannot say.
    complaint_rate: float | None
    #: Share of `sent` that went over TLS.
    tls_rate: float | None
    #: From acceptance to `sent`, half of them took no longer.
    median_seconds: float | None


class TopAnswer(msgspec.Struct, rename="camel", kw_only=True):
    by: str
    order: str
    #: What was counted, which may begin a little earlier than asked for and end a little later: whole hours, and whole
    #: days where it is longer ago than 2 days.
    since: str
    until: str
    rows: list[TopRow]
    #: How many there are, shown or not.
    total: int
    #: All together.
    all: TopRow


class Totals:
    """A `relay.finding.Question`."""

    def __init__(
        self,
        by: str,
        *,
        since_us: int,
        until_us: int,
        now_us: int,
        order: str = "messages",
        did: str | None = None,
        limit: int = 20,
    ) -> None:
        """Raises Refusal(INVALID_REQUEST)."""
        if by not in BYS:
            raise invalid("by", f"expected one of {', '.join(BYS)}")
        if order not in ORDERS:
            raise invalid("order", f"expected one of {', '.join(ORDERS)}")
        if not 1 <= limit <= ROWS_MAX:
            raise invalid("limit", f"expected a number from 1 to {ROWS_MAX}")
        if did is not None and by in ("receiver", "site"):
            raise invalid("did", f"by {by} is counted for all members together; leave it out")
        if since_us >= until_us:
            raise invalid("since", "is not before `until`")
        # What has not been yet has no hours to be looked at.
        until_us = min(until_us, now_us + 1)
        if since_us >= until_us:
            raise invalid("since", "has not been yet")
        self._by, self._order, self._did, self._limit = by, order, did, limit
        self._counted: defaultdict[str | None, Traffic] = defaultdict(Traffic)
        self._all = Traffic()
        since_us = max(since_us, until_us - _PERIODS_MAX * DAY_US)
        self._periods = traffic.periods(since_us, until_us, now_us)
        self._next = 0
        self._after = b""

    def step(self, view: Snapshot) -> bool:
        budget = _ROWS_OF_STEP
        while self._next < len(self._periods) and budget > 0:
            budget -= self._look(view, budget) + 2
        return self._next < len(self._periods)

    def _look(self, view: Snapshot, budget: int) -> int:
        count = 0
        for key, name, counted in islice(self._rows(view), budget):
            count += 1
            self._after = key
            self._add(name, counted)
        if count < budget:
            self._next, self._after = self._next + 1, b""
        return count

    def _rows(self, view: Snapshot) -> Iterator[tuple[bytes, str | None, Traffic]]:
        period = self._periods[self._next]
        if self._by in ("receiver", "site"):
            for key, place in receivers.rows_of(view, period, after=self._after):
                yield key, (place.mx if self._by == "receiver" else place.site) or None, place.traffic
            return
        for key, row in traffic.rows_of(view, period, did=self._did, after=self._after):
            names = {"domain": row.domain, "member": row.did, "provider": row.provider, "class": None}
            yield key, names[self._by], row.traffic

    def _add(self, name: str | None, counted: Traffic) -> None:
        self._all.add(counted)
        if self._by != "class":
            self._counted[name].add(counted)
            return
        for bounce_class, count in counted.deferred.items():
            self._counted[bounce_class].add(Traffic(deferred={bounce_class: count}))
        for bounce_class, count in counted.bounced.items():
            self._counted[bounce_class].add(Traffic(bounced={bounce_class: count}))
        for bounce_class, count in counted.reported.items():
            self._counted[bounce_class].add(Traffic(reported={bounce_class: count}))

    def answer(self) -> TopAnswer:
        """When `step` has said that there is nothing more to look at."""
        size = _SIZES[self._order]
        named = sorted(self._counted.items(), key=lambda item: item[0] or "")
        largest = nlargest(self._limit, named, key=lambda item: size(item[1]))
        places = self._by in ("receiver", "site")
        return TopAnswer(
            by=self._by,
            order=self._order,
            since=rfc3339(self._periods[0].start_us),
            until=rfc3339(self._periods[-1].end_us),
            rows=[top_row(name, counted, has_accepted=not places) for name, counted in largest],
            total=len(self._counted),
            all=top_row(None, self._all, has_accepted=not places),
        )


_SIZES: dict[str, Callable[[Traffic], int]] = {
    "messages": lambda counted: counted.sent + counted.bounced_count + counted.deferred_count,
    "sent": lambda counted: counted.sent,
    "deferred": lambda counted: counted.deferred_count,
    "bounced": lambda counted: counted.bounced_count + counted.reported_count,
    "complaints": lambda counted: counted.complaints,
}


def top_row(name: str | None, counted: Traffic, *, has_accepted: bool = True) -> TopRow:
    over = counted.sent + counted.bounced_count
    return TopRow(
        name=None if name == UNKNOWN else name,
        accepted=counted.accepted if has_accepted else None,
        sent=counted.sent,
        deferred=counted.deferred_count,
        bounced=counted.bounced_count,
        reported=counted.reported_count,
        complaints=counted.complaints,
        unsubscribes=counted.unsubscribes,
        deferred_by_class=_most_first(counted.deferred),
        bounced_by_class=_most_first(counted.bounced),
        reported_by_class=_most_first(counted.reported),
        bounce_rate=counted.bounced_count / over if over else None,
        complaint_rate=counted.complaints / counted.sent if counted.sent else None,
        tls_rate=counted.tls / counted.sent if counted.sent else None,
        median_seconds=counted.median_seconds(),
    )


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
