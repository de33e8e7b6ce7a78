"""What others appended comes from the table into this machine's own log.

The invariant: **this machine's log takes nothing that a failover could still take back, and nothing that is not
directly what follows.** A server shows rows before whoever appended them has an answer, and an old primary that has
come back shows some that are on no other. So a row is applied when it is known to be witnessed, in one of three ways:

- Another row stands behind it, on the same server. Nobody appends behind a row before that one is witnessed, and the
  row behind names it by its chain value.
- The lease names it, by its chain value.
- This machine has taken the head behind it (`catch_up`): that is only answered when all before it is witnessed.

Whatever holds of a row holds of it wherever it is seen, so it does not matter which server shows it.

A row is checked (`spool.replicated.rows`) before anything is done with it. What goes beside it comes first
(`before_applied`, which checks that), so that whoever sees the records finds it there.

**What is refused is named, never mended, and never the end** (`REFUSED`): it is a trouble, and is tried again, at
another host, until somebody has put it right. What is in front of it is applied. It is told when it is met twice in
turn: an old primary may show rows that this log has never agreed to, and an end that is not before this log's. There
are four of these, and a row is opened before it is compared, so that none is taken for another:

- `DamagedRowError`: a row that is not what a leader wrote, in whichever column.
- `DivergedError`: a row that a leader did write, behind another record than the last one here. The log here is none
  that all have agreed on, and nothing in the database can make it one.
- `RowsMissingError`: rows are not there, and older ones are.
- `TailGoneError`: rows are not there, and no older ones either. This machine was away for too long.

Who leads is known all the same, and told before anything is applied: a machine that cannot go on can still have others
decide. The lease's word of what is witnessed is a word, too: one that cannot be is named, and does not count.

A server that shows less than this machine's log has is an old primary, or the database was restored to an earlier time.
Nothing that it shows counts. One that shows as much may be an old primary, too: it is believed that this log has all
when a standby was seen to have what that server has, once for each connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import outcome
import trio

from spool.errors import DivergedError, LostRowsError, RowsMissingError, SpoolError, TailGoneError
from spool.received import Received
from spool.replicated.rows import DamagedRowError, Seal, decode
from spool.replicated.table import Connection, Head, Lease, Row, ShowsLessError, Table, TableError, connected

#: The first pause between two tries, and the longest: each is twice as long as the one before.
PAUSE_SECONDS: Final = 0.05
PAUSE_SECONDS_MAX: Final = 1.0
#: So much is read at once, and applied before more is.
READ_BYTES: Final = 2 << 20

#: Whoever may lead has to see for the whole time that the lease is stale, and on one connection: what is tried next may
#: be an old primary, and then it has to begin anew.
PATIENT_POLLS: Final = 2

#: What is wrong with rows, and stays so until somebody does something.
REFUSED: Final = (DamagedRowError, DivergedError, RowsMissingError, TailGoneError)


class OwnLog(Protocol):
    """This machine's log, while it follows. `spool.log.Log` is one."""

    @property
    def last_seq(self) -> int: ...

    @property
    def last_chain(self) -> bytes: ...

    async def receive(self, batches: Sequence[Received]) -> None: ...


class Seen(NamedTuple):
    """What a server showed that is not behind this machine's log."""

    host: str
    head: Head
    lease: Lease | None
    at: float
    """When it was asked, in trio's seconds."""


class StrangeLeaseError(SpoolError):
    """What the lease says is witnessed cannot be: somebody has changed it. Who leads writes it anew."""


class _StillLeaseError(Exception):
    """Nobody has renewed the lease for some time, as far as this server shows."""


