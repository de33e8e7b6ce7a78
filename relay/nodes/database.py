"""How this node reaches its database: what its `node.toml` says, read, and the driver, where it is installed.

The invariant: **what reaches the database is in no error, log line or repr**: a password may be in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from relay.config import ConfigError
from relay.config_nodes import NODE_FILE, NodeConfig, NodesConfig
from relay.message.key_files import read_private
from spool.replicated.table import Table

_INSTALL = (
    "a relay on several machines needs psycopg, which is not installed: the relay's extra `nodes` brings it "
    "(docs/NODES.md)"
)


def conninfo_of(directory: Path, own: NodeConfig, environment: Mapping[str, str] = os.environ) -> str:
    """In libpq's words. Raises ConfigError, or KeyFileError for a file that others can read."""
    where = _where(directory, own)
    if own.database_env:
        if own.database_env not in environment:
            raise ConfigError(
                f"{where}: the environment has no such variable; set it for the relay's process"
            )
        value = environment[own.database_env]
    elif own.database_file:
        path = directory / own.database_file
        if not path.exists():
            raise ConfigError(
                f"{where}: there is no such file. Write it: how the database is reached, on one line, as libpq takes "
                "it, and for its owner only (mode 0600)"
            )
        try:
            value = read_private(path).decode()
        except UnicodeDecodeError:
            raise ConfigError(f"{where} does not say how to reach the database: it is no text") from None
    else:
        if "password" in own.database.lower() or "@" in own.database:
            read_private(directory / NODE_FILE)
        value = own.database
    value = value.strip()
    if not value or "\n" in value:
        raise ConfigError(f"{where} does not say how to reach the database, on one line")
    return value


def open_table(directory: Path, nodes: NodesConfig, own: NodeConfig) -> Table:
    """The database of this node. Nothing is connected yet. Raises as `conninfo_of` and `table_of` do."""
    return table_of(conninfo_of(directory, own), nodes, _where(directory, own))


def table_of(conninfo: str, nodes: NodesConfig, where: str = "database") -> Table:
    """`where` it says so. Raises ConfigError where it cannot be used, or where there is no driver."""
    try:
        from spool.replicated.postgres import PostgresTable
    except ImportError:
        raise ConfigError(_INSTALL) from None
    try:
        return PostgresTable(
            conninfo,
            unsafe_single_server=nodes.unsafe_single_server,
            provider_is_durable=nodes.provider_is_durable,
        )
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _where(directory: Path, own: NodeConfig) -> str:
    """What says how the database is reached."""
    path = directory / NODE_FILE
    if own.database_env:
        return f"{path}: database_env {own.database_env}"
    if own.database_file:
        return f"{path}: database_file {directory / own.database_file}"
    return f"{path}: database"


def database_name(conninfo: str) -> str:
    """Which database it is, as its server calls it. Raises ConfigError."""
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise ConfigError(_INSTALL) from None
    try:
        said = conninfo_to_dict(conninfo)
    except ProgrammingError:
        raise ConfigError("how to reach the database cannot be read") from None
    return str(said.get("dbname") or said.get("user") or "")
