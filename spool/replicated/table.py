"""What a replicated log asks of a database: one table of batches, its head, and some rows about the machines.

The invariant: **a row that was committed with an answer of ONE, and has a witness, survives whatever the database's
operator promised that it survives; and no row is added but by the one holder of the head, directly behind the last.**
Everything else (who leads, who is late, what may be deleted) rests on it. A clock decides nothing.

The table's rows, in words (`spool.replicated.statements` has them in SQL)::

    head      one row: epoch, holder, last_seq, chain
    batches   first_seq, last_seq, epoch, previous_chain, chain, data, beside; only added, and dropped by the hour
    lease     one row: epoch, holder, address, counter, witnessed_seq, witnessed_chain
    nodes     a row for each machine: name, and what it says of itself, as one JSON object

- *epoch*: raised by one whenever somebody takes the head, and as the first statement on every new connection of whoever
  holds it. An append names the epoch that it expects, so what an older connection still has under way comes to nothing.
- *holder*: 16 random octets of one process that leads, made when it begins to. It tells "another took it" from "nothing
  is changed because the settings are unsafe".
- *witnessed*: a synchronous standby has flushed it. What a primary shows and nobody else has may be gone after a
  failover, so followers apply a row only when they know that it is witnessed: since another row stands behind it (which
  nobody adds before), or since the lease says so by its chain value. A sequence number says too little: where an append
  came to nothing, the batch has another chain value the next time, and an old primary may show the first.

**What is not known.** A statement whose connection broke, or whose answer came with any notice, may or may not have
happened: `UnknownOutcomeError`. PostgreSQL answers a cancelled wait for replication with a mere warning, and the row is
then to be seen on that primary and gone after a failover. Whoever gets this error makes a new connection, takes the
head there (the statement waits behind an append under way, and its success proves all before it replicated), and only
then looks.

Nothing here is cancelled half way: a call that is cancelled by trio closes its connection, and with it the socket. No
statement is ever cancelled by a message to the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, Protocol

import trio

HOLDER_OCTETS: Final = 16
#: Who holds a head that nobody has taken.
NOBODY: Final = bytes(HOLDER_OCTETS)
#: What is larger goes as a batch of its own.
ROW_BYTES_WANTED: Final = 1 << 20


class TableError(Exception):
    """The database cannot be used at the moment: nothing that was asked has happened. Another connection may help."""


class UnknownOutcomeError(TableError):
    """What was asked may have happened, or not, or may be taken back. Its connection is closed."""


class UnfitTableError(TableError):
    """This database must not be used as it is: its settings do not promise what a 200 says, or it has no such tables,
    or it is a standby. The message names the setting, what it is, and what it must be."""


class NoTablesError(UnfitTableError):
    """There are no tables of a replicated log in this database."""


class ShowsLessError(TableError):
    """A host shows less than it, or another, has acknowledged or shown to us: nothing that it shows counts. The next
    host may show all."""

    def __init__(self, host: str, what: str) -> None:
        super().__init__(
            f"{host} shows less than {what}. It is an old primary that has come back, or the database was restored to "
            "an earlier time"
        )


class Head(NamedTuple):
    epoch: int
    holder: bytes
    """HOLDER_OCTETS; NOBODY: it is not taken yet."""
    last_seq: int
    chain: bytes
    """Of the record with `last_seq`."""


class Row(NamedTuple):
    """One batch."""

    first_seq: int
    last_seq: int
    epoch: int
    previous_chain: bytes
    chain: bytes
    data: bytes
    """As `spool.replicated.rows` makes it, sealed or not."""
    beside: bytes
    """What goes with it and is not of the log, sealed; empty where there is none."""


class Lease(NamedTuple):
    """Who leads, as far as is known: for liveness alone."""

    epoch: int
    holder: bytes
    address: str
    """Where others reach who leads; it is theirs to understand."""
    counter: int
    """Raised by each renewal. Whoever has read the same value for some time by its own clock takes it for stale."""
    witnessed_seq: int
    """Rows up to here have a witness. It does not go back: `write_lease` leaves a higher one of the same holder, where
    the head has come so far, and an append of the lease's holder raises it to its own row, before it is answered. What
    somebody else has written there is gone with the next renewal."""
    witnessed_chain: bytes
    """Of the record with `witnessed_seq`; they are only changed together."""


class Connection(Protocol):
    """One connection to the database's primary. One call at a time; after any error but `UnfitTableError` it is
    closed, and so it is when a call is cancelled."""

    @property
    def host(self) -> str:
        """To whom it is, for the log."""

    async def take_head(self, known: Head, holder: bytes) -> Head | None:
        """Take the head, where it is of the epoch of `known`: its epoch is raised by one, and `holder` holds it.

        Returned: committed and witnessed, and so is all before it. None: nothing was changed, since it has another
        epoch by now, or since the settings are unsafe: read it again. Raises `TableError`, `UnknownOutcomeError`.
        """

    async def append(self, row: Row, holder: bytes) -> bool:
        """Add the row, and move the head to its end, in one statement, where the head is `row.epoch`'s, `holder`'s, and
        stands directly before the row. True: committed and witnessed. False: nothing was changed.

        Raises `TableError` where it was never sent, `UnknownOutcomeError`.
        """

    async def head(self) -> Head:
        """As this server shows it: what is not replicated, too."""

    async def rows(self, after_seq: int, up_to_seq: int, octets_max: int) -> Sequence[Row]:
        """Rows from the one that follows `after_seq`, in order, up to `up_to_seq`; at least one, where there is any,
        and no more than `octets_max` of data besides. It may be fewer than there are: ask again behind the last. Where
        that one has gone: those that are left, from the oldest."""

    async def oldest_seq(self) -> int | None:
        """The first sequence number that there is a row of; None: there are none."""

    async def lease(self) -> Lease | None:
        """None: nobody has written one yet."""

    async def write_lease(self, lease: Lease) -> bool:
        """Replace it, where the head is of this epoch and this holder, has all that is witnessed, and a synchronous
        standby is there. It waits for no standby: until `has_witness`, a failover may bring the one before it back.

        False: it was not. The head is another's, or it was taken anew meanwhile, or the lease is another's of a later
        epoch; or this is an old primary that has come back, where a lease would keep followers from looking elsewhere:
        look at the head, and try another host first.
        """

    async def take_lease(self, lease: Lease, known: Lease | None) -> bool:
        """As `write_lease`, where the lease still is `known`, by epoch, holder, and counter; None: there was none.

        Who has taken the head writes its first lease by this, with the one that it took for stale as `known`. A renewal
        by whoever held the head until then may overlap with that, and one of the two is refused: one that succeeds
        first makes this fail, and behind this none of an earlier epoch succeeds. False where it was renewed: who held
        it may act by that for as long as it counts, so this machine must not, and waits until it is stale.
        """

    async def has_witness(self, seconds: float) -> bool:
        """Whether all that this server has now, as the lease that was written last by this connection, has a witness
        within so long. No server that takes the place of this one shows an older one then. Raises `TableError`."""

    async def nodes(self) -> Mapping[str, Mapping[str, object]]:
        """What each machine says of itself, by its name. One that is no JSON object, or far too long, is empty."""

    async def write_node(self, name: str, facts: Mapping[str, object]) -> None:
        """Replace what this machine says of itself. It waits for no replication."""

    async def remove_node(self, name: str) -> bool:
        """Committed and witnessed, and so is all that was written before it, so that no failover brings it back. False:
        there was none, and an earlier removal of it is witnessed. Raises `TableError`, `UnknownOutcomeError`."""

    async def time_us(self) -> int:
        """The server's clock: microseconds since the epoch, at some moment between the call and its answer."""

    async def wait_for_news(self, seconds: float) -> None:
        """Until somebody has appended, or said what is witnessed, or for so long. It may return early."""

    async def close(self) -> None:
        """Closing it twice changes nothing."""


