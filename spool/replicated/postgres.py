"""A replicated log's table in PostgreSQL: `table.Table`, as `statements` has it in SQL.

    table = PostgresTable("host=a,b,c dbname=relay user=relay password=…")
    connection = await table.connect()

The invariant: **an append or a take-over is answered only when a synchronous standby was seen to have flushed it**
(`spool.replicated.witness`; under other promises than STANDBYS there is none to be seen: `spool.replicated.promise`).

A host that answers and must not be used is passed over, as one is that does not answer: the one that may be used is
perhaps another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from spool.replicated import statements
from spool.replicated.connection import USUAL_PATIENCE, Answer, Patience, Session, open_session
from spool.replicated.doubts import find_doubts
from spool.replicated.hosts import Host, Hosts
from spool.replicated.keeping import PostgresKeeping
from spool.replicated.pooler import check_is_own
from spool.replicated.promise import SEES_STANDBYS, SETTINGS, Promise, find_refusals
from spool.replicated.table import (
    Connection,
    Head,
    Lease,
    NoTablesError,
    Row,
    Table,
    TableError,
    UnfitTableError,
)
from spool.replicated.witness import has_witness, wait_for_witness

#: Connections that are being made at a time, and those that nobody waits for any more among them.
CONNECTING_MAX: Final = 8
#: Until the next host is tried, too.
STAGGER_SECONDS: Final = 0.3
#: What is large is waited for longer.
OCTETS_A_SECOND_LEAST: Final = 1 << 20


class PostgresTable(Table):
    """`conninfo` is what libpq takes; it is never repeated. Raises ValueError where it cannot be used, or where both
    promises are given."""

    def __init__(
        self,
        conninfo: str,
        *,
        unsafe_single_server: bool = False,
        provider_is_durable: bool = False,
        patience: Patience = USUAL_PATIENCE,
    ) -> None:
        if unsafe_single_server and provider_is_durable:
            raise ValueError("a database is either one whose provider promises, or one that promises nothing")
        self._promise = Promise.STANDBYS
        if unsafe_single_server:
            self._promise = Promise.NONE
        if provider_is_durable:
            self._promise = Promise.PROVIDER
        self._hosts = Hosts(conninfo)
        self._patience = patience
        self._limiter = trio.CapacityLimiter(CONNECTING_MAX)

    async def connect(self) -> PostgresConnection:
        session = await self._open(needs_tables=True)
        return PostgresConnection(session, self._promise, self._patience)

    async def keep(self) -> PostgresKeeping:
        session = await self._open(needs_tables=False)
        return PostgresKeeping(session, self._promise, self._patience)

    def prefer_another_host(self) -> None:
        self._hosts.prefer_another()

    async def find_doubts(self) -> Sequence[str]:
        return await find_doubts(self._hosts.in_turn(), self._promise, self._patience, self._limiter)

    async def _open(self, *, needs_tables: bool) -> Session:
        """To the first host, in turn, that may be used. One that does not answer for STAGGER_SECONDS, perhaps since its
        machine is gone, is waited for beside the next one."""
        hosts = self._hosts.in_turn()
        found: list[tuple[Host, Session]] = []
        problems: dict[str, TableError] = {}

        async def attempt(host: Host, has_failed: trio.Event) -> None:
            try:
                session = await self._reach(host, needs_tables=needs_tables)
            except TableError as error:
                problems[host.name] = error
                has_failed.set()
                return
            found.append((host, session))
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                for host in hosts:
                    has_failed = trio.Event()
                    nursery.start_soon(attempt, host, has_failed)
                    with trio.move_on_after(STAGGER_SECONDS):
                        await has_failed.wait()
        except BaseException:
            for _, session in found:
                await session.close()
            raise
        if not found:
            said = "; ".join(str(problems[host.name]) for host in hosts)
            worst = (NoTablesError, UnfitTableError, TableError)
            raise next(kind for kind in worst if any(isinstance(error, kind) for error in problems.values()))(
                said
            )
        (host, session), *others = found
        for _, other in others:  # at the same moment
            await other.close()
        self._hosts.used(host)
        return session

    async def _reach(self, host: Host, *, needs_tables: bool) -> Session:
        async def open_one() -> Session:
            return await open_session(host, seconds=self._patience.connect_seconds, limiter=self._limiter)

        session = await open_one()
        await check_is_own(session, open_one, seconds=self._patience.answer_seconds)
        await self._look_at(session, needs_tables=needs_tables)
        return session

    async def _look_at(self, session: Session, *, needs_tables: bool) -> None:
        """Set what is ours to set, and see that the rest is right. Raises `UnfitTableError`, and closes it."""
        seconds = self._patience.answer_seconds
        lock_seconds = statements.LOCK_SECONDS if needs_tables else statements.LOCK_SECONDS_KEEPING
        settings = {**statements.SESSION, "lock_timeout": f"{lock_seconds}s"}
        names_values = {"names": list(settings), "values": list(settings.values())}
        await session.ask(statements.SET, names_values, seconds=seconds)
        ((*shown, is_founded),) = (await session.ask(statements.CHECK, seconds=seconds)).rows
        found = find_refusals(dict(zip((*SETTINGS, SEES_STANDBYS), shown, strict=True)), self._promise)
        lacks_tables = needs_tables and not is_founded
        if lacks_tables:
            found.append("there are no tables of a replicated log in this database")
        elif is_founded:
            forms = (await session.ask(statements.READ_FORM, seconds=seconds)).rows
            if forms != [(statements.FORM,)]:
                found.append(
                    f"its tables are of another form than {statements.FORM}, the one that is understood here"
                )
        if found:
            await session.close()
            raise (NoTablesError if lacks_tables else UnfitTableError)(f"{session.host}: {'; '.join(found)}")


class PostgresConnection(Connection):
    def __init__(self, session: Session, promise: Promise, patience: Patience) -> None:
        self._session = session
        self._patience = patience
        self._take_head = statements.take_head(promise)
        self._write_lease = statements.write_lease(promise)
        self._take_lease = statements.take_lease(promise)
        self._append = statements.append(promise)
        self._witness = statements.witness(promise)
        self._witness_and_say = statements.witness_and_say(promise)

    @property
    def host(self) -> str:
        return self._session.host

    async def take_head(self, known: Head, holder: bytes) -> Head | None:
        answer = await self._ask(self._take_head, {"known": known.epoch, "holder": holder}, changes=True)
        if not answer.rows:
            return None
        await wait_for_witness(self._session, self._witness, self._patience, {})
        return Head(*answer.rows[0])

    async def append(self, row: Row, holder: bytes) -> bool:
        octets = len(row.data) + len(row.beside)
        answer = await self._ask(
            self._append, {**row._asdict(), "holder": holder}, octets=octets, changes=True
        )
        if not answer.changed:
            return False
        said = {"last_seq": row.last_seq, "chain": row.chain, "holder": holder}
        await wait_for_witness(self._session, self._witness_and_say, self._patience, said)
        return True

    async def head(self) -> Head:
        return Head(*await self._one_row(statements.READ_HEAD))

    async def rows(self, after_seq: int, up_to_seq: int, octets_max: int) -> Sequence[Row]:
        wanted = {"after_seq": after_seq, "up_to_seq": up_to_seq, "octets_max": octets_max}
        answer = await self._ask(statements.READ_ROWS, wanted, octets=octets_max)
        found = []
        for *columns, octets in answer.rows:
            row = Row._make(columns)
            if octets > octets_max:
                large = {"first_seq": row.first_seq}
                data, beside = await self._one_row(statements.READ_DATA, large, octets=octets)
                row = row._replace(data=data, beside=beside)
            found.append(row)
        return found

    async def oldest_seq(self) -> int | None:
        seq: int | None
        (seq,) = await self._one_row(statements.READ_OLDEST)
        return seq

    async def lease(self) -> Lease | None:
        rows = (await self._ask(statements.READ_LEASE)).rows
        return Lease(*rows[0]) if rows else None

    async def write_lease(self, lease: Lease) -> bool:
        return bool((await self._ask(self._write_lease, lease._asdict(), changes=True)).rows)

    async def take_lease(self, lease: Lease, known: Lease | None) -> bool:
        epoch, holder, counter = (None, None, None) if known is None else (*known[:2], known.counter)
        expected = {"known_epoch": epoch, "known_holder": holder, "known_counter": counter}
        return bool((await self._ask(self._take_lease, lease._asdict() | expected, changes=True)).rows)

    async def has_witness(self, seconds: float) -> bool:
        return await has_witness(self._session, self._witness, self._patience, {}, seconds=seconds)

    async def nodes(self) -> Mapping[str, Mapping[str, object]]:
        found: dict[str, Mapping[str, object]] = {}
        for name, text in (await self._ask(statements.READ_NODES)).rows:
            try:
                facts = json.loads(text)
            except (ValueError, RecursionError):
                facts = None
            found[name] = facts if isinstance(facts, dict) else {}
        return found

    async def write_node(self, name: str, facts: Mapping[str, object]) -> None:
        await self._ask(statements.WRITE_NODE, {"name": name, "facts": json.dumps(facts)}, changes=True)

    async def remove_node(self, name: str) -> bool:
        removed = await self._ask(statements.REMOVE_NODE, {"name": name}, changes=True)
        # Also where there was none: whoever removed it may have had no answer.
        await wait_for_witness(self._session, self._witness, self._patience, {})
        return bool(removed.changed)

    async def time_us(self) -> int:
        time_us: int
        (time_us,) = await self._one_row(statements.READ_TIME)
        return time_us

    async def wait_for_news(self, seconds: float) -> None:
        await self._session.listen(seconds, self._patience.answer_seconds)

    async def close(self) -> None:
        await self._session.close()

    async def _ask(
        self,
        statement: str,
        values: Mapping[str, object] | None = None,
        *,
        octets: int = 0,
        changes: bool = False,
    ) -> Answer:
        seconds = self._patience.answer_seconds + octets / OCTETS_A_SECOND_LEAST
        return await self._session.ask(statement, values, seconds=seconds, changes=changes)

    async def _one_row(
        self, statement: str, values: Mapping[str, object] | None = None, *, octets: int = 0
    ) -> Sequence[Any]:
        rows = (await self._ask(statement, values, octets=octets)).rows
        if len(rows) != 1:
            await self._session.close()
            raise UnfitTableError(
                f"{self.host}: one row was expected, and there are {len(rows)}: {statement}"
            )
        return rows[0]
