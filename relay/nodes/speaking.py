"""What a node says of itself each second (`relay.nodes.facts`), and how its clock stands to the database's.

It has a connection of its own, so that nothing of it holds up a lease or a row. Where the database does not answer, it
is tried again the next second; what is old in its row tells the others that the node is away. A server that has less
than the log here is an old primary, which has nobody's ear, or was restored to an earlier time: the row is written, and
another host is tried the next time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Final, Protocol

import trio

from relay.config import Config
from relay.config_nodes import NodeConfig, common_digest
from relay.core import Core
from relay.nodes.ahead import Heard
from relay.nodes.facts import Facts, to_row
from relay.nodes.lease import clock_off_us, is_clock_off
from relay.nodes.members import Members, members_in
from relay.nodes.seal import pepper_digests
from relay.nodes.seldom import Seldom
from relay.views.nodes import leader
from spool.replicated.lateness import no_answer
from spool.replicated.table import Connection, Table, TableError

logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 5.0
#: So many times one after the other a clock is seen to be off before that has consequences: a server that has just
#: taken another's place may have one of its own.
OFF_TIMES: Final = 3
#: So many times one after the other.
NAMESAKE_TIMES: Final = 3
#: As `relay.nodes.facts` lets it.
TROUBLE_CHARACTERS_MAX: Final = 300


class Spoken(Protocol):
    """The node, as far as it is spoken of."""

    @property
    def leads(self) -> bool: ...
    @property
    def trouble(self) -> str | None: ...
    @property
    def stripped_through(self) -> int: ...
    @property
    def reads(self) -> Mapping[str, int]: ...


class Speaking:
    """`on_clock` is called when the clock has been off for some time, `on_removed` with a sentence when this is no node
    of the relay any more; what they raise ends `run`."""

    def __init__(
        self,
        node: Spoken,
        core: Core,
        own: NodeConfig,
        table: Table,
        *,
        identity: str,
        on_clock: Callable[[], None],
        on_removed: Callable[[str], None],
    ) -> None:
        self._node = node
        self._core = core
        self._own = own
        self._table = table
        self._identity = identity
        self._on_clock = on_clock
        self._on_removed = on_removed
        self._began_at = core.surroundings.clock()
        self._version = version("atmos-relay")
        #: What this machine's files say, and its digest.
        self._digested: Config | None = None
        self._digest = ""
        self._off_times = 0
        self._has_spoken = False
        #: The last time.
        self._has_failed = False
        self._lines = Seldom(logger)
        self._namesake_times = 0
        self._connection: Connection | None = None
        #: How far the database's clock is ahead of ours, at the least; None: not known yet.
        self.clock_off_us: int | None = None
        #: The rows of all nodes, as they were read last.
        self.nodes: Mapping[str, Mapping[str, object]] = {}
        #: Who has spoken since.
        self.heard: Final = Heard()
        #: And who they are.
        self.members = Members()
        #: What this machine's disk is known to have.
        self.synced_seq = 0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                began = trio.current_time()
                try:
                    with trio.fail_after(ANSWER_SECONDS):
                        await self._speak()
                    self._has_failed = False
                except (TableError, trio.TooSlowError) as error:
                    self._note_failed(str(error) or no_answer(trio.current_time() - began, ANSWER_SECONDS))
                    await self._let_go()
                await trio.sleep_until(began + EVERY_SECONDS)
        finally:
            with trio.CancelScope(shield=True):
                await self._let_go()

    def _note_failed(self, because: str) -> None:
        """A line for the first one of those that follow each other, where they do not come and go."""
        if not self._has_failed:
            self._lines.say(logging.INFO, "node.not_spoken", because=because)
        self._has_failed = True

    async def _speak(self) -> None:
        if self._connection is None:
            self._connection = await self._table.connect()
        connection, seq = self._connection, self._core.store.last_seq
        if (await connection.head()).last_seq < seq:
            # Where the database was restored, others hear this by it. An old primary's word of others is not believed.
            await connection.write_node(self._own.name, to_row(self.facts()))
            await self._let_go()
            self._table.prefer_another_host()
            return
        await self._look_at_clock(connection)
        rows = await connection.nodes()
        self.heard.read(rows, trio.current_time())
        why_not = members_in(rows).why_not(self._own.name, self._identity)
        if why_not is not None:
            self._on_removed(why_not)
        self._look_for_namesake(rows.get(self._own.name))
        row = to_row(self.facts())
        await connection.write_node(self._own.name, row)
        self._has_spoken = True
        self.nodes = {**rows, self._own.name: row}
        self.members = members_in(self.nodes)

    def _look_for_namesake(self, there: Mapping[str, object] | None) -> None:
        """Whether another process writes the row that we wrote last: a directory was copied, `node.toml` and all. After
        a failover, a row of the process before this one may come back for a moment."""
        is_another = self._has_spoken and there is not None and there.get("began_at") != self._began_at
        self._namesake_times = self._namesake_times + 1 if is_another else 0
        if self._namesake_times == NAMESAKE_TIMES:
            logger.error("node.namesake", extra={"name_of_both": self._own.name})

    async def _look_at_clock(self, connection: Connection) -> None:
        clock = self._core.surroundings.clock
        before = clock()
        database = await connection.time_us()
        self.clock_off_us = clock_off_us(before, database, clock())
        self._off_times = self._off_times + 1 if is_clock_off(self.clock_off_us) else 0
        if self._off_times == OFF_TIMES:
            logger.warning("node.clock_off", extra={"off_us": self.clock_off_us})
        if self._off_times >= OFF_TIMES:
            self._on_clock()

    def facts(self) -> Facts:
        core, store = self._core, self._core.store
        assert core.own_stripping is not None
        troubles = (self._trouble(), core.own_stripping.trouble)
        trouble = "; ".join(each for each in troubles if each)
        with store.read() as view:
            applied_seq, led = view.position, leader(view)
        return Facts(
            name=self._own.name,
            identity=self._identity,
            version=self._version,
            events=self._node.reads,
            address=self._own.address,
            configuration=self._configuration(),
            peppers=pepper_digests(core.pepper),
            written_at=core.surroundings.clock(),
            began_at=self._began_at,
            leads=self._node.leads,
            applied_seq=applied_seq,
            epoch=0 if led is None else led.epoch,
            synced_seq=self.synced_seq,
            first_seq=store.first_seq(),
            stripped_through=self._node.stripped_through,
            clock_offset_us=None if self.clock_off_us is None else -self.clock_off_us,
            free_bytes=store.free_bytes(),
            trouble=trouble[:TROUBLE_CHARACTERS_MAX] or None,
            at_start="; ".join(store.found_at_start)[:TROUBLE_CHARACTERS_MAX] or None,
        )

    def _trouble(self) -> str | None:
        if self._namesake_times >= NAMESAKE_TIMES:
            return (
                f"another relay calls itself {self._own.name}, too: each node has a `node add` and a `node join` of "
                "its own, and is no copy of another"
            )
        return self._node.trouble

    def _configuration(self) -> str:
        config = self._core.own_config()
        if config is not self._digested:
            self._digested, self._digest = config, common_digest(config)
        return self._digest

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        self.heard.begin_anew()
        if connection is not None:
            await connection.close()
