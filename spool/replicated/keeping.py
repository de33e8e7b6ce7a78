"""What is done to the tables as a whole, in PostgreSQL: `table.Keeping`.

The invariant: **the tables are made, and thrown away, in one transaction**, so there are all of them or none. Rows go
by whole parts, in steps that may be broken off at any place (`spool.replicated.partitions`).

Whoever keeps parts stands back: where an append or a reader is in the way for LOCK_SECONDS_KEEPING, it fails, and is to
be called again some time. One session at a time does so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from spool.replicated import partitions, statements
from spool.replicated.connection import Answer, Patience, Session
from spool.replicated.partitions import Part
from spool.replicated.promise import Promise
from spool.replicated.table import Head, Keeping, NotAsExpectedError, TableError
from spool.replicated.witness import wait_for_witness

#: For what changes something: a large file may take its time to go.
SECONDS: Final = 60.0


class PostgresKeeping(Keeping):
    def __init__(self, session: Session, promise: Promise, patience: Patience) -> None:
        self._session = session
        self._witness = statements.witness(promise)
        self._patience = patience

    @property
    def host(self) -> str:
        return self._session.host

    async def head(self) -> Head | None:
        if not (await self._ask(statements.IS_FOUNDED)).rows[0][0]:
            return None
        return await self._head()

    async def found(self, head: Head) -> None:
        await self._ask("BEGIN")
        if (await self._ask(statements.IS_FOUNDED)).rows[0][0]:
            await self._refuse("there are tables already")
        for statement in statements.CREATE:
            await self._ask(statement)
        await self._ask(partitions.make(partitions.FIRST))
        await self._ask(partitions.attach(partitions.FIRST))
        await self._ask(statements.CREATE_HEAD, {"part": partitions.FIRST, **head._asdict()})
        await self._commit()

    async def discard(self, head: Head) -> None:
        await self._ask("BEGIN")
        if not (await self._ask(statements.IS_FOUNDED)).rows[0][0]:
            await self._refuse("there are no tables")
        await self._ask(statements.LOCK_ALL)
        found = await self._head()
        if found != head:
            await self._refuse(f"its log has come to {found.last_seq} in epoch {found.epoch}: look again")
        await self._ask(statements.HUSH)
        await self._ask(statements.DROP_ALL)
        await self._commit()

    async def begin_part(self) -> None:
        await self._keep_alone()
        current = await self._current()
        number = current + 1
        parts = {part.number: part for part in await self._parts()}
        if number in parts and not parts[number].is_attached:
            await self._do(partitions.drop(number))
            del parts[number]
        if number not in parts:
            await self._do(partitions.make(number))
            await self._do(partitions.attach(number))
        await self._do(partitions.NAME_NEXT, {"current": current, "next": number})
        await self._wait_for_witness()

    async def drop_through(self, seq: int) -> int:
        await self._keep_alone()
        count = 0
        for part in partitions.behind(await self._parts(), await self._current()):
            if part.is_attached and not (part.is_detaching or await self._ends_by(part, seq)):
                continue
            if part.is_attached:
                await self._do(partitions.detach(part))
            await self._do(partitions.drop(part.number))
            count += 1
        return count

    async def octets(self) -> int:
        octets: int = (await self._ask(statements.READ_OCTETS)).rows[0][0]
        return octets

    async def close(self) -> None:
        await self._session.close()

    async def _head(self) -> Head:
        return Head(*(await self._ask(statements.READ_HEAD)).rows[0])

    async def _current(self) -> int:
        number: int = (await self._ask(partitions.READ_CURRENT)).rows[0][0]
        return number

    async def _parts(self) -> list[Part]:
        return [Part(*row) for row in (await self._ask(partitions.READ_PARTS)).rows]

    async def _ends_by(self, part: Part, seq: int) -> bool:
        rows = (await self._ask(partitions.read_last_seq(part.number))).rows
        return not rows or rows[0][0] <= seq

    async def _keep_alone(self) -> None:
        if not (await self._ask(statements.KEEP_ALONE)).rows[0][0]:
            await self._session.close()
            raise TableError(f"{self.host}: another machine is keeping the tables at this moment")

    async def _refuse(self, problem: str) -> None:
        await self._session.close()
        raise NotAsExpectedError(f"{self.host}: {problem}")

    async def _commit(self) -> None:
        await self._do("COMMIT")
        await self._wait_for_witness()

    async def _wait_for_witness(self) -> None:
        await wait_for_witness(self._session, self._witness, self._patience, {})

    async def _ask(self, statement: str, values: Mapping[str, object] | None = None) -> Answer:
        """What changes nothing, or is in a transaction that has not been committed."""
        return await self._session.ask(statement, values, seconds=self._patience.answer_seconds)

    async def _do(self, statement: str, values: Mapping[str, object] | None = None) -> None:
        """What stays."""
        await self._session.ask(statement, values, seconds=SECONDS, changes=True)
