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
    if own.database_env:
        value = environment.get(own.database_env, "")
        where = f"the environment's {own.database_env}"
    elif own.database_file:
        path = directory / own.database_file
        try:
            value = read_private(path).decode()
        except UnicodeDecodeError:
            raise ConfigError(f"{path} does not say how to reach the database: it is no text") from None
        where = str(path)
    else:
        path = directory / NODE_FILE
        if "password" in own.database.lower() or "@" in own.database:
            read_private(path)
        value, where = own.database, f"{path}: database"
    value = value.strip()
    if not value or "\n" in value:
        raise ConfigError(f"{where} does not say how to reach the database, on one line")
    return value


def open_table(directory: Path, nodes: NodesConfig, own: NodeConfig) -> Table:
    """The database of this node. Nothing is connected yet. Raises as `conninfo_of` and `table_of` do."""
    return table_of(conninfo_of(directory, own), nodes)


def table_of(conninfo: str, nodes: NodesConfig) -> Table:
    """Raises ConfigError where it cannot be used, or where there is no driver."""
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
        raise ConfigError(f"database: {error}") from None


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
