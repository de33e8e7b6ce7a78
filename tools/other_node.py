"""Another node's files, read over its door by a command: its log compared, or this node's filled from it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
import trio

from relay.config import load_config, load_node
from relay.config_nodes import is_node_name
from relay.nodes import database
from relay.nodes.borrowing import RemoteDisk, asking_from_thread
from relay.nodes.certificates import NodeCertificates
from relay.nodes.facts import Facts, read_rows
from relay.nodes.links import open_links
from relay.nodes.members import Rows, members_in
from relay.nodes.words import Node
from relay.refusals import Refusal
from relay.routes import Route
from spool.replicated.table import Table, TableError, connected

T = TypeVar("T")


def table_of(directory: Path) -> Table:
    """The database of a node. Raises ConfigError, KeyFileError; Refusal where it is none."""
    config = load_config(directory)
    if config.nodes is None:
        raise Refusal("CONFLICT", f"{directory} is no node: its relay.toml has no [nodes]")
    return database.open_table(directory, config.nodes, load_node(directory))


def node_meant(table: Table, given: str) -> Node:
    """`NAME@HOST:PORT`, or a `NAME` whose address the database has (`tools.naming.folder_meant` says of what is given
    that it is one of these). Raises UsageError, Refusal, TableError."""
    name, _, address = given.partition("@")
    if not is_node_name(name):
        raise click.UsageError(f"{given} is neither a directory nor a node: NAME, or NAME@HOST:PORT")
    # Whoever meant that.
    folder = f". The folder that is here is ./{given}" if Path(given).is_dir() else ""
    try:
        rows = trio.run(_rows_of, table)
    except TableError:
        if not address:
            raise
        # It is known by its name and the authority alone, then.
        rows = {}
    members = members_in(rows)
    identity = members.identities.get(name)
    gone = members.last_removed(name)
    if gone is not None:
        raise Refusal("NOT_FOUND", f"there is no node {name} any more: it was removed at {gone.at}{folder}")
    address = address or _address_in(rows, name, folder)
    try:
        route = Route.parse(address)
    except ValueError:
        raise click.UsageError(f"{address}: expected host:port or [v6]:port{folder}") from None
    return Node(name, route.host, route.port, identity)


async def _rows_of(table: Table) -> Rows:
    async with connected(table) as connection:
        return await connection.nodes()


def _address_in(rows: Rows, name: str, folder: str) -> str:
    nodes = read_rows(rows)
    for row in nodes:
        if isinstance(row, Facts) and row.name == name and row.address:
            return row.address
    names = ", ".join(row.name for row in nodes) or "none"
    raise Refusal("NOT_FOUND", f"there is no node {name} that says where it is; there are: {names}{folder}")


def another_node(directory: Path, given: str) -> Node:
    """As `node_meant`, of a node other than the one in `directory`. Raises Refusal where it is that one."""
    node = node_meant(table_of(directory), given)
    if node.name == load_node(directory).name:
        raise Refusal("CONFLICT", f"{directory} is node {node.name} itself: name another one")
    return node


def with_files_of(directory: Path, node: Node, do: Callable[[RemoteDisk], T]) -> T:
    """What `do` makes of the other node's files, in a thread; `directory` is this node's. Raises what it raises."""
    own = load_node(directory)
    certificates = NodeCertificates(directory, own.name, datetime.now(UTC))

    async def main() -> T:
        async with open_links(certificates) as links:
            disk = RemoteDisk(asking_from_thread(links, node))
            return await trio.to_thread.run_sync(do, disk)

    return trio.run(main)
