"""Each node removes from its own files what was erased, by its own progress, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from click.testing import CliRunner, Result
from trio.testing import wait_all_tasks_blocked

from relay import own_stripping
from relay.core import Core
from relay.events import LogStripped, PayloadErased
from relay.file_names import LOG_DIRECTORY
from relay.nodes.founding import leave
from relay.surroundings import Surroundings
from spool import Received
from spool.directory import TORN_NAME
from spool.errors import LogPoisonedError
from tests.world.directories import names_in
from tests.world.disk import FakeDisk
from tests.world.erasing import erase
from tests.world.orders import order
from tests.world.receiving_nodes import lead_alone, make_node, open_node, received_from
from tests.world.relay import call_here, open_world, run, virtual_clock
from tests.world.removals import FRIEND
from tools.cli import cli
from tools.log import backup


class Leader(NamedTuple):
    """What one machine's log had before an erasure, and what came with it."""

    before: list[Received]
    ordered: list[Received]
    """Up to the last `payload.erased`."""
    stripped: list[Received]
    """`log.stripped`, and what followed."""
    message_id: int
    last_seq: int


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Leader:
    directory = tmp_path_factory.mktemp("leader") / "data"
    made: list[Leader] = []

    async def main() -> None:
        async with open_world(directory) as world:
            ids = [await world.send(to=to) for to in (FRIEND, "other@example.com", FRIEND)]
            for message_id in ids:
                await world.until_final(message_id)
            before = received_from(directory)
            begun = world.core.store.last_seq + 1
            await erase(world, message=ids[0])
            await erase(world, recipient=FRIEND)
            after = received_from(directory, begun)
            events = world.events()
            last_erased = max(seq for seq, event in enumerate(events, 1) if isinstance(event, PayloadErased))
            assert isinstance(events[-1], LogStripped)
            made.append(
                Leader(
                    before,
                    [batch for batch in after if batch.first_seq <= last_erased],
                    [batch for batch in after if batch.first_seq > last_erased],
                    ids[0],
                    world.core.store.last_seq,
                )
            )

    run(main)
    return made[0]


def is_named(directory: Path) -> bool:
    return bool(names_in(directory / LOG_DIRECTORY, FRIEND))


async def receive(core: Core, *batches: Received) -> None:
    await core.store.of_several_machines.receive(batches)


def test_a_follower_strips_when_the_node_that_leads_has_done_so(tmp_path: Path, leader: Leader) -> None:
    directory = make_node(tmp_path / "two")

    async def main() -> None:
        async with open_node(directory) as core, trio.open_nursery() as nursery:
            own = core.own_stripping
            assert own is not None
            await nursery.start(own.run)
            await wait_all_tasks_blocked()
            await receive(core, *leader.before)
            assert own.through == core.store.last_seq  # nothing is owed
            first, *others = leader.ordered
            await receive(core, first)
            await wait_all_tasks_blocked()
            assert not core.store.record(leader.message_id).stripped
            assert own.through == first.first_seq - 1
            await receive(core, *others, *leader.stripped)
            await wait_all_tasks_blocked()
            assert not is_named(directory)
            log = core.store.of_several_machines
            assert own.through == log.stripped_through == log.last_seq == leader.last_seq
            assert core.store.record(leader.message_id).stripped
            nursery.cancel_scope.cancel()

    run(main)


def test_what_the_node_that_led_never_came_to_is_done_within_an_hour(tmp_path: Path, leader: Leader) -> None:
    directory = make_node(tmp_path / "two")

    async def main() -> None:
        async with open_node(directory) as core, trio.open_nursery() as nursery:
            assert core.own_stripping is not None
            await nursery.start(core.own_stripping.run)
            await receive(core, *leader.before, leader.ordered[0])
            await wait_all_tasks_blocked()
            assert not core.store.record(leader.message_id).stripped
            await trio.sleep(3700)
            assert core.store.record(leader.message_id).stripped
            nursery.cancel_scope.cancel()

    run(main)


def test_a_log_that_came_from_elsewhere_is_stripped_from_its_beginning(
    tmp_path: Path, leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_stripping, "EVENTS_PER_ROUND", 1)
    directory = make_node(tmp_path / "two")
    torn = directory / LOG_DIRECTORY / TORN_NAME

    async def main() -> None:
        async with open_node(directory) as core:
            await receive(core, *leader.before, *leader.ordered, *leader.stripped)
        torn.mkdir()
        (torn / "00000000000000000001-77.bytes").write_bytes(b"a half of " + FRIEND.encode())
        async with open_node(directory) as core:
            own = core.own_stripping
            assert own is not None
            assert own.through == 0
            async with core.erasing:
                done = await own.catch_up()
            assert (sum(item.payloads for item in done.segments) > 0, done.torn_copies) == (True, 1)
            assert leader.message_id < done.last_payload_seq < leader.last_seq
            assert own.through == core.store.last_seq
            assert not is_named(directory)
            assert names_in(directory / LOG_DIRECTORY, "other@example.com")
        async with open_node(directory) as core:
            assert core.own_stripping is not None
            assert core.own_stripping.through == core.store.last_seq
            async with core.erasing:
                assert await core.own_stripping.catch_up() == ([], 0, 0)

    run(main)


