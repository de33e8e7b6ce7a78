"""Who is let in and who is not: passwords and places, in sessions over streams of memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from relay.lockout import FAILURES_MAX
from relay.reception.interface import Client
from relay.reception.places import Places
from relay.reception.replies import TOO_MANY_CONNECTIONS
from relay.reception.session import Limits, Session, Surroundings
from tests.world.doors import CLEAR, CLIENT, MagicDoor, around, logged_in, talking

WRONG = "AUTH PLAIN AGFubgBub3Q="
RIGHT = "AUTH PLAIN AGFubgBrZXk="
LIMITS = Limits()


def run(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=MockClock(autojump_threshold=0))


def now() -> float:
    return trio.current_time()


# -- passwords


def test_every_wrong_pair_takes_equally_long_and_hears_the_same() -> None:
    async def main() -> None:
        door = MagicDoor()
        for wrong in (
            WRONG,
            "AUTH PLAIN AG5vYm9keQBrZXkx",
            "AUTH PLAIN Ym9iAGFubgBrZXk=",
            "AUTH PLAIN AP8A/w==",
        ):
            async with talking(around(door, CLEAR())) as talk:
                await talk.hear()
                await talk.ask("EHLO client.test")
                began = now()
                assert await talk.ask(wrong) == "535 5.7.8 user name or password is wrong"
                assert now() - began == pytest.approx(LIMITS.failure_seconds)
        # What cannot be right is not even asked.
        assert door.asked == [("ann", "not"), ("nobody", "key1")]

    run(main)


def test_a_suspended_member_is_told_so_and_not_counted() -> None:
    async def main() -> None:
        shared = around(MagicDoor(), CLEAR())
        for _ in range(2 * FAILURES_MAX):
            async with talking(shared) as talk:
                await talk.hear()
                await talk.ask("EHLO client.test")
                assert (await talk.ask("AUTH PLAIN AHN1ZQBrZXk=")).startswith("525 5.7.13 ")

    run(main)


async def guess(shared: Surroundings[str], client: Client, times: int) -> list[str]:
    """One guess a connection; what was heard."""
    heard = []
    for _ in range(times):
        async with talking(shared, client=client) as talk:
            await talk.hear()
            await talk.ask("EHLO client.test")
            heard.append((await talk.ask(WRONG))[:3])
    return heard


def test_who_guesses_is_shut_out_and_others_are_not() -> None:
    async def main() -> None:
        shared = around(MagicDoor(), CLEAR())
        guesser = Client("192.0.2.1", "192.0.2.1", is_trusted=False)
        assert await guess(shared, guesser, FAILURES_MAX + 1) == ["535"] * FAILURES_MAX + ["421"]
        async with talking(shared, client=guesser) as talk:
            await talk.hear()
            await talk.ask("EHLO client.test")
            assert (await talk.ask(RIGHT)).startswith("421 4.7.0 ")
        async with talking(shared, client=Client("192.0.2.2", "192.0.2.2", is_trusted=False)) as talk:
            await logged_in(talk)

    run(main)


def test_the_same_wrong_pair_by_another_mechanism_is_one_guess() -> None:
    """As smtplib does: PLAIN, and where that is refused, LOGIN."""

    async def main() -> None:
        shared = around(MagicDoor(), CLEAR())
        guesser = Client("192.0.2.1", "192.0.2.1", is_trusted=False)
        for _ in range(FAILURES_MAX - 1):
            async with talking(shared, client=guesser) as talk:
                await talk.hear()
                await talk.ask("EHLO client.test")
                assert (await talk.ask(WRONG)).startswith("535 ")
                began = now()
                assert (await talk.ask(WRONG)).startswith("535 ")
                assert now() - began == pytest.approx(LIMITS.failure_seconds)
        assert await guess(shared, guesser, 2) == ["535", "421"]

    run(main)


def test_who_stands_for_many_is_slowed() -> None:
    async def main() -> None:
        shared = around(MagicDoor(), CLEAR())
        proxy = Client("127.0.0.1", "127.0.0.1", is_trusted=True)
        began = now()
        assert await guess(shared, proxy, FAILURES_MAX + 2) == ["535"] * (FAILURES_MAX + 2)
        times = FAILURES_MAX + 2
        waited = times * (LIMITS.sniff_seconds + LIMITS.failure_seconds) + sum(range(times))
        assert now() - began == pytest.approx(waited)
        async with talking(shared, client=proxy) as talk:
            await logged_in(talk)

    run(main)


# -- places


def test_the_longest_rest_gives_way_and_a_member_never_does() -> None:
    async def main() -> None:
        places = Places(lambda: 3, per_address_max=lambda: 20)
        shared = around(MagicDoor(), CLEAR(), places=places)
        async with talking(shared) as member, talking(shared) as first:
            await logged_in(member)
            await first.hear()
            await trio.sleep(1)
            async with talking(shared) as second:
                await second.hear()
                await trio.sleep(1)
                async with talking(shared) as third:
                    assert (await first.hear()).startswith("421 4.4.2 ")
                    assert await first.hear() == ""
                    assert (await third.hear()).startswith("220 ")
                    assert (await second.ask("EHLO client.test")).startswith("250-")
                    assert (await member.ask("NOOP")).startswith("250 ")
                    assert places.connections == 3

    run(main)


def test_a_word_is_the_end_of_a_rest() -> None:
    async def main() -> None:
        shared = around(MagicDoor(), CLEAR(), connections_max=2)
        async with talking(shared) as first, talking(shared) as second:
            for talk in (first, second):
                await talk.hear()
            for talk in (second, first):
                await trio.sleep(1)
                await talk.ask("NOOP")
            await trio.sleep(1)
            async with talking(shared) as third:
                assert (await second.hear()).startswith("421 4.4.2 ")
                assert (await third.hear()).startswith("220 ")
                assert (await first.ask("NOOP")).startswith("250 ")

    run(main)


def test_where_all_are_at_work_who_comes_is_told_to_come_later() -> None:
    async def main() -> None:
        why: list[str] = []
        places = Places(lambda: 2, per_address_max=lambda: 20, count_turned_away=why.append)
        shared = around(MagicDoor(), CLEAR(), places=places)
        async with talking(shared) as first, talking(shared) as second:
            for talk in (first, second):
                await logged_in(talk)
            await trio.sleep(200)
            assert places.take(Session(first.stream, CLIENT, shared)) == TOO_MANY_CONNECTIONS
            assert (await first.ask("NOOP")).startswith("250 ")
        assert why == ["connections"]

    run(main)


def test_one_member_has_half_of_the_places_and_others_get_in() -> None:
    """A member who rests never gives way, so one with many addresses could shut out all others."""

    async def main() -> None:
        why: list[str] = []
        places = Places(lambda: 6, per_address_max=lambda: 20, count_turned_away=why.append)
        shared = around(MagicDoor(), CLEAR(), places=places)
        bob = "AUTH PLAIN AGJvYgBrZXk="
        async with AsyncExitStack() as stack:
            hogs = [await stack.enter_async_context(talking(shared)) for _ in range(3)]
            for talk in hogs:
                await logged_in(talk)
            async with talking(shared) as fourth:
                await fourth.hear()
                await fourth.ask("EHLO client.test")
                assert (await fourth.ask(RIGHT)).startswith("421 4.7.0 your programs have half")
                assert await fourth.hear() == ""
                await fourth.ended.wait()
            assert why == ["connections_per_member"]
            other = await stack.enter_async_context(talking(shared))
            await other.hear()
            await other.ask("EHLO client.test")
            assert (await other.ask(bob)).startswith("235 ")
            # A place that is given back is one of theirs again.
            await hogs[0].ask("QUIT")
            await hogs[0].ended.wait()
            await logged_in(await stack.enter_async_context(talking(shared)))
            assert places.connections == 4

    run(main)
