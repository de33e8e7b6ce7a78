"""The operator's commands for the console in the browser: to let somebody in, and to put everybody out."""

from __future__ import annotations

import logging

from relay.core import Core
from relay.decisions.members import known_member
from relay.events import ConsoleEpochRaised, Event
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.times import rfc3339
from relay.views import console
from spool.views import Snapshot

logger = logging.getLogger(__name__)

#: Below the place where the console is; its token follows.
LOGIN_QUERY = "sign-in?link="


class ConsoleLogin(Arguments, frozen=True, kw_only=True):
    #: The member who is let in; None: the operator.
    did: str | None = None


def _for_this_door(order: ConsoleLogin) -> bool:
    # Each node has an operator's console of its own, which knows its own links. The members' is one, at any node.
    return order.did is None


@decision(by=Operator, of_this_node=_for_this_door)
async def console_login(core: Core, order: ConsoleLogin, by: Operator) -> CommandAnswer:
    """A link that is good once, for a minute. Raises Refusal: NOT_FOUND for a member, CONFLICT where no console is
    served that it could lead to."""
    links = core.console_links
    if not links.is_served:
        raise Refusal("CONFLICT", "no relay runs on this directory: start it first, for it keeps the link")
    if order.did is not None:
        if not core.config.console.members:
            raise Refusal("CONFLICT", "members have no console: [console] members is false")
        with core.store.read() as view:
            known_member(view, order.did)
        base = f"{core.config.public_url}/console/"
    elif links.operator_address:
        base = f"http://{_reachable(links.operator_address)}/"
    else:
        raise Refusal("CONFLICT", "the operator's console is served nowhere: set [console] operator_bind")
    token, expires_at = links.make(order.did, by.user, core.store.now_us())
    logger.info("console.link_made", extra={"did": order.did, "by": by.user})
    return {"url": f"{base}{LOGIN_QUERY}{token}", "did": order.did, "expiresAt": rfc3339(expires_at)}


class ConsoleLogout(Arguments, frozen=True, kw_only=True):
    """There is nothing to say: all sessions of all visitors are meant."""


@decision(by=Operator)
async def console_logout(core: Core, order: ConsoleLogout, by: Operator) -> CommandAnswer:
    """All sessions are over, and all links are no good any more, when this is durable."""
    raised: list[int] = []

    def decide(view: Snapshot) -> list[Event]:
        raised[:] = [console.epoch(view) + 1]
        return [ConsoleEpochRaised(epoch=raised[0], by=by.user)]

    await core.store.decide(decide)
    core.console_links.end_all()
    return {"epoch": raised[0]}


def _reachable(address: str) -> str:
    """Where a browser on this machine finds what is bound to all addresses."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else address
