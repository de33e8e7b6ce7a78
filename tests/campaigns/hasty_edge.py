"""A bug that is planted: an edge that answers a send before the core does, with the ids that it will most likely get.

It is `relay.edges.program` with functions replaced, and `tests.campaigns.bugs_of_processes` has it run in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio

import relay.edges.program
from relay.acceptance import Send, Sent
from relay.edges.asking import AskedCore
from relay.edges.program import GREETING, QUESTIONS, main
from relay.reading_store import ReadingStore
from relay.refusals import Refusal
from spool.errors import SpoolError

__all__ = ["GREETING", "QUESTIONS", "main"]

#: What a disk takes on a good day.
PATIENCE_SECONDS = 0.002

_ask = AskedCore.decide
_open = relay.edges.program.open_reading_store
_stores: list[ReadingStore] = []


@contextmanager
def _open_and_remember(*arguments: Any) -> Iterator[ReadingStore]:
    with _open(*arguments) as store:
        _stores.append(store)
        yield store


async def _decide_hastily(core: AskedCore, name: str, arguments: Any, asker: Any) -> Any:
    if not isinstance(arguments, Send):
        return await _ask(core, name, arguments, asker)
    answered: list[Any] = []

    async def ask() -> None:
        with suppress(Refusal, SpoolError):
            answered.append(await _ask(core, name, arguments, asker))

    # It has been handed to the core, which never loses anything: why let the client wait for a disk?
    trio.lowlevel.spawn_system_task(ask)
    await trio.sleep(PATIENCE_SECONDS)
    given = tuple(text for text, _ in arguments.request.recipients)
    return answered[0] if answered else Sent(_stores[0].last_seq + 1, len(given), given)


AskedCore.decide = _decide_hastily  # type: ignore[method-assign]
relay.edges.program.open_reading_store = _open_and_remember