class NotAsExpectedError(TableError):
    """The tables are not those that the caller has looked at: nothing was changed, and it must look again."""


class Keeping(Protocol):
    """A connection for what is done to the tables as a whole: they are made, looked after, and thrown away. What holds
    for a `Connection` holds for it: one call at a time, and closed by any error, and by a cancel."""

    @property
    def host(self) -> str:
        """To whom it is, for the log."""

    async def head(self) -> Head | None:
        """As this server shows it. None: there are no such tables here."""

    async def found(self, head: Head) -> None:
        """Make the tables, with this head and no row, all at once: committed and witnessed.

        Raises `NotAsExpectedError` where there are tables, `TableError`, `UnknownOutcomeError`.
        """

    async def discard(self, head: Head) -> None:
        """Remove the tables, and all that is in them, where their head is exactly this one: committed and witnessed.

        Raises `NotAsExpectedError` where it is another, or there are none; `TableError`, `UnknownOutcomeError`.
        """

    async def begin_part(self) -> None:
        """Rows that come from now on are in another part of the table than those before. Only whole parts go, so this
        is done once an hour or so.

        Raises `TableError`, also where others were too busy with the table: try it again later.
        """

    async def drop_through(self, seq: int) -> int:
        """Drop the parts that have only rows up to `seq`, but never the one that is written to; how many have gone.

        Their place is free at once. Appends and reads go on meanwhile. Which rows may go, the caller says: nothing is
        asked here. Raises `TableError`, also where others were too busy with the table: try it again later; some parts
        may have gone, and what was left half dropped is finished then.
        """

    async def octets(self) -> int:
        """What the tables need on the server's disk."""

    async def close(self) -> None:
        """Closing it twice changes nothing."""


class Table(Protocol):
    """A database."""

    async def connect(self) -> Connection:
        """A new connection, to whichever of its hosts is the primary. Checked: its settings, and its tables.

        Raises `TableError` (nobody answers, in some seconds), `UnfitTableError`.
        """

    async def keep(self) -> Keeping:
        """As `connect`, for the tables as a whole; they need not be there."""

    def prefer_another_host(self) -> None:
        """The host that was used last is tried first; from now on the one after it is, until another was used: the one
        that was is perhaps an old primary that has come back."""

    async def find_doubts(self) -> Sequence[str]:
        """Sentences on what is doubtful about its hosts, as each says it of itself, those that do not answer among
        them. For people: nothing is decided by it."""


@asynccontextmanager
async def connected(table: Table) -> AsyncIterator[Connection]:
    """For a question or two: closed at the end, whatever happens. Raises as `Table.connect`."""
    connection = await table.connect()
    try:
        yield connection
    finally:
        with trio.CancelScope(shield=True):
            await connection.close()
