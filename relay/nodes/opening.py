"""A node with all that it is to the others: its life, its door, its links, and what it has another one decide.

async with open_node(core) as node:
    ...                      the doors, and beside them `node.run`
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import trio

from relay.config import load_node
from relay.core import Core
from relay.nodes.certificates import NodeCertificates
from relay.nodes.database import open_table
from relay.nodes.door import open_door
from relay.nodes.forwarding import open_forwarding
from relay.nodes.lease import Led
from relay.nodes.links import open_links
from relay.nodes.may_start import check_may_start
from relay.nodes.members import Members
from relay.nodes.node import Node
from relay.nodes.rules import Rules
from relay.nodes.words import Node as Named
from relay.routes import Route

logger = logging.getLogger(__name__)

RENEW_SECONDS: Final = 24 * 3600.0


@asynccontextmanager
async def open_node(core: Core) -> AsyncIterator[Node]:
    """This machine of a relay that runs on several, while the block runs. Open it before the doors.

    Raises ConfigError, KeyFileError, OSError; Refusal where it was removed.
    """
    assert core.config.nodes is not None
    own = load_node(core.directory)
    table = core.surroundings.table or open_table(core.directory, core.config.nodes, own)
    # By the machine's clock, as the other side looks at it.
    certificates = NodeCertificates(core.directory, own.name, datetime.now(UTC))
    leader = await check_may_start(table, core.pepper, name=own.name, identity=certificates.identity)
    node = Node(core, own, table, identity=certificates.identity)
    if leader is not None:
        node.expect(Led(leader.name, leader.address), Members({leader.name: leader.identity}))
    async with (
        open_links(certificates, core.surroundings.open_stream) as links,
        open_forwarding(
            core,
            links,
            name=own.name,
            leader=lambda: _named(node),
            level_at=lambda: node.level_at,
            trouble=lambda: node.trouble,
            is_unfit=lambda: node.is_unfit,
        ) as forwarding,
        open_door(
            core,
            own.bind,
            certificates,
            is_node=lambda name, identity: node.members.have(name, identity),
            leads=lambda: node.leads,
        ) as door,
        trio.open_nursery() as nursery,
    ):
        node.door = door
        rules = Rules(core, node, forwarding.rules)

        def begin_to_lead() -> None:
            rules.begin_to_lead()
            forwarding.note_leading()

        node.on_leading = begin_to_lead
        await rules.begin(leader)
        nursery.start_soon(rules.run)
        nursery.start_soon(_renew, certificates)
        try:
            yield node
        finally:
            await node.close()
        nursery.cancel_scope.cancel()


async def _renew(certificates: NodeCertificates) -> None:
    while True:
        await trio.sleep(RENEW_SECONDS)
        if certificates.renew(datetime.now(UTC)):
            logger.info("node.certificate_renewed", extra={"not_after": str(certificates.not_after)})


def _named(node: Node) -> Named | None:
    """Who leads. None: nobody, or somebody whose address cannot be used, or whose key is not known."""
    led = node.led
    if led is None:
        return None
    identity = node.identity if led.name == node.name else node.members.identities.get(led.name)
    if identity is None:
        return None
    try:
        route = Route.parse(led.address)
    except ValueError:
        return None
    return Named(led.name, route.host, route.port, identity)
