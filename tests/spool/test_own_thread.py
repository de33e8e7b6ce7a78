"""A thread for one task: what it promises to the log's writer."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from spool.own_thread import open_own_thread
from tests.world.process import PATIENCE_SECONDS


def test_it_is_one_other_thread_and_gives_back_what_the_function_does() -> None:
    async def main() -> None:
        with open_own_thread("beside") as thread:
            names = {await thread(lambda: threading.current_thread().name) for _ in range(3)}
            assert names == {"beside"}
            assert await thread(divmod, 7, 2) == (3, 1)
            with pytest.raises(ZeroDivisionError):
                await thread(divmod, 7, 0)
            assert await thread(divmod, 9, 2) == (4, 1)

    trio.run(main)


def test_the_loop_goes_on_meanwhile_and_a_call_is_not_cancelled() -> None:
    async def main() -> None:
        may_end = threading.Event()
        done: list[bool] = []

        async def wait() -> None:
            done.append(await thread(may_end.wait))

        with open_own_thread("beside") as thread:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
                may_end.set()
        assert done == [True]

    trio.run(main)


def test_it_ends_with_its_block() -> None:
    async def main() -> threading.Thread:
        with open_own_thread("beside") as thread:
            found: threading.Thread = await thread(threading.current_thread)
        return found

    thread = trio.run(main)
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
