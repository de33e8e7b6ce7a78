"""One connection to a PostgreSQL server, in a thread of its own.

The invariant: **that a statement has happened, or has not, is said only where the server has said so, without a word
beside it.** All else is an unknown outcome, and ends the connection:

- It broke, or there was no answer in time, or the caller was cancelled. A time-out and a cancel close the socket. They
  send no message to cancel the statement: a wait for replication that is cancelled is answered with success.
- A notice came with the answer. That a commit did not get what it waited for is told by a warning, and nothing else.

An error of the server's (severity ERROR) is an answer: the statement, which is a transaction of its own, has come to
nothing. What it says of the values is not repeated, nor is anything of how the connection was made but the host.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import psycopg
import trio
from psycopg.conninfo import make_conninfo
from psycopg.types.numeric import Int8

from spool.own_thread import OwnThread
from spool.replicated.hosts import Host
from spool.replicated.lateness import no_answer
from spool.replicated.statements import LISTEN
from spool.replicated.table import TableError, UnfitTableError, UnknownOutcomeError

#: SQLSTATEs, by their first octets, of what is not there, not ours, or of another form.
_UNFIT: Final = ("3D", "3F", "42")
_LOCK_NOT_AVAILABLE: Final = "55P03"


class Patience(NamedTuple):
    """Who has no answer for so long closes the connection."""

    connect_seconds: float = 5.0
    """For each host, with the time that its name takes."""
    answer_seconds: float = 6.0
    """Longer than a server waits for a lock (`statements.LOCK_SECONDS`), so that it is the one to give up first: of
    those that wait for the head there is one for each connection that lives."""
    witness_seconds: float = 4.0


USUAL_PATIENCE: Final = Patience()


class Answer(NamedTuple):
    changed: int
    """How many rows were; or how many are here."""
    rows: Sequence[tuple[Any, ...]]


class Session:
    """Made by `open_session`. One call at a time; any error closes it."""

    def __init__(self, host: str, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.host = host
        #: The number of the server's process that carries out what is asked here, as the protocol has told it.
        self.backend_told = connection.info.backend_pid
        self._connection = connection
        #: The same socket: what is done to it here ends whatever the thread waits for.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._thread = OwnThread("table")
        self._notices: list[str] = []
        self._is_open = True
        self._is_cut = False
        self._is_asking = False
        self._listens = False
        connection.add_notice_handler(self._note)

    async def ask(
        self,
        statement: str,
        values: Mapping[str, object] | None = None,
        *,
        seconds: float,
        changes: bool = False,
    ) -> Answer:
        """Carry out a statement, which is a transaction of its own unless one was begun. It `changes` something: where
        its outcome is unknown, that is an `UnknownOutcomeError`."""
        given = {name: Int8(value) if type(value) is int else value for name, value in (values or {}).items()}
        return await self._call(seconds, changes, self._execute, statement, given)

    async def listen(self, seconds: float, margin_seconds: float) -> None:
        """Until there is a notification, or there was one since the last call, or for so long. The first call may have
        missed some, and returns at once."""
        await self._call(seconds + margin_seconds, False, self._listen, seconds)

    async def close(self) -> None:
        """Closing it twice changes nothing. A call that another task waits for fails."""
        if self._is_asking:
            self._cut()
        else:
            await self._end()

    async def give_up(self) -> None:
        """Close it, and tell the server nothing."""
        self._cut()
        await self.close()

    async def _call(
        self, seconds: float, changes: bool, function: Callable[..., Answer], *values: Any
    ) -> Answer:
        assert not self._is_asking
        if not self._is_open:
            raise TableError(f"{self.host}: the connection is closed")
        self._notices.clear()
        self._is_asking = True
        answer: Answer | None = None
        failure: TableError | None = None
        began = trio.current_time()
        try:
            with trio.move_on_after(seconds) as limit:
                answer = await self._thread.interruptible(self._cut, function, *values)
            failure = self._noticed(changes)
        except psycopg.Error as error:
            late = no_answer(trio.current_time() - began, seconds) if limit.cancel_called else None
            failure = self._told(error, changes, late)
        finally:
            self._is_asking = False
            if answer is None or failure is not None:
                self._cut()
            if self._is_cut:
                await self._end()
        if self._is_cut:
            await trio.lowlevel.checkpoint_if_cancelled()
        if failure is not None:
            raise failure
        assert answer is not None
        return answer

    def _told(self, error: psycopg.Error, changes: bool, late: str | None) -> TableError:
        if error.sqlstate is not None and not (self._connection.closed or self._is_cut or self._notices):
            said = f"{self.host}: {error.diag.message_primary}"
            if error.sqlstate == _LOCK_NOT_AVAILABLE:
                return TableError(f"{said}: somebody else's change is under way")
            return UnfitTableError(said) if error.sqlstate[:2] in _UNFIT else TableError(said)
        said = late or error.diag.message_primary or "the connection broke"
        return (UnknownOutcomeError if changes else TableError)(f"{self.host}: {said}")

    def _noticed(self, changes: bool) -> TableError | None:
        if not self._notices:
            return None
        said = f"{self.host} answered, and said beside it: {'; '.join(self._notices)}"
        return UnknownOutcomeError(said) if changes else TableError(said)

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        self._notices.append(f"{notice.severity_nonlocalized} {notice.message_primary}")

    def _cut(self) -> None:
        self._is_cut = True
        with suppress(OSError):  # it is no connection any more
            self._socket.shutdown(socket.SHUT_RDWR)

    async def _end(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        with trio.CancelScope(shield=True):
            await self._thread(self._connection.close)
        self._thread.end()
        self._socket.close()

    # In the thread.

    def _execute(self, statement: str, values: Mapping[str, object]) -> Answer:
        with self._connection.cursor(binary=True) as cursor:
            cursor.execute(statement.encode(), values or None, prepare=bool(values))
            return Answer(cursor.rowcount, cursor.fetchall() if cursor.description else ())

    def _listen(self, seconds: float) -> Answer:
        if not self._listens:
            self._listens = True
            return self._execute(LISTEN, {})
        return Answer(sum(1 for _ in self._connection.notifies(timeout=seconds, stop_after=1)), ())


async def open_session(host: Host, *, seconds: float, limiter: trio.CapacityLimiter) -> Session:
    """Raises `TableError` where it is not there within so long. What then still waits for it, for a name that nobody
    resolves, say, ends in a thread of its own, and comes to nothing."""
    opening = _Opening(host)
    began = trio.current_time()
    try:
        with trio.move_on_after(seconds):
            await trio.to_thread.run_sync(opening.open, abandon_on_cancel=True, limiter=limiter)
            return Session(host.name, opening.take())
    except psycopg.Error as error:
        raise TableError(f"{host.name}: {opening.describe(error)}") from None
    finally:
        opening.abandon()
    raise TableError(f"{host.name}: {no_answer(trio.current_time() - began, seconds)}")


class _Opening:
    """A connection that is made in a thread, and that perhaps nobody wants any more when it is there."""

    def __init__(self, host: Host) -> None:
        self._parameters = host.parameters
        self._lock = threading.Lock()
        self._is_wanted = True
        self._made: psycopg.Connection[tuple[Any, ...]] | None = None

    def open(self) -> None:
        try:
            connection = psycopg.connect(make_conninfo(**self._parameters), autocommit=True)
        except psycopg.Error as error:
            # The frames that it remembers remember it, and a socket: that would stay open until somebody collects them.
            raise error.with_traceback(None)  # noqa: B904
        with self._lock:
            if self._is_wanted:
                self._made = connection
                return
        connection.close()

    def take(self) -> psycopg.Connection[tuple[Any, ...]]:
        with self._lock:
            made, self._made = self._made, None
        assert made is not None
        return made

    def abandon(self) -> None:
        """Nothing happens where it was taken."""
        with self._lock:
            self._is_wanted = False
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def describe(self, error: psycopg.Error) -> str:
        said = " ".join(str(error).split())
        password = self._parameters.get("password")
        return said.replace(password, "…") if password else said
