"""What the core does with an edge that is told something and cannot do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.doors import Listened
from relay.edges import words
from relay.edges.answering import OneEdge
from relay.edges.host import _Edges
from relay.listening import Listening
from relay.processes.carried import CARRIED
from spool.errors import ReadersFullError
from tests.world.relay import open_world, run


class _Unable:
    """An edge that has no room to look at the views, and dies of a kill."""

    name = "edge 1"

    def __init__(self, unable: type) -> None:
        self.gone = trio.Event()
        self.channel = self
        self._unable = unable

    def tell(self, news: object) -> None:
        pass

    async def call(self, question: object, answer: object) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(question, self._unable):
            raise ReadersFullError

    def kill(self) -> None:
        self.gone.set()


@pytest.mark.parametrize("unable", [words.NewPeppers, words.LetGo])
def test_it_is_killed_and_the_core_goes_on(tmp_path: Path, unable: type) -> None:
    assert ReadersFullError in CARRIED

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, trio.open_nursery() as nursery:
            edges = _Edges(world.core, 1, None, Listened(Listening("nowhere", ())), nursery)
            worker: Any = _Unable(unable)
            edges.begun(worker)
            await worker.gone.wait()
            # Nobody waits for it any more, either.
            await edges._let_go()
            edges.lost(worker)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    run(main)


def test_an_order_that_waits_for_it_ends_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, trio.open_nursery() as nursery:
            edges = _Edges(world.core, 1, None, Listened(Listening("nowhere", ())), nursery)
            worker: Any = _Unable(words.LetGo)
            edges._of[worker] = OneEdge(world.core, worker.name, worker), trio.CancelScope()
            await edges._let_go()
            assert worker.gone.is_set()
            edges.lost(worker)

    run(main)
