"""A log on a fake disk: small segments, a clock that counts, salts that repeat, no threads.

What makes it durable is one of `FORMS`. Tests of what every form promises ask for the fixture `form`, and run by each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

from spool import Entry, Log, LogReader, Record, open_log
from tests.world.agreed import open_leading
from tests.world.agreed_in_table import open_leading_by_table
from tests.world.disk import FakeDisk

DIRECTORY = Path("/log")
SEGMENT_BYTES_MAX = 6 << 10

#: By name, what opens a log of this form, ready to be appended to. Called as `open_log` is. What it has agreed upon
#: with other machines it knows by the `disk`.
FORMS: dict[str, Callable[..., AbstractAsyncContextManager[Log]]] = {
    "disk": open_log,
    "memory": open_leading,
    "table": open_leading_by_table,
}
_form = "disk"


@contextmanager
def form_of_durability(name: str) -> Iterator[None]:
    """Logs are opened in this form until the block ends."""
    global _form
    before, _form = _form, name
    try:
        yield
    finally:
        _form = before


async def inline(function: Callable[..., Any], *args: Any) -> Any:
    """An offload that uses no thread, so that a run is the same every time."""
    return function(*args)


def salts() -> Callable[[], bytes]:
    numbers = count(1)
    return lambda: next(numbers).to_bytes(16, "big")


def clock() -> Callable[[], int]:
    times = count(1_700_000_000_000_000, 1000)
    return lambda: next(times)


def open_fake(disk: FakeDisk, **options: Any) -> AbstractAsyncContextManager[Log]:
    defaults: dict[str, Any] = {
        "clock": clock(),
        "new_salt": salts(),
        "offload": inline,
        "segment_bytes_max": SEGMENT_BYTES_MAX,
        "batch_bytes_max": 5 << 10,
    }
    return FORMS[_form](DIRECTORY, disk=disk, **(defaults | options))


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    return trio.run(main, clock=MockClock(autojump_threshold=0))


def group(number: int, size: int = 1, payload_bytes: int = 700) -> list[Entry]:
    """The entries of one append; each says which it is, so that halves can be told from wholes."""
    return [
        Entry(f"append {number}, part {part} of {size}".encode(), _payload(number, part, payload_bytes))
        for part in range(1, size + 1)
    ]


def _payload(number: int, part: int, length: int) -> bytes | None:
    """Some have none, some an empty one."""
    if (number + part) % 3 == 0:
        return None
    if (number + part) % 5 == 0:
        return b""
    return bytes((number * 7 + part + position) % 251 for position in range(length + number))


def entries(records: list[Record]) -> list[Entry]:
    return [Entry(record.skeleton, record.payload) for record in records]


def read_all(disk: FakeDisk, from_seq: int = 1) -> list[Record]:
    with LogReader(DIRECTORY, disk=disk) as reader:
        return list(reader.read(from_seq))
