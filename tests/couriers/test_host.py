"""A relay and its couriers: who gets what, what they hear, and what becomes of the mail when one is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.config import CONFIG_FILE
from relay.core import Core
from relay.couriers import host
from relay.couriers.words import Connections
from relay.delivery.carrier import Carrier
from relay.delivery.outcomes import Carried
from relay.events import AttemptInterrupted, AttemptStarted, MessageSent
from relay.message.key_files import pepper_name
from relay.processes.frames import BrokenFrame
from relay.views import messages
from tests.world.couriers import Couriers, Process, Rests, errand_for
from tests.world.relay import World, make_directory, open_world, run

#: The window of a site is five at first, and bulk mail leaves one to others.
UNDER_WAY = 4


@asynccontextmanager
async def open_with(directory: Path, count: int, **options: Any) -> AsyncIterator[tuple[World, Couriers]]:
    couriers = Couriers(count)
    async with open_world(directory, carried_by=couriers, **options) as world:
        yield world, couriers


async def send_to_hanging(world: World, word: str = "hang-after-dot-1", count: int = UNDER_WAY) -> list[int]:
    ids = [await world.send(to=f"{word}+{number}@example.com") for number in range(count)]
    await wait_all_tasks_blocked()
    assert started(world) == count
    return ids


def started(world: World) -> int:
    return sum(isinstance(event, AttemptStarted) for event in world.events())


def interrupted(world: World) -> list[int]:
    return [event.message_id for event in world.events() if isinstance(event, AttemptInterrupted)]


def connections(process: Process) -> int:
    return process.service._courier.connections


async def carry_one(world: World, carrier: Carrier, connection: int, to: str) -> Carried:
    return await carrier.carry(connection, await errand_for(world, to=to), trio.lowlevel.checkpoint)


def made_by_the_core(world: World, message_id: int) -> bytes:
    with world.core.store.read() as view:
        state = messages.message(view, message_id)
    assert state is not None
    message: bytes = world.core.composer.outgoing_of(state, world.core.store.get).message
    return message


def test_connections_are_spread_and_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 2) as (world, couriers):
            await send_to_hanging(world)
            one, other = couriers.processes
            assert (connections(one), connections(other)) == (2, 2)
            assert couriers.pool.connections == UNDER_WAY
            (metric,) = world.core.metrics.connections.collect()
            assert [sample.value for sample in metric.samples] == [UNDER_WAY]
            world.relay.deliverer.abandon()

    run(main)


def test_one_that_is_lost_takes_its_own_attempts_along_and_no_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 2) as (world, couriers):
            arrived: Counter[bytes] = Counter()
            world.mx.arrived = lambda message, word: arrived.update([message.data])  # type: ignore[method-assign]
            ids = await send_to_hanging(world)
            lost, other = couriers.processes
            count, at = connections(lost), trio.current_time()
            lost.kill()
            await wait_all_tasks_blocked()
            assert trio.current_time() == at
            assert len(interrupted(world)) == count
            assert connections(other) == UNDER_WAY - count
            assert couriers.pool.connections == UNDER_WAY - count
            # They are tried again after that attempt's ordinary delay, by whoever is there.
            for message_id in interrupted(world):
                message = await world.until_final(message_id)
                types = [entry["type"] for entry in message["timeline"]]
                assert types[1:4] == ["attempt.started", "attempt.interrupted", "attempt.started"]
                assert message["timeline"][3]["time"] >= message["timeline"][2]["nextAttemptAt"]
            assert len(interrupted(world)) == count
            # What came twice is named, and is the same.
            assert all(arrived[made_by_the_core(world, message_id)] == 2 for message_id in interrupted(world))
            for message_id in ids:
                await world.until_final(message_id)

    run(main)


def test_a_connection_stays_with_its_courier_until_it_or_that_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        couriers = Couriers(2)

        @asynccontextmanager
        async def beside(core: Core, own: Carrier) -> AsyncIterator[Carrier]:
            async with couriers(core, own):
                yield Rests()

        async with open_world(tmp_path / "data", carried_by=beside, messages_per_session=3) as world:
            carry = partial(carry_one, world, couriers.pool)
            one, other = couriers.processes
            for _ in range(2):
                assert (await carry(1, "friend@example.com")).usable
                assert (await carry(2, "friend@example.com")).usable
            assert (connections(one), connections(other), world.mx.sessions) == (1, 1, 2)
            one.kill()
            await one.gone.wait()
            # The other goes on with its own, and gets a new one for that which went.
            await carry(2, "friend@example.com")
            assert world.mx.sessions == 2
            await carry(1, "friend@example.com")
            assert (connections(other), world.mx.sessions) == (2, 3)
            # Both are over: one broke, one is parted with. Nothing is left of them.
            assert not (await carry(1, "disconnect-in-data@example.com")).usable
            await couriers.pool.part(2)
            assert couriers.pool._of == {}
            assert couriers.pool._counts == {other: 0}
            world.relay.deliverer.abandon()

    run(main)


def test_before_the_dot_a_lost_attempt_is_repeated_and_named_and_came_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 1) as (world, couriers):
            ids = await send_to_hanging(world, "hang-1")
            couriers.processes[0].kill()
            await wait_all_tasks_blocked()
            assert sorted(interrupted(world)) == ids
            for message_id in ids:
                assert (await world.until_final(message_id))["status"] == "sent"
            assert len(world.mx.messages) == UNDER_WAY

    run(main)


def test_what_had_not_begun_is_tried_at_once_by_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 1) as (world, couriers):
            (first,) = couriers.processes
            first.stop()
            message_id = await world.send(to="friend@example.com")
            await wait_all_tasks_blocked()
            assert started(world) == 0
            couriers.begin()
            at = trio.current_time()
            first.kill()
            message = await world.until_final(message_id)
            assert trio.current_time() == at
            assert [entry["type"] for entry in message["timeline"]][1:] == ["attempt.started", "message.sent"]
            assert message["attempts"] == 1

    run(main)


def test_a_silent_one_gets_nothing_new(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 2) as (world, couriers):
            silent, other = couriers.processes
            silent.stop()
            await trio.sleep(host.SILENT_SECONDS_MAX)
            for number in range(4):
                await world.until_final(await world.send(to=f"friend@example{number}.com"))
            assert silent._unheard == []
            other.stop()
            await trio.sleep(host.SILENT_SECONDS_MAX)
            # Then the core carries itself.
            for process in couriers.processes:
                process.kill()
            await world.until_final(await world.send(to="friend@example.com"))

    run(main)


def test_without_a_courier_the_core_waits_a_little_for_the_first_and_carries_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 0) as (world, couriers):
            begun = trio.current_time()
            await world.until_final(await world.send())
            assert trio.current_time() - begun == host.FIRST_SECONDS_MAX
            at = trio.current_time()
            await world.until_final(await world.send(to="friend@example.org"))
            assert trio.current_time() == at
        async with open_with(tmp_path / "other", 0) as (world, couriers):
            message_id = await world.send()
            await trio.sleep(1)
            process = couriers.begin()
            await world.until_final(message_id)
            assert connections(process) == 1

    run(main)


def test_when_they_die_over_and_over_all_mail_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        path = directory / CONFIG_FILE
        path.write_text(path.read_text().replace("\n[retry]\n", "\n[retry]\ndelays_seconds = [1]\n"))
        async with open_with(directory, 2) as (world, couriers):
            ids = []
            for number in range(30):
                couriers.processes[number].kill()
                await couriers.processes[number].gone.wait()
                ids.append(await world.send(to=f"friend{number}@example.com"))
                if number % 3:
                    await wait_all_tasks_blocked()
                couriers.begin()
            for message_id in ids:
                assert (await world.until_final(message_id))["status"] == "sent"
            # What came twice was named, and was the same.
            assert len(world.mx.messages) <= len(ids) + len(interrupted(world))
            assert {message.data for message in world.mx.messages} == {
                made_by_the_core(world, message_id) for message_id in ids
            }
            assert sum(isinstance(event, MessageSent) for event in world.events()) == len(ids)

    run(main)


def test_one_that_speaks_before_it_is_ready_is_broken_and_ends_nobody_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 1) as (_, couriers):
            (process,) = couriers.processes
            courier = couriers.pool._away.pop(process)
            with pytest.raises(BrokenFrame):
                couriers.pool.hear(process, Connections(1))
            couriers.pool._away[process] = courier

    run(main)


def test_they_hear_of_configuration_peppers_and_keys(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 2) as (world, couriers):
            await world.command("pepper_rotate")
            assert (tmp_path / "data" / pepper_name(2)).exists()
            late = couriers.begin()
            await wait_all_tasks_blocked()
            for process in couriers.processes:
                assert process.service._peppers == {1, 2}
            path = tmp_path / "data" / CONFIG_FILE
            path.write_text(path.read_text().replace("127.0.0.1:25", "127.0.0.1:26"))
            await world.core.read_settings_again()
            await wait_all_tasks_blocked()
            for process in couriers.processes:
                assert process.service._config == world.core.config
            assert late.service._config.delivery.routes == {"*": "127.0.0.1:26"}
            ids = [await world.send(to=f"friend@example{number}.com") for number in range(6)]
            for message_id in ids:
                message = await world.until_final(message_id)
                assert message["lastReply"] is not None
            assert sorted(message.data for message in world.mx.messages) == sorted(
                made_by_the_core(world, message_id) for message_id in ids
            )

    run(main)


def test_erased_payloads_are_let_go_of_everywhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 2) as (world, couriers):
            _, answer = await world.post_send(to=[f"friend{number}@example.com" for number in range(6)])
            for accepted in answer["accepted"]:
                await world.until_final(accepted["messageId"])
            assert any(process.service._composer._sends._by_seq for process in couriers.processes)
            await world.command("log_erase", recipient="friend1@example.com", reason="asked for")
            for process in couriers.processes:
                assert process.store.times_let_go
                assert process.service._composer._sends._by_seq == {}

    run(main)


def test_one_that_does_not_hang_up_is_killed_and_the_relay_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_with(tmp_path / "data", 2) as (world, couriers):
            ids = await send_to_hanging(world)
            hung = couriers.processes[0]
            hung.stop()
            at = trio.current_time()
            await world.relay.stop()
            seconds = trio.current_time() - at - world.core.config.service.grace_seconds
            assert seconds == host.HANG_UP_SECONDS_MAX
            assert hung.gone.is_set()
            assert sorted(interrupted(world)) == ids

    run(main)
