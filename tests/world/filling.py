"""A node that has all, and one that has a part of it and is to be filled."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from relay.file_names import LOG_DIRECTORY
from spool import Received
from spool.backup.backup import back_up
from tests.world.receiving_nodes import make_node, open_node, received_from
from tests.world.relay import open_world, run
from tests.world.removals import FRIEND


class Source(NamedTuple):
    """A node that has all, and what all agree on."""

    directory: Path
    batches: list[Received]

    def copy(self, into: Path) -> Path:
        back_up(self.directory, into, log=LOG_DIRECTORY, others=lambda: ["pepper", *self.key_names()])
        return into

    def key_names(self) -> list[str]:
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.glob("keys/*/*.pem"))


def make_source(directory: Path) -> Source:
    made: list[Source] = []

    async def main() -> None:
        async with open_world(directory) as world:
            for number in range(4):
                await world.until_final(await world.send(to=FRIEND, text=f"Mail {number}\n" + "x" * 3000))
        made.append(Source(directory, received_from(directory)))

    run(main)
    return made[0]


def late_node(directory: Path, source: Source, batches: int = 3) -> Path:
    """It has some of it, and views of that."""

    async def main() -> None:
        async with open_node(make_node(directory)) as core:
            await core.store.of_several_machines.receive(source.batches[:batches])

    run(main)
    return directory
