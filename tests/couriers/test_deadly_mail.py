"""A message that its couriers die of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from relay.core import Core
from relay.delivery.attempts import DEATHS_MAX
from relay.delivery.carrier import Carrier, CourierLost, Errand
from relay.delivery.outcomes import Carried
from relay.events import AttemptInterrupted, AttemptStarted, MessageDeferred, MessageSent
from tests.world.relay import open_world, run


class Mortal:
    """The relay's own courier, that is lost so many times with one message in its hand."""

    def __init__(self, deaths: int, *, with_start: frozenset[int] = frozenset()) -> None:
        """`with_start`: which of the deaths, from the last one on counted down to 0, come when it was started."""
        self.deaths = deaths
        self._with_start = with_start
        self._own: Carrier

    @asynccontextmanager
    async def carried_by(self, core: Core, own: Carrier) -> AsyncIterator[Carrier]:
        self._own = own
        yield self

    @property
    def connections(self) -> int:
        return self._own.connections

    async def carry(self, connection: int, errand: Errand, start: Callable[[], Awaitable[None]]) -> Carried:
        if self.deaths:
            self.deaths -= 1
            if self.deaths in self._with_start:
                await start()
            raise CourierLost
        return await self._own.carry(connection, errand, start)

    async def part(self, connection: int) -> None:
        await self._own.part(connection)

    async def hang_up(self) -> None:
        await self._own.hang_up()


def test_one_death_is_an_accident(tmp_path: Path) -> None:
    async def main() -> None:
        mortal = Mortal(DEATHS_MAX - 1)
        async with open_world(tmp_path / "data", carried_by=mortal.carried_by) as world:
            await world.until_final(await world.send(to="friend@example.com"))
            assert not any(isinstance(event, MessageDeferred) for event in world.events())
            assert isinstance(world.events()[-1], MessageSent)

    run(main)


def test_after_several_it_waits_for_its_next_attempt(tmp_path: Path) -> None:
    """So that others find couriers meanwhile; and it is not lost, whatever they died of."""

    async def main() -> None:
        mortal = Mortal(2 * DEATHS_MAX)
        async with open_world(tmp_path / "data", carried_by=mortal.carried_by) as world:
            await world.until_final(await world.send(to="friend@example.com"))
            about = [
                event
                for event in world.events()
                if isinstance(event, AttemptStarted | MessageDeferred | MessageSent)
            ]
            assert [type(event) for event in about] == [
                MessageDeferred,
                MessageDeferred,
                AttemptStarted,
                MessageSent,
            ]
            assert [event.attempt for event in about] == [1, 2, 3, 3]
            assert isinstance(about[0], MessageDeferred)
            assert about[0].personal is not None
            assert "a defect of the relay" in str(about[0].personal.text)

    run(main)


def test_only_deaths_one_after_the_other_count(tmp_path: Path) -> None:
    """Between these two it was begun, so it is not what a courier dies of when it prepares it."""

    async def main() -> None:
        mortal = Mortal(3, with_start=frozenset({1}))
        async with open_world(tmp_path / "data", carried_by=mortal.carried_by) as world:
            await world.until_final(await world.send(to="friend@example.com"))
            assert sum(isinstance(event, AttemptInterrupted) for event in world.events()) == 1
            assert not any(isinstance(event, MessageDeferred) for event in world.events())
            assert isinstance(world.events()[-1], MessageSent)

    run(main)
