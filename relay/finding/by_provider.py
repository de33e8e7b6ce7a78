"""What became of mail at each mailbox provider, by day (UTC): sums of `relay.views.traffic` over members and domains.

`Shares` tells whose mail it was, of those days of which a provider says that its users complained; `Records`, what is
known of the DNS records of those who send.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from relay.times import DAY_US
from relay.views import members, traffic
from relay.views.counting import Traffic
from spool.views import Snapshot

#: In one step. A row takes some 3 µs.
ROWS_OF_A_STEP: Final = 1_000
DAYS_MAX: Final = 92
#: Of one provider's day, or of all that sends to it: whom an operator would look at.
NAMED_MAX: Final = 10


class Share(msgspec.Struct, rename="camel", kw_only=True):
    """One domain's part of what went to a provider on one day."""

    did: str
    domain: str
    sent: int
    #: Of all that was sent to the provider on that day.
    share: float
    unsubscribes: int


class Sender(NamedTuple):
    did: str
    domain: str


class ByProvider:
    """A question (`relay.finding.carried_through`)."""

    def __init__(self, now_us: int, days: int, *, did: str | None = None) -> None:
        """The last days, today's being one. `did`: of that member's mail alone."""
        assert 1 <= days <= DAYS_MAX
        today = now_us // DAY_US
        self.days: Final = range(max(0, today - days + 1), today + 1)
        #: Provider -> day (since 1970) -> what was counted.
        self.found: dict[str, dict[int, Traffic]] = {}
        #: Provider -> who sent there -> how much.
        self.senders: dict[str, dict[Sender, int]] = defaultdict(lambda: defaultdict(int))
        self._did = did
        self._place = _Place(self.days)

    def step(self, view: Snapshot) -> bool:
        for row in self._place.rows(view, self._did):
            by_day = self.found.setdefault(row.provider, {})
            by_day.setdefault(self._place.day, Traffic()).add(row.traffic)
            self.senders[row.provider][Sender(row.did, row.domain)] += row.traffic.sent
        return not self._place.is_at_the_end

    def total(self, provider: str) -> Traffic:
        total = Traffic()
        for each in self.found.get(provider, {}).values():
            total.add(each)
        return total


class Shares:
    """Who sent to a provider on a day: a question. Asked for are (provider, day since 1970)."""

    def __init__(self, wanted: set[tuple[str, int]]) -> None:
        self._wanted = wanted
        self._rows: dict[tuple[str, int], dict[Sender, Traffic]] = defaultdict(dict)
        self._place = _Place(sorted({day for _, day in wanted}))

    def step(self, view: Snapshot) -> bool:
        for row in self._place.rows(view, None):
            key = row.provider, self._place.day
            if key in self._wanted:
                self._rows[key][Sender(row.did, row.domain)] = row.traffic
        return not self._place.is_at_the_end

    def of(self, provider: str, day: int, *, domain: str | None = None) -> list[Share]:
        """The largest first, NAMED_MAX at most. `domain`: of that sending domain alone; None: of all."""
        rows = self._rows.get((provider, day), {})
        sent = sum(row.sent for row in rows.values())
        shares = [
            Share(
                did=sender.did,
                domain=sender.domain,
                sent=row.sent,
                share=row.sent / sent if sent else 0.0,
                unsubscribes=row.unsubscribes,
            )
            for sender, row in rows.items()
            if domain is None or sender.domain == domain
        ]
        return sorted(shares, key=lambda share: (-share.sent, share.domain, share.did))[:NAMED_MAX]


class Records:
    """Of these senders, whose domain's DNS records were wrong when they were looked at last, and of whose the log tells
    nothing: a question. All others' were right."""

    def __init__(self, senders: Iterable[Sender]) -> None:
        self._left = sorted(set(senders), reverse=True)
        self.wrong: set[Sender] = set()
        #: They were never right. A look that finds that is no event, and neither is it one that nobody has looked.
        self.unknown: set[Sender] = set()
        #: They send no more.
        self.gone: set[Sender] = set()

    def step(self, view: Snapshot) -> bool:
        for _ in range(min(ROWS_OF_A_STEP, len(self._left))):
            sender = self._left.pop()
            state = members.enrolment(view, sender.did, sender.domain)
            if state is None:
                self.gone.add(sender)
            elif state.failed or state.unverified_at is not None:
                self.wrong.add(sender)
            elif not state.verified:
                self.unknown.add(sender)
        return bool(self._left)


class _Place:
    """Where the reading of the rows of some days is."""

    def __init__(self, days: range | list[int]) -> None:
        self._days = list(days)
        self._after = b""

    @property
    def day(self) -> int:
        """Of the rows that are being read."""
        return self._days[0]

    @property
    def is_at_the_end(self) -> bool:
        return not self._days

    def rows(self, view: Snapshot, did: str | None) -> Iterator[traffic.Row]:
        """The next ones, ROWS_OF_A_STEP at most; where a day is over, the next begins at the next step."""
        if not self._days:
            return
        period = traffic.Period(is_hour=False, number=self.day)
        rows = traffic.rows_of(view, period, did=did, after=self._after)
        for count, (key, row) in enumerate(rows):
            if count == ROWS_OF_A_STEP:
                return
            self._after = key
            yield row
        del self._days[0]
        self._after = b""
