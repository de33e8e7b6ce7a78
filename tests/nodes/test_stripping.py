"""What is erased goes from the files of every node."""

from __future__ import annotations

from pathlib import Path

from relay.file_names import LOG_DIRECTORY
from tests.world.erasing import erase
from tests.world.machines import Machine, open_machines
from tests.world.relay import run

SECRET = b"a word that nobody else says"


def has_secret(machine: Machine) -> bool:
    return any(
        SECRET in file.read_bytes()
        for file in (machine.directory / LOG_DIRECTORY).iterdir()
        if file.is_file()
    )


def test_an_erasure_is_done_on_all_nodes_and_on_one_that_was_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl") as machines:
            leader = await machines.until_led()
            message_id = await leader.world.send(to="friend@example.com", text=SECRET.decode())
            await leader.world.until(message_id, "sent")
            await machines.until_level()
            assert all(map(has_secret, machines.all))
            away = next(machine for machine in machines.all if machine is not leader)
            away.kill()
            await away.until_ended()
            await erase(leader.world, recipient="friend@example.com")
            await machines.until(
                lambda: not any(has_secret(machine) for machine in machines.all if machine.is_up)
            )
            assert has_secret(away)
            await away.begin()
            await machines.until(lambda: not has_secret(away))
            await machines.until_level()
            await machines.until(lambda: away.node.stripped_through >= leader.seq - 1)

    run(main)


def test_what_the_leader_before_had_erased_goes_from_the_node_that_leads_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            message_id = await leader.world.send(to="friend@example.com", text=SECRET.decode())
            await leader.world.until(message_id, "sent")
            await machines.until_level()
            other = next(machine for machine in machines.all if machine is not leader)
            other.kill()
            await other.until_ended()
            await erase(leader.world, recipient="friend@example.com")
            leader.kill()
            await leader.until_ended()
            await other.begin()
            assert await machines.until_led() is other
            await machines.until(lambda: not has_secret(other))

    run(main)
