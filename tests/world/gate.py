"""A disk that does not answer for a while: an offload that waits, once shut, until it is opened."""

from collections.abc import Callable
from typing import Any

import trio


class Gate:
    """`offload` calls here, without a thread, so that a clock that jumps cannot overtake the disk."""

    def __init__(self) -> None:
        self.opened = trio.Event()
        self.opened.set()

    def shut(self) -> None:
        self.opened = trio.Event()

    def open(self) -> None:
        self.opened.set()

    async def offload(self, function: Callable[..., Any], *arguments: Any) -> Any:
        await self.opened.wait()
        return function(*arguments)
