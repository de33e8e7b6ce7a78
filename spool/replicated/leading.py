"""How the batches of the one machine that leads become durable: each is one row of the table, behind the last.

The invariant: **what is DURABLE was committed and witnessed; what is ABSENT was seen to be absent by a statement that
waits behind all that could still bring it.** In between nothing is concluded, least of all from a time that has passed.

One batch takes this way:

1. *Append*, on a connection that holds the head. True: DURABLE. It is written to this machine's own file, too, without
   a sync: the table has it.
2. False, or any error: that connection is never used again. False says that nothing was changed; an error says nothing.
3. *Hold the head anew*, on a new connection, at whichever host can do it. The statement that takes the head waits
   behind an append under way, raises the epoch, so that what is still on its way comes to nothing, and is itself
   committed and witnessed. Where it stands then is the truth: behind our row, which is DURABLE, or in front of it,
   which is ABSENT.
4. *The head is another's.* Where nothing of ours is in doubt: `LogDeposedError`. Where the last append is in doubt, we
   may not take the head to find out, since it is not ours any more; but whoever has it appends, and tells us by that. A
   row of a later epoch at our row's place: ours is not there, and never will be. A row behind ours: DURABLE. We wait
   for one of these, UNDECIDED_SECONDS at most. Then `UnknownOutcomeError` poisons the log: what had been asked may be
   there or not.

Step 3 is tried again and again, with a pause that grows, whatever is wrong: nobody can be reached, the settings are
unsafe, no standby flushes. An operator can mend all of it, and meanwhile the writer tells those who wait. Only
`give_up` ends it: whoever closes the log while the database may be out of reach has to call that, since the writer
cannot be cancelled.

A server that shows less than what was witnessed to us (an older epoch, or ours in other hands) is an old primary that
has come back: nothing that it shows counts, and the other hosts are tried first. Or the database was restored to an
earlier time. From here the two look alike, so this machine waits for a server that has all, and says so: what it has
under way may be nowhere else. Whoever founds the log anew stops it before.

**What followers need to know.** A row that another stands behind needs no word. That the last one is witnessed is told
by the append itself, which raises the lease's word before it is answered; and whoever renews the lease says
`witnessed`, too, so that it is never missing for longer than a renewal takes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import trio

from spool.durability import Batch, Verdict
from spool.errors import LogDeposedError, LostRowsError
from spool.record import Record
from spool.replicated.rows import Seal, encode
from spool.replicated.table import (
    ROW_BYTES_WANTED,
    Connection,
    Head,
    Row,
    ShowsLessError,
    Table,
    TableError,
    UnknownOutcomeError,
)

#: The first pause between two tries, and the longest: each is twice as long as the one before.
PAUSE_SECONDS: Final = 0.05
PAUSE_SECONDS_MAX: Final = 1.0
#: How long we wait for another holder's first row. It comes at once, or that holder has died, too.
UNDECIDED_SECONDS: Final = 10.0

_SEQ_MAX: Final = (1 << 63) - 1


class Witnessed(NamedTuple):
    """What is committed and witnessed, for the lease."""

    epoch: int
    seq: int
    chain: bytes


def shows_less(host: str, shown: Head, told: Witnessed) -> ShowsLessError:
    return ShowsLessError(
        host,
        f"was acknowledged to this machine: epoch {shown.epoch} and sequence {shown.last_seq}, after {told.epoch} and "
        f"{told.seq}",
    )


class _UndecidedError(UnknownOutcomeError):
    """Whoever has the head now has appended nothing yet that would tell what became of our row."""


async def take_over(table: Table, known: Head, holder: bytes) -> tuple[Connection, Head] | None:
    """Take the head from whoever has it, on a new connection. `known` is it as it was seen when that was decided.

    Returned: it is ours, committed and witnessed, and so is all up to where it stands. Whatever this machine has not
    applied of that it must apply, and then `Replicated` begins with these two. None: somebody else has taken it
    meanwhile, or the settings are unsafe. Raises `TableError`; after `UnknownOutcomeError` it may be ours: look again.
    """
    connection = await table.connect()
    taken = await connection.take_head(known, holder)
    if taken is None:
        await connection.close()
        return None
    return connection, taken


class Replicated:
    """A `Durability`, of the machine that holds the head.

    `connection` and `head` come from `take_over`; the log ends where the head stands. `write_own` writes a batch to
    this machine's own file (`Log.write_unsynced`). `beside_of(records)` is what goes with their row and is not of the
    log, sealed by whoever makes it. `on_trouble` is told what is wrong each time that something is, and None when all
    is well again.
    """

    def __init__(
        self,
        table: Table,
        connection: Connection,
        head: Head,
        *,
        write_own: Callable[[Batch], Awaitable[object]],
        seal: Seal | None = None,
        beside_of: Callable[[Sequence[Record]], bytes] = lambda records: b"",
        on_trouble: Callable[[TableError | None], None] = lambda error: None,
    ) -> None:
        self._table = table
        #: It holds the head. None: it is to be held anew.
        self._connection: Connection | None = connection
        #: As it was last witnessed to us.
        self._head = head
        self._write_own = write_own
        self._seal = seal
        self._beside_of = beside_of
        self._on_trouble = on_trouble
        self._is_troubled = False
        self._has_given_up = False
        self._under_way = trio.CancelScope()
        self._pause = PAUSE_SECONDS
        #: Since when the batch that is under way is not durable. None: there is none.
        self._waits_since: float | None = None
        self.batch_bytes_wanted: int | None = ROW_BYTES_WANTED
        self.sync_seconds_last = 0.0

    @property
    def holder(self) -> bytes:
        return self._head.holder

    @property
    def witnessed(self) -> Witnessed:
        return Witnessed(self._head.epoch, self._head.last_seq, self._head.chain)

    @property
    def waits_seconds(self) -> float:
        """How long the batch that is under way has not been durable; 0: there is none."""
        return 0.0 if self._waits_since is None else trio.current_time() - self._waits_since

    def give_up(self) -> None:
        """What is under way is broken off, and nothing more is made durable: the process is to end. `make_durable`
        raises `UnknownOutcomeError` then."""
        self._has_given_up = True
        self._under_way.cancel()

    async def close(self) -> None:
        await self._let_go()

    async def make_durable(self, batch: Batch) -> Verdict:
        """See `Durability`. Where it has raised, it is not asked again."""
        row = encode(
            batch.records,
            batch.previous_chain,
            epoch=self._head.epoch,
            seal=self._seal,
            beside=self._beside_of(batch.records),
        )
        is_there: bool | None = None
        with trio.CancelScope() as self._under_way:
            if self._has_given_up:
                self._under_way.cancel()
            self._waits_since = trio.current_time()
            try:
                is_there = await self._append(row)
            finally:
                self._waits_since = None
        if is_there is None:
            raise UnknownOutcomeError(
                "what was asked of the database was broken off, since this process is to end"
            )
        if not is_there:
            return Verdict.ABSENT
        await self._write_own(batch)
        return Verdict.DURABLE

    async def _append(self, row: Row) -> bool:
        """Whether the row is there: one or the other, for good."""
        assert (row.first_seq, row.previous_chain) == (self._head.last_seq + 1, self._head.chain)
        if self._connection is None:
            await self._hold(None)
            assert self._connection is not None
        row = row._replace(epoch=self._head.epoch)
        in_doubt = None
        began = trio.current_time()
        try:
            is_there = await self._connection.append(row, self.holder)
        except TableError as error:
            in_doubt = row
            self._trouble(error)
            is_there = False
        if is_there:
            self._head = self._head._replace(last_seq=row.last_seq, chain=row.chain)
        else:
            await self._let_go()
            is_there = await self._hold(in_doubt)
        self.sync_seconds_last = trio.current_time() - began
        if is_there:
            self._all_is_well()
        else:
            # What is refused every time must not be asked in a circle.
            await self._wait_a_little()
        return is_there

    # Holding the head.

    async def _hold(self, in_doubt: Row | None) -> bool:
        """Hold the head on a new connection, however long that takes. Whether the row that was in doubt is there."""
        undecided: _UndecidedError | None = None
        undecided_until = 0.0
        while True:
            try:
                return await self._try_to_hold(in_doubt)
            except TableError as error:
                problem = error
            await self._let_go()
            self._trouble(problem)
            if undecided is None and isinstance(problem, _UndecidedError):
                undecided, undecided_until = problem, trio.current_time() + UNDECIDED_SECONDS
            # Also where nobody can be reached any more meanwhile: what is raised says that it may be there.
            if undecided is not None and trio.current_time() >= undecided_until:
                raise undecided
            self._table.prefer_another_host()
            await self._wait_a_little()

    async def _try_to_hold(self, in_doubt: Row | None) -> bool:
        connection = self._connection = await self._table.connect()
        known = await connection.head()
        is_ours = known.holder == self.holder
        if known.epoch < self._head.epoch or (known.epoch == self._head.epoch and not is_ours):
            raise shows_less(connection.host, known, self.witnessed)
        if not is_ours:
            is_there = await self._look_behind(connection, known, in_doubt)
            await self._let_go()
            return is_there
        taken = await connection.take_head(known, self.holder)
        if taken is None:
            raise TableError(
                f"{connection.host} changes nothing: its settings do not promise what is asked of them, or another "
                "machine takes the head at this moment"
            )
        is_there = in_doubt is not None and (taken.last_seq, taken.chain) == (
            in_doubt.last_seq,
            in_doubt.chain,
        )
        if not is_there and (taken.last_seq, taken.chain) != (self._head.last_seq, self._head.chain):
            raise LostRowsError(taken.last_seq, taken.chain, self._head.last_seq, self._head.chain)
        self._head = taken
        return is_there

    async def _look_behind(self, connection: Connection, known: Head, in_doubt: Row | None) -> bool:
        """Another machine has the head. Whether the row that was in doubt is there: what stands behind its place tells.

        Raises `LogDeposedError` where it is not, `_UndecidedError` where nobody can know yet.
        """
        if in_doubt is not None:
            rows = await connection.rows(in_doubt.first_seq - 1, _SEQ_MAX, 1)
            found = rows[0] if rows and rows[0].first_seq == in_doubt.first_seq else None
            if found is not None and found.chain == in_doubt.chain and known.last_seq > found.last_seq:
                self._head = self._head._replace(last_seq=found.last_seq, chain=found.chain)
                return True
            if found is None or found.chain == in_doubt.chain or found.epoch <= in_doubt.epoch:
                raise _UndecidedError(
                    "another machine has taken the head, and nobody knows yet whether it did so before our last append"
                )
        raise LogDeposedError(
            f"another machine appends to this log now: it took the head with epoch {known.epoch}; ours was "
            f"{self._head.epoch}"
        )

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _wait_a_little(self) -> None:
        await trio.sleep(self._pause)
        self._pause = min(2 * self._pause, PAUSE_SECONDS_MAX)

    def _trouble(self, error: TableError) -> None:
        self._is_troubled = True
        self._on_trouble(error)

    def _all_is_well(self) -> None:
        self._pause = PAUSE_SECONDS
        if self._is_troubled:
            self._is_troubled = False
            self._on_trouble(None)
