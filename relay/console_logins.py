"""What a visitor of the members' console may ask the core: to let him in by a link, and whether he still is.

The operator vouches for who comes by a link of `atmos-relay console login --did D`: `relay.console_links` has the
contract. Whoever signs in with an API key needs none of this, and his session is as good as that key.
"""

from __future__ import annotations

import logging

import msgspec

from relay.core import Core
from relay.principals import SEND, Principal, Scope, Stranger
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.views import console, members

logger = logging.getLogger(__name__)


class RedeemConsoleLink(Arguments, frozen=True, kw_only=True):
    token: str


class VouchedFor(msgspec.Struct, frozen=True, kw_only=True):
    """Whose session has begun: what a `Principal` is made of."""

    did: str
    key_id: str
    scope: Scope


class StillSignedIn(Arguments, frozen=True, kw_only=True):
    """There is nothing to say: who asks stands beside it."""


class LeaveConsole(Arguments, frozen=True, kw_only=True):
    """There is nothing to say: who asks stands beside it."""


@decision(by=Stranger)
async def redeem_console_link(core: Core, wanted: RedeemConsoleLink, stranger: Stranger) -> VouchedFor:
    """Raises Refusal(AUTH_FAILED): it is none, was used, is too old, or is for somebody who is no member any more."""
    with core.store.read() as view:
        session = core.console_links.redeem_members(wanted.token, console.epoch(view), core.store.now_us())
        if members.member(view, session.did) is None:
            core.console_links.leave(session)
            raise Refusal("AUTH_FAILED", "this link is for somebody who is no member any more")
    logger.info("console.member_session", extra={"did": session.did, "session": session.key_id})
    return VouchedFor(did=session.did, key_id=session.key_id, scope=session.scope)


@decision(by=Principal, reads=True, remembered=True, scope=SEND)
async def still_signed_in(core: Core, asked: StillSignedIn, member: Principal) -> None:
    """Raises Refusal(AUTH_FAILED) where the key was revoked, or the session by a link is over: the core looks at that
    before it carries out anything."""


@decision(by=Principal, reads=True, remembered=True, scope=SEND)
async def leave_console(core: Core, asked: LeaveConsole, member: Principal) -> None:
    """A session by a link is over. One by a key is over when its cookie is gone, or its key."""
    core.console_links.leave(member)
