"""Who holds a handle, and what a look at it makes true. Pure.

A handle is a member's where both directions say so (atproto.com/specs/handle): the handle names the DID, by a TXT
record at `_atproto.<handle>` or by the file `https://<handle>/.well-known/atproto-did`; and the DID's document names
the handle, as the first at:// of its `alsoKnownAs`.

    both are right                                          member.handle_set (proved), or member.handle_verified
    one is wrong                                            member.handle_check_failed: it is kept, but not for ever
    one is wrong, GRACE_SECONDS after the first time        member.handle_lost
    one cannot be told, and none is wrong                   nothing

So trouble in the DNS or of a host takes no handle from anybody. One handle has one holder. Who proves it while another
holds it gets it, and the other loses it in the same batch; without a proof nobody takes it from anybody. Of two proofs
the newer is the one whose look began later.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.decisions.members import known_member
from relay.events import (
    Event,
    MemberHandleCheckFailed,
    MemberHandleLost,
    MemberHandleSet,
    MemberHandleVerified,
)
from relay.refusals import Refusal
from relay.times import SECOND_US
from relay.views import handles
from relay.views.handles import HandleState
from spool.views import Snapshot

#: As long as a domain's.
GRACE_SECONDS = 72 * 3600


class Direction(NamedTuple):
    """What was found in one direction."""

    #: None: it could not be told.
    ok: bool | None
    #: A sentence about what is wrong, or why it could not be told; "" where it is right.
    why: str = ""


class HandleLook(NamedTuple):
    """What was found for a handle and a DID."""

    #: The handle names the DID.
    handle: Direction
    #: The DID's document names the handle.
    document: Direction

    @property
    def ok(self) -> bool | None:
        if self.failed:
            return False
        return None if self.handle.ok is None or self.document.ok is None else True

    @property
    def failed(self) -> list[str]:
        """The directions that are wrong for certain."""
        return [name for name, found in zip(self._fields, self, strict=True) if found.ok is False]

    @property
    def why(self) -> str:
        """What is wrong; where nothing is for certain, what could not be told."""
        told = [found.why for found in self if found.ok is False] or [
            found.why for found in self if found.why
        ]
        return "; ".join(told)


def set_handle(view: Snapshot, did: str, handle: str, by: str, *, proof_at: int | None) -> list[Event]:
    """`proof_at`: when the look began that found both directions to be right; None: nobody looked. Raises
    Refusal(NOT_FOUND or CONFLICT)."""
    known_member(view, did)
    why_not = why_not_held(view, did, handle, proof_at)
    if why_not is not None:
        raise Refusal("CONFLICT", f"handle: {why_not}")
    return hold(view, did, handle, by, proof_at=proof_at)


def why_not_held(view: Snapshot, did: str, handle: str, proof_at: int | None) -> str | None:
    """A sentence about why the member, or who is about to be one, does not get it; None: it does."""
    holder = handles.holder(view, handle)
    if holder is None:
        return None
    if holder == did:
        return f"{did} holds {handle} already" if proof_at is None else None
    if proof_at is None:
        return f"{holder} holds {handle}; only who proves that it is theirs takes it from them"
    state = handles.held_by(view, holder)
    assert state is not None
    if state.proved and state.checked_at is not None and state.checked_at > proof_at:
        # Whoever answers slowly must not win by it.
        return f"{holder} proved {handle} while this was looked at; try again"
    return None


def hold(view: Snapshot, did: str, handle: str, by: str, *, proof_at: int | None) -> list[Event]:
    """It is the member's from now on; `why_not_held` says no other."""
    before = handles.holder(view, handle)
    if before == did:
        return [MemberHandleVerified(did=did, handle=handle)]
    if before is None:
        return [MemberHandleSet(did=did, handle=handle, proved=proof_at is not None, by=by)]
    return [
        MemberHandleLost(did=before, handle=handle, because="proved"),
        MemberHandleSet(did=did, handle=handle, proved=True, instead_of=before, by=by),
    ]


def clear_handle(view: Snapshot, did: str, by: str) -> list[Event]:
    """Raises Refusal(NOT_FOUND)."""
    known_member(view, did)
    state = handles.held_by(view, did)
    if state is None:
        raise Refusal("NOT_FOUND", f"handle: {did} has none")
    return [MemberHandleLost(did=did, handle=state.handle, because="operator", by=by)]


def outcome(view: Snapshot, before: HandleState, look: HandleLook, now_us: int) -> list[Event]:
    """What a later look makes true; see the module. Nothing where the handle was lost or set anew meanwhile."""
    did, handle = before.did, before.handle
    state = handles.held_by(view, did)
    if state is None or state.set_seq != before.set_seq:
        return []
    if look.ok:
        return [MemberHandleVerified(did=did, handle=handle)]
    if look.ok is None:
        return []
    if state.failing_since is not None and now_us >= state.failing_since + GRACE_SECONDS * SECOND_US:
        return [MemberHandleLost(did=did, handle=handle, because="unproved", failed=look.failed)]
    return [MemberHandleCheckFailed(did=did, handle=handle, failed=look.failed)]
