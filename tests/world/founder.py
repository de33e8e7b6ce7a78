"""The database in memory as whoever founds a log in it, or ends one, reaches it."""

from __future__ import annotations

from typing import Final

from spool.replicated.founder import Founder
from spool.replicated.table import Head, TableError, UnfitTableError, UnknownOutcomeError
from tests.world.servers import Change, Server, Tables, found
from tests.world.table import FakeDatabase, Outcome

#: What may become of a statement of a founder's.
OUTCOMES: Final = (Outcome.ANSWERED, Outcome.REFUSED, Outcome.CUT_BEFORE, Outcome.CUT_AFTER)


class FakeFounder(Founder):
    """`outcomes` are those of its calls, one after the other; then all are answered."""

    def __init__(self, database: FakeDatabase, name: str = "relay") -> None:
        self.database = database
        self.name = name
        self.outcomes: list[Outcome] = []

    async def found(self, head: Head, *, discard: str | None = None) -> None:
        server, outcome = self._begin()
        there = server.tables.head
        is_ours = there == head and not server.tables.rows
        if there is not None and not is_ours and discard != self.name:
            raise UnfitTableError(
                f"the database {self.name} has such tables already, up to sequence {there.last_seq}"
            )
        self._change(server, found(head), outcome)

    async def end(self, head: Head) -> bool:
        server, outcome = self._begin()
        if server.tables.head is None:
            raise UnfitTableError(f"{server.name} has no such tables: the database is not founded")
        if server.tables.head != head:
            return False
        self._change(server, _dropped, outcome)
        return True

    def _begin(self) -> tuple[Server, Outcome]:
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.ANSWERED
        assert outcome in OUTCOMES, outcome.name
        server = self.database.servers.primary
        if outcome is Outcome.REFUSED:
            raise TableError(f"{server.name} refused it: the disk is full")
        if outcome is Outcome.CUT_BEFORE:
            raise UnknownOutcomeError(f"the connection to {server.name} broke")
        if not server.is_promising:
            raise UnfitTableError(
                f"{server.name}: synchronous_standby_names is empty, and must name at least one standby"
            )
        return server, outcome

    @staticmethod
    def _change(server: Server, change: Change, outcome: Outcome) -> None:
        server.write(change)
        if outcome is Outcome.CUT_AFTER:
            raise UnknownOutcomeError(f"the connection to {server.name} broke")


def _dropped(tables: Tables) -> None:
    tables.head, tables.rows, tables.lease, tables.nodes = None, [], None, {}
