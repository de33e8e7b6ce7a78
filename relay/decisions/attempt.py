"""Whether a message may be tried now, or what is recorded in the place of an attempt. Pure.

What was accepted may not be sent any more when its turn comes: the recipient has been suppressed, the domain removed,
the member suspended, the domain paused. The first two bounce it, the others hold it until they are over.
"""

from __future__ import annotations

from relay.codec import Recorded
from relay.events import BULK_CATEGORIES, Event, MessageBounced, MessageHeld, MessageQueued, RemoteSide
from relay.views import members, messages, suppressions
from spool.views import Snapshot


def prevented(view: Snapshot, state: messages.MessageState, queued: Recorded) -> Event | None:
    """The event that takes the place of an attempt which must not be made; None: it may be made.

    Nothing prevents a DSN: it is the relay's mail, not the member's, and tells of what was sent before.
    """
    if state.is_dsn:
        return None
    assert isinstance(queued.event, MessageQueued)
    assert queued.event.personal is not None
    if suppressions.blocking_reason(
        view, state.did, queued.event.personal.address, bulk=state.category in BULK_CATEGORIES
    ):
        return MessageBounced(
            did=state.did,
            message_id=state.message_id,
            attempt=0,
            reason="suppressed",
            enhanced="5.7.1",
            personal=RemoteSide(text="the recipient was suppressed before it could be delivered"),
        )
    domain, member = members.enrolment(view, state.did, state.domain), members.member(view, state.did)
    if domain is None or member is None or is_of_before(state, domain):
        return withdrawn(state)
    if member.status == "suspended":
        return MessageHeld(did=state.did, message_id=state.message_id, because="member")
    if domain.is_stopped(bulk=state.category in BULK_CATEGORIES):
        return MessageHeld(did=state.did, message_id=state.message_id, because="domain")
    return None


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
