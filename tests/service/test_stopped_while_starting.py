"""A relay that has to end while it starts, because its log fails then, ends: nothing that it began goes on waiting."""

import threading
from typing import Any

import hypercorn
import pytest
import trio

from relay.api.places import Places
from relay.api.server import serve_http
from relay.listening import listen_http


async def no_application(scope: Any, receive: Any, send: Any, *arguments: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


@pytest.mark.parametrize("steps", range(20))
def test_a_server_that_is_cancelled_at_any_step_of_its_start_ends(steps: int) -> None:
    """Found by the simulated world, seed 5 with `erasures` and `kill`: the start of a shielded task was cancelled."""
    config = hypercorn.Config()

    async def main() -> None:
        listening = await listen_http("127.0.0.1:0")
        places, close = Places(lambda: 10), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: serve_http(no_application, config, listening, places=places, close=close)
            )
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    # What hangs here is shielded, so that only somebody outside can tell.
    thread = threading.Thread(target=trio.run, args=(main,), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
