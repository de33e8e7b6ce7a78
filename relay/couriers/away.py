"""One courier in another process, as the core sees it: what it has in hand, and how that ends.

The invariant: **each errand that was given ends in one of three ways**: with what it came to, with "nothing was done",
or with CourierLost, and that only when the process is certainly dead and all it ever said has been heard. So an outcome
that was sent a moment before the death counts, and no message is given to another while a living process may send it.

It works on a channel and does not care who is behind it; `relay.couriers.host` has the processes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import assert_never

import trio

from relay.couriers.words import (
    FROM_COURIER,
    Cancel,
    Carry,
    Connections,
    Done,
    DotDue,
    DotMayLeave,
    HangUp,
    LetGo,
    NewConfig,
    NewPepper,
    NothingDone,
    Part,
    Parted,
    Start,
    Started,
)
from relay.delivery.carrier import CourierLost, Errand
from relay.delivery.outcomes import Carried
from relay.processes.channel import Channel, ChannelClosed
from relay.processes.frames import BrokenFrame


class _Given:
    """One errand, until it is over."""

    __slots__ = ("carried", "is_dot_due", "is_over", "is_start_asked", "is_start_due", "news")

    def __init__(self) -> None:
        self.is_start_asked = False
        #: It was asked for, and nobody has begun to record it.
        self.is_start_due = False
        self.is_dot_due = False
        self.is_over = False
        #: None where nothing was done, or nobody will ever know.
        self.carried: Carried | None = None
        self.news = trio.Event()

    def end(self, carried: Carried | None) -> None:
        self.carried = carried
        self.is_over = True
        self.news.set()

    async def wait_for_word(self) -> None:
        await self.news.wait()
        self.news = trio.Event()


class AwayCourier:
    """A carrier (`relay.delivery.carrier`) at the other end of a channel."""

    def __init__(self, channel: Channel, before_dot: Callable[[], Awaitable[None]]) -> None:
        """`before_dot` is awaited when a courier asks whether a dot may leave."""
        self._channel = channel
        self._before_dot = before_dot
        self._given: dict[int, _Given] = {}
        self._parting: dict[int, trio.Event] = {}
        self._is_lost = False
        self._idle: trio.Event | None = None
        #: Open to receivers, as it said last.
        self.connections = 0

    @property
    def heard_at(self) -> float:
        """When anything came from it last, by trio's clock. It is heard each second, whatever it does."""
        return self._channel.heard_at

    # ------------------------------------------------------------------------------------------------ as a carrier

    async def carry(self, connection: int, errand: Errand, start: Callable[[], Awaitable[None]]) -> Carried:
        if self._is_lost:
            raise CourierLost
        given = self._given[connection] = _Given()
        self._channel.tell(Carry(connection, errand.state, errand.domain, errand.refused))
        is_started = False
        try:
            while not self._is_lost:
                if given.is_start_due:
                    given.is_start_due = False
                    await start()
                    is_started = True
                    self._channel.tell(Started(connection))
                elif given.is_over:
                    break
                elif given.is_dot_due:
                    given.is_dot_due = False
                    await self._before_dot()
                    self._channel.tell(DotMayLeave(connection))
                else:
                    await given.wait_for_word()
        except BaseException:
            # Cancelled, or the start could not be recorded. How far it has come, only the courier knows.
            await self._give_up(connection, given)
            if not is_started:
                raise
        finally:
            del self._given[connection]
            if not self._given and self._idle is not None:
                self._idle.set()
        if given.carried is None:
            raise CourierLost
        return given.carried

    async def _give_up(self, connection: int, given: _Given) -> None:
        if not given.is_over:
            self._channel.tell(Cancel(connection))
            with trio.CancelScope(shield=True):
                while not given.is_over:
                    await given.wait_for_word()

    async def part(self, connection: int) -> None:
        if self._is_lost:
            return
        parted = self._parting[connection] = trio.Event()
        self._channel.tell(Part(connection))
        try:
            await parted.wait()
        finally:
            del self._parting[connection]

    async def hang_up(self) -> None:
        """As of a carrier; returns when no errand is under way any more, however long that takes."""
        self._channel.tell(HangUp())
        if self._given:
            self._idle = trio.Event()
            await self._idle.wait()

    # ------------------------------------------------------------------------------------------------ other words

    def tell(self, news: NewConfig | NewPepper) -> None:
        self._channel.tell(news)

    async def let_go(self) -> None:
        """It has closed the files that were rewritten; or it has ended, which comes to the same."""
        with suppress(ChannelClosed):
            await self._channel.call(LetGo(), type(None))

    def hear(self, word: FROM_COURIER) -> None:
        """What it tells. Raises BrokenFrame where that makes no sense: it is broken, and has to be killed."""
        match word:
            case Start(connection):
                given = self._in_hand(connection)
                if given.is_start_asked:
                    raise BrokenFrame("a courier asks twice whether it may start")
                given.is_start_asked = given.is_start_due = True
                given.news.set()
            case DotDue(connection):
                given = self._in_hand(connection)
                if given.is_dot_due or not given.is_start_asked:
                    raise BrokenFrame("a courier asks for a dot out of its turn")
                given.is_dot_due = True
                given.news.set()
            case Done(connection, carried):
                given = self._in_hand(connection)
                if (carried.outcome is not None) != given.is_start_asked:
                    raise BrokenFrame(
                        "a courier tells of an attempt for which it has not asked, or does not tell"
                    )
                given.end(carried)
            case NothingDone(connection):
                self._in_hand(connection).end(None)
            case Parted(connection):
                if (parted := self._parting.get(connection)) is not None:
                    parted.set()
            case Connections(count):
                self.connections = count
            case _:
                assert_never(word)

    def lose(self) -> None:
        """Its process is certainly dead, and all that it said has been heard."""
        self._is_lost = True
        self.connections = 0
        for given in self._given.values():
            if not given.is_over:
                given.end(None)
        for parted in self._parting.values():
            parted.set()

    def _in_hand(self, connection: int) -> _Given:
        given = self._given.get(connection)
        if given is None or given.is_over:
            raise BrokenFrame("a courier speaks of an errand that it does not have")
        return given
