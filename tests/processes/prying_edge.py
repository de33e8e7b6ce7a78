"""The program of an edge that tries what it may not: `tests.processes.prying`."""

from __future__ import annotations

from pathlib import Path

from relay.edges import program
from relay.processes.worker import Here
from tests.processes.prying import pry

QUESTIONS, GREETING = program.QUESTIONS, program.GREETING


async def main(here: Here) -> None:
    pry(Path(here.greeting.directory))
    await program.main(here)
