"""What is tried next, and on which connection: decided without I/O, clock or dice.

The words. A *lane* is what takes turns: the messages of one member and class to one recipient domain
(`relay.views.due`). A *site* is whom connections are counted against: one set of MX hosts, so that all domains at one
provider share its limits, or a fixed route. Its *window* is how many connections it is thought to bear.

The contract. The caller says what has happened (`add`, `drop`, `begin`, `ended`, `closed`) and asks what to do
(`next_start`, `to_close`, `wake_at`). Times are seconds of a clock that never goes back. Memory is one entry a lane
with something due, and one a site that has work, a connection, or had trouble within the last hour.

The rules.

- **A site never has more connections than its window, and its window is never above its configured limit.**
- Feedback as in Postfix's SCHEDULER_README, one over the window each way: as many good answers as the window is wide
  make it wider by one, as many bad ones make it narrower by one. A window never falls below 1.
- As many failures in a row as the window is wide, of the kind that says nobody is at home (no connection, no
  greeting, silence, 421), and the site is *down*: its mail is put off at once, without a connection, until the time is
  over. Then one connection goes ahead as a probe; if it fails, the site is down for twice as long, up to a limit.
- Within a site transactional lanes come first, and bulk mail leaves the last connection of a window to them: one
  member's digest does not hold up another's login link. Within a class, members take turns, and so do the domains of
  each. Sites take turns too, so that none waits for another's backlog.
- No member has more connections than its share: who writes to hundreds of domains that never answer takes not all of
  them. A connection is the member's whose message it carries, until it rests or is closed.
- A connection is used again while there is work for its site, up to a count and an age, and rests for a while when
  there is none. Where all connections are taken, the one that has rested longest is given up.
- Rates, of the whole relay and of a site, are kept by spacing: after a start the next waits its share of a minute.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Final, NamedTuple

from relay.delivery.replies import Failure
from relay.delivery.sites import Feedback, Pace, Site, SiteLimits
from relay.views.due import Lane

#: How long trouble is remembered of a site that has nothing to do.
MEMORY_SECONDS: Final = 3600.0


class SchedulerLimits(NamedTuple):
    connections_max: int
    member_connections_max: int
    #: None: as many as the connections bear.
    messages_per_minute_max: int | None
    messages_per_connection_max: int
    connection_seconds_max: float
    idle_seconds_max: float
    #: The limits of a site, by its name.
    of_site: Callable[[str], SiteLimits]


class Start(NamedTuple):
    """A message of `lane` is to be tried now."""

    site: str
    lane: Lane
    #: On this connection, which rests; None: on a new one.
    connection: int | None = None
    #: Not to be tried at all, but put off or given up for this reason.
    instead: Failure | None = None


class SiteState(NamedTuple):
    """A site as the operator sees it. Times are the scheduler's seconds."""

    name: str
    window: float
    connections: int
    resting: int
    lanes: int
    down_until: float | None
    down_because: str | None


