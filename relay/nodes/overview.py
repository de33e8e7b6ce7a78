"""All nodes at one glance, from the database: who leads, how far each has come, and what is not as it should be.

It is asked at one node, which the others are compared with, whether its relay runs or not. It only reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from relay.codec import versions_read_here
from relay.config import Config
from relay.config_nodes import NodeConfig, common_digest
from relay.message.keys import load_peppers
from relay.nodes.facts import Facts, StrangeRow, differences, read_rows
from relay.nodes.lease import read_address
from relay.nodes.members import Removed, members_in
from relay.nodes.seal import pepper_digests
from relay.times import SECOND_US
from spool.replicated.table import Table, connected

#: A node that is so many records behind is late. They are said each second, so some are behind at any time.
BEHIND_MAX = 2048
#: A node that has said nothing for so many seconds is away.
AWAY_SECONDS = 10


class Shown(NamedTuple):
    """One node."""

    name: str
    #: None: what it says cannot be read.
    facts: Facts | None
    leads: bool
    #: Since its last word, by the database's clock; None where it has never run, or cannot be read.
    silent_seconds: float | None
    #: A sentence each.
    problems: tuple[str, ...]

    @property
    def is_away(self) -> bool:
        return self.silent_seconds is not None and self.silent_seconds >= AWAY_SECONDS


class Overview(NamedTuple):
    #: Of the log that all agree on.
    last_seq: int
    epoch: int
    #: The first sequence number that the database still has a row of.
    oldest_seq: int | None
    nodes: tuple[Shown, ...]
    #: Of whose names none is a node's again, by their names.
    removed: tuple[Removed, ...]

    @property
    def leader(self) -> str | None:
        return next((node.name for node in self.nodes if node.leads), None)


def own_facts(directory: Path, config: Config, own: NodeConfig) -> Facts:
    """What this directory says of itself where no relay runs. Raises KeyFileError."""
    return Facts(
        name=own.name,
        version=version("atmos-relay"),
        events=versions_read_here(),
        address=own.address,
        configuration=common_digest(config),
        peppers=pepper_digests(load_peppers(directory)),
        written_at=0,
        began_at=0,
    )


async def look(table: Table, ours: Facts) -> Overview:
    """Raises TableError."""
    async with connected(table) as connection:
        head, lease = await connection.head(), await connection.lease()
        rows, oldest = await connection.nodes(), await connection.oldest_seq()
        now_us = await connection.time_us()
    led = read_address(lease.address) if lease is not None and lease.holder == head.holder else None
    leader = None if led is None else led.name
    nodes = tuple(_shown(node, ours, leader, head.last_seq, now_us) for node in read_rows(rows))
    members = members_in(rows)
    names = sorted({gone.removed for gone in members.removed.values()})
    removed = tuple(gone for name in names if (gone := members.last_removed(name)) is not None)
    return Overview(head.last_seq, head.epoch, oldest, nodes, removed)


def _shown(node: Facts | StrangeRow, ours: Facts, leader: str | None, last_seq: int, now_us: int) -> Shown:
    if isinstance(node, StrangeRow):
        return Shown(node.name, None, False, None, (node.sentence,))
    if not node.began_at:
        return Shown(node.name, node, False, None, ())
    silent = max(0.0, (now_us - node.written_at) / SECOND_US)
    problems = [*differences(ours, node), *_late(node, last_seq)]
    if node.trouble is not None:
        problems.append(node.trouble)
    # Its lease stays where it was killed, until another leads; and it may be back meanwhile, and follow.
    leads = node.name == leader and node.leads and silent < AWAY_SECONDS
    return Shown(node.name, node, leads, silent, tuple(problems))


def _late(node: Facts, last_seq: int) -> Iterator[str]:
    """What it has not done of what all have agreed on."""
    behind = last_seq - node.applied_seq
    if behind > BEHIND_MAX:
        yield f"it is {behind} records behind, and reads of it are as old"
    if node.stripped_through < node.applied_seq:
        yield (
            f"personal data that events behind sequence {node.stripped_through} erase may be in its files still: it "
            "removes them when the node that leads has, or within an hour"
        )
