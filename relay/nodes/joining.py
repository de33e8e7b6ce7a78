"""A node that is added, and the directory that it begins with.

The invariant: **a directory that `join` has made can be served, or says what it lacks.** Its secrets come first and
`relay.toml` last, so that one without it was never finished, and is made again. Its log is empty, or comes from a
backup that another node has made; what is missing from there on, the relay fetches from the database when it is
started. So the database is asked, before anything is written, whether it still has all of that.

Or its log comes from a node that runs. Then `begin_to_join` makes all but the log, and `relay.nodes.filling` the rest,
as it does for a node that was away: the directory `filling` stands there from the first moment to the last, with a file
JOINING in it, so nobody serves what has no log yet, and the same command goes on with it. Who removes `filling` has
given that up, and has a node with an empty log.

A node that is added has a row in the database from then on, with the identity of the key that its bundle has
(`relay.nodes.members`). One that is removed has none any more, and another row says so for good: what it shows is not
taken, and it does not start.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from relay.config import CONFIG_FILE, ConfigError, load_config, load_node, parse_config, parse_node
from relay.config_nodes import NODE_FILE, is_node_name
from relay.file_names import FILLING_DIRECTORY, FILLING_JOINING, LOG_DIRECTORY
from relay.message.key_files import (
    KeyFiles,
    fsync_directory,
    is_unfinished,
    pepper_name,
    remove_unfinished,
    write_new,
)
from relay.nodes.bundle import Bundle, collect, seal_bundle, write_secrets
from relay.nodes.certificates import identity_of
from relay.nodes.facts import Facts, StrangeRow, from_row, invited, to_row
from relay.nodes.members import identity_in, members_in, removal, without_removed
from relay.refusals import Refusal
from relay.times import SECOND_US
from spool.backup.format import read_manifest
from spool.backup.restore import UNFINISHED_NAME as RESTORE_UNFINISHED
from spool.backup.restore import restore
from spool.interface import Progress
from spool.replicated.table import Connection, Table, connected

#: A node that has said something within so many seconds is at work.
LATELY_SECONDS: Final = 60
DATABASE_FILE: Final = "database"
#: In `filling`: what stands in the directory was made by `begin_to_join`.
JOINING: Final = FILLING_JOINING


class Added(NamedTuple):
    file: bytes
    code: str


async def add(
    directory: Path,
    table: Table,
    conninfo: str,
    name: str,
    now: datetime,
    chance: Callable[[int], bytes] = os.urandom,
) -> Added:
    """Have a node of this name, and give what it is to have. Given again before that node has run, it gives it anew,
    and what it gave before is good for nothing any more.

    Raises Refusal(INVALID_REQUEST or CONFLICT), KeyFileError, TableError, OSError.
    """
    if not is_node_name(name):
        raise Refusal(
            "INVALID_REQUEST", "name: expected at most 32 letters of a-z, digits and hyphens within"
        )
    bundle = collect(directory, name, conninfo, now)
    async with connected(table) as connection:
        rows = without_removed(await connection.nodes())
        if name in rows:
            there = from_row(name, rows[name])
            if isinstance(there, StrangeRow) or there.began_at:
                raise Refusal(
                    "CONFLICT", f"there is a node {name} already; if it is gone for good, remove it first"
                )
        await connection.write_node(name, to_row(invited(name, identity_of(bundle.own))))
    return Added(*seal_bundle(bundle, chance))


async def remove(table: Table, name: str) -> None:
    """Have no node of this name any more: what it shows is not taken, and nothing is kept for it. Killed on the way, it
    is done again.

    Raises Refusal(NOT_FOUND), Refusal(CONFLICT) where it is at work, TableError.
    """
    async with connected(table) as connection:
        rows = await connection.nodes()
        if name not in without_removed(rows):
            gone = members_in(rows).last_removed(name)
            if gone is not None:
                # That it is so may be known to this server alone, and its own row may be there still.
                await connection.remove_node(name)
            when = "" if gone is None else f" any more: it was removed at {gone.at}"
            raise Refusal("NOT_FOUND", f"there is no node {name}{when}")
        facts = from_row(name, rows[name])
        now_us = await connection.time_us()
        if isinstance(facts, Facts):
            seconds = (now_us - facts.written_at) / SECOND_US
            if seconds < LATELY_SECONDS:
                raise Refusal(
                    "CONFLICT",
                    f"{name} is at work: its last word is {max(seconds, 0):.0f} s old. Stop its relay, wait for "
                    f"{LATELY_SECONDS} s, and remove it then",
                )
        identity = identity_in(rows[name])
        if identity:
            await connection.write_node(*removal(name, identity, now_us))
        await connection.remove_node(name)


async def join(
    directory: Path,
    bundle: Bundle,
    table: Table,
    *,
    bind: str,
    address: str,
    backup: Path | None = None,
    progress: Progress | None = None,
) -> int:
    """Make `directory`, which is not there, empty, or was begun by this. `table` is the bundle's database. Returned:
    the last sequence number that it has; the relay fetches the rest when it is started.

    Raises Refusal(CONFLICT) where the directory or the backup will not do, or where the database has gone on without
    what comes next; ConfigError, KeyFileError, BackupError, TableError, OSError.
    """
    own = _own_toml(bundle, bind, address)
    parse_config(bundle.relay_toml, f"the bundle's {CONFIG_FILE}")
    _check_is_ours(directory)
    last_seq = 0 if backup is None else _last_seq_of(backup)
    async with connected(table) as connection:
        await _check_may_join(connection, bundle)
        await check_tail(connection, last_seq)
    finish = partial(_finish, directory, bundle, own)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    fsync_directory(directory.parent)
    if backup is None:
        finish()
    else:
        restore(backup, directory, log=LOG_DIRECTORY, finish=finish, progress=progress)
    load_config(directory)
    return last_seq


async def check_may_join(table: Table, bundle: Bundle) -> None:
    """Raises Refusal(CONFLICT) where what the bundle was made for was removed, or made anew, since; TableError."""
    async with connected(table) as connection:
        await _check_may_join(connection, bundle)


async def _check_may_join(connection: Connection, bundle: Bundle) -> None:
    why_not = members_in(await connection.nodes()).why_not(bundle.name, identity_of(bundle.own))
    if why_not is not None:
        raise Refusal("CONFLICT", why_not)


def begin_to_join(directory: Path, bundle: Bundle, *, bind: str, address: str) -> None:
    """Make `directory`, as `join` does, but for its log: `relay.nodes.filling.fill` is to follow. Given again, with the
    same values or others, it goes on. Ask `check_may_join` before.

    Raises Refusal(CONFLICT) where the directory will not do, ConfigError, KeyFileError, OSError.
    """
    own = _own_toml(bundle, bind, address)
    parse_config(bundle.relay_toml, f"the bundle's {CONFIG_FILE}")
    filling = directory / FILLING_DIRECTORY
    if not (filling / JOINING).exists():
        _check_is_no_node(directory)
        # Killed before it was said whose this is, there is nothing else.
        if directory.exists() and {entry.name for entry in directory.iterdir()} - {FILLING_DIRECTORY}:
            raise Refusal("CONFLICT", f"{directory} is not empty; nothing was changed")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        fsync_directory(directory.parent)
        filling.mkdir(mode=0o700, exist_ok=True)
        fsync_directory(directory)
        remove_unfinished(filling)
        if any(filling.iterdir()):
            raise Refusal("CONFLICT", f"{directory} is not empty; nothing was changed")
        write_new(filling / JOINING, b"")
    _finish(directory, bundle, own)
    load_config(directory)


def _last_seq_of(backup: Path) -> int:
    manifest = read_manifest(backup)
    if not any(file.name == pepper_name(1) for file in manifest.others):
        # Keys that are younger than the bundle would be nowhere.
        raise Refusal("CONFLICT", f"{backup} was made without secrets: make one with them")
    return manifest.last_seq


def _own_toml(bundle: Bundle, bind: str, address: str) -> str:
    values = {"name": bundle.name, "bind": bind, "address": address, "database_file": DATABASE_FILE}
    for name, value in values.items():
        # What TOML and JSON quote alike, and no file of ours has.
        if not value.isprintable() or '"' in value or "\\" in value:
            raise Refusal("INVALID_REQUEST", f"{name}: {value[:100]!r} cannot be written into {NODE_FILE}")
    text = "".join(f'{name} = "{value}"\n' for name, value in values.items())
    parse_node(text)
    return text


def _check_is_ours(directory: Path) -> None:
    if (directory / FILLING_DIRECTORY / JOINING).exists():
        raise Refusal(
            "CONFLICT",
            f"{directory} was begun with --from, and that has not ended: give the same command again, or remove it",
        )
    if (directory / CONFIG_FILE).exists() and not (directory / RESTORE_UNFINISHED).exists():
        _check_is_no_node(directory)
        raise Refusal("CONFLICT", f"{directory} is a data directory already; nothing was changed")
    ours = ("keys", "node", NODE_FILE, DATABASE_FILE)
    if directory.exists() and not (directory / RESTORE_UNFINISHED).exists():
        for entry in directory.iterdir():
            if not (entry.name in ours or entry.name.startswith("pepper") or is_unfinished(entry.name)):
                raise Refusal(
                    "CONFLICT", f"{directory} is not empty, and no directory of a node; nothing was changed"
                )


def _check_is_no_node(directory: Path) -> None:
    """Whoever gives the command once more wants to know what comes next."""
    if not ((directory / CONFIG_FILE).exists() and (directory / NODE_FILE).exists()):
        return
    try:
        name = load_node(directory).name
    except ConfigError:
        return  # what is made of it, who begins the relay is told
    raise Refusal(
        "CONFLICT",
        f"{directory} is the node {name} already; nothing was changed. Start its relay (`atmos-relay serve "
        f"{directory}`), and `atmos-relay node list {directory}` says how far it is; another node wants another "
        "directory",
    )


async def check_tail(connection: Connection, last_seq: int) -> None:
    """That the database has all that comes after this sequence number."""
    head, oldest = await connection.head(), await connection.oldest_seq()
    if last_seq > head.last_seq:
        raise Refusal(
            "CONFLICT",
            f"the backup goes up to sequence {last_seq}, and the log of all nodes up to {head.last_seq}: it is of "
            "another relay, or the database was restored to an earlier time",
        )
    if last_seq < head.last_seq and (oldest is None or oldest > last_seq + 1):
        begins = f"begins with sequence {oldest}" if oldest is not None else "has no rows any more"
        raise Refusal(
            "CONFLICT",
            f"the database {begins}, and this directory needs all after {last_seq}: name a node whose relay runs "
            "(--from NAME), or make a backup of one (`atmos-relay log backup DIR DEST` there) and bring it here",
        )


def _finish(directory: Path, bundle: Bundle, own: str) -> None:
    """Everything but the log. Done again, it changes nothing."""
    remove_unfinished(directory)
    write_secrets(bundle, directory)
    KeyFiles(directory).operator_stem(tomllib.loads(bundle.relay_toml)["operator_domain"])
    for name, text in ((DATABASE_FILE, bundle.database), (NODE_FILE, own), (CONFIG_FILE, bundle.relay_toml)):
        path = directory / name
        if path.exists() and path.read_bytes() == text.encode():
            continue
        # What a backup has brought was another node's, or is older.
        path.unlink(missing_ok=True)
        write_new(path, text.encode())
