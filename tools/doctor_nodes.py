"""What `doctor` says of the others, where there are several machines: the database, and what all nodes say there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trio

from relay.config import Config, ConfigError, load_node
from relay.message.key_files import KeyFileError
from relay.nodes import certificates, database
from relay.nodes.overview import Overview, look, own_facts
from spool.replicated.table import TableError
from tools.output import counted


class NodesFinding(NamedTuple):
    check: str
    ok: bool
    says: str


def look_at_nodes(directory: Path, config: Config) -> Iterator[NodesFinding]:
    assert config.nodes is not None
    try:
        own = load_node(directory)
        certificates.authority(directory)
        table = database.open_table(directory, config.nodes, own)
        found = trio.run(look, table, own_facts(directory, config, own))
        doubts = trio.run(table.find_doubts)
    except (ConfigError, KeyFileError, TableError) as error:
        yield NodesFinding("nodes", False, str(error))
        return
    if config.nodes.unsafe_single_server:
        says = "unsafe_single_server: what a send was answered can be lost with the database's server"
        yield NodesFinding("database", False, says)
    if config.nodes.provider_is_durable:
        says = (
            "provider_is_durable: that what was acknowledged outlives a server is your word for the provider; of the "
            "server's settings only synchronous_commit is looked at"
        )
        yield NodesFinding("database", True, says)
    for doubt in doubts:
        yield NodesFinding("database", False, doubt)
    yield _of_all(found)
    for node in found.nodes:
        problems = [*node.problems]
        if node.is_away:
            problems.append(f"it has said nothing for {node.silent_seconds:.0f} s")
        for problem in problems:
            yield NodesFinding(f"node {node.name}", False, problem)


def _of_all(found: Overview) -> NodesFinding:
    there = sum(node.silent_seconds is not None and not node.is_away for node in found.nodes)
    says = f"{counted(there, 'node')} at work, the log is at sequence {found.last_seq}, "
    if found.leader is None:
        return NodesFinding("nodes", False, f"{says}and nobody leads: start a relay on one of them")
    says += f"{found.leader} leads"
    if there < 2:
        says += "; the database keeps all rows until there are two, and nobody takes its place"
    return NodesFinding("nodes", True, says)
