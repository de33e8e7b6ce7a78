"""Who may make the next request: places, of which there are so many, and turns for them. Pure: time is given.

The invariant: **no member, and no crowd of dead endpoints, keeps another's endpoint waiting for long.**

- There are PLACES_MAX places, and a member has OF_A_MEMBER_MAX of them at most. Members take turns, and among the
  endpoints of one member these do.
- A request is *slow* when the one before it to that endpoint failed, or when it has been under way for HUNG_SECONDS.
  Slow ones have SLOW_MAX places at most, and are given new ones only up to SLOW_BESIDE_OTHERS_MAX while any other
  endpoint waits.
- Where an endpoint waits that answered well, and there is no place, who has hung for HUNG_SECONDS may lose his
  (`surplus`): of endpoints that had failed before, all but SLOW_BESIDE_OTHERS_MAX; and where so many begin to hang at
  once that slow ones have more than SLOW_MAX before anybody can know it, those that are too many. The last to have
  begun go first: those that were there before have their time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Final, NamedTuple

PLACES_MAX: Final = 60
OF_A_MEMBER_MAX: Final = 8
SLOW_MAX: Final = 16
SLOW_BESIDE_OTHERS_MAX: Final = 4
HUNG_SECONDS: Final = 2.0


class _Place(NamedTuple):
    member: str
    since: float
    #: The request before failed.
    failed: bool


class _Queue:
    """Those who wait, by member; members in the order of their turns."""

    def __init__(self) -> None:
        self._members: OrderedDict[str, deque[str]] = OrderedDict()

    def add(self, member: str, who: str) -> None:
        self._members.setdefault(member, deque()).append(who)

    def remove(self, member: str, who: str) -> None:
        waiting = self._members[member]
        waiting.remove(who)
        if not waiting:
            del self._members[member]

    def first(self, of_member: Counter[str]) -> str | None:
        """The member whose turn it is. At most PLACES_MAX / OF_A_MEMBER_MAX members have all their places."""
        return next((member for member in self._members if of_member[member] < OF_A_MEMBER_MAX), None)

    def take(self, member: str) -> str:
        waiting = self._members[member]
        who = waiting.popleft()
        if waiting:
            self._members.move_to_end(member)
        else:
            del self._members[member]
        return who


class Places:
    def __init__(self) -> None:
        self._good, self._failed = _Queue(), _Queue()
        #: Who waits: its member, and whether the request before failed.
        self._waiting: dict[str, tuple[str, bool]] = {}
        self._held: dict[str, _Place] = {}
        self._of_member: Counter[str] = Counter()

    def want(self, who: str, member: str, *, failed: bool) -> None:
        """It waits for a place; once, and not while it has one."""
        assert who not in self._waiting
        assert who not in self._held
        self._waiting[who] = member, failed
        (self._failed if failed else self._good).add(member, who)

    def forget(self, who: str) -> None:
        """It waits no more, if it did."""
        waiting = self._waiting.pop(who, None)
        if waiting is not None:
            member, failed = waiting
            (self._failed if failed else self._good).remove(member, who)

    def next(self, now: float) -> str | None:
        """Who has a place from now on; None: nobody who waits can have one."""
        if len(self._held) >= PLACES_MAX:
            return None
        good = self._good.first(self._of_member)
        failed = self._failed.first(self._of_member)
        slow_max = SLOW_MAX if good is None else SLOW_BESIDE_OTHERS_MAX
        if failed is not None and len(self._slow(now)) < slow_max:
            return self._give(self._failed, failed, now)
        return None if good is None else self._give(self._good, good, now)

    def _give(self, queue: _Queue, member: str, now: float) -> str:
        who = queue.take(member)
        _, failed = self._waiting.pop(who)
        self._held[who] = _Place(member, now, failed)
        self._of_member[member] += 1
        return who

    def give_back(self, who: str) -> None:
        member = self._held.pop(who).member
        self._of_member[member] -= 1
        if not self._of_member[member]:
            del self._of_member[member]

    def surplus(self, now: float) -> str | None:
        """Whose request is to be ended for another's, which waits while there is no place; None: nobody's."""
        if not self._is_short():
            return None
        slow = self._slow(now)
        failing = [who for who in slow if self._held[who].failed and self._hangs(who, now)]
        if len(failing) > SLOW_BESIDE_OTHERS_MAX:
            return self._youngest(failing)
        hanging = [who for who in slow if self._hangs(who, now)]
        return self._youngest(hanging) if len(slow) > SLOW_MAX and hanging else None

    def look_again_at(self, now: float) -> float | None:
        """When somebody may have become slow, where that could free a place."""
        if not self._is_short():
            return None
        return min(
            (place.since + HUNG_SECONDS for place in self._held.values() if place.since + HUNG_SECONDS > now),
            default=None,
        )

    def _is_short(self) -> bool:
        return len(self._held) >= PLACES_MAX and self._good.first(self._of_member) is not None

    def _slow(self, now: float) -> list[str]:
        return [who for who, place in self._held.items() if place.failed or self._hangs(who, now)]

    def _hangs(self, who: str, now: float) -> bool:
        return self._held[who].since + HUNG_SECONDS <= now

    def _youngest(self, those: list[str]) -> str:
        return max(those, key=lambda who: self._held[who].since)
