"""One connection to a server of the database in memory: what becomes of each statement on it, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from spool.replicated.table import TableError, UnknownOutcomeError
from tests.world.outcomes import Outcome
from tests.world.servers import LOCK_SECONDS, Answer, Change, Plant, Server, Statement, Tables

if TYPE_CHECKING:
    from tests.world.table import FakeTable

#: Who has no answer for so long closes its connection.
ANSWER_SECONDS: Final = 10.0


class Session:
    """One statement at a time. Whatever ends one, be it an error or a cancellation, closes it."""

    def __init__(self, table: FakeTable, server: Server) -> None:
        self._table = table
        self._server = server
        self._database = table.database
        self._open = True
        self._busy = False
        self._broken = trio.Event()
        self._statement: Statement | None = None
        #: Of the server's news.
        self._heard = server.news_told
        table.sessions.add(self)
        server.on_death.append(self.break_off)

    @property
    def host(self) -> str:
        return self._server.name

    @property
    def is_open(self) -> bool:
        return self._open

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self._close()

    def break_off(self) -> None:
        """What is under way is never answered."""
        self._broken.set()
        self._server.news.unpark_all()
        if self._statement is not None:
            # It goes on at the server, if that is alive, which tells nobody.
            self._statement.answered.set()

    def _close(self) -> None:
        self._open = False
        self._table.sessions.discard(self)
        if self.break_off in self._server.on_death:
            self._server.on_death.remove(self.break_off)

    # What no failover may take back.

    async def _commit(self, name: str, make: Callable[[Tables], Change | None]) -> bool:
        with self._at_work():
            outcome = await self._begin(name)
            statement = Statement(make, lock_until=trio.current_time() + LOCK_SECONDS)
            servers = self._database.servers
            # Only the one primary's can be meant: one that has come back by itself has no standbys.
            is_primary = self._server is servers.primary
            match outcome:
                case Outcome.REFUSED:
                    raise TableError(f"{self.host} refused it: the disk is full")
                case Outcome.CUT_BEFORE:
                    raise UnknownOutcomeError(f"the connection to {self.host} broke")
                case Outcome.LATE:
                    self._database.delay(self._server, statement)
                    raise UnknownOutcomeError(f"the connection to {self.host} broke")
                case Outcome.EMPTIED_BEFORE:
                    self._server.empty_names()
                case Outcome.FAILED_OVER | Outcome.ONE_BEHIND if (
                    is_primary and len(self._server.standbys) > 1
                ):
                    self._server.standbys[0].stall()
                case Outcome.ANSWERED | Outcome.ONE_BEHIND | Outcome.CUT_AFTER | Outcome.FAILED_OVER:
                    pass
                case _ if is_primary:
                    servers.stall_standbys()
            self._statement = statement
            try:
                self._database.submit(self._server, statement)
                self._befall(outcome, is_primary)
                return await self._answer_of(statement)
            finally:
                self._statement = None

    def _befall(self, outcome: Outcome, is_primary: bool) -> None:
        """What happens to the server once it has the statement."""
        servers = self._database.servers
        match outcome:
            case Outcome.CUT_AFTER:
                raise UnknownOutcomeError(f"the connection to {self.host} broke")
            case Outcome.WARNED:
                self._server.cancel_wait()
            case Outcome.EMPTIED_MEANWHILE:
                self._server.empty_names()
            case Outcome.WARNED_AND_LOST if is_primary:
                self._server.cancel_wait()
                servers.fail_over()
            case Outcome.VANISHED if is_primary:
                self._server.empty_names()
                servers.fail_over()
            case Outcome.LOST | Outcome.FAILED_OVER if is_primary:
                servers.fail_over()
            case Outcome.LOST_BUT_SHOWN if is_primary:
                servers.fail_over(old_comes_back=True)
            case _:
                pass

    async def _answer_of(self, statement: Statement) -> bool:
        with trio.move_on_after(LOCK_SECONDS):
            await statement.answered.wait()
        if statement.answer is None and statement.change is None and not self._broken.is_set():
            raise TableError(f"{self.host}: lock_timeout: somebody else's change is under way")
        with trio.move_on_after(ANSWER_SECONDS - LOCK_SECONDS):
            await statement.answered.wait()
        if statement.answer is None or statement.answer is Answer.BROKEN:
            raise UnknownOutcomeError(f"{self.host} does not answer")
        if statement.answer is Answer.NONE:
            return False
        if statement.answer is Answer.WARNED and Plant.IGNORES_WARNINGS not in self._database.plants:
            raise UnknownOutcomeError(f"{self.host}: WARNING: canceling wait for synchronous replication")
        if Plant.ASKS_FOR_NO_WITNESS not in self._database.plants:
            await self._wait_for_witness(statement.lsn)
        return True

    async def _wait_for_witness(self, lsn: int) -> None:
        with trio.move_on_after(ANSWER_SECONDS):
            while self._server.up and not self._broken.is_set():
                if self._server.is_flushed(lsn):
                    return
                await self._server.news.park()
        raise UnknownOutcomeError(f"no standby of {self.host} has flushed it")

    # All others.

    @asynccontextmanager
    async def _call(self, name: str, *, writes: bool = False) -> AsyncIterator[Tables]:
        with self._at_work():
            outcome = await self._begin(name)
            error = UnknownOutcomeError if writes else TableError
            match outcome:
                case Outcome.REFUSED:
                    raise TableError(f"{self.host} refused it")
                case Outcome.CUT_BEFORE:
                    raise error(f"the connection to {self.host} broke")
                case Outcome.LOST | Outcome.LOST_BUT_SHOWN if self._server is self._database.servers.primary:
                    self._database.servers.fail_over(old_comes_back=outcome is Outcome.LOST_BUT_SHOWN)
                    raise error(f"the connection to {self.host} broke")
                case _:
                    pass
            yield self._server.tables
            if outcome is Outcome.CUT_AFTER:
                raise error(f"the connection to {self.host} broke")

    async def _begin(self, name: str) -> Outcome:
        if not self._open:
            raise TableError("the connection is closed")
        outcome = self._database.next_outcome(name, self._table)
        await self._table.arrive()
        if self._broken.is_set() or not self._server.up:
            raise TableError(f"the connection to {self.host} broke")
        return outcome

    def _at_work(self) -> _AtWork:
        return _AtWork(self)


class _AtWork:
    """While a statement is under way."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        assert not self._session._busy, "two calls at once on one connection"
        self._session._busy = True

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._session._busy = False
        if kind is not None:
            self._session._close()
