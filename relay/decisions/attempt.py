"""Whether a message may be tried now, or what is recorded in the place of an attempt. Pure.

What was accepted may not be sent any more when its turn comes: the recipient has been suppressed, the domain removed,
the member suspended, the domain paused. The first two bounce it, the others hold it until they are over.
"""

from __future__ import annotations

from relay.codec import Recorded
from relay.events import (
    ALARM_CATEGORY,
    BULK_CATEGORIES,
    FORWARD_CATEGORY,
    NOBODY,
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
    nobody who does not want the mail of any one member. What is passed on to the operator's own mailbox always goes,
    and so does an alarm to it: no member's list, and no stranger who gets onto one, may keep them from the operator.
    """
    assert isinstance(queued.event, MessageQueued | Notice)
    assert queued.event.personal is not None
    address = queued.event.personal.address
    if state.is_notice:
        if state.did == NOBODY and state.category in (FORWARD_CATEGORY, ALARM_CATEGORY):
            return None
        return _suppressed(state) if suppressions.is_on_any_list(view, address) else None
    if suppressions.blocking_reason(view, state.did, address, bulk=state.category in BULK_CATEGORIES):
        return _suppressed(state)
    domain, member = members.enrolment(view, state.did, state.domain), members.member(view, state.did)
    if domain is None or member is None or is_of_before(state, domain):
        return withdrawn(state)
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


def is_of_before(state: messages.MessageState, domain: members.DomainState) -> bool:
    """Whether the message is an earlier enrolment's, which was removed: enrolled again, it does not come back."""
    return state.message_id < domain.added_seq


def withdrawn(state: messages.MessageState) -> MessageBounced:
    """The end of a message whose domain is enrolled no more."""
    return MessageBounced(
        did=state.did,
        message_id=state.message_id,
        attempt=0,
        reason="cancelled",
        enhanced="5.0.0",
        personal=RemoteSide(text=f"cancelled: the domain {state.domain} was removed"),
    )
