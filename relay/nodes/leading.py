"""A node that leads: it renews its lease, and knows whether it may act.

The invariant: **whoever acts on the world has asked here at the last moment, and is answered only while no other node
can take our lease for stale**, by our own clock and counted from before we asked for the renewal. Where the database
does not answer for that long, who asks waits: nothing is sent until it is known again who leads.

A renewal counts when it has a witness. Else others may find the one before it after a failover, and take that for
stale; and a primary that is cut off from its standbys, and has not noticed it yet, would go on to renew ours while
another node leads by the one that took its place.

A renewal is refused where another node has taken the head. Then this node is deposed, and its process ends
(LogDeposedError): it may have given up nothing in the middle that the next start does not put right.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from relay.core import Core
from relay.nodes.lease import HeldLease
from relay.nodes.seldom import Seldom
from relay.nodes.trouble import in_words
from relay.refusals import Refusal
from spool.errors import LogDeposedError, SpoolError
from spool.replicated.lateness import no_answer
from spool.replicated.leading import Replicated, Witnessed, shows_less
from spool.replicated.table import Connection, Lease, ShowsLessError, Table, TableError

logger = logging.getLogger(__name__)

#: Between a renewal that failed and the next try.
AGAIN_SECONDS: Final = 0.1


class Leading:
    """Of one node, from when the head is its own. `address`: what the lease says to others."""

    def __init__(self, table: Table, replicated: Replicated, *, address: str, lease_seconds: float) -> None:
        self.replicated = replicated
        self._table = table
        self._address = address
        self._seconds = lease_seconds
        self._held = HeldLease(lease_seconds)
        self._connection: Connection | None = None
        self._confirmed = trio.lowlevel.ParkingLot()
        #: The last renewal.
        self._has_failed = False
        self._lines = Seldom(logger)
        #: Of the database it knows what others have to put right, in a sentence; an append may know it, too.
        self.trouble: str | None = None
        #: Another node leads, or this one gives it up: nothing is done any more.
        self.is_over = False

    # ------------------------------------------------------------------------------------------- may it?

    @property
    def is_sure(self) -> bool:
        """Nobody else can have taken our place yet."""
        return not self.is_over and self._held.may_send_dot(trio.current_time())

    @property
    def level_at(self) -> float:
        """When this machine had, for the last time, all that was acknowledged by anybody: now, while it is sure."""
        return min(trio.current_time(), self._held.good_until)

    async def wait_until_sure(self) -> None:
        """Returns while `is_sure`; at once where it is so now."""
        while not self.is_sure:
            await self._confirmed.park()

    # ------------------------------------------------------------------------------------------- renewing

    async def first(self, connection: Connection, stale: Lease | None) -> None:
        """The first renewal, by the connection that has taken the head: others are to see at once that somebody leads.
        `stale`: the lease as it was when that was decided. Raises `TableError`, and `LogDeposedError` where another was
        quicker: it has taken the head since, or it renewed its lease before we had it, and may act by that."""
        sent_at = trio.current_time()
        if not await connection.take_lease(self._lease(self.replicated.witnessed), stale):
            raise LogDeposedError(
                "another machine has taken the head, or renewed its lease, in the same moment"
            )
        await self._confirm(connection, sent_at)

    async def run(self) -> None:
        """Renew the lease until cancelled; it says what is witnessed, too, which each append has said already. Raises
        `LogDeposedError`."""
        try:
            while True:
                told = self.replicated.witnessed
                is_renewed, began = False, trio.current_time()
                try:
                    # Nothing that comes later than that is worth waiting for.
                    with trio.fail_after(self._seconds):
                        is_renewed = await self._renew(told)
                except (TableError, trio.TooSlowError) as error:
                    if isinstance(error, ShowsLessError):
                        self.trouble = in_words(error)
                    self._note_failed(str(error) or no_answer(trio.current_time() - began, self._seconds))
                    await self._look_elsewhere()
                if not is_renewed:
                    await trio.sleep(AGAIN_SECONDS)
                    continue
                await trio.sleep_until(began + self._held.renewal_seconds)
        finally:
            with trio.CancelScope(shield=True):
                await self._let_go()

    async def _renew(self, told: Witnessed) -> bool:
        """False: not yet. Raises `TableError`, `LogDeposedError`."""
        if self._connection is None:
            self._connection = await self._table.connect()
        connection = self._connection
        sent_at = trio.current_time()
        if await connection.write_lease(self._lease(told)):
            await self._confirm(connection, sent_at)
            return True
        head = await connection.head()
        if head.epoch > told.epoch:
            if head.holder == self.replicated.holder:
                # Our appends take it anew on another connection; or they did at an old primary, in vain.
                await self._look_elsewhere()
                return False
            raise LogDeposedError(
                f"another machine leads now: the head was taken with epoch {head.epoch}, ours was {told.epoch}"
            )
        if (head.epoch, head.last_seq) < (told.epoch, told.seq):
            raise shows_less(connection.host, head, told)
        there = await connection.lease()
        if (
            there is not None
            and there.epoch > told.epoch
            and await connection.take_lease(self._lease(told), there)
        ):
            # Nobody can have led behind us: somebody has changed it by hand.
            await self._confirm(connection, sent_at)
            return True
        # An old primary by which nobody stands.
        await self._look_elsewhere()
        return False

    def _lease(self, told: Witnessed) -> Lease:
        return Lease(
            told.epoch,
            self.replicated.holder,
            self._address,
            self._held.next_counter(),
            told.seq,
            told.chain,
        )

    def _note_failed(self, because: str) -> None:
        """A line for the first one of those that follow each other, where they do not come and go."""
        if not self._has_failed:
            self._lines.say(logging.WARNING, "node.lease_not_renewed", because=because)
        self._has_failed = True

    async def _confirm(self, connection: Connection, sent_at: float) -> None:
        """It was renewed by this connection. Raises `TableError` where it does not count."""
        if not await connection.has_witness(self._held.witness_seconds):
            raise TableError(f"{connection.host}: no synchronous standby has flushed the lease in time")
        self._has_failed, self.trouble = False, None
        self._held.confirmed(sent_at)
        if self.is_sure:
            self._confirmed.unpark_all()

    async def _look_elsewhere(self) -> None:
        await self._let_go()
        self._table.prefer_another_host()

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def why_others_may_have_more(core: Core) -> Refusal | None:
    """Asked at a node that leads, before it says that something does not exist. None: all that any node can show is in
    the log here.

    What is being written is waited for: others may have it already, since they are told before we are answered. And
    where the lease is not sure, another may lead by now.
    """
    try:
        await core.store.settle()
    except SpoolError:
        return database_is_away()
    return core.why_not_sure()


def database_is_away() -> Refusal:
    """What is said meanwhile to whoever wants something decided."""
    return Refusal(
        "TEMPORARILY_UNAVAILABLE",
        "the database in which the nodes of this relay agree does not answer, so nothing can be accepted now; try "
        "again, with an Idempotency-Key to be safe from sending twice",
        retry_after_seconds=5,
    )
