"""The oracle of limits, a part of `tests.world.promises_of_the_log`: how many recipients a domain has in its windows,
by a sum over the log. Pure.

A recipient counts at the time when its send was accepted, or at the one that its member has chosen for it, as it was
moved last. One that was cancelled before that time counts no more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from typing import NamedTuple

from relay.config import Config
from relay.events import MessageBounced, MessageQueued, MessageRescheduled, SendAccepted
from tests.world.ledger import DAY_US, HOUR_US, ON_ITS_WAY_US, Entry, _Send

IN_FLIGHT_BATCHES = 2
#: Scheduled mail is counted by minutes, all of one that a window has a part of.
MINUTE_US = 60_000_000


class _Planned(NamedTuple):
    """A scheduled message that was not cancelled."""

    did: str
    domain: str
    at_us: int


class LimitJudge:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.found: list[str] = []
        self.sends: list[_Send] = []
        #: Domain -> (sequence number, time) from which the transactional class has had its trickle, or None: no more.
        self._trickles: dict[str, list[tuple[int, int | None]]] = defaultdict(list)
        #: Domain or member, and class of mail -> the batch of the pause.
        self._paused: dict[tuple[str, str], int] = {}
        self._born: dict[str, int] = {}
        #: Member -> (batch, hour, day), None for the tiers.
        self._own_limits: dict[str, list[tuple[int, tuple[int, int] | None]]] = defaultdict(list)
        #: Member -> (sequence number, time, the same).
        self._limits_set: dict[str, list[tuple[int, int, tuple[int, int] | None]]] = defaultdict(list)
        #: Domain -> recipients of requests about which nobody knows.
        self._unknown: Counter[str] = Counter()
        #: Domain -> (time, recipients) of sends that go out at once.
        self._accepted: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._planned: dict[int, _Planned] = {}
        #: Domain -> (when that was in the log, message, time) of each time that a message of it was ever planned for.
        self._ever_planned: dict[str, list[tuple[int, int, int]]] = defaultdict(list)

    def _check_limits(self, entry: Entry, event: SendAccepted) -> None:
        """A send is decided a moment before it is written, so the wider of the limits that held meanwhile are its
        own."""
        if event.scheduled_at is not None:
            return  # its messages are looked at one by one
        (seq, time_us, _), _ = entry
        self._accepted[event.domain].append((time_us, event.wanted))
        if event.wanted:
            self._check_windows(entry, event.did, event.domain, time_us)
        trickled = self._trickled(event.domain, seq, time_us)
        # What was on its way when the domain was paused is in the log behind that.
        if trickled is not None and trickled - self._before_pause(entry, event.domain) > self._trickle:
            self._break(
                entry, f"{trickled} recipients since the pause, where {self._trickle} an hour are allowed"
            )

    def _plan(self, entry: Entry, event: MessageQueued | MessageRescheduled) -> None:
        """A message has its own time, or another one."""
        message_id = entry.recorded.seq
        if isinstance(event, MessageRescheduled):
            message_id = event.message_id
            known = self._planned.get(message_id)
            if known is None:
                return
            planned = known._replace(at_us=event.next_attempt_at)
        else:
            planned = _Planned(event.did, event.domain, event.next_attempt_at)
        self._planned[message_id] = planned
        self._ever_planned[planned.domain].append((entry.recorded.time_us, message_id, planned.at_us))
        # The operator's order asks nobody.
        if not isinstance(event, MessageRescheduled) or event.by is None:
            self._check_windows(entry, planned.did, planned.domain, planned.at_us)

    def _withdraw(self, event: MessageBounced) -> None:
        """Before it was tried."""
        if not event.attempt:
            self._planned.pop(event.message_id, None)

    def _check_windows(self, entry: Entry, did: str, domain: str, at_us: int) -> None:
        """The window that this time closes, and those of scheduled messages that have it in theirs."""
        for number, (name, window_us) in enumerate((("hour", HOUR_US), ("day", DAY_US))):
            ends = {
                planned.at_us
                for planned in self._planned.values()
                if planned.domain == domain and at_us < planned.at_us <= at_us + window_us - ON_ITS_WAY_US
            }
            for end in (at_us, *sorted(ends)):
                limit = self._limits(did, domain, end, entry.batch)[number]
                count = self._count(domain, end, window_us)
                if count > limit:
                    self._break(entry, f"{count} recipients within a {name}, where {limit} are allowed")

    def _count(self, domain: str, end_us: int, window_us: int) -> int:
        accepted = self._accepted[domain]
        planned = [
            each.at_us
            for each in self._planned.values()
            if each.domain == domain and end_us - window_us + ON_ITS_WAY_US < each.at_us <= end_us
        ]
        # Where there is scheduled mail, the window of one end is another's, and a moment is between decision and log.
        start_us = end_us - window_us + (ON_ITS_WAY_US if planned else 0)
        first = bisect_right(accepted, (start_us, 1 << 62))
        return len(planned) + sum(count for at, count in accepted[first:] if at <= end_us)

    def _would_fit(
        self, domain: str, at_us: int, *, now_us: int, count: int, own: tuple[int, int] | None
    ) -> bool:
        """Whether so many more at that time were certainly within all limits, by what there was, or was on its way,
        when that was asked (`now_us`)."""
        ever = {
            (message_id, time)
            for logged_us, message_id, time in self._ever_planned[domain]
            if logged_us < now_us + ON_ITS_WAY_US
        }
        more_us = MINUTE_US if ever else 0
        for number, window_us in enumerate((HOUR_US, DAY_US)):
            ends = [time for _, time in ever if at_us < time <= at_us + window_us + 2 * MINUTE_US]
            for end in (at_us, *ends):
                start, until = end - window_us - more_us, end + ON_ITS_WAY_US + more_us
                there = sum(n for time, n in self._accepted[domain] if start < time < until)
                there += sum(start < time < until for _, time in ever)
                if there + self._unknown[domain] + count > (own or self._tier(domain, end))[number]:
                    return False
        return True

    @property
    def _trickle(self) -> int:
        return self.config.reputation.transactional_per_hour_while_paused

    def _trickled(self, domain: str, seq: int, time_us: int, late_us: int = 0) -> int | None:
        """Recipients of the last hour since the domain was paused for its bounces; None: it is not."""
        since = next((since for at, since in reversed(self._trickles[domain]) if at <= seq), None)
        if since is None:
            return None
        start = max(since, time_us - HOUR_US)
        return sum(recipients for at, recipients in self._accepted[domain] if start < at <= time_us + late_us)

    def _before_pause(self, entry: Entry, domain: str) -> int:
        """Recipients of sends that were decided before the pause, and are in the log a few batches behind it."""
        paused = self._paused.get((domain, "bulk"), entry.batch)
        return sum(
            send.event.wanted
            for send in self.sends
            if send.event.domain == domain and paused <= send.batch <= paused + IN_FLIGHT_BATCHES
        )

    def _limits(self, did: str, domain: str, time_us: int, batch: int) -> tuple[int, int]:
        held = [own for since, own in self._own_limits[did] if since >= batch - IN_FLIGHT_BATCHES]
        before = [own for since, own in self._own_limits[did] if since < batch - IN_FLIGHT_BATCHES]
        tier = self._tier(domain, time_us)
        possible = [own or tier for own in (before[-1] if before else None, *held)]
        return max(hour for hour, _ in possible), max(day for _, day in possible)

    def _tier(self, domain: str, time_us: int) -> tuple[int, int]:
        age_days = (time_us - self._born.get(domain, time_us)) / DAY_US
        tiers = self.config.warming.tiers
        tier = next(tier for tier in tiers if tier.until_day is None or age_days < tier.until_day)
        return tier.hour, tier.day

    def _break(self, entry: Entry, sentence: str) -> None:
        event = entry.recorded.event
        about = f" of message {event.message_id}" if hasattr(event, "message_id") else ""
        self.found.append(f"seq {entry.recorded.seq}, {event.TYPE}{about}: {sentence}")
