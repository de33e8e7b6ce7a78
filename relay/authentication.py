"""Who asks: a member by its DID and one of its API keys, or by the key alone, whatever door it comes in by.

An unknown DID, a wrong key and a revoked key are one answer, found by the same work and compared in constant time.
"""

from __future__ import annotations

import hmac

from relay.message.keys import Peppers
from relay.principals import SEND, Principal
from relay.refusals import Refusal
from relay.views import console, members
from spool.views import Snapshot

#: Compared with where a member has no key, or is none.
_NOBODYS_KEY = members.KeyState("", "0" * 64, 0)


def authenticate(
    view: Snapshot, pepper: Peppers, did: str, api_key: str
) -> tuple[Principal, members.MemberState]:
    """Whose key this is. Raises Refusal(AUTH_FAILED); suspension is for the caller to judge."""
    presented = pepper.key_hashes(api_key)
    member = members.member(view, did)
    matched: members.KeyState | None = None
    for state in members.keys_of(view, did) or [_NOBODYS_KEY]:
        same = sum(hmac.compare_digest(state.key_hash, one) for one in presented) > 0
        if same and state.revoked_at is None:
            matched = state
    if member is None or matched is None:
        raise Refusal("AUTH_FAILED", "the DID is not known here, or the API key does not match it")
    return Principal(did, matched.key_id, matched.scope, matched.category), member


def authenticate_key(view: Snapshot, pepper: Peppers, api_key: str) -> tuple[Principal, members.MemberState]:
    """Whose key this is, where the key is all that is given. Raises Refusal(AUTH_FAILED), the same for a key that was
    revoked and for one that never was; suspension is for the caller to judge."""
    for presented in pepper.key_hashes(api_key):
        found = members.key_of_hash(view, presented)
        member = None if found is None else members.member(view, found[0])
        if found is not None and member is not None:
            did, state = found
            return Principal(did, state.key_id, state.scope, state.category), member
    raise Refusal("AUTH_FAILED", "the API key is not known here, or was revoked")


def check_not_suspended(member: members.MemberState) -> None:
    """Raises Refusal(MEMBER_SUSPENDED)."""
    if member.status == "suspended":
        raise Refusal("MEMBER_SUSPENDED", "this membership is suspended; ask the operator of the relay")


def is_active_key(view: Snapshot, principal: Principal) -> bool:
    """Whether the key by which somebody was authenticated before is still good, and for as much as is said: whoever
    says so may be an edge that somebody has taken over.

    A session that the operator vouched for is good until the console's epoch is raised, as far as the views know:
    whether there is one, the core looks up (`relay.console_links`)."""
    if principal.is_vouched:
        begun_in = principal.key_id.split(":")[1]
        return begun_in == str(console.epoch(view)) and members.member(view, principal.did) is not None
    state = members.key(view, principal.did, principal.key_id)
    return state is not None and state.revoked_at is None and principal.scope in (SEND, state.scope)


def check_still(view: Snapshot, principal: Principal) -> None:
    """Whether who was authenticated may still write now, when it is decided: a body takes its time, and so does all
    else that was waited for. What a key had begun when it was revoked, it does not get done.

    Raises Refusal(AUTH_FAILED or MEMBER_SUSPENDED).
    """
    member = members.member(view, principal.did)
    if member is None or not is_active_key(view, principal):
        raise Refusal("AUTH_FAILED", "the API key was revoked while this was being done; nothing was changed")
    check_not_suspended(member)
