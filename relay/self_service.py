"""What members change of their own: their suppression list, and who is told of their bounces.

Each is a decision of `relay.registry`; returned, it is durable. What holds already is decided by no events.
"""

from __future__ import annotations

import msgspec

from relay.core import Core
from relay.decisions import suppression
from relay.decisions.forwarding import set_by_member
from relay.events import Event
from relay.forward_confirmations import mail_to
from relay.presentation import SuppressedAddress, suppressed_address
from relay.principals import Principal
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.views import members, suppressions
from spool.views import Snapshot


class Suppress(Arguments, frozen=True, kw_only=True):
    """Add an address (in normal form) to the member's suppression list."""

    address: str
    note: str | None = None


class Suppressing(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it, as whoever decided it sees it: another node may see it a little later."""

    #: It was not so already.
    is_new: bool
    #: None: it was taken back since.
    now: SuppressedAddress | None


class Unsuppress(Arguments, frozen=True, kw_only=True):
    """Take back the member's own reasons for an address (in normal form)."""

    address: str


class SetForwardTo(Arguments, frozen=True, kw_only=True):
    """Tell `address` (in normal form) of the domain's bounces, once its owner has confirmed it; None: nobody."""

    domain: str
    address: str | None


@decision(by=Principal)
async def suppress(core: Core, wanted: Suppress, member: Principal) -> Suppressing:
    """Raises Refusal(CONFLICT) where the list is full; what recipients say themselves always finds room."""
    most = core.config.members.suppressions_per_member_max

    def decide(view: Snapshot) -> list[Event]:
        if (
            suppressions.count_of(view, member.did) >= most
            and suppressions.suppression(view, member.did, wanted.address) is None
        ):
            raise Refusal(
                "CONFLICT",
                f"recipient: your suppression list has {most} addresses, the most ([members] "
                "suppressions_per_member_max); take some back first",
            )
        return suppression.suppress(view, member.did, wanted.address, "manual", note=wanted.note, by=member)

    is_new = bool(await core.writes.decide(member, decide))
    with core.store.read() as view:
        state = suppressions.suppression(view, member.did, wanted.address)
    return Suppressing(is_new=is_new, now=None if state is None else suppressed_address(state))


@decision(by=Principal)
async def unsuppress(core: Core, wanted: Unsuppress, member: Principal) -> None:
    """Raises Refusal(NOT_FOUND or SUPPRESSION_LOCKED)."""
    await core.writes.decide(
        member, lambda view: suppression.unsuppress(view, member.did, wanted.address, member)
    )


@decision(by=Principal)
async def set_forward_to(core: Core, wanted: SetForwardTo, member: Principal) -> bool:
    """Whether its owner has confirmed it. Raises Refusal(DOMAIN_MISMATCH or RATE_LIMITED)."""

    def decide(view: Snapshot) -> list[Event]:
        domain = members.enrolment(view, member.did, wanted.domain)
        if domain is None:
            raise Refusal("DOMAIN_MISMATCH", f"domain: {wanted.domain} is not enrolled under this DID")
        mail = None if wanted.address is None else mail_to(core, view, wanted.domain, wanted.address)
        return set_by_member(domain, wanted.address, by=member, mail=mail, now_us=core.store.now_us())

    await core.writes.decide(member, decide)
    with core.store.read() as view:
        domain = members.enrolment(view, member.did, wanted.domain)
    return domain is not None and domain.forward_to == wanted.address and domain.forward_confirmed
