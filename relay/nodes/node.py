"""The life of a node: it follows, it leads, it ends.

    follows: the log receives what another node appends
       │  the lease does not move, and nobody else was quicker to take the head
       ▼
    leads: `node.leads` is the first batch that it appends; then all that acts on the world begins (`relay.acting`)
       │  another node has taken the head, or this one's clock is off; or, following or leading, it was removed
       ▼
    ends: LogDeposedError; whoever supervises the process begins it again, and it follows

There is no way back from leading to following in one process: what a leader has in memory (reservations, attempts
under way, who waits for what) would be another's by then.

The invariant: **a node leads when it holds the head of the table and its log ends where the head stands, and it acts
when it also has a lease that was confirmed lately** (`relay.nodes.leading`). What is between the first and the second
of these, and a crash anywhere, leaves a head in nobody's hands, which the next one takes.

*The database away*: reads and streams go on, nothing is decided (`why_not_appending`), and nothing is sent: starts of
attempts wait, and so does who asks whether it may act. When it is back, all goes on, here or at another node.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NoReturn

import trio

from relay.codec import Recorded
from relay.config_nodes import NodeConfig
from relay.core import Core
from relay.events import NodeLeads, PepperRotated
from relay.message.keys import Pepper
from relay.nodes.ahead import find_ahead
from relay.nodes.beside import BesideError, KeyMaterial
from relay.nodes.door import Door
from relay.nodes.facts import read_rows
from relay.nodes.leading import Leading, database_is_away
from relay.nodes.lease import Led, is_clock_off, written_address
from relay.nodes.members import Members, members_in
from relay.nodes.owed import waiting_for_others
from relay.nodes.seal import BESIDE, ROWS, Seal, SealError
from relay.nodes.seldom import Seldom
from relay.nodes.speaking import Speaking
from relay.nodes.tail import Tail
from relay.nodes.trouble import Trouble
from relay.nodes.versions import Versions
from relay.nodes.who_leads import WhoLeads
from relay.refusals import Refusal
from relay.store import CommonStore
from relay.times import SECOND_US
from relay.views.nodes import leader
from spool.errors import LogDeposedError, LogPoisonedError, LostRowsError, SpoolError
from spool.interface import STALL_SECONDS
from spool.received import Received
from spool.replicated.following import REFUSED, Following, Seen
from spool.replicated.leading import Replicated
from spool.replicated.rows import DamagedRowError
from spool.replicated.table import HOLDER_OCTETS, Connection, Head, Row, ShowsLessError, Table, TableError

logger = logging.getLogger(__name__)

SYNC_SECONDS: Final = 1.0
#: A node that is so many records behind lets others lead, and goes on reading.
BEHIND_MAX: Final = 2048
#: What is being made durable when a node ends has so long to find out what became of it.
ENDING_SECONDS: Final = 5.0
#: So often a node that is to end looks whether the database is there.
LOOK_SECONDS: Final = 0.25


class Node:
    """One of several machines of a relay. `run` it beside the doors."""

    def __init__(self, core: Core, own: NodeConfig, table: Table, *, identity: str) -> None:
        assert core.config.nodes is not None
        self.name: Final = own.name
        self._core = core
        self._own = own
        self.identity: Final = identity
        self._table = table
        self._store = store = core.store
        self._log = core.store.of_several_machines
        self._lease_seconds = core.config.nodes.lease_seconds
        self._seal = Seal(core.pepper, ROWS, core.surroundings.chance)
        self._keys = KeyMaterial(
            core.directory, Seal(core.pepper, BESIDE, core.surroundings.chance), self._know_pepper
        )
        self._who_leads = WhoLeads(self._lease_seconds)
        self._following = Following(
            table,
            self._log,
            seal=self._seal,
            before_applied=self._prepare,
            on_seen=self._see,
            on_level=self._see_level,
            on_trouble=self._hear_of_trouble,
            stale_seconds=self._lease_seconds,
        )
        #: Nobody leads, and this node may.
        self._may_try = trio.Event()
        #: Why this node does not lead although nobody does, as it was said last.
        self._said: str | None = None
        self._leading: Leading | None = None
        self._trouble: Final = Trouble(core.streams.send_away)
        self._lines = Seldom(logger)
        #: Where others are let in.
        self.door: Door
        #: Called when this node leads, before it appends anything.
        self.on_leading: Callable[[], None]
        self._nursery: trio.Nursery
        #: What acted has ended.
        self._has_acted = trio.Event()
        self._speaking = Speaking(
            self, core, own, table, identity=identity, on_clock=self._note_clock, on_removed=self._end_removed
        )
        assert isinstance(store, CommonStore)
        self._versions = Versions(
            lambda: self._speaking.nodes, store.skeletons, clock=store.now_us, tail_hours=self._tail_hours
        )
        store.not_read_by_all = self._versions.not_read_by_all
        #: What rows the table has, on the order of who leads.
        self.tail: Final = Tail(table, store, tail_hours=self._tail_hours)
        core.before_acting = self.before_acting
        core.metrics.database_is(lambda: self.tail.octets, lambda: len(self.tail.doubts or ()))
        core.wait_for_others_to_strip = waiting_for_others(
            table, lambda: read_rows(self._speaking.nodes), self._tail_hours
        )
        core.why_not_appending = self.why_not_appending
        core.why_not_sure = self.why_not_sure
        core.why_stalled = self.why_stalled

    # ------------------------------------------------------------------------------------------- what it is

    @property
    def leads(self) -> bool:
        """It appends. Of another node's lease it knows what it has read; of this it is sure."""
        return self._leading is not None and not self._leading.is_over and not self._log.deposed

    @property
    def led(self) -> Led | None:
        """Who leads, as far as is known at this moment. None: nobody."""
        if self.leads:
            return Led(self.name, self._own.address)
        led = self._who_leads.led
        if self._leading is not None or self._who_leads.is_nobody or led is None:
            return None
        # Our own lease, of the process before this one, or of a lead that came to nothing.
        return None if led.name == self.name else led

    def expect(self, led: Led, members: Members) -> None:
        """It led when this process began, as far as the database has it, and these were the nodes."""
        self._who_leads.led = led
        self._speaking.members = members

    @property
    def members(self) -> Members:
        """All nodes, as the database has them."""
        return self._speaking.members

    @property
    def known(self) -> Mapping[str, Mapping[str, object]]:
        """The rows of all nodes by name, as the database has them."""
        return self._speaking.nodes

    @property
    def lag_records(self) -> int:
        """How many records the table has, as far as is known, that the log here has not."""
        return 0 if self.leads else self._following.lag_records

    @property
    def level_at(self) -> float:
        """When this node was last known to have all that was acknowledged, by trio's clock; before all time: never."""
        if self._leading is not None and self.leads:
            return self._leading.level_at
        lag = self._following.lag_seconds
        return float("-inf") if lag is None else trio.current_time() - lag

    @property
    def trouble(self) -> str | None:
        """What is wrong, in a sentence."""
        return self._trouble.text or (None if self._leading is None else self._leading.trouble)

    @property
    def is_unfit(self) -> bool:
        return self._trouble.is_unfit

    @property
    def reads(self) -> Mapping[str, int]:
        """Type of an event -> the highest version of it that this node can read."""
        return self._versions.reads

    @property
    def stripped_through(self) -> int:
        assert self._core.own_stripping is not None
        return self._core.own_stripping.through

    def why_not_sure(self) -> Refusal | None:
        """Of a node that leads: another may lead by now."""
        return None if self._leading is None or self._leading.is_sure else database_is_away()

    def why_not_appending(self) -> Refusal | None:
        """Of a node that leads. What is under way is tried until it is known what became of it: nobody else has to. Of
        one that follows: it cannot."""
        if (why := self._versions.why_not_following()) is not None:
            return why
        leading = self._leading
        if leading is not None and leading.replicated.waits_seconds >= STALL_SECONDS:
            return database_is_away()
        return self.why_not_sure()

    def why_stalled(self) -> Refusal | None:
        """Of a node that leads. Something waits for the database, or for this machine's disk."""
        leading = self._leading
        return None if leading is None or not leading.replicated.waits_seconds else database_is_away()

    async def before_acting(self) -> None:
        """As `Core.before_acting`."""
        assert self._leading is not None, "nothing acts on a node that follows"
        await self._leading.wait_until_sure()

    # ------------------------------------------------------------------------------------------- its life

    async def run(self, act: Callable[[], Awaitable[None]]) -> None:
        """Follow, and lead when nobody does; `act` is what acts then, until it is cancelled.

        Raises `LogDeposedError` where it may lead no more, and what `Following.run` raises.
        """
        self._store.observers.append(self._observe)
        try:
            async with trio.open_nursery() as self._nursery:
                nursery = self._nursery
                nursery.start_soon(self._sync_now_and_then)
                nursery.start_soon(self._speaking.run)
                assert self._core.own_stripping is not None
                nursery.start_soon(self._core.own_stripping.run)
                leading = await self._follow()
                nursery.start_soon(self._renew, leading)
                nursery.start_soon(self._give_up_in_time, leading)
                try:
                    await self._begin_to_lead(leading)
                    nursery.start_soon(self.tail.run)
                    if not self._core.stopping:
                        await act()
                finally:
                    self._has_acted.set()
        finally:
            self._store.observers.remove(self._observe)
            if self._leading is not None:
                await self._end(self._leading)

    async def give_up(self) -> None:
        """The relay stops, and waits for what the database does not answer. What is not durable by then is not, and
        whoever waits for it gets LogPoisonedError."""
        if self._leading is not None:
            await self._end(self._leading)

    async def wait_until_away(self, seconds: float) -> None:
        """Until this node leads and has been without the database for so long, counted from now at the earliest."""
        since = trio.current_time()
        while trio.current_time() - since < seconds:
            await trio.sleep(LOOK_SECONDS)
            if self._leading is None or self.why_not_appending() is None:
                since = trio.current_time()

    def give_up_at_once(self) -> None:
        """As `give_up`, where that has been waited for already."""
        if self._leading is not None:
            self._leading.is_over = True
            self._give_up(self._leading)

    async def close(self) -> None:
        """When the log is closed."""
        if self._leading is not None:
            await self._leading.replicated.close()

    async def _sync_now_and_then(self) -> None:
        while True:
            await trio.sleep(SYNC_SECONDS)
            self._speaking.synced_seq = await self._log.sync()

    # ------------------------------------------------------------------------------------------- following

    async def _follow(self) -> Leading:
        """Until the head is ours, and all that stands before it is in the log here."""
        while True:
            self._may_try = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._following.run)
                await self._may_try.wait()
                nursery.cancel_scope.cancel()
            try:
                leading = await self._try_to_lead()
            except (TableError, LostRowsError, *REFUSED) as error:
                self._hear_of_trouble(error)
                leading = None
            if leading is not None:
                return leading
            self._who_leads.begin_anew()

    def _see(self, seen: Seen) -> None:
        """Who leads, as the database shows it, whatever becomes of its rows here."""
        if self._who_leads.see(seen, trio.current_time()):
            self._said = self._trouble.nobody_leads = None

    def _see_level(self, seen: Seen) -> None:
        """All of it that is known to be witnessed was applied: this node may lead, if somebody has to."""
        if not self._who_leads.is_stale:
            return
        if (why := self._why_not_leading(seen.head)) is None:
            self._may_try.set()
        else:
            self._say_why_not(why)

    def _say_why_not(self, why: str) -> None:
        if why != self._said:
            self._said = why
            self._lines.say(logging.WARNING, "node.does_not_lead", kind=why, because=why)

    def _hear_of_trouble(self, error: TableError | SpoolError | None) -> None:
        if isinstance(error, TableError):
            # What could not be read proves nothing of who leads.
            self._who_leads.begin_anew()
        if self._trouble.hear(error) and self._trouble.text != self._versions.needs_upgrade:
            self._lines.say(logging.WARNING, "node.database_trouble", because=self._trouble.text)
        if self._who_leads.is_nobody and isinstance(error, REFUSED):
            self._say_why_not("it cannot take all that is in the database into its log")

    def _why_not_leading(self, head: Head) -> str | None:
        if self._core.stopping:
            return "it stops"
        if self._speaking.clock_off_us is None:
            return "it does not know yet how its clock stands to the database's"
        if is_clock_off(self._speaking.clock_off_us):
            return "its clock is off"
        if head.last_seq - self._log.last_seq > BEHIND_MAX:
            return "it is behind"
        return self._speaking.heard.why_not_yet(self.name, trio.current_time())

    # ------------------------------------------------------------------------------------------- taking the lead

    async def _try_to_lead(self) -> Leading | None:
        """None: somebody leads, or is about to, or this one must not. Raises `TableError`."""
        tried: set[str] = set()
        while True:
            # The host that was read all the time may be an old primary; and so may the next one.
            self._table.prefer_another_host()
            connection = await self._table.connect()
            leading: Leading | None = None
            try:
                if connection.host not in tried:
                    leading = await self._take_over(connection)
                return leading
            except ShowsLessError:
                tried.add(connection.host)
            finally:
                if leading is None:
                    with trio.CancelScope(shield=True):
                        await connection.close()

    async def _take_over(self, connection: Connection) -> Leading | None:
        sent_at = trio.current_time()
        lease, head = await connection.lease(), await connection.head()
        self._following.check_is_current(connection.host, head)
        now = trio.current_time()
        if not self._who_leads.is_still_stale(lease, connection.host, sent_at=sent_at, now=now):
            return None
        if self._why_not_leading(head) or self._who_leads.is_about_to_lead(head, lease):
            return None
        rows = await connection.nodes()
        removed = members_in(rows).why_not(self.name, self.identity)
        if removed is not None:
            self._end_removed(removed)
        with self._store.read() as view:
            led = leader(view)
        nodes = read_rows(rows)
        self._trouble.nobody_leads = await find_ahead(connection, head, lease, nodes, self.name, led)
        if self._trouble.nobody_leads is not None:
            self._say_why_not(self._trouble.nobody_leads)
            return None
        taken = await connection.take_head(head, self._core.surroundings.chance(HOLDER_OCTETS))
        if taken is None:
            logger.info("node.not_taken", extra={"epoch": head.epoch})
            return None
        logger.warning("node.takes_the_lead", extra={"epoch": taken.epoch, "seq": taken.last_seq})
        replicated = Replicated(
            self._table,
            connection,
            taken,
            write_own=self._log.write_unsynced,
            seal=self._seal,
            beside_of=self._keys.beside_of,
            on_trouble=self._hear_of_trouble_while_leading,
        )
        address = written_address(self.name, self._own.address)
        leading = Leading(self._table, replicated, address=address, lease_seconds=self._lease_seconds)
        try:
            await leading.first(connection, lease)
        except LogDeposedError:
            return None
        # What they can read by now counts from the first batch on.
        self._speaking.nodes = await connection.nodes()
        await self._following.catch_up(connection, taken)
        return leading

    # ------------------------------------------------------------------------------------------- leading

    async def _begin_to_lead(self, leading: Leading) -> None:
        """The first batch tells of it. Nothing else can be appended before: the log takes it from this very moment on,
        and nobody is let in between."""
        self._leading = leading
        self.on_leading()
        self._log.lead(leading.replicated)
        event = NodeLeads(node=self.name, epoch=leading.replicated.witnessed.epoch, address=self._own.address)
        (recorded,) = await self._store.append([event])
        self._trouble.clear()
        logger.warning("node.leads", extra={"epoch": event.epoch, "seq": recorded.seq})

    async def _renew(self, leading: Leading) -> None:
        try:
            await leading.run()
        except LogDeposedError as error:
            logger.error("node.deposed", extra={"because": str(error)})
            leading.is_over = True
            raise

    def _hear_of_trouble_while_leading(self, error: TableError | None) -> None:
        if self._trouble.say(error):
            self._lines.say(logging.WARNING, "node.database_trouble", because=self._trouble.text)

    def _note_clock(self) -> None:
        """It has been off for some time. Raises `LogDeposedError` where this node leads: its times are the log's."""
        if self._leading is not None:
            self._leading.is_over = True
            off = (self._speaking.clock_off_us or 0) / SECOND_US
            raise LogDeposedError(
                f"this machine's clock is {-off:+.1f} s off the database's: it leads no more"
            )

    def _end_removed(self, why: str) -> NoReturn:
        logger.error("node.removed", extra={"because": why})
        if self._leading is not None:
            self._leading.is_over = True
        raise LogDeposedError(why)

    async def _give_up_in_time(self, leading: Leading) -> None:
        """When all this is cancelled: what acted records what it knows, and is not waited for without end."""
        try:
            await trio.sleep_forever()
        finally:
            leading.is_over = True
            with trio.move_on_after(ENDING_SECONDS, shield=True) as patience:
                await self._has_acted.wait()
            if patience.cancelled_caught:
                self._give_up(leading)

    def _give_up(self, leading: Leading) -> None:
        logger.warning("node.gave_up", extra={"because": self._trouble.text})
        self._store.has_given_up = True
        leading.replicated.give_up()

    async def _end(self, leading: Leading) -> None:
        """Whatever the reason: nobody acts any more, and the log's writer must not wait for a database for ever."""
        leading.is_over = True
        with (
            trio.move_on_after(ENDING_SECONDS, shield=True) as patience,
            suppress(LogDeposedError, LogPoisonedError),
        ):
            await self._store.settle()
        if patience.cancelled_caught:
            self._give_up(leading)

    def _tail_hours(self) -> int:
        assert self._core.config.nodes is not None
        return self._core.config.nodes.tail_hours

    # ------------------------------------------------------------------------------------------- keys

    def _prepare(self, row: Row, batch: Received) -> None:
        self._versions.check(row, batch)
        try:
            self._keys.write_before_applied(row, batch.records)
        except (SealError, BesideError) as error:
            raise DamagedRowError(row, f"what is beside it: {error}") from error

    def _know_pepper(self, number: int, pepper: Pepper) -> None:
        """It has come beside the event that brings it into use."""
        self._core.pepper.add(number, pepper)
        self._core.composer.add_pepper(number, pepper)
        for observer in list(self._core.pepper_observers):
            self._nursery.start_soon(observer, number, pepper)

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        """Called with all new events, whoever appended them."""
        if not self.leads:
            for item in recorded:
                if isinstance(item.event, PepperRotated):
                    self._core.pepper.use(item.event.number)
