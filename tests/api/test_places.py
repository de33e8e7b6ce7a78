"""Who gives way, and when, and who is turned away: the rules alone, without sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.api.clients import Client, Clients
from relay.api.places import FIRST_WORD_SECONDS, HEAD_SECONDS_MAX, WHY, Places

CLIENTS = Clients(("127.0.0.0/8", "::1"))
KEEP_ALIVE_SECONDS = 75.0


class Fake:
    """A connection."""

    def __init__(self, places: Places, address: str = "127.0.0.1") -> None:
        self.client: Client | None = CLIENTS.known(address)
        self.has_asked = False
        self.has_word = False
        self.has_ended = False
        self._places = places

    def has_more_to_read(self) -> bool:
        return self.has_word

    def end(self) -> None:
        self.has_ended = True

    def ask(self) -> None:
        self.has_asked = True
        self._places.work(self)

    def rest(self) -> None:
        self._places.rest(self)


def run(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=MockClock(autojump_threshold=0))


class Small:
    """Three places, all taken; each was taken a second after the other."""

    def __init__(self) -> None:
        self.why: list[str] = []
        self.places = Places(3, per_address_max=2, count_turned_away=self.why.append)

    async def fill(self) -> list[Fake]:
        fakes = [Fake(self.places) for _ in range(3)]
        for fake in fakes:
            await self.places.take(fake)
            await trio.sleep(1)
        return fakes

    async def take(self) -> tuple[Fake, float]:
        """One more, and how long it has waited."""
        began = trio.current_time()
        fake = Fake(self.places)
        await self.places.take(fake)
        return fake, trio.current_time() - began


def test_the_longest_rest_ends() -> None:
    async def main() -> None:
        small = Small()
        first, second, third = await small.fill()
        for fake in (first, second, third):
            fake.ask()
        for fake in (second, first, third):
            fake.rest()
            await trio.sleep(1)
        _, waited = await small.take()
        assert waited == 0
        assert [fake.has_ended for fake in (first, second, third)] == [False, True, False]
        assert small.places.connections == 3
        await small.take()
        assert [fake.has_ended for fake in (first, second, third)] == [True, True, False]
        assert small.why == ["gave_way", "gave_way"]

    run(main)


def test_one_that_never_asked_is_no_better_and_no_worse() -> None:
    async def main() -> None:
        small = Small()
        first, second, _ = await small.fill()
        first.ask()
        first.rest()
        await trio.sleep(1)
        await small.take()
        assert second.has_ended
        assert not first.has_ended

    run(main)


def test_a_new_one_has_a_moment_for_its_first_word() -> None:
    async def main() -> None:
        small = Small()
        fakes = [(await small.take())[0] for _ in range(3)]
        _, waited = await small.take()
        assert waited == pytest.approx(FIRST_WORD_SECONDS)
        assert [fake.has_ended for fake in fakes] == [True, False, False]

    run(main)


def test_one_from_which_something_has_come_is_passed_over() -> None:
    """A request: nobody has read it yet, and closing the connection would lose it."""

    async def main() -> None:
        small = Small()
        first, second, _ = await small.fill()
        first.has_word = True
        await small.take()
        assert not first.has_ended
        assert second.has_ended

    run(main)


def test_where_something_has_come_from_all_of_them_there_is_a_moment_to_read_it() -> None:
    async def main() -> None:
        small = Small()
        fakes = [(await small.take())[0] for _ in range(3)]
        for fake in fakes:
            fake.has_word = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(small.take)
            await wait_all_tasks_blocked()
            for fake in fakes:
                fake.ask()
                fake.has_word = False
            await trio.sleep(10)
            assert not any(fake.has_ended for fake in fakes)
            fakes[1].rest()
            await wait_all_tasks_blocked()
            assert [fake.has_ended for fake in fakes] == [False, True, False]

    run(main)


def test_who_is_at_work_never_gives_way_and_whoever_waits_is_next() -> None:
    async def main() -> None:
        small = Small()
        fakes = await small.fill()
        for fake in fakes:
            fake.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(small.take)
            await trio.sleep(1000)
            assert small.places.connections == 3
            assert not any(fake.has_ended for fake in fakes)
            small.places.leave(fakes[2])
            await wait_all_tasks_blocked()
            assert small.places.connections == 3
            assert not any(fake.has_ended for fake in fakes)

    run(main)


def test_who_waits_and_is_cancelled_has_no_place() -> None:
    async def main() -> None:
        small = Small()
        fakes = await small.fill()
        for fake in fakes:
            fake.ask()
        with trio.move_on_after(1):
            await small.take()
        small.places.leave(fakes[0])
        assert small.places.connections == 2

    run(main)


def test_a_place_is_given_back_once() -> None:
    async def main() -> None:
        small = Small()
        first, *_ = await small.fill()
        for _ in range(3):
            small.places.leave(first)
        first.rest()  # nobody minds
        await small.take()
        assert small.places.connections == 3
        await small.take()
        assert small.places.connections == 3
        assert not first.has_ended

    run(main)


def test_a_first_head_has_ten_seconds_and_a_further_one_the_time_of_keep_alive() -> None:
    async def main() -> None:
        small = Small()
        silent, kept, busy = (await small.take())[0], (await small.take())[0], (await small.take())[0]
        kept.ask()
        kept.rest()
        busy.ask()
        began = trio.current_time()
        for seconds, ended in (
            (HEAD_SECONDS_MAX - 0.1, []),
            (HEAD_SECONDS_MAX, [silent]),
            (KEEP_ALIVE_SECONDS - 0.1, [silent]),
            (KEEP_ALIVE_SECONDS, [silent, kept]),
        ):
            small.places.end_long_rests(began + seconds, keep_alive_seconds=KEEP_ALIVE_SECONDS)
            assert [fake for fake in (silent, kept, busy) if fake.has_ended] == ended
            if silent.has_ended:
                small.places.leave(silent)
        assert small.why == ["no_head"]

    run(main)


def test_so_many_of_one_address_and_no_more() -> None:
    async def main() -> None:
        why: list[str] = []
        places = Places(100, per_address_max=2, count_turned_away=why.append)

        async def come(address: str) -> Fake | None:
            fake = Fake(places, address)
            if not places.admits(fake.client):
                return None
            await places.take(fake)
            return fake

        first = await come("192.0.2.1")
        assert first is not None
        assert await come("192.0.2.1") is not None
        assert await come("192.0.2.1") is None
        assert await come("::ffff:192.0.2.1") is None
        assert await come("192.0.2.2") is not None
        # An IPv6 site has 64 bits to choose an address of.
        assert await come("2001:db8::1") is not None
        assert await come("2001:db8::ffff:2") is not None
        assert await come("2001:db8::3") is None
        assert await come("2001:db8:0:1::3") is not None
        for _ in range(10):  # trusted proxies have no limit
            assert await come("127.0.0.1") is not None
            assert await come("::1") is not None
        assert why == ["connections_per_address"] * 3
        places.leave(first)
        assert await come("192.0.2.1") is not None
        assert set(why) <= set(WHY)

    run(main)


def test_an_address_that_has_left_is_forgotten() -> None:
    async def main() -> None:
        places = Places(100, per_address_max=2)
        for number in range(50):
            fake = Fake(places, f"192.0.2.{number}")
            await places.take(fake)
            places.leave(fake)
        assert places._of_address == {}
        assert places._guests == {}
        assert places._resting == {}

    run(main)
