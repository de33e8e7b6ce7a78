"""By whose `relay.toml` a node decides: the leader's, also where its own is another one.

The invariant: **what a node that follows refuses or shows by a setting, the node that leads would, too.**
`relay.toml` is the same on all nodes, but for the time in which it is being changed. Who leads decides by its own; a
follower whose own differs takes the leader's rules for as long (`Settings.take`), and says in its row what its own file
says, so that `node list` names it. When it leads, its own file holds.

That a file differs is known from the row of the node that leads, each second; which rules it has, that node is asked
for. So a follower is late by a second or two where the leader's rules change. What needs a restart (`NEEDS_RESTART` of
`relay.settings`) is as it was in a node's own file when it was started, and what is a machine's own (`OWN` of
`relay.config_nodes`) is never another's.

Nobody leads, or who leads cannot be asked, or has rules that this version of the relay does not know: then the last
ones hold on, whose ever they are, whatever becomes of the own file meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from relay.config import Config, ConfigError, config_by_rules_of
from relay.config_nodes import common_digest, keeping_own
from relay.core import Core
from relay.nodes.facts import Facts
from relay.nodes.node import Node
from relay.refusals import Refusal

logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 1.0
#: So long a start waits for the rules of who leads, before anybody is answered.
PATIENCE_SECONDS: Final = 3.0


class Rules:
    """Of one node. `ask`: the rules of the node that leads (`relay.config_nodes.common_settings`), from it; raises
    Refusal."""

    def __init__(self, core: Core, node: Node, ask: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._core = core
        self._node = node
        self._ask = ask
        #: As this machine's files have it, but for what needs a restart.
        self._own = core.config
        #: As the leader's have it, where that is another one.
        self._theirs: Config | None = None
        #: What the leader said of its own, when it was last looked at.
        self._seen = common_digest(self._own)
        self._said: str | None = None
        core.in_force = self.in_force
        core.own_config = lambda: self._own

    def in_force(self, read: Config) -> Config:
        """What holds now that this machine's files say this."""
        before, self._own = self._core.config, self._core.settings.as_taken(read)
        if self._node.leads or common_digest(self._own) == self._seen:
            self._theirs = None
        elif self._theirs is None:
            self._theirs = before
        return read if self._theirs is None else keeping_own(self._theirs, self._own)

    def begin_to_lead(self) -> None:
        """From now on this node's own files hold."""
        self._take(None)

    async def begin(self, leader: Facts | None) -> None:
        """Before anybody is answered. `leader`: who leads, where that is another node."""
        if leader is not None and leader.configuration != self._seen:
            with trio.move_on_after(PATIENCE_SECONDS):
                await self._follow(leader.name, leader.configuration)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await trio.sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """Have the rules of who leads in force, where that is known and can be asked."""
        led = self._node.led
        if led is not None and not self._node.leads:
            digest = self._node.known.get(led.name, {}).get("configuration")
            if isinstance(digest, str) and digest != self._seen:
                await self._follow(led.name, digest)

    async def _follow(self, leader: str, digest: str) -> None:
        theirs: Config | None = None
        if digest != common_digest(self._own):
            try:
                theirs = config_by_rules_of(await self._ask(), self._own)
            except (Refusal, ConfigError) as error:
                self._say(leader, str(error))
                return
        if not self._node.leads:
            self._seen, self._said = digest, None
            self._take(theirs)
            logger.info("node.rules", extra={"of": leader if theirs else "this node", "leader": leader})

    def _take(self, theirs: Config | None) -> None:
        self._theirs = theirs
        self._core.settings.take(self._own if theirs is None else keeping_own(theirs, self._own))

    def _say(self, leader: str, because: str) -> None:
        if because != self._said:
            self._said = because
            logger.warning("node.rules_not_taken", extra={"leader": leader, "because": because})