class Following:
    """The task of a machine that follows: `run` it, and cancel it before this machine leads.

    `before_applied(row, batch)` is called for each row that has been checked, in order, before its records are in the
    log; for one row perhaps several times, since the log may take it at a later try. Where it raises `DamagedRowError`,
    the row is as one that is damaged itself. `on_seen` is told what the database shows, at least each `poll_seconds`
    while it can be read, and before anything of it is applied. `on_level` is told the same when all of it that is
    known to be witnessed is in the log, and nothing was refused. `on_trouble` is told what is wrong, each time, and
    None when all is well again: a `TableError` where the database cannot be used, one of `REFUSED` or a
    `StrangeLeaseError` for what is in it. Where the lease does not move for `stale_seconds` and a little more, other
    hosts are tried: ours is perhaps an old primary, where nobody writes any more.
    """

    def __init__(
        self,
        table: Table,
        log: OwnLog,
        *,
        seal: Seal | None = None,
        before_applied: Callable[[Row, Received], None] = lambda row, batch: None,
        on_seen: Callable[[Seen], None] = lambda seen: None,
        on_level: Callable[[Seen], None] = lambda seen: None,
        on_trouble: Callable[[TableError | SpoolError | None], None] = lambda error: None,
        poll_seconds: float = 0.5,
        stale_seconds: float = 2.0,
    ) -> None:
        self._table = table
        self._log = log
        self._seal = seal
        self._before_applied = before_applied
        self._on_seen = on_seen
        self._on_level = on_level
        self._on_trouble = on_trouble
        self._poll_seconds = poll_seconds
        self._stale_seconds = stale_seconds
        self._is_troubled = False
        #: Rows were refused, and all has not been well since.
        self._has_refused = False
        self._pause = PAUSE_SECONDS
        #: Of the last row that was applied.
        self._epoch = 0
        #: The last lease, and since when it is the same on this connection.
        self._lease: tuple[bytes, int, int] | None = None
        self._lease_moved_at = 0.0
        #: The last sequence number that a server showed.
        self._shown_seq = log.last_seq
        #: All that was shown at this time is in the log. None: nothing was shown yet.
        self._current_as_of: float | None = None
        #: A later time, and what was shown then and is not all in the log.
        self._awaited: tuple[float, int] | None = None

    @property
    def lag_records(self) -> int:
        """How many records the table has, as far as is known, that this machine's log has not."""
        return max(0, self._shown_seq - self._log.last_seq)

    @property
    def lag_seconds(self) -> float | None:
        """All that was in the table so long ago is in this machine's log. None: the table was never read."""
        return None if self._current_as_of is None else trio.current_time() - self._current_as_of

    async def run(self) -> None:
        """Follow, for ever. Whatever is wrong with the database, or in it, is told and waited for.

        Raises what `receive` and `before_applied` raise, but for `REFUSED`.
        """
        while True:
            try:
                async with connected(self._table) as connection:
                    await self._follow(connection)
            except (TableError, *REFUSED) as error:
                is_to_be_told = self._has_refused or isinstance(error, TableError)
                self._has_refused = self._has_refused or isinstance(error, REFUSED)
                if is_to_be_told:
                    self._is_troubled = True
                    self._on_trouble(error)
                await trio.sleep(self._pause)
                self._pause = min(2 * self._pause, PAUSE_SECONDS_MAX)
            except _StillLeaseError:
                pass
            self._table.prefer_another_host()

    async def catch_up(self, connection: Connection, head: Head) -> None:
        """Apply all rows up to this head, which this machine has taken by this connection. Not beside `run`.

        Returned: the log ends where the head stands. Raises `LostRowsError` where the log has more than the database
        that gave us the head, or something else; `TableError`, and what is in `REFUSED`.
        """
        log = self._log
        await self._apply(connection, head, head.chain)
        if log.last_seq < head.last_seq:
            raise TableError(
                f"{connection.host}: the head names another chain value than the row that ends with sequence "
                f"{head.last_seq}: somebody has changed one of the two"
            )
        if (log.last_seq, log.last_chain) != (head.last_seq, head.chain):
            raise LostRowsError(head.last_seq, head.chain, log.last_seq, log.last_chain)

    def check_is_current(self, host: str, head: Head) -> None:
        """Raises `ShowsLessError`."""
        log = self._log
        if _is_behind(head, log) or head.epoch < self._epoch:
            raise ShowsLessError(
                host, f"this machine's log has: sequence {head.last_seq}, and here it is {log.last_seq}"
            )

    async def _follow(self, connection: Connection) -> None:
        log = self._log
        self._lease_moved_at = trio.current_time()
        is_believed = False
        while True:
            asked_at = trio.current_time()
            lease = await connection.lease()
            head = await connection.head()
            self.check_is_current(connection.host, head)
            self._shown_seq = head.last_seq
            seen = Seen(connection.host, head, lease, asked_at)
            self._on_seen(seen)
            strange = _what_is_strange(lease, head, log)
            witnessed_chain = b"" if lease is None or strange is not None else lease.witnessed_chain
            await self._apply(connection, head, witnessed_chain)
            is_believed = is_believed or await connection.has_witness(self._poll_seconds)
            if is_believed:
                self._note_what_is_current(asked_at)
            self._on_level(seen)
            self._tell_how_it_is(strange)
            self._check_that_somebody_leads(lease)
            await connection.wait_for_news(self._poll_seconds)

    async def _apply(self, connection: Connection, head: Head, witnessed_chain: bytes) -> None:
        """Apply all rows up to where the head stands that are known to be witnessed. While the log takes some, the next
        ones are read."""
        last_seq, rows = self._log.last_seq, None
        while last_seq < head.last_seq:
            if rows is None:
                rows = await connection.rows(last_seq, head.last_seq, READ_BYTES)
            batches = await self._believe(connection, rows, head, witnessed_chain)
            if not batches:
                return
            epoch, last_seq = rows[len(batches) - 1].epoch, batches[-1].last_seq
            rows = await self._receive(batches, epoch, connection, head)

    async def _believe(
        self, connection: Connection, rows: Sequence[Row], head: Head, witnessed_chain: bytes
    ) -> Sequence[Received]:
        """What is known to be witnessed of some rows behind the log's end, checked. It ends where the first one stands
        that is refused, which is met again. Raises one of `REFUSED` where there is nothing in front of that."""
        log = self._log
        if not rows or rows[0].first_seq != log.last_seq + 1:
            await self._refuse_gap(connection, head, rows)
        rows, refused = _joined(rows)
        last = rows[-1]
        if (refused is not None or last.last_seq >= head.last_seq) and last.chain != witnessed_chain:
            rows = rows[:-1]
        batches: list[Received] = []
        epoch = self._epoch
        for row in rows:
            try:
                batch = decode(row, seal=self._seal)
                # What was opened is what a leader wrote, and there.
                if not batches and row.previous_chain != log.last_chain:
                    raise DivergedError(
                        row.first_seq, "the record in front of it has another chain value in the log here"
                    )
                if not epoch <= row.epoch <= head.epoch:
                    raise DamagedRowError(
                        row, f"its epoch is {row.epoch}, and none between {epoch} and {head.epoch}"
                    )
                self._before_applied(row, batch)
            except REFUSED as error:
                refused = error
                break
            batches.append(batch)
            epoch = row.epoch
            await trio.lowlevel.checkpoint()
        if not batches and refused is not None:
            raise refused
        return batches

    async def _receive(
        self, batches: Sequence[Received], epoch: int, connection: Connection, head: Head
    ) -> Sequence[Row] | None:
        """Have the log take these. Returned: the rows behind them, which were read meanwhile; None: these were all.

        What the log raises counts more than what the database does.
        """
        last_seq = batches[-1].last_seq
        if last_seq >= head.last_seq:
            await self._log.receive(batches)
            self._epoch = epoch
            return None
        taken: outcome.Maybe[None] | None = None

        async def take() -> None:
            nonlocal taken
            taken = await outcome.acapture(self._log.receive, batches)
            if isinstance(taken, outcome.Error):
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            read = await outcome.acapture(connection.rows, last_seq, head.last_seq, READ_BYTES)
        assert taken is not None
        taken.unwrap()
        self._epoch = epoch
        return read.unwrap()

    async def _refuse_gap(self, connection: Connection, head: Head, rows: Sequence[Row]) -> None:
        """The row behind the log here is not there."""
        last_seq = self._log.last_seq
        oldest = await connection.oldest_seq()
        if oldest is not None and oldest <= last_seq + 1:
            raise RowsMissingError(last_seq + 1, rows[0].first_seq - 1 if rows else head.last_seq)
        raise TailGoneError(last_seq, rows[0].first_seq if rows else oldest)

    def _note_what_is_current(self, asked_at: float) -> None:
        last_seq = self._log.last_seq
        if self._shown_seq <= last_seq:
            self._current_as_of, self._awaited = asked_at, None
            return
        if self._awaited is not None and self._awaited[1] <= last_seq:
            self._current_as_of, self._awaited = self._awaited[0], None
        if self._awaited is None:
            self._awaited = asked_at, self._shown_seq

    def _check_that_somebody_leads(self, lease: Lease | None) -> None:
        now = trio.current_time()
        seen = None if lease is None else (lease.holder, lease.epoch, lease.counter)
        if seen != self._lease:
            self._lease, self._lease_moved_at = seen, now
        elif now - self._lease_moved_at >= self._stale_seconds + PATIENT_POLLS * self._poll_seconds:
            raise _StillLeaseError

    def _tell_how_it_is(self, strange: StrangeLeaseError | None) -> None:
        self._pause = PAUSE_SECONDS
        self._has_refused = False
        if self._is_troubled or strange is not None:
            self._is_troubled = strange is not None
            self._on_trouble(strange)


