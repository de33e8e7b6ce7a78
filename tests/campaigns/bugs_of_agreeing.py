"""Bugs that are planted in how machines agree on one log."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import tests.campaigns.log_machine
from relay.nodes.facts import Facts, StrangeRow
from spool.replicated.following import Following
from spool.replicated.leading import Replicated
from spool.replicated.table import Connection, Head, Row, TableError, UnknownOutcomeError
from tests.campaigns.planting import _replace
from tests.world.servers import Plant, Tables, add
from tests.world.table import FakeConnection, FakeDatabase


def answered_whatever_became_of_it(stack: ExitStack) -> None:
    """A broken connection, or a warning, is taken for an answer: the row was sent, was it not."""

    async def append(self: Any, row: Row) -> bool:
        if self._connection is not None:
            ours = row._replace(epoch=self._head.epoch)
            try:
                if await self._connection.append(ours, self.holder):
                    self._head = self._head._replace(last_seq=row.last_seq, chain=row.chain)
                    return True
            except UnknownOutcomeError:
                await self._let_go()
                self._head = self._head._replace(last_seq=row.last_seq, chain=row.chain)
                return True
            except TableError:
                pass
            await self._let_go()
        await self._hold(None)
        return False

    _replace(stack, Replicated, "_append", append)


def no_witness(stack: ExitStack) -> None:
    """The answer to the commit is believed, while somebody empties `synchronous_standby_names`."""
    _plant_in_the_database(stack, Plant.ASKS_FOR_NO_WITNESS)


def no_witness_and_no_look_at_warnings(stack: ExitStack) -> None:
    """As a library does that throws notices away. Where a witness is asked for, nothing is lost by it."""
    _plant_in_the_database(stack, Plant.ASKS_FOR_NO_WITNESS, Plant.IGNORES_WARNINGS)


def failover_to_any_standby(stack: ExitStack) -> None:
    """The database's own: its failover manager promotes whichever it likes."""
    _plant_in_the_database(stack, Plant.PROMOTES_THE_LEAST_ADVANCED)


def _plant_in_the_database(stack: ExitStack, *plants: Plant) -> None:
    def begin(self: Any, **options: Any) -> None:
        before(self, **options | {"plants": frozenset(plants)})

    before = _replace(stack, FakeDatabase, "__init__", begin)


def deposed_and_goes_on(stack: ExitStack) -> None:
    """Whoever finds the head in other hands takes it for a passing trouble, and answers as before."""

    async def look_behind(self: Any, connection: Connection, known: Head, in_doubt: Row | None) -> bool:
        return True

    async def append(self: Any, row: Row) -> bool:
        there: bool = await before(self, row)
        self._head = self._head._replace(last_seq=row.last_seq, chain=row.chain)
        return there

    _replace(stack, Replicated, "_look_behind", look_behind)
    before = _replace(stack, Replicated, "_append", append)


def fence_by_the_lease(stack: ExitStack) -> None:
    """Who may append says the lease, which whoever takes the head writes next. Clocks agree, do they not."""

    async def append(self: Any, row: Row, holder: bytes) -> bool:
        def make(tables: Tables) -> Any:
            head, lease = tables.head, tables.lease
            if head is None or (head.last_seq, head.chain) != (row.first_seq - 1, row.previous_chain):
                return None
            if lease is not None and lease.holder != holder:
                return None
            return add(row)

        done: bool = await self._commit("append", make)
        return done

    _replace(stack, FakeConnection, "append", append)


def unwitnessed_rows_applied(stack: ExitStack) -> None:
    """What the primary shows is committed, is it not."""

    async def apply(self: Any, connection: Connection, head: Head, witnessed_chain: bytes) -> bool:
        done: bool = await before(self, connection, head, head.chain)
        return done

    before = _replace(stack, Following, "_apply", apply)


def rows_dropped_that_one_machine_needs(stack: ExitStack) -> None:
    """Two of three have them on disk: that is most."""

    def may_go(nodes: Iterable[Facts | StrangeRow], now_us: int, tail_hours: int) -> int:
        synced = sorted(node.synced_seq for node in nodes if isinstance(node, Facts))
        return synced[-2]

    _replace(stack, tests.campaigns.log_machine, "may_go_through", may_go)


def found_without_taking_the_head(stack: ExitStack) -> None:
    """After a broken connection the row is looked up, and is there: on a primary that nobody has followed yet."""

    async def try_to_hold(self: Any, in_doubt: Row | None) -> bool:
        if in_doubt is not None:
            connection = self._connection = await self._table.connect()
            known = await connection.head()
            if (known.last_seq, known.chain) == (in_doubt.last_seq, in_doubt.chain):
                self._head = known
                return True
            await self._let_go()
        done: bool = await before(self, in_doubt)
        return done

    before = _replace(stack, Replicated, "_try_to_hold", try_to_hold)


def absent_without_taking_the_head(stack: ExitStack) -> None:
    """After a broken connection the row is looked up, and is not there: not yet."""

    async def try_to_hold(self: Any, in_doubt: Row | None) -> bool:
        if in_doubt is not None:
            connection = self._connection = await self._table.connect()
            known = await connection.head()
            if (known.epoch, known.last_seq) == (self._head.epoch, self._head.last_seq):
                return False
            await self._let_go()
        done: bool = await before(self, in_doubt)
        return done

    before = _replace(stack, Replicated, "_try_to_hold", try_to_hold)
