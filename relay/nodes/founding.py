"""The log of one machine becomes that of several, and that of several one machine's again.

The invariant: **at each moment one machine at most may append, whatever is killed when.** Nobody has the directory open
meanwhile: these hold the log's lock.

*Founding.* The log is synced and marked, so that it is not opened as one machine's any more, and then the tables are
made, with a head that stands where this log ends. The table begins empty: what is before its first row, other nodes get
from this one. Epochs go on: they begin with the second in which the tables are made, or behind the last of those that
are thrown away, whichever is more. So whoever has led by other tables, and runs still, finds that another has taken
the head. Killed in between, or where it is not known what the database has done, it is done again, and finds
tables that stand where it would put them.

*Leaving.* The tables are dropped, if their head is where this log ends: then nobody can lead by them any more, and
nothing is in them that is not here. Only then the mark goes, `[nodes]` becomes a comment in `relay.toml`, and
`node.toml` gets another name. Killed in between, it is done again from where it was. Without the database nothing keeps
another node from leading once the database is back: that there is none is the operator's word.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import trio

from relay.config import CONFIG_FILE, Config, load_config, parse_config
from relay.config_nodes import NODE_FILE, without_nodes
from relay.data_directory import check_may_write
from relay.message.key_files import KeyFileError, fsync_directory, write_new
from relay.nodes import certificates
from relay.own_stripping import OwnStripping
from relay.refusals import Refusal
from relay.store import Store, open_store
from relay.surroundings import Surroundings
from spool.replicated.table import (
    NOBODY,
    Head,
    Keeping,
    Table,
    TableError,
    connected,
)

#: What is beyond was written by somebody, and cannot go on for long.
_EPOCH_MAX: Final = 1 << 62
#: Each relay that runs writes its row each second.
_LISTEN_SECONDS: Final = 2.5
#: What `node.toml` is called once it is of no use.
LEFT_FILE: Final = f"{NODE_FILE}.left"


class Founded(NamedTuple):
    seq: int
    #: It was so before.
    already: bool


async def found(
    directory: Path,
    table: Table,
    *,
    discard: bool,
    now: datetime,
    surroundings: Surroundings | None = None,
) -> Founded:
    """Make the tables for the log of `directory`, whose `relay.toml` has `[nodes]`. `discard`: tables that are there
    may go, with all that is in them.

    Raises Refusal(CONFLICT) where there are some, TableError, UnknownOutcomeError (do it
    again), what `load_config` raises, or an error of `spool`.
    """
    async with _held(directory, surroundings or Surroundings()) as store:
        log = store.of_several_machines
        await log.sync()
        head = Head(int(now.timestamp()), NOBODY, log.last_seq, log.last_chain)
        already = await _make(table, head, discard=discard)
        try:
            certificates.authority(directory)
        except KeyFileError:
            certificates.found(directory, now)
    return Founded(head.last_seq, already)


async def _make(table: Table, head: Head, *, discard: bool) -> bool:
    """Whether they were there already."""
    keeping = await table.keep()
    try:
        there = await keeping.head()
        if there is not None and there[2:] == head[2:]:
            await _settle(table, there)
            return True
        if there is not None:
            if not discard:
                raise Refusal("CONFLICT", _in_the_way(there, head))
            await keeping.discard(there)
            if head.epoch <= there.epoch < _EPOCH_MAX:
                head = head._replace(epoch=there.epoch + 1)
        await keeping.found(head)
    finally:
        await keeping.close()
    return False


def _in_the_way(there: Head, head: Head) -> str:
    more = (
        f"{there.last_seq - head.last_seq} events more than this directory's"
        if there.last_seq > head.last_seq
        else "and this directory's is none that it goes on with"
    )
    return (
        f"the database has a log already, up to sequence {there.last_seq}: {more}. If nothing that is only there is "
        "needed, and all nodes are stopped, name the database: --discard NAME"
    )


async def _settle(table: Table, there: Head) -> None:
    """Tables that stand where they should may be shown by one server alone, if they were just made. That the head can
    be taken, in nobody's name, proves that they survive it. Where somebody has led by them, that was proved."""
    async with connected(table) as connection:
        if await connection.lease() is None and await connection.take_head(there, NOBODY) is None:
            raise TableError(
                "the tables are there, and somebody else has just begun to lead: look with `node list`"
            )


class Left(NamedTuple):
    seq: int
    #: There were tables, and they are gone. False: there were none, or the database was not asked.
    tables_dropped: bool


