"""Each node strips its own files of what was erased.

The invariant: **what a `payload.erased` names is in this node's files no more once `through` has passed it**, whichever
node led when it was ordered. How far this node has come is its own matter, and stands in a file of its own
(`node/stripped`), not in the log: `log.stripped` says that the node that led then had done it.

A node that leads does what its own orders name at once (`relay.operator.retention`), so here that is passed over. What
was ordered before, and what others order, is done here as soon as it is in the log. Killed in between, or with a full
disk, it is done again. The rows of the table have the payloads until they go with the tail (`relay.nodes.tail`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import cbor2
import trio

from relay.codec import Recorded, decode
from relay.core import Core
from relay.events import LogStripped, PayloadErased
from relay.operator.retention import EVENTS_PER_ROUND, payloads_of_all
from spool.errors import CorruptionError

logger = logging.getLogger(__name__)

FILE: Final = "node/stripped"
#: After a disk that was full, say.
RETRY_SECONDS: Final = 600.0
#: So often it is written how far this node has come where there was nothing to do.
WRITTEN_SECONDS: Final = 60.0
#: Records that are looked at before others have their turn.
LOOKED_AT: Final = 10_000

_NAME: Final = cbor2.dumps(PayloadErased.TYPE)


class Stripping:
    def __init__(self, core: Core, *, leads: Callable[[], bool]) -> None:
        self._core = core
        self._store = core.store
        self._leads = leads
        self._file = core.directory / FILE
        self._news = trio.Event()
        #: `payload.erased` that are still to be carried out here, in order.
        self._pending: deque[int] = deque()
        #: All of them up to here are.
        self.through = min(self._read(), core.store.last_seq)

    async def run(self) -> None:
        """Until cancelled."""
        until = self._store.last_seq
        self._store.observers.append(self._observe)
        try:
            await self._look_back(until)
            while True:
                self._news = trio.Event()
                is_done = await self._strip()
                if not self._pending:
                    self.through = self._store.last_seq
                self._write()
                with trio.move_on_after(WRITTEN_SECONDS if is_done else RETRY_SECONDS):
                    await self._news.wait()
        finally:
            self._store.observers.remove(self._observe)

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            match item.event:
                case PayloadErased():
                    self._pending.append(item.seq)
                    self._news.set()
                case LogStripped(until=until) if self._leads():
                    while self._pending and self._pending[0] <= until:
                        self._pending.popleft()
                case _:
                    pass

    async def _look_back(self, until: int) -> None:
        """What the log has had since this node came so far."""
        found: list[int] = []
        for begin in range(self.through + 1, until + 1, LOOKED_AT):
            found += await self._core.surroundings.offload(
                self._find, begin, min(begin + LOOKED_AT - 1, until)
            )
        self._pending.extendleft(reversed(found))

    def _find(self, begin: int, end: int) -> list[int]:
        """In another thread."""
        begin = max(begin, self._store.first_seq())
        return [
            record.seq
            for record in self._store.records(begin, end)
            if _NAME in record.skeleton and isinstance(decode(record).event, PayloadErased)
        ]

    async def _strip(self) -> bool:
        """All that is pending. False: the disk has failed, and some of it is."""
        try:
            while self._pending:
                async with self._core.erasing:
                    some = list(self._pending)[:EVENTS_PER_ROUND]
                    segments = await self._store.erase_payloads(await payloads_of_all(self._store, some))
                    while self._pending and some and self._pending[0] <= some[-1]:
                        self._pending.popleft()
                payloads = sum(segment.payloads for segment in segments)
                if some:
                    self.through = some[-1]
                    logger.info("node.stripped", extra={"through": self.through, "payloads": payloads})
        except (OSError, CorruptionError) as error:
            logger.error("node.not_stripped", extra={"because": str(error)})
            return False
        return True

    def _read(self) -> int:
        try:
            return int(self._file.read_text())
        except (OSError, ValueError):
            return 0  # all is looked at once more

    def _write(self) -> None:
        """By rename. What a crash loses of it is done again."""
        written = self._file.with_suffix(".tmp")
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            written.write_text(f"{self.through}\n")
            written.rename(self._file)
