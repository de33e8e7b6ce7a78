"""The operator's command that sets a member's handle or takes it back, and what enrolment makes of one."""

from __future__ import annotations

from typing import NamedTuple

from relay.core import Core
from relay.decisions.handles import HandleLook, clear_handle, hold, set_handle, why_not_held
from relay.decisions.members import known_member
from relay.events import Event
from relay.handles import first_handle, handle_in
from relay.operator.did_exists import find_document, get_by
from relay.operator.handle_checks import judge_document, look_at, names_did
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from spool.views import Snapshot


class MemberSetHandle(Arguments, frozen=True, kw_only=True):
    did: str
    #: "": the member has none any more.
    handle: str
    #: Do not ask the network whether it is the member's.
    offline: bool = False


@decision(by=Operator)
async def member_set_handle(core: Core, order: MemberSetHandle, by: Operator) -> CommandAnswer:
    did = order.did
    with core.store.read() as view:
        known_member(view, did)
    if not order.handle:
        await core.store.decide(lambda view: clear_handle(view, did, by.user))
        return {"did": did, "handle": None, "handleProved": False}
    handle = handle_in("handle", order.handle)
    proof_at = None
    if not order.offline:
        proof_at = core.store.now_us()
        check(did, handle, await look_at(core, did, handle))
    await core.store.decide(lambda view: set_handle(view, did, handle, by.user, proof_at=proof_at))
    return {"did": did, "handle": handle, "handleProved": not order.offline}


def check(did: str, handle: str, look: HandleLook) -> None:
    """Raises Refusal where it was not seen to be the DID's."""
    if look.ok is False:
        raise Refusal("CONFLICT", f"handle: {handle} is not that of {did}: {look.why}")
    if look.ok is None:
        raise Refusal(
            "TEMPORARILY_UNAVAILABLE",
            f"handle: whether {handle} is that of {did} could not be told: {look.why}; try again later, or set it "
            "unchecked with `--offline`: it is then looked at by and by",
        )


# ------------------------------------------------------------------------------------------------ at enrolment


class Found(NamedTuple):
    """The handle that a new member is to have."""

    handle: str
    #: When the look began that proved it; None: it is not proved.
    proof_at: int | None = None
    #: It was found in the DID's document, and nobody asked for it.
    by_itself: bool = False


async def find(core: Core, did: str, given: str | None) -> Found | None:
    """For a DID that is about to be a member: the handle that was given, else the one in its document; None: there is
    none that is right. Raises Refusal as `did_exists.find_document` does, and where the one that was given is not the
    DID's."""
    get, began = get_by(core.surroundings), core.store.now_us()
    document = await find_document(did, plc_directory=core.config.members.plc_directory, get=get)
    named = first_handle(document)
    handle = named if given is None else given
    if handle is None:
        return None
    look = HandleLook(
        await names_did(handle, did, core.surroundings.dns(), get), judge_document(did, handle, named)
    )
    if given is not None:
        check(did, given, look)
    if look.ok is False:
        return None
    return Found(handle, began if look.ok else None, by_itself=given is None)


def held_from_the_first(view: Snapshot, did: str, found: Found | None, by: str) -> list[Event]:
    """What goes with `member.added`. Raises Refusal(CONFLICT) where the handle that was given is another's."""
    if found is None:
        return []
    why_not = why_not_held(view, did, found.handle, found.proof_at)
    if why_not is None:
        return hold(view, did, found.handle, by, proof_at=found.proof_at)
    if found.by_itself:
        return []
    raise Refusal("CONFLICT", f"handle: {why_not}")
