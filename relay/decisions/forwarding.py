"""Where a domain hears of its bounces: set by the operator or the member, used once the mailbox's owner confirmed it.

Pure functions from views, request and time to events, or a Refusal (SPEC 4). What the operator sets counts as
confirmed. What a member sets is silent until the link in a mail to it (`relay.message.confirmation`) has been used.

**A member learns nothing of the mailbox**: whether it is on anybody's suppression list, or was asked for another member
an hour ago, makes no difference to what is answered, nor to what counts against the member. Then there is no mail.
"""

from __future__ import annotations

from typing import Final

from relay.events import (
    ConfirmationQueued,
    DomainForwardConfirmed,
    DomainForwardSet,
    Event,
    ForwardAddress,
)
from relay.message.tokens import Confirmation
from relay.principals import Operator, Principal, recorded
from relay.refusals import Refusal
from relay.times import DAY_US, SECOND_US
from relay.views import members, suppressions
from relay.views.members import FORWARD_ASKS_KEPT, DomainState
from spool.views import Snapshot

#: How often in 24 hours a member may have the owners of mailboxes asked, for one domain.
ASKS_A_DAY_MAX: Final = FORWARD_ASKS_KEPT


def set_by_operator(view: Snapshot, domain: DomainState, address: str | None, by: Operator) -> list[Event]:
    """Tell `address` (a normal form) of the domain's bounces; None: nobody. Nothing where it is so already.

    Whoever called this member's mail spam is not to be written to by another way: Refusal(SUPPRESSION_LOCKED).
    """
    if address == domain.forward_to and domain.forward_confirmed == (address is not None):
        return []
    if address is not None and suppressions.has_complained(view, domain.did, address):
        raise Refusal(
            "SUPPRESSION_LOCKED", "forward_to: this address reported the member's mail as spam; use another"
        )
    return [_set(domain, address, by)]


def set_by_member(
    domain: DomainState,
    address: str | None,
    *,
    by: Principal,
    mail: ConfirmationQueued | None,
    now_us: int,
) -> list[Event]:
    """The same for a member. `mail`: what asks the owner; None: there is a reason not to write there.

    Said again, it changes nothing, but that 24 hours later an owner who has not answered is asked again. Refusal
    (RATE_LIMITED) where the domain has had its mails of the day, whether they were sent or not.
    """
    if address is None:
        return [] if domain.forward_to is None else [_set(domain, None, by)]
    asks = [at for at in domain.forward_asks if at > now_us - DAY_US]
    if address == domain.forward_to and (domain.forward_confirmed or asks):
        return []
    if len(asks) >= ASKS_A_DAY_MAX:
        seconds = -(-(asks[0] + DAY_US - now_us) // SECOND_US)
        raise Refusal(
            "RATE_LIMITED",
            f"forward_to: the owner of each mailbox is asked by mail, and {domain.domain} has had its "
            f"{ASKS_A_DAY_MAX} of 24 hours; the next is possible in {seconds} s",
            retry_after_seconds=seconds,
        )
    events: list[Event] = [_set(domain, address, by, asks=True)]
    return events if mail is None else [*events, mail]


def is_unasked(domain: DomainState) -> bool:
    """Whether a member set it before owners were asked."""
    return domain.forward_to is not None and not domain.forward_confirmed and not domain.forward_asked


def to_confirm(view: Snapshot, link: Confirmation) -> list[DomainState]:
    """The enrolments of the domain whose mailbox a link confirms, or has confirmed: as a rule one.

    Refusal(NOT_FOUND) where it is good no more: the domain wants another mailbox since, or is enrolled no more.
    """
    wanted = [
        state
        for state in members.enrolments(view, link.domain)
        if state.forward_to == link.address and link.message_id >= state.forward_seq
    ]
    if not wanted:
        raise Refusal("NOT_FOUND", "this link confirms nothing any more")
    return wanted


def confirm(view: Snapshot, link: Confirmation) -> list[Event]:
    """Its owner has followed the link. A repeat changes nothing."""
    return [
        DomainForwardConfirmed(did=state.did, domain=state.domain, confirmation=link.message_id)
        for state in to_confirm(view, link)
        if not state.forward_confirmed
    ]


def _set(
    domain: DomainState, address: str | None, by: Principal | Operator, *, asks: bool = False
) -> DomainForwardSet:
    personal = None if address is None else ForwardAddress(address=address)
    return DomainForwardSet(
        did=domain.did, domain=domain.domain, asks=asks, personal=personal, **recorded(by)
    )
