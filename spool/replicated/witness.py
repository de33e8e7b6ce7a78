"""The witness of a commit: a standby that counts, and was seen to have flushed it.

The server's own answer is not enough. Where somebody empties `synchronous_standby_names` while a commit waits,
PostgreSQL answers as if all were well, without a notice. Where all names count (`*`), so does a program that only keeps
the WAL, which is no standby. So the server is asked for its LSN, once, behind the answer,
and then until a synchronous standby has flushed that far. Where none has in time, the outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from spool.replicated.connection import Patience, Session
from spool.replicated.table import TableError, UnknownOutcomeError

_PAUSE_SECONDS: Final = 0.002
_PAUSE_SECONDS_MAX: Final = 0.05


async def wait_for_witness(
    session: Session, statement: str, patience: Patience, values: Mapping[str, object]
) -> None:
    """Behind a commit on this session. `statement` is one of `statements`'. Raises `UnknownOutcomeError`."""
    try:
        if not await has_witness(session, statement, patience, values, seconds=patience.witness_seconds):
            raise TableError(f"{session.host}: no synchronous standby has flushed it in time")
    except TableError as error:
        await session.give_up()
        raise UnknownOutcomeError(str(error)) from None
    except trio.Cancelled:
        await session.give_up()
        raise


async def has_witness(
    session: Session,
    statement: str,
    patience: Patience,
    values: Mapping[str, object],
    *,
    seconds: float,
) -> bool:
    """Whether there is one within so long, behind a commit on this session. Raises `TableError`."""
    until = trio.current_time() + seconds
    pause = _PAUSE_SECONDS
    lsn: str | None = None
    while True:
        answer = await session.ask(statement, {**values, "lsn": lsn}, seconds=patience.answer_seconds)
        lsn, is_witnessed = answer.rows[0][:2]
        if is_witnessed:
            return True
        if trio.current_time() > until:
            return False
        await trio.sleep(pause)
        pause = min(2 * pause, _PAUSE_SECONDS_MAX)