class Scheduler:
    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._pace = Pace(limits.messages_per_minute_max)
        self._sites: dict[str, Site] = {}
        self._site_of: dict[Lane, Site] = {}
        #: Sites that may have something to start, in turn. What changes for another site puts it back.
        self._open: dict[str, None] = {}
        #: (when, site): those that wait for their own rate.
        self._paced: list[tuple[float, str]] = []
        #: Those that wait for the rate of the whole relay, the longest first.
        self._held_back: dict[str, None] = {}
        #: Those that wait until anybody's connection is closed, the longest first.
        self._crowded_out: dict[str, None] = {}
        #: Those that wait until one of this member's connections is free, the longest first.
        self._members_waiting: dict[bytes, dict[str, None]] = {}
        self._connections_of: Counter[bytes] = Counter()
        self._connections: dict[int, _Connection] = {}
        #: All that rest, the longest first.
        self._resting: dict[int, None] = {}
        #: Given up while they rested, and not told to the caller yet.
        self._given_up: list[int] = []
        #: How many connections there are to receivers.
        self._real_connections = 0
        self._begun = 0
        self._memory_checked_at = 0.0

    # ---------------------------------------------------------------- what has happened

    def add(self, site: str, lane: Lane, *, unroutable: Failure | None = None) -> None:
        """Something is due in `lane`, whose domain's mail goes to `site`, or nowhere."""
        state = self._sites.get(site)
        if state is None:
            state = self._sites[site] = Site(site, self._limits.of_site(site))
        state.unroutable = unroutable
        if self._site_of.get(lane, state) is not state:  # its MX records have changed
            self.drop(lane)
        self._site_of[lane] = state
        state.turns[lane.bulk].add(lane)
        self._open[site] = None

    def drop(self, lane: Lane) -> None:
        """Nothing is due in `lane` any more."""
        site = self._site_of.pop(lane, None)
        if site is not None:
            site.turns[lane.bulk].discard(lane)
            if not site.has_lanes:
                self._crowded_out.pop(site.name, None)
                self._held_back.pop(site.name, None)
                for waiting in self._members_waiting.values():
                    waiting.pop(site.name, None)
            self._forget_if_idle(site)

    def begin(self, start: Start, now: float) -> int:
        """The start is made; returns the number of its connection. Lane and member go to the end of their queues."""
        site = self._sites[start.site]
        site.turns[start.lane.bulk].to_the_end(start.lane)
        if start.connection is not None:
            number = start.connection
            self._wake(number)
        else:
            self._begun += 1
            number = self._begun
            self._connections[number] = _Connection(site, now, is_real=start.instead is None)
            if start.instead is None:
                site.connections += 1
                self._real_connections += 1
            else:
                site.is_putting_off = True
        if start.instead is None:
            site.pace.count(now)
            self._pace.count(now)
            self._connections[number].member = start.lane.member
            self._connections_of[start.lane.member] += 1
        self._connections[number].messages += 1
        return number

    def ended(
        self, number: int, now: float, feedback: Feedback, because: str = "", *, usable: bool = True
    ) -> bool:
        """The attempt on a connection is over. `because` says what was wrong, for the mail that is put off for it;
        `usable`, whether the connection could carry another message.

        Returns whether the connection is to rest until it is wanted again. Where not, the caller closes it and says
        `closed`.
        """
        connection = self._connections[number]
        site = connection.site
        site.learn(feedback, because, now)
        self._open[site.name] = None
        if not usable or not connection.is_real or not self._may_rest(connection, now):
            return False
        self._free_share(connection)
        connection.idle_since = now
        site.resting[number] = self._resting[number] = None
        return True

    def closed(self, number: int) -> None:
        """The connection is no more."""
        if self._connections[number].idle_since is not None:
            self._wake(number)
        connection = self._connections.pop(number)
        self._free_share(connection)
        site = connection.site
        if connection.is_real:
            site.connections -= 1
            self._real_connections -= 1
        else:
            site.is_putting_off = False
        self._open[site.name] = None
        self._forget_if_idle(site)

    def forgive(self, site: str) -> None:
        """The operator wants it tried now: if it is down, the next message is a probe."""
        state = self._sites.get(site)
        if state is not None:
            state.down_until = None
            self._open[site] = None

    def change_limits(self, limits: SchedulerLimits) -> None:
        """They hold from now on. What is under way above them goes on; nothing more is begun until it is over."""
        self._limits = limits
        self._pace.change(limits.messages_per_minute_max)
        for site in self._sites.values():
            site.change_limits(limits.of_site(site.name))
            self._open[site.name] = None

    def lanes(self) -> list[Lane]:
        """All with something due."""
        return list(self._site_of)

    # ---------------------------------------------------------------- what to do

    def next_start(self, now: float) -> Start | None:
        """What to start next; None: nothing now. `begin` it or `drop` its lane before asking again."""
        while self._paced and self._paced[0][0] <= now:
            name = heapq.heappop(self._paced)[-1]
            if name in self._sites:
                self._open[name] = None
        while (turn := self._next_site(now)) is not None:
            site = self._sites.get(turn)
            start = None if site is None else self._start_at(site, now)
            if start is not None:
                self._open[turn] = None  # to the end: it has had its turn
                return start
        return None

    def to_close(self, now: float) -> list[int]:
        """Connections that have rested long enough, or are given up. Each is named once; they count until `closed`."""
        while self._resting:
            number = next(iter(self._resting))
            since = self._connections[number].idle_since
            assert since is not None
            if now < since + self._limits.idle_seconds_max:
                break
            self._give_up(number)
        given_up, self._given_up = self._given_up, []
        self._forget_old(now)
        return given_up

    def wake_at(self) -> float | None:
        """When to ask again although nothing has happened."""
        times = [at for at, _ in self._paced[:1]]
        if self._held_back:
            times.append(self._pace.free_at)
        for number in self._resting:
            since = self._connections[number].idle_since
            assert since is not None
            times.append(since + self._limits.idle_seconds_max)
            break
        return min(times, default=None)

    def states(self) -> list[SiteState]:
        return [
            SiteState(
                site.name,
                site.window,
                site.connections,
                len(site.resting),
                len(site.turns[False]) + len(site.turns[True]),
                site.down_until,
                site.down_because,
            )
            for site in self._sites.values()
        ]

    # ---------------------------------------------------------------- how

    def _next_site(self, now: float) -> str | None:
        """Whose turn it is. What many wait for together is offered to one after the other, not to all each time."""
        has_room = self._real_connections < self._limits.connections_max
        for member, waiting in list(self._members_waiting.items()):
            if not waiting:
                del self._members_waiting[member]
            elif self._has_share(member):
                name = next(iter(waiting))
                del waiting[name]
                return name
        for waiting, may_go in (
            (self._crowded_out, has_room),
            (self._held_back, now >= self._pace.free_at),
            (self._open, True),
        ):
            if waiting and may_go:
                name = next(iter(waiting))
                del waiting[name]
                return name
        return None

    def _start_at(self, site: Site, now: float) -> Start | None:
        failure = site.standing_failure(now)
        if failure is not None:
            lane = None if site.is_putting_off else site.next_lane_to_put_off()
            return None if lane is None else Start(site.name, lane, instead=failure)
        turns = site.open_turns()
        lane = next((lane for turn in turns if (lane := turn.first(self._has_share)) is not None), None)
        if lane is None:
            # All of them are at their share.
            for member in chain.from_iterable(turn.members() for turn in turns):
                self._members_waiting.setdefault(member, {})[site.name] = None
            return None
        if now < site.pace.free_at:
            if site.paced_until != site.pace.free_at:
                site.paced_until = site.pace.free_at
                heapq.heappush(self._paced, (site.paced_until, site.name))
            return None
        if now < self._pace.free_at:
            self._held_back[site.name] = None
            return None
        if site.resting:
            # The last one, so that those that are not needed grow old.
            return Start(site.name, lane, next(reversed(site.resting)))
        if site.connections >= int(site.window):
            return None
        if self._real_connections >= self._limits.connections_max:
            self._crowded_out[site.name] = None
            if self._resting:
                self._give_up(next(iter(self._resting)))
            return None
        return Start(site.name, lane)

    def _may_rest(self, connection: _Connection, now: float) -> bool:
        others_wait = len(self._crowded_out) > (connection.site.name in self._crowded_out)
        return (
            not others_wait
            and connection.messages < self._limits.messages_per_connection_max
            and now < connection.opened_at + self._limits.connection_seconds_max
            and connection.site.connections <= int(connection.site.window)
            and self._real_connections <= self._limits.connections_max
        )

    def _has_share(self, member: bytes) -> bool:
        """Whether the member may have one more connection."""
        return self._connections_of[member] < self._limits.member_connections_max

    def _free_share(self, connection: _Connection) -> None:
        if connection.member is not None:
            self._connections_of[connection.member] -= 1
            if not self._connections_of[connection.member]:
                del self._connections_of[connection.member]
            connection.member = None

    def _wake(self, number: int) -> None:
        connection = self._connections[number]
        connection.idle_since = None
        del connection.site.resting[number]
        del self._resting[number]

    def _give_up(self, number: int) -> None:
        self._wake(number)
        self._given_up.append(number)

    def _forget_if_idle(self, site: Site) -> None:
        if site.is_idle and not site.failures:
            self._sites.pop(site.name, None)

    def _forget_old(self, now: float) -> None:
        if now < self._memory_checked_at + MEMORY_SECONDS:
            return
        self._memory_checked_at = now
        for site in list(self._sites.values()):
            if site.is_idle and now >= site.failed_at + MEMORY_SECONDS:
                del self._sites[site.name]


class _Connection:
    """`is_real`: to a receiver. The other kind only keeps one message after the other from being tried."""

    def __init__(self, site: Site, now: float, *, is_real: bool) -> None:
        self.site = site
        self.opened_at = now
        self.is_real = is_real
        self.messages = 0
        #: Whose message it carries; None while it rests.
        self.member: bytes | None = None
        self.idle_since: float | None = None
