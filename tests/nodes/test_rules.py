"""While `relay.toml` differs, nothing is decided by the rules of a node that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config import CONFIG_FILE
from relay.nodes.facts import differences, from_row
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run

SMALL = 70_000
LARGE = {"text": "x" * 100_000}


def write(machine: Machine, octets: int) -> None:
    """Change the largest send that is taken in its file."""
    path = machine.directory / CONFIG_FILE
    lines = [
        f"send_bytes_max = {octets}" if "send_bytes_max = " in line else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines) + "\n")
    assert f"\nsend_bytes_max = {octets}\n" in path.read_text()


async def begin_with(machine: Machine, octets: int) -> None:
    """Stop it, and begin it again with that in its file."""
    await machine.stop()
    write(machine, octets)
    await machine.begin()


async def reload_with(machine: Machine, octets: int) -> None:
    write(machine, octets)
    await machine.world.core.read_settings_again()


def in_force(machine: Machine) -> int:
    octets: int = machine.world.core.config.http.send_bytes_max
    return octets


async def both(machines: Machines) -> tuple[Machine, Machine]:
    leader = await machines.until_led()
    (follower,) = [machine for machine in machines.all if machine is not leader]
    return leader, follower


async def large(machine: Machine) -> tuple[int, Any]:
    return await machine.world.post_send(**LARGE)


def said_to_differ(leader: Machine, follower: Machine) -> list[str]:
    """As `node list` compares them."""
    rows = leader.node.known
    ours, theirs = from_row(leader.name, rows[leader.name]), from_row(follower.name, rows[follower.name])
    return [sentence for sentence in differences(ours, theirs) if "relay.toml" in sentence]  # type: ignore[arg-type]


def test_a_node_that_is_begun_with_another_file_goes_by_the_leader_s_from_its_first_answer_on(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, follower = await both(machines)
            await begin_with(follower, SMALL)
            assert in_force(follower) == in_force(leader)
            assert (await large(follower))[0] == 200
            await machines.until(lambda: said_to_differ(leader, follower) != [])

    run(main)


def test_it_is_changed_at_one_node_after_the_other_and_holds_when_the_leader_has_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, follower = await both(machines)
            await reload_with(follower, SMALL)
            await machines.until(lambda: said_to_differ(leader, follower) != [])
            assert in_force(follower) != SMALL
            assert (await large(follower))[0] == 200
            await reload_with(leader, SMALL)
            await machines.until(lambda: in_force(follower) == SMALL)
            assert (await large(follower))[0] == 413
            await machines.until(lambda: said_to_differ(leader, follower) == [])

    run(main)


def test_what_the_leader_reads_first_holds_at_all_nodes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, follower = await both(machines)
            before = in_force(leader)
            await reload_with(leader, SMALL)
            await machines.until(lambda: in_force(follower) == SMALL)
            assert (await large(follower))[0] == 413
            # And is taken back.
            await reload_with(leader, before)
            await machines.until(lambda: in_force(follower) == before)
            assert (await large(follower))[0] == 200

    run(main)


def test_who_leads_goes_by_its_own_from_its_first_decision_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, follower = await both(machines)
            await begin_with(follower, SMALL)
            leader.kill()
            await leader.until_ended()
            # The leader's hold on for as long as nobody leads.
            assert in_force(follower) != SMALL
            assert await machines.until_led() is follower
            assert in_force(follower) == SMALL
            # Now it is the other one that has another file.
            await leader.begin()
            assert in_force(leader) == SMALL
            assert (await large(leader))[0] == 413

    run(main)


def test_what_is_read_again_while_nobody_leads_holds_when_this_node_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, follower = await both(machines)
            leader.kill()
            await leader.until_ended()
            await reload_with(follower, SMALL)
            assert in_force(follower) != SMALL
            assert await machines.until_led() is follower
            assert in_force(follower) == SMALL

    run(main)


def test_rules_that_are_not_understood_change_nothing_and_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The leader is of a newer version, and a setting is used that only that one knows."""
    monkeypatch.setattr("relay.nodes.door.common_settings", lambda config: {"http.colour": "red"})

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, follower = await both(machines)
            before = in_force(follower)
            await reload_with(leader, SMALL)
            told = "node.rules_not_taken"
            await machines.until(lambda: told in [record.message for record in caplog.records])
            message_id = await follower.world.send()
            await leader.world.until(message_id, "sent")
            assert in_force(follower) == before

    run(main)
    (told,) = [record for record in caplog.records if record.message == "node.rules_not_taken"]
    assert "http.colour is not a setting that the relay knows" in str(vars(told)["because"])


def test_a_leader_that_does_not_tell_its_rules_holds_up_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, follower = await both(machines)
            await follower.stop()
            write(follower, SMALL)
            leader.is_cut_off = True  # from other nodes, and not from the database
            await follower.begin()
            assert in_force(follower) == SMALL
            leader.is_cut_off = False
            await machines.until(lambda: in_force(follower) == in_force(leader))

    run(main)
