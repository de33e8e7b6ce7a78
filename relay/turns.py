"""Taking turns: so many may be at something at a time, and of those who wait nobody waits behind a crowd of one.

The invariant: **of the waiting, the first class goes first, and among the others one party's next is taken only after
every other waiting party has had its turn.** A member with a thousand requests that wait costs another member one
turn, not a thousand.

Where a place is free nothing is queued and no task switch happens. Cancelled while waiting: the turn is not taken, or
passed on where it had just been given.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from types import TracebackType

import trio


class Turns:
    """Room for `places` at a time."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._first: deque[_Waiting] = deque()
        #: Each party's waiting, in their order; the parties in the order of their turns.
        self._others: OrderedDict[str, deque[_Waiting]] = OrderedDict()

    def turn(self, party: str | None) -> Turn:
        """`async with turns.turn(party):` holds one place. None: the first class."""
        return Turn(self, party)

    @property
    def waiting(self) -> int:
        return len(self._first) + sum(map(len, self._others.values()))

    async def acquire(self, party: str | None) -> None:
        if self._free:
            self._free -= 1
            return
        me = _Waiting()
        if party is None:
            self._first.append(me)
        else:
            self._others.setdefault(party, deque()).append(me)
        try:
            await me.called.wait()
        except BaseException:
            if me.called.is_set():
                self.release()
            else:
                self._forget(me, party)
            raise

    def release(self) -> None:
        """Give the place to whoever is next."""
        if self._first:
            self._first.popleft().called.set()
        elif self._others:
            party, waiting = self._others.popitem(last=False)
            waiting.popleft().called.set()
            if waiting:
                self._others[party] = waiting
        else:
            self._free += 1

    def _forget(self, me: _Waiting, party: str | None) -> None:
        if party is None:
            self._first.remove(me)
            return
        waiting = self._others[party]
        waiting.remove(me)
        if not waiting:
            del self._others[party]


class _Waiting:
    def __init__(self) -> None:
        self.called = trio.Event()


class Turn:
    """One turn; made by `Turns.turn`."""

    def __init__(self, turns: Turns, party: str | None) -> None:
        self._turns = turns
        self._party = party

    async def __aenter__(self) -> None:
        await self._turns.acquire(self._party)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._turns.release()
