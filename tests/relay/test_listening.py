"""An address that somebody still has, for a moment or for good."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from relay.listening import PATIENCE_SECONDS, Listening, listen_http, listen_smtp

both = pytest.mark.parametrize("listen", [listen_http, listen_smtp])
Listen = Callable[[str], Awaitable[Listening]]


@both
def test_an_address_that_is_let_go_in_time_is_had(listen: Listen) -> None:
    """As by the last process of a relay that was killed."""

    async def main() -> None:
        taken = socket.create_server(("127.0.0.1", 0))
        bind = f"127.0.0.1:{taken.getsockname()[1]}"

        async def let_go() -> None:
            await trio.sleep(PATIENCE_SECONDS - 0.5)
            taken.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(let_go)
            listening = await listen(bind)
        assert listening.address == bind
        with socket.create_connection(("127.0.0.1", int(bind.rpartition(":")[2])), 10):
            pass  # it is listened on, though nobody accepts
        listening.close()

    trio.run(main, clock=MockClock(autojump_threshold=0.02))


@both
def test_one_that_is_not_is_an_error_that_names_it(listen: Listen) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            with pytest.raises(OSError, match=rf"127\.0\.0\.1.*{number}.*: Address already in use"):
                await listen(f"127.0.0.1:{number}")
        assert PATIENCE_SECONDS <= trio.current_time() < PATIENCE_SECONDS + 1

    trio.run(main, clock=MockClock(autojump_threshold=0.02))


@both
def test_one_that_can_never_be_had_is_an_error_at_once(listen: Listen) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="Cannot assign requested address"):
            await listen("192.0.2.1:0")
        assert trio.current_time() == 0

    trio.run(main, clock=MockClock(autojump_threshold=0.02))
