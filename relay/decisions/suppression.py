"""Decisions about suppression: pure functions from (view, request) to events, or a Refusal (SPEC 3.4 and 12).

Contract. Each is idempotent: what holds already is decided by no events, so that a repeated click, a repeated command
or a mail client that tries again changes nothing. A reason that was taken back can be given again.

Who may take back what: a member its own reasons, `unsubscribe`, `manual` and `bounced`, which are the recipient's
click, the member's wish, and a receiver's word that may be out of date. Never `complaint`: who called a mail spam is
not to be written to because the sender thinks otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.codec import Recorded
from relay.events import (
    NOBODY,
    RECIPIENT_CLASSES,
    Event,
    ForwardQueued,
    MessageBounced,
    MessageComplained,
    MessageQueued,
    Notice,
    RecipientSuppressed,
    RecipientUnsuppressed,
    SuppressedRecipient,
)
from relay.principals import Operator, Principal, recorded
from relay.refusals import Refusal
from relay.views import messages
from relay.views.calls import is_called
from relay.views.suppressions import suppression
from spool.views import Snapshot


def suppress(
    view: Snapshot,
    did: str,
    address: str,
    reason: str,
    *,
    note: str | None = None,
    message_id: int | None = None,
    call_at: int | None = None,
    by: Principal | Operator | None = None,
) -> list[Event]:
    """The member's mail may not go to `address` any more, for this reason too. Nothing where it holds already.

    `call_at`: when the member's own unsubscribe URL, kept with the message, is to be called. Another message may have
    another URL: each is called, though the reason holds already. `by`: whose order it is, where somebody gave one.
    """
    state = suppression(view, did, address)
    holds = state is not None and any(held.reason == reason for held in state.reasons)
    to_call = call_at is not None and message_id is not None and not is_called(view, message_id)
    if holds and not to_call:
        return []
    return [
        RecipientSuppressed(
            did=did,
            reason=reason,
            message_id=message_id,
            call_at=call_at if to_call else None,
            personal=SuppressedRecipient(address=address, note=note),
            **({} if by is None else recorded(by)),
        )
    ]


def unsuppress(view: Snapshot, did: str, address: str, by: Principal | Operator) -> list[Event]:
    """The member takes back its reasons. Raises Refusal(NOT_FOUND), or SUPPRESSION_LOCKED while a complaint holds."""
    state = suppression(view, did, address)
    if state is None:
        raise Refusal("NOT_FOUND", "recipient: this address is not on your suppression list")
    if any(held.reason == "complaint" for held in state.reasons):
        raise Refusal(
            "SUPPRESSION_LOCKED",
            "recipient: it reported your mail as spam, which cannot be taken back; its suppression stays",
        )
    return [
        RecipientUnsuppressed(did=did, personal=SuppressedRecipient(address=state.address), **recorded(by))
    ]


def hard_bounce(view: Snapshot, bounced: MessageBounced, queued: Recorded) -> list[Event]:
    """A receiver said, for good, that there is no such mailbox: the member's bulk mail does not go there any more.

    Not where the mail was given up after a receiver's "not now" (`expired`), whatever that was about. A DSN's mailbox
    is the member's own affair. `queued` is the message's first event, which has the address.
    """
    if bounced.reason == "expired" or bounced.bounce_class not in RECIPIENT_CLASSES:
        return []
    if not isinstance(queued.event, MessageQueued) or queued.event.personal is None:
        return []
    address = queued.event.personal.address
    return suppress(view, bounced.did, address, "bounced", message_id=bounced.message_id)


def complaint(view: Snapshot, message_id: int, story: Sequence[Recorded]) -> list[Event]:
    """The recipient called this message spam: it counts against the domain once, and the recipient is suppressed.

    `story` is the message's timeline, empty where there is no such message: Refusal(NOT_FOUND). A message whose
    payload retention has removed still counts, but nobody knows any more whom to suppress. A complaint about a DSN
    does not count, but nobody writes to that mailbox again: `relay.message.dsn` looks. Only the operator's own mailbox
    is never closed to the operator's mail.
    """
    if not story:
        raise Refusal("NOT_FOUND", f"message: there is no message {message_id}")
    queued = story[0].event
    assert isinstance(queued, MessageQueued | Notice)
    events: list[Event] = []
    # What no provider signed has counted nowhere.
    if not any(isinstance(entry.event, MessageComplained) and entry.event.authenticated for entry in story):
        events.append(MessageComplained(did=queued.did, message_id=message_id))
    # Erased is erased, though the log may still have it.
    is_known = queued.personal is not None and messages.has_personal_data(view, message_id)
    if is_known and not is_operators_mail(queued):
        assert queued.personal is not None
        events += suppress(view, queued.did, queued.personal.address, "complaint", message_id=message_id)
    return events


def is_operators_mail(queued: MessageQueued | Notice) -> bool:
    """Whether it is mail that came in and was passed on to the operator's own mailbox."""
    return isinstance(queued, ForwardQueued) and queued.did == NOBODY
