"""Machines with one log over a database that fails over beneath them: the one in memory, and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest
import trio

from spool import Entry, Record
from spool.errors import LogDeposedError
from spool.replicated.table import Table
from tests.world.disk import FakeDisk
from tests.world.postgres import Servers
from tests.world.replicated import Node, open_node
from tests.world.spool import group, read_all
from tests.world.tables import LITTLE_PATIENCE, SECONDS_MAX, Database, DatabaseInPostgres, found

#: Of one machine while the other follows.
APPENDS = 60


@dataclass
class Reached:
    database: Database

    def table(self, name: str) -> Table:
        return self.database.table()


def test_a_leader_goes_on_through_a_failover_and_another_takes_its_place(hasty: Database) -> None:
    disks = {name: FakeDisk() for name in ("anna", "bert", "cleo")}
    reached = Reached(hasty)

    async def main() -> None:
        await found(hasty.table())
        async with open_node(reached, "cleo", disk=disks["cleo"]) as cleo, trio.open_nursery() as nursery:
            nursery.start_soon(cleo.following.run)
            async with open_node(reached, "bert", disk=disks["bert"]) as bert:
                await nursery.start(lead_until_deposed, bert, cleo)
                async with trio.open_nursery() as renewing:
                    renewing.start_soon(bert.renew_lease, 0.1)
                    await bert.log.append(group(9))
                    await wait_applied(cleo, bert)
                    renewing.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    async def lead_until_deposed(bert: Node, cleo: Node, *, task_status: trio.TaskStatus[None]) -> None:
        """Anna leads, until Bert does."""
        with pytest.RaisesGroup(LogDeposedError, flatten_subgroups=True):
            async with (
                open_node(reached, "anna", disk=disks["anna"]) as anna,
                trio.open_nursery() as nursery,
            ):
                await anna.lead()
                nursery.start_soon(anna.renew_lease, 0.1)
                for number in range(1, 6):
                    await anna.log.append(group(number, 2))
                await wait_applied(cleo, anna)

                hasty.stall_standbys()
                async with trio.open_nursery() as appending:
                    appending.start_soon(anna.log.append, group(6, 2))
                    await hasty.wait_held()
                    hasty.fail_over()
                    hasty.go_on()
                hasty.bring_old_back()
                for number in (7, 8):
                    await anna.log.append(group(number, 2))
                await wait_applied(cleo, anna)

                await bert.lead()
                task_status.started()
                with pytest.raises(LogDeposedError):
                    await anna.log.append(group(99))

    hasty.run(main)
    chains = [[record.chain for record in read_all(disk)] for disk in disks.values()]
    assert chains[1] == chains[2]
    assert chains[0] == chains[1][: len(chains[0])]
    skeletons = [record.skeleton for record in read_all(disks["cleo"])]
    assert skeletons == [entry.skeleton for number in range(1, 9) for entry in group(number, 2)] + [
        entry.skeleton for entry in group(9)
    ]


async def wait_applied(follower: Node, leader: Node) -> None:
    """Until the follower has what the leader has."""
    async with aclosing(follower.log.follow(leader.log.last_seq)) as records:
        async for record in records:
            assert (record.seq, record.chain) == (leader.log.last_seq, leader.log.last_chain)
            break


@pytest.mark.parametrize("failure", ["none", "failover", "restart", "standbys stopped for a while"])
def test_a_follower_has_what_the_leader_has_whatever_fails_meanwhile(servers: Servers, failure: str) -> None:
    """Appends go on while it fails, which no clock that jumps can have."""
    database = DatabaseInPostgres(servers)
    database.patience = LITTLE_PATIENCE

    def stop_for_a_while() -> None:
        database.stall_standbys()
        database.go_on()

    failures: dict[str, Callable[[], object]] = {
        "none": lambda: None,
        "failover": servers.fail_over,
        "restart": database.restart_primary,
        "standbys stopped for a while": stop_for_a_while,
    }
    disks = {name: FakeDisk() for name in ("anna", "bert")}

    async def main() -> None:
        await found(database.table())
        async with (
            open_node(Reached(database), "anna", disk=disks["anna"]) as anna,
            open_node(Reached(database), "bert", disk=disks["bert"]) as bert,
            trio.open_nursery() as nursery,
        ):
            await anna.lead()
            nursery.start_soon(anna.renew_lease, 0.5)
            nursery.start_soon(bert.following.run)
            for number in range(APPENDS):
                if number == APPENDS // 2:
                    nursery.start_soon(trio.to_thread.run_sync, failures[failure])
                await anna.log.append([*group(number), Entry(b"beside %d" % number, None)])
            with trio.fail_after(SECONDS_MAX):
                await wait_applied(bert, anna)
            nursery.cancel_scope.cancel()
        await anna.leading.close()

    database.run(main)
    anna, bert = (list(map(_seen, read_all(disk))) for disk in disks.values())
    assert anna == bert
    assert len(anna) == sum(len(group(number)) + 1 for number in range(APPENDS))
    servers.mend()
    servers.drop_database(database.conninfo)


def _seen(record: Record) -> tuple[object, ...]:
    return record.seq, record.chain, record.time_us, record.skeleton, record.payload
