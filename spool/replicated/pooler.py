"""Whether what looks like a session is one: a process of the server's that is ours until we close it.

The invariant: **what is set for a session, and what is asked behind a commit, is of the process that carries out the
commit.** A pooler that gives its connections to others between two transactions (PgBouncer's pool_mode `transaction`
or `statement`) breaks that. The witness of a commit may be asked of another server than the one that committed;
nothing of `statements.SESSION` holds; and a new connection, behind which a holder of the head looks anew, is made
without a word.

A pooler is known by the number of our process, which the protocol tells at the start: a pooler invents one. One that
keeps a session for each client is let pass. To tell the two apart, there is a second session at the same moment: a
process that serves both, or another one than before, is nobody's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from spool.replicated.connection import Session
from spool.replicated.table import TableError, UnfitTableError

#: Without values, so that nothing is prepared.
_BACKEND: Final = "SELECT pg_backend_pid()"
#: Others may keep a pooler busy in between.
_LOOKS: Final = 4

_SHARED: Final = (
    "a pooler stands between, and gives this session to others between two transactions: connect to the server itself, "
    "or set pool_mode = session there (PgBouncer's setting)"
)


async def check_is_own(
    session: Session, open_another: Callable[[], Awaitable[Session]], *, seconds: float
) -> None:
    """The first that is asked of a session. Raises `UnfitTableError` where it is shared, `TableError`. It is closed
    then."""
    ours = await _backend(session, seconds)
    if ours == session.backend_told:
        return
    is_own = False
    try:
        other = await open_another()
        try:
            for _ in range(_LOOKS):
                if await _backend(other, seconds) == ours or await _backend(session, seconds) != ours:
                    raise UnfitTableError(f"{session.host}: {_SHARED}")
        finally:
            await other.close()
        is_own = True
    finally:
        if not is_own:
            await session.close()


async def _backend(session: Session, seconds: float) -> int:
    try:
        ((number,),) = (await session.ask(_BACKEND, seconds=seconds)).rows
    except TableError:
        await session.close()
        raise
    assert isinstance(number, int)
    return number