def _is_behind(head: Head, log: OwnLog) -> bool:
    return head.last_seq < log.last_seq or (head.last_seq == log.last_seq and head.chain != log.last_chain)


def _joined(rows: Sequence[Row]) -> tuple[Sequence[Row], SpoolError | None]:
    """Those from the first on of which each stands behind the one before it, and what is wrong with the next one."""
    for number in range(1, len(rows)):
        row, behind = rows[number - 1], rows[number]
        if behind.first_seq > row.last_seq + 1:
            return rows[:number], RowsMissingError(row.last_seq + 1, behind.first_seq - 1)
        if (behind.first_seq, behind.previous_chain) != (row.last_seq + 1, row.chain):
            return rows[:number], DamagedRowError(behind, "it does not stand behind the row before it")
    return rows, None


def _what_is_strange(lease: Lease | None, head: Head, log: OwnLog) -> StrangeLeaseError | None:
    """What the lease says of this server's rows cannot be. It was asked for before the head, and its word is written
    behind the rows of which it speaks, so a server that has the word has them."""
    if lease is None:
        return None
    said = f"the lease says that all up to sequence {lease.witnessed_seq} is witnessed, "
    if lease.witnessed_seq > head.last_seq:
        return StrangeLeaseError(
            f"{said}and the log ends with {head.last_seq}: somebody has changed one of the two"
        )
    ends = {log.last_seq: log.last_chain, head.last_seq: head.chain}
    if ends.get(lease.witnessed_seq, lease.witnessed_chain) != lease.witnessed_chain:
        return StrangeLeaseError(f"{said}and names another chain value than its own: somebody has changed it")
    return None