async def leave(directory: Path, table: Table | None, *, surroundings: Surroundings | None = None) -> Left:
    """Make the log of `directory` this machine's alone. `table`: the database; None: there is none any more, and there
    never will be one.

    Raises Refusal(CONFLICT) where this log is not as far as the tables, another node's relay runs, or `relay.toml` has
    to be changed by hand first; TableError, UnknownOutcomeError (do it again), ConfigError, or an error of `spool`.
    """
    path = directory / CONFIG_FILE
    text = path.read_text(encoding="utf-8")
    surroundings = surroundings or Surroundings()
    config = parse_config(text, str(path))
    if config.nodes is None:
        return await _left_before(directory, config, surroundings)
    changed = without_nodes(text)
    if changed is None:
        raise Refusal(
            "CONFLICT",
            f"{path}: write [nodes] as a table of its own, on a line of its own, and do this again",
        )
    async with _held(directory, surroundings) as store:
        log = store.of_several_machines
        # The log says that it was done, by whoever led; of one machine's log that has to be true of its own files.
        own = OwnStripping(
            store,
            erasing=trio.Lock(),
            retention_days=lambda: config.spool.retention_days,
            offload=surroundings.offload,
        )
        own.alone = True
        await own.catch_up()
        await log.sync()
        dropped = table is not None and await _drop(table, log.last_seq, log.last_chain)
        seq = log.last_seq
        await log.part()
        _replace(path, changed)
        _put_away(directory)
    return Left(seq, dropped)


async def _left_before(directory: Path, config: Config, surroundings: Surroundings) -> Left:
    """All that can be left to do, where `relay.toml` has no `[nodes]` any more. Raises LogFollowsError where the log is
    still that of several machines."""
    if not (directory / NODE_FILE).exists():
        raise Refusal(
            "CONFLICT", f"{directory} is no node: its relay.toml has no [nodes]; nothing was changed"
        )
    async with open_store(directory, config, surroundings) as store:
        seq = store.last_seq
    _put_away(directory)
    return Left(seq, False)


def _put_away(directory: Path) -> None:
    os.rename(directory / NODE_FILE, directory / LEFT_FILE)
    fsync_directory(directory)


async def _drop(table: Table, last_seq: int, chain: bytes) -> bool:
    keeping: Keeping = await table.keep()
    try:
        head = await keeping.head()
        if head is None:
            return False
        if (head.last_seq, head.chain) != (last_seq, chain):
            raise Refusal("CONFLICT", _not_as_far(head, last_seq))
        await _check_nobody_runs(table)
        await keeping.discard(head)
    finally:
        await keeping.close()
    return True


async def _check_nobody_runs(table: Table) -> None:
    """Relays that run would append to tables that go, and end at that: it does no harm, and is never meant."""
    async with connected(table) as connection:
        before = await connection.nodes()
        await trio.sleep(_LISTEN_SECONDS)
        after = await connection.nodes()
    running = ", ".join(sorted(name for name, row in after.items() if row != before.get(name)))
    if running:
        raise Refusal(
            "CONFLICT",
            f"there are relays that run still: {running}. Stop them, and do this again; nothing was changed",
        )


def _not_as_far(head: Head, last_seq: int) -> str:
    if head.last_seq > last_seq:
        return (
            f"the log of all nodes is at sequence {head.last_seq}, and this directory's at {last_seq}: start its relay "
            "until it has the rest, stop all nodes, and do this again; or do it where the log is further"
        )
    return (
        f"the database's log ends with sequence {head.last_seq}, and this directory's with {last_seq}: they have "
        "parted, or the database was restored to an earlier time. `node list` and `log verify` say more"
    )


def _replace(path: Path, text: str) -> None:
    """By a rename, durably."""
    mode = path.stat().st_mode & 0o777
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    write_new(temporary, text.encode())
    temporary.chmod(mode)
    os.replace(temporary, path)
    fsync_directory(path.parent)


@asynccontextmanager
async def _held(directory: Path, surroundings: Surroundings) -> AsyncIterator[Store]:
    """The store of a node, which nobody else has open. What is refused inside comes out as it is."""
    check_may_write(directory)
    config = load_config(directory)
    if config.nodes is None:
        raise Refusal(
            "CONFLICT",
            f"{directory / CONFIG_FILE} has no [nodes]: docs/NODES.md says what to write there and into {NODE_FILE}",
        )
    raised: Refusal | TableError | None = None
    async with open_store(directory, config, surroundings) as store:
        try:
            yield store
        except (Refusal, TableError) as error:  # carried out of the nurseries, which would wrap it
            raised = error
    if raised is not None:
        raise raised from None
