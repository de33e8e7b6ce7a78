"""The real command, whose process is killed (SIGKILL) at a statement to the database.

    python -m tests.world.killed_at CALL MOMENT NUMBER serve DIR

In the NUMBER-th CALL (from 1) of all connections of the process together, which is one of `CALLS`, at this MOMENT:

    before      nothing of it was sent
    committed   the server has answered, and no standby was seen to have it yet; of a statement that has a witness
    after       its answer is here, and nothing was done with it
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from spool.log import Log
from spool.replicated import postgres
from spool.replicated.postgres import PostgresConnection
from tools.cli import main

#: Statements of a machine that takes the head and appends, in their order; the last one is no statement, but what
#: follows an append: its batch is written to this machine's own file.
CALLS: Final[dict[str, tuple[type, str]]] = {
    "take_head": (PostgresConnection, "take_head"),
    "take_lease": (PostgresConnection, "take_lease"),
    "append": (PostgresConnection, "append"),
    "write_own": (Log, "write_unsynced"),
}
MOMENTS: Final = ("before", "committed", "after")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def plant(call: str, moment: str, number: int) -> None:
    owner, name = CALLS[call]
    real: Callable[..., Any] = getattr(owner, name)
    wait: Callable[..., Any] = postgres.wait_for_witness
    begun = 0
    is_it = False

    async def planted(self: Any, *arguments: Any) -> Any:
        nonlocal begun, is_it
        begun += 1
        if begun != number:
            return await real(self, *arguments)
        if moment == "before":
            die()
        is_it = True
        answer = await real(self, *arguments)
        if moment == "after":
            die()
        return answer

    async def wait_for_witness(*arguments: Any) -> None:
        if is_it and moment == "committed":
            die()
        await wait(*arguments)

    setattr(owner, name, planted)
    if moment == "committed":
        postgres.wait_for_witness = wait_for_witness


if __name__ == "__main__":
    _, call, moment, number, *command = sys.argv
    assert moment in MOMENTS
    plant(call, moment, int(number))
    sys.argv[1:] = command
    main()
