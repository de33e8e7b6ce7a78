"""The database is restored to an earlier time, or its head set back: nobody who is behind leads there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.nodes.ahead import HEAR_SECONDS, Heard
from relay.nodes.founding import found
from spool.errors import LogDeposedError, LogPoisonedError
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run
from tests.world.servers import Servers, put_head, put_lease

NAMES = ("anna", "bert", "carl")


def restore(servers: Servers, changes: int) -> None:
    """To when its WAL had so many. Whoever was connected to it is not any more."""
    wal = servers.primary.wal[:changes]
    for server in servers.all:
        server.kill()
    servers.primary.wal = wal
    servers.primary.restart()
    for server in servers.all:
        if server is not servers.primary:
            server.follow(servers.primary)


def others(machines: Machines, leader: Machine) -> tuple[Machine, Machine]:
    ahead, behind = (machine for machine in machines.all if machine is not leader)
    return ahead, behind


def said_of(machines: Machines, machine: Machine) -> dict[str, Any]:
    """Its row, as the database shows it."""
    row: dict[str, Any] = json.loads(machines.database.shown.nodes[machine.name])
    return row


async def restored(machines: Machines) -> tuple[Machine, Machine, Machine]:
    """The leader, which has ended, one that has all, and one that has only what the database has. None can reach it.
    The leader held the head anew before, by another connection: its epoch is higher than that of any `node.leads`."""
    leader = await machines.until_led()
    ahead, behind = others(machines, leader)
    head = machines.database.shown.head
    assert head is not None
    for session in list(leader.table.sessions):
        session.break_off()
    await leader.world.until(await leader.world.send(to="friend@example.com"), "sent")
    assert machines.database.shown.head.epoch > head.epoch
    await machines.until_level()
    await trio.sleep(2)
    behind.cut_off()
    changes = len(machines.database.servers.primary.wal)
    message_id = await leader.world.send(to="friend@example.com")
    await leader.world.until(message_id, "sent")
    await machines.until(lambda: ahead.seq == leader.seq)
    leader.kill()
    await leader.until_ended()
    ahead.cut_off()
    restore(machines.database.servers, changes)
    return leader, ahead, behind


def test_who_is_behind_does_not_lead_while_another_has_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, *NAMES) as machines:
            _, ahead, behind = await restored(machines)
            # Both reach it in the same moment.
            ahead.rejoin()
            behind.rejoin()
            await machines.until(lambda: "restored to an earlier time" in str(behind.node.trouble))
            await trio.sleep(60)
            assert not behind.leads
            assert behind.node.led is None
            assert f"node {ahead.name} has the log up to sequence {ahead.seq}" in str(behind.node.trouble)
            assert "node found DIR --discard NAME" in str(behind.node.trouble)
            assert "restored to an earlier time" in str(ahead.node.trouble)
            said = said_of(machines, behind)["trouble"]
            assert said.startswith("the database's log ends with sequence")
            # The operator founds it anew where the log is furthest.
            for machine in (ahead, behind):
                await machine.stop()
            seq = len(ahead.records())
            founded = await found(ahead.directory, ahead.table, discard=True, now=datetime.now(UTC))
            assert founded.seq == seq
            await ahead.begin()
            assert await machines.until_led() is ahead
            await behind.begin()
            await machines.until(lambda: "node fill" in str(behind.node.trouble))

    run(main)


def test_who_is_removed_keeps_nobody_from_leading(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, *NAMES) as machines:
            _, ahead, behind = await restored(machines)
            ahead.rejoin()
            await machines.until(lambda: said_of(machines, ahead)["applied_seq"] == ahead.seq)
            await ahead.stop()
            behind.rejoin()
            await machines.until(lambda: "restored" in str(behind.node.trouble))
            await trio.sleep(600)
            assert not behind.leads
            connection = await behind.table.connect()
            assert await connection.remove_node(ahead.name)
            await connection.close()
            assert await machines.until_led() is behind
            assert behind.node.trouble is None
            # What the others have is another log from there on.
            machines.all[:] = [behind]

    run(main)


@pytest.mark.parametrize("what", ["head", "head and rows"])
def test_a_head_that_was_set_back_is_led_by_nobody(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, *NAMES) as machines:
            leader = await machines.until_led()
            ahead, behind = others(machines, leader)
            await machines.until_level()
            behind.cut_off()
            await leader.world.until(await leader.world.send(to="friend@example.com"), "sent")
            leader.kill()
            await leader.until_ended()
            await ahead.stop()
            server = machines.database.servers.primary
            head, before = server.tables.head, server.tables.rows_after(behind.seq)[0]
            assert head is not None
            server.write(put_head(head._replace(last_seq=behind.seq, chain=before.previous_chain)))
            if what == "head and rows":
                server.write(lambda tables: tables.rows.__delitem__(slice(tables.rows.index(before), None)))
                server.write(lambda tables: tables.nodes.clear())
            behind.rejoin()
            await trio.sleep(60)
            await machines.until(lambda: "Nobody leads" in str(behind.node.trouble))
            await trio.sleep(600)
            assert not behind.leads
            if what == "head and rows":
                assert "its lease says that sequence" in str(behind.node.trouble)
            server.write(put_head(head))
            if what == "head":
                assert await machines.until_led() is behind

    run(main)


def test_a_leader_ends_and_says_why_where_the_head_was_set_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            await machines.until_level()
            server = machines.database.servers.primary
            head, row = server.tables.head, server.tables.rows[-1]
            assert head is not None
            server.write(put_head(head._replace(last_seq=row.first_seq - 1, chain=row.previous_chain)))
            lease = server.tables.lease
            assert lease is not None
            with pytest.raises(LogPoisonedError):
                await leader.world.core.store.append([machines_event(leader)])
            await leader.until_ended()
            assert "it had acknowledged sequence" in str(leader.ended_by) or leader.ended_by is not None
            await leader.begin()
            await trio.sleep(60)
            assert machines.leader() is None
            for machine in machines.all:
                assert machine.is_up
                assert "restored to an earlier time" in str(machine.node.trouble)
            server.write(put_head(head))
            server.write(put_lease(lease))
            await machines.until_led()

    run(main)


@pytest.mark.parametrize("it_appends", [False, True])
def test_a_leader_waits_and_says_what_to_do_where_the_database_was_restored_to_before_it_led(
    tmp_path: Path, it_appends: bool
) -> None:
    """An old primary that has come back looks the same, and another server may have all."""

    async def main() -> None:
        async with open_machines(tmp_path, *NAMES) as machines:
            first = await machines.until_led()
            await machines.until_level()
            changes = len(machines.database.servers.primary.wal)
            first.kill()
            await first.until_ended()
            leader = await machines.until_led()
            await machines.until_level()
            message_id = await leader.world.send(to="friend@example.com")
            await leader.world.until(message_id, "sent")
            await machines.until_level()
            whole = machines.database.servers.primary.wal[:]
            restore(machines.database.servers, changes)
            async with trio.open_nursery() as nursery:
                if it_appends:
                    nursery.start_soon(leader.world.core.store.append, [machines_event(leader)])
                await machines.until(lambda: "What to do is in docs/NODES.md" in str(leader.node.trouble))
                assert "was restored to an earlier time" in str(leader.node.trouble)
                await trio.sleep(600)
                assert leader.is_up
                assert "was restored to an earlier time" in str(leader.node.trouble)
                assert leader.node.why_not_sure() is not None
                assert [machine for machine in machines.all if machine.is_up and machine.node.leads] == [
                    leader
                ]
                for machine in machines.all:
                    if machine.is_up:
                        assert "What to do is in docs/NODES.md" in str(machine.node.trouble)
                said = said_of(machines, leader)["trouble"]
                assert "What to do is in docs/NODES.md" in said
                # It was an old primary.
                machines.database.servers.primary.wal = whole
                restore(machines.database.servers, len(whole))
                await machines.until(lambda: leader.node.trouble is None)
                message_id = await leader.world.send(to="friend@example.com")
                await leader.world.until(message_id, "sent")
            await first.begin()
            await machines.until_level()

    run(main)


def machines_event(machine: Machine) -> object:
    return machine.world.events()[-1]


def test_who_still_leads_by_tables_that_were_thrown_away_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            (founder,) = (machine for machine in machines.all if machine is not leader)
            await machines.until_level()
            await founder.stop()
            await leader.world.until(await leader.world.send(to="friend@example.com"), "sent")
            await machines.until(lambda: said_of(machines, leader)["applied_seq"] == leader.seq)
            said = said_of(machines, leader)
            head = machines.database.shown.head
            assert head is not None
            await found(founder.directory, founder.table, discard=True, now=datetime.now(UTC))
            assert machines.database.shown.head.epoch > head.epoch
            # It says once more how far it is, before it knows.
            connection = await founder.table.connect()
            await connection.write_node(leader.name, said)
            await connection.close()
            await leader.until_ended()
            assert isinstance(leader.ended_by, LogDeposedError)
            assert said_of(machines, leader)["applied_seq"] > machines.database.shown.head.last_seq
            # What it has is another log from there on, and it says so.
            await founder.begin()
            assert await machines.until_led() is founder
            await leader.begin()
            await trio.sleep(60)
            assert leader.is_up
            assert not leader.leads
            assert leader.node.trouble is not None
            # Nor does what it says now keep anybody from leading the next time.
            founder.kill()
            await founder.until_ended()
            await founder.begin()
            assert await machines.until_led() is founder
            machines.all[:] = [founder]

    run(main)


def test_who_has_just_connected_waits_for_others_but_not_for_ever() -> None:
    heard = Heard()
    assert heard.why_not_yet("anna", 0.0) == "it does not know yet how far the other nodes are"
    rows = {
        name: {"written_at": 1, "began_at": began} for name, began in (("anna", 1), ("bert", 1), ("new", 0))
    }
    heard.read(rows, 10.0)
    assert heard.why_not_yet("anna", 10.0) == "it waits to hear how far node bert is"
    assert heard.why_not_yet("anna", 10.0 + HEAR_SECONDS) is None
    heard.read({**rows, "bert": {"written_at": 2, "began_at": 1}}, 11.0)
    assert heard.why_not_yet("anna", 11.0) is None
    heard.begin_anew()
    heard.read(rows, 12.0)
    assert heard.why_not_yet("anna", 12.0) is not None
    # One that was removed is not waited for.
    heard.read({"anna": rows["anna"]}, 12.5)
    assert heard.why_not_yet("anna", 12.5) is None
