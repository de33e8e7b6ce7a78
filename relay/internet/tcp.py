"""How a TCP connection is made. Whoever needs one is given the function: tests have receivers in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

#: Host and port. Raises OSError where that fails.
OpenStream = Callable[[str, int], Awaitable[trio.abc.Stream]]
