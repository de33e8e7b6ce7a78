"""One site, as the scheduler knows it: its window, whose turn it is in it, and whether it is down. No I/O, no clock.

A *site* is whom connections are counted against: one set of MX hosts, or a fixed route. Its *window* is how many
connections it is thought to bear. `relay.delivery.scheduler` has the rules and decides between sites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, NamedTuple

from relay.delivery.outcomes import AttemptOutcome
from relay.delivery.replies import Failure, FailureKind
from relay.delivery.reply_reader import Command
from relay.views.due import Lane

#: A site's window before anything is known of it.
WINDOW_AT_FIRST: Final = 5
#: How long a site stays down, at first and at most; it doubles with every probe that fails.
DOWN_SECONDS: Final = 60.0
DOWN_SECONDS_MAX: Final = 300.0
#: Of what was wrong with a site, as it is told of the mail that is put off for it.
BECAUSE_CHARACTERS_MAX: Final = 300


class Feedback(Enum):
    """What an attempt tells of its site."""

    ANSWERED = "answered"
    """It works, whatever it says of the message."""
    THROTTLED = "throttled"
    """It works, and wants less of us."""
    DOWN = "down"
    """It does not answer, or sends everybody away."""
    NOTHING = "nothing"
    """The attempt ended for reasons of our own."""


class SiteLimits(NamedTuple):
    connections_max: int
    #: None: as many as the connections bear.
    messages_per_minute_max: int | None = None


class Site:
    def __init__(self, name: str, limits: SiteLimits) -> None:
        self.name = name
        self.connections_max = limits.connections_max
        self.window = float(min(WINDOW_AT_FIRST, limits.connections_max))
        self.pace = Pace(limits.messages_per_minute_max)
        self.paced_until = 0.0
        #: By "is bulk".
        self.turns = {False: Turns(), True: Turns()}
        #: Not closed yet, whatever they are doing.
        self.connections = 0
        self.resting: dict[int, None] = {}
        self.is_putting_off = False
        self.unroutable: Failure | None = None
        #: In a row.
        self.failures = 0
        self.failed_at = 0.0
        self.down_seconds = DOWN_SECONDS
        self.down_until: float | None = None
        self.down_because: str | None = None

    def change_limits(self, limits: SiteLimits) -> None:
        """They hold from now on. What is under way above them goes on."""
        self.connections_max = limits.connections_max
        self.window = min(self.window, float(limits.connections_max))
        self.pace.change(limits.messages_per_minute_max)

    @property
    def has_lanes(self) -> bool:
        return any(self.turns.values())

    @property
    def is_idle(self) -> bool:
        return not (self.connections or self.is_putting_off or self.has_lanes)

    def is_down(self, now: float) -> bool:
        return self.down_until is not None and now < self.down_until

    def standing_failure(self, now: float) -> Failure | None:
        """Why nothing is tried here at present."""
        if self.unroutable is not None:
            return self.unroutable
        if self.is_down(now):
            return Failure(
                FailureKind.SITE_DOWN, f"not tried, because it failed just now: {self.down_because}"
            )
        return None

    def open_turns(self) -> list[Turns]:
        """Those for which the window has room, transactional mail first."""
        working = self.connections - len(self.resting)
        room = {False: int(self.window), True: max(1, int(self.window) - 1)}
        return [turns for bulk, turns in self.turns.items() if working < room[bulk]]

    def next_lane_to_put_off(self) -> Lane | None:
        return self.turns[False].first() or self.turns[True].first()

    def learn(self, feedback: Feedback, because: str, now: float) -> None:
        match feedback:
            case Feedback.ANSWERED:
                self.failures, self.down_seconds = 0, DOWN_SECONDS
                self.down_until = self.down_because = None
                self.window = min(self.window + 1 / self.window, float(self.connections_max))
            case Feedback.THROTTLED:
                self._narrow()
            case Feedback.DOWN:
                self.failures += 1
                self.failed_at = now
                if self.failures < int(self.window):
                    self._narrow()
                elif not self.is_down(now):  # what was under way when it went down says nothing new
                    self.window, self.down_because = 1.0, because
                    self.down_until = now + self.down_seconds
                    self.down_seconds = min(self.down_seconds * 2, DOWN_SECONDS_MAX)
            case Feedback.NOTHING:
                pass

    def _narrow(self) -> None:
        self.window = max(self.window - 1 / self.window, 1.0)


class Turns:
    """Lanes in turn: by member, and each member's by domain. Dictionaries, because they keep their order."""

    def __init__(self) -> None:
        self._members: dict[bytes, dict[Lane, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._members.values()))

    def __bool__(self) -> bool:
        return bool(self._members)

    def add(self, lane: Lane) -> None:
        self._members.setdefault(lane.member, {})[lane] = None

    def discard(self, lane: Lane) -> None:
        lanes = self._members.get(lane.member, {})
        lanes.pop(lane, None)
        if not lanes:
            self._members.pop(lane.member, None)

    def members(self) -> Iterable[bytes]:
        return self._members

    def first(self, may_start: Callable[[bytes], bool] = lambda member: True) -> Lane | None:
        """The first lane whose member may start something."""
        return next((next(iter(lanes)) for member, lanes in self._members.items() if may_start(member)), None)

    def to_the_end(self, lane: Lane) -> None:
        lanes = self._members.pop(lane.member)
        del lanes[lane]
        lanes[lane] = None
        self._members[lane.member] = lanes


class Pace:
    """At most so many a minute, evenly."""

    def __init__(self, per_minute: int | None) -> None:
        self._counted_at = float("-inf")
        self.change(per_minute)

    @property
    def free_at(self) -> float:
        return self._counted_at + self._seconds

    def count(self, now: float) -> None:
        self._counted_at = now

    def change(self, per_minute: int | None) -> None:
        """The next waits as long after the last one as if it had always been so."""
        self._seconds = 60 / per_minute if per_minute else 0.0


def feedback_of(outcome: AttemptOutcome | None) -> tuple[Feedback, str]:
    """What an attempt tells the scheduler of its site, and in which words."""
    if outcome is None:
        return Feedback.NOTHING, ""
    judgement, reply = outcome.judgement, outcome.reply
    if judgement.blame_site:
        said = f"{reply.code} {reply.text}" if reply else str(outcome.error)
        at_home = judgement.usable or _broke_off(outcome)
        return (Feedback.THROTTLED if at_home else Feedback.DOWN), said[:BECAUSE_CHARACTERS_MAX]
    return (Feedback.ANSWERED if reply else Feedback.NOTHING), ""


def _broke_off(outcome: AttemptOutcome) -> bool:
    """Whether a receiver that had greeted us stumbled, perhaps over this very message: the others get their own try.

    One that falls silent is another matter: to find that out message by message would take minutes for each.
    """
    failure = outcome.failure
    return (
        failure is not None
        and failure.kind in (FailureKind.CLOSED, FailureKind.NOT_SMTP)
        and failure.command in (Command.MAIL, Command.RCPT, Command.DATA, Command.END_OF_DATA)
    )
