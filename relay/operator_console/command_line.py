"""What only the command line does, for a page: `atmos-relay` in a process of its own, and what it prints.

That is what reads the whole log (`log audit`, `log verify`, `policy simulate`) or a stranger's mail (`bounce paste`).
In a process of its own it takes nothing from the relay's loop, and is nice to it; it is bounded in time, in what it may
print, and in number; and what the page shows is to the letter what the command shows.

Cancelled, or too slow: it is killed. A relay that is killed leaves it to run to its end; it only reads. It is given no
option that a visitor wrote: what a visitor wrote is a number that was checked, or its standard input, or a file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import trio

from relay.refusals import Refusal

#: At a time, of all pages.
AT_WORK_MAX: Final = 2
SECONDS_MAX: Final = 120.0
OCTETS_MAX: Final = 512 * 1024
NICENESS: Final = 10
#: As wide as a page shows without scrolling.
COLUMNS: Final = 110


class Printed(NamedTuple):
    status: int
    text: str
    #: There was more than OCTETS_MAX.
    is_cut: bool


class CommandLine:
    """Of one data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._places = trio.CapacityLimiter(AT_WORK_MAX)

    async def run(
        self, *words: str, stdin: bytes = b"", after: Sequence[str] = (), seconds: float = SECONDS_MAX
    ) -> Printed:
        """What `atmos-relay WORDS DIR AFTER` prints, on both of its outputs. Raises Refusal(TEMPORARILY_UNAVAILABLE)
        where it is not done in time, where as many as may be are at work, or where the machine has no process for it.
        """
        try:
            self._places.acquire_on_behalf_of_nowait(token := object())
        except trio.WouldBlock:
            raise Refusal(
                "TEMPORARILY_UNAVAILABLE", "other pages are reading the log now; try again in a moment"
            ) from None
        try:
            with trio.move_on_after(seconds):
                return await self._printed([*words, str(self._directory), *after], stdin)
        finally:
            self._places.release_on_behalf_of(token)
        raise Refusal(
            "TEMPORARILY_UNAVAILABLE",
            f"this takes longer than {seconds:.0f} seconds; run `atmos-relay {' '.join(words)}` on the machine",
        )

    async def _printed(self, words: list[str], stdin: bytes) -> Printed:
        command = [sys.executable, "-m", "relay", *words]
        environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "TMPDIR")},
            "COLUMNS": str(COLUMNS),
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
            "PYTHONSAFEPATH": "1",
        }
        process: trio.Process | None = None
        failed: BaseException | None = None
        text = bytearray()
        is_cut = False
        try:
            async with trio.open_nursery() as nursery:
                process = await nursery.start(
                    partial(
                        trio.run_process,
                        command,
                        stdin=stdin,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        check=False,
                        env=environment,
                        start_new_session=True,
                        deliver_cancel=_kill,
                    )
                )
                with suppress(ProcessLookupError):  # it may be over by now
                    os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
                assert process.stdout is not None
                # What is too much is read and left, so that it comes to its end.
                async for part in process.stdout:
                    is_cut = is_cut or len(text) + len(part) > OCTETS_MAX
                    if not is_cut:
                        text += part
        except* OSError as errors:
            failed = _first_of(errors)
        if failed is not None or process is None:
            raise Refusal(
                "TEMPORARILY_UNAVAILABLE",
                f"no process could be begun for it: {failed}; try again in a moment",
            ) from failed
        assert process.returncode is not None
        return Printed(process.returncode, text.decode("utf-8", "replace"), is_cut)


def _first_of(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


async def _kill(process: trio.Process) -> None:
    process.kill()