def test_whoever_leads_carries_out_what_it_owes_itself_and_says_so(tmp_path: Path, leader: Leader) -> None:
    """Of an order that another machine led, too: the views know of nothing that is owed by then."""
    directory = make_node(tmp_path / "two")

    async def main() -> None:
        async with open_node(directory) as core:
            await receive(core, *leader.before, *leader.ordered, *leader.stripped)
            lead_alone(core)
            waited: list[tuple[int, int]] = []

            async def others(erased_seq: int, payload_seq: int) -> list[str]:
                waited.append((erased_seq, payload_seq))
                return ["node three has them in its files"]

            core.wait_for_others_to_strip = others
            answer = await order(core, "log_erase", recipient="other@example.com", reason="ticket 2")
            assert (answer["messages"], answer["owed"]) == (1, ["node three has them in its files"])
            assert not is_named(directory)
            assert not names_in(directory / LOG_DIRECTORY, "other@example.com")
            assert isinstance(core.store.get(core.store.last_seq).event, LogStripped)
            assert core.own_stripping is not None
            assert core.own_stripping.through == core.store.last_seq
            ((erased_seq, payload_seq),) = waited
            assert leader.message_id < payload_seq < erased_seq == core.store.last_seq

    run(main)


def test_a_disk_that_fails_at_any_step_leaves_it_owed(tmp_path: Path, leader: Leader) -> None:
    """And whatever a crash leaves of it then, the next start finds it owed, or gone."""

    async def attempt(step: int) -> bool:
        """False: there are not so many steps."""
        directory = make_node(tmp_path / f"step {step}")
        disk = FakeDisk()
        for folder in (*reversed(directory.parents[:-1]), directory):
            disk.make_directory(folder)
            disk.sync_directory(folder.parent)

        def holds_it(disk: FakeDisk) -> bool:
            folder = directory / LOG_DIRECTORY
            names = [name for name in disk.list_names(folder) if name.endswith(".seg")]
            return any(FRIEND.encode() in disk.file(folder / name) for name in names)

        def crashes() -> list[FakeDisk]:
            """As the machine finds it after a crash at this moment: with nothing but what was synced, and with all."""
            return [disk.crash(frozenset()), disk.crash(frozenset(range(len(disk.pending))))]

        failed, left = False, list[FakeDisk]()
        try:
            async with open_node(directory, disk) as core:
                await receive(core, *leader.before, *leader.ordered, *leader.stripped)
                await core.store.of_several_machines.sync()
                assert core.own_stripping is not None
                assert holds_it(disk)
                disk.fail_at = disk.operations + step
                try:
                    async with core.erasing:
                        await core.own_stripping.catch_up()
                except OSError:
                    failed = True
                assert not holds_it(disk) or core.own_stripping.through < leader.ordered[-1].last_seq
                assert failed or not holds_it(disk)
                left = crashes()
        except* LogPoisonedError:
            # It had to begin a new segment first.
            failed, left = True, left or crashes()
        for crashed in left:
            await begin_again(directory, crashed, holds_it)
        return failed

    async def begin_again(directory: Path, crashed: FakeDisk, holds_it: Callable[[FakeDisk], bool]) -> None:
        async with open_node(directory, crashed) as core:
            assert core.own_stripping is not None
            assert not holds_it(crashed) or core.own_stripping.through < leader.ordered[-1].last_seq
            log = core.store.of_several_machines
            assert log.stripped_through <= log.last_seq
            missing = [
                batch
                for batch in (*leader.before, *leader.ordered, *leader.stripped)
                if batch.first_seq > log.last_seq
            ]
            await receive(core, *missing)
            async with core.erasing:
                await core.own_stripping.catch_up()
            assert not holds_it(crashed)
            assert core.own_stripping.through == leader.last_seq

    async def main() -> None:
        step = 1
        while await attempt(step):
            step += 1
        assert step > 10

    run(main)


def test_a_node_that_leaves_for_itself_has_stripped_its_files(tmp_path: Path, leader: Leader) -> None:
    """Its log says that it was done, and of one machine's log that is true of its own files."""
    directory = make_node(tmp_path / "two")

    async def main() -> None:
        async with open_node(directory) as core:
            await receive(core, *leader.before, *leader.ordered, *leader.stripped)
        assert is_named(directory)
        await leave(directory, None, surroundings=Surroundings(clock=virtual_clock, offload=call_here))
        assert not is_named(directory)

    run(main)


def test_a_backup_of_a_node_that_has_not_stripped_yet_says_so(
    tmp_path: Path, leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_STRIPPED_SECONDS", 0.0)
    directory, into = make_node(tmp_path / "two"), tmp_path / "backup"

    def back_up() -> Result:
        return CliRunner().invoke(cli, ["log", "backup", str(directory), str(into)])

    async def main() -> None:
        async with open_node(directory) as core:
            await receive(core, *leader.before)
            assert core.own_stripping is not None
            async with core.erasing:
                await core.own_stripping.catch_up()
            assert back_up().exit_code == 0
            await receive(core, *leader.ordered, *leader.stripped)
            refused = back_up()
            first = leader.ordered[0].first_seq
            assert refused.exit_code == 1
            assert f"holds personal data that event {first} erases" in str(refused.exception)
            async with core.erasing:
                await core.own_stripping.catch_up()
            done = back_up()
            assert done.exit_code == 0, done.exception
            assert not names_in(into, FRIEND)

    run(main)
