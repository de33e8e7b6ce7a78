"""Whether a message may be tried now, or what is recorded in the place of an attempt. Pure.

What was accepted may not be sent any more when its turn comes: the recipient has been suppressed, the member suspended,
the domain paused. The first bounces it, the others hold it until they are over.
"""

from __future__ import annotations

from relay.codec import Recorded
from relay.events import (
    BULK_CATEGORIES,
    Event,
    MessageBounced,
    MessageHeld,
    MessageQueued,
    Notice,
    RemoteSide,
)
from relay.views import members, messages, suppressions
from spool.views import Snapshot


def prevented(view: Snapshot, state: messages.MessageState, queued: Recorded) -> Event | None:
    """The event that takes the place of an attempt which must not be made; None: it may be made.

    A notice is the relay's mail, not the member's, and tells of what was sent before: no pause holds it. But it goes to
    nobody who does not want the mail of any one member.
    """
    assert isinstance(queued.event, MessageQueued | Notice)
    assert queued.event.personal is not None
    address = queued.event.personal.address
    if state.is_notice:
        return _suppressed(state) if suppressions.is_on_any_list(view, address) else None
    if suppressions.blocking_reason(view, state.did, address, bulk=state.category in BULK_CATEGORIES):
        return _suppressed(state)
    domain, member = members.domain(view, state.domain), members.member(view, state.did)
    assert domain is not None
    assert member is not None
    if member.status == "suspended":
        return MessageHeld(did=state.did, message_id=state.message_id, because="member")
    if domain.is_stopped(bulk=state.category in BULK_CATEGORIES):
        return MessageHeld(did=state.did, message_id=state.message_id, because="domain")
    return None


def _suppressed(state: messages.MessageState) -> MessageBounced:
    return MessageBounced(
        did=state.did,
        message_id=state.message_id,
        attempt=0,
        reason="suppressed",
        enhanced="5.7.1",
        personal=RemoteSide(text="the recipient was suppressed before it could be delivered"),
    )
