"""Who asks: a member by its DID and one of its API keys, whatever door it comes in by.

An unknown DID, a wrong key and a revoked key are one answer, found by the same work and compared in constant time.
"""

from __future__ import annotations

import hmac

from relay.message.keys import Peppers
from relay.principals import Principal
from relay.refusals import Refusal
from relay.views import members
from spool.views import Snapshot

#: Compared with where a member has no key, or is none.
_NOBODYS_KEY = members.KeyState("", "0" * 64, 0)


def authenticate(
    view: Snapshot, pepper: Peppers, did: str, api_key: str
) -> tuple[Principal, members.MemberState]:
    """Whose key this is. Raises Refusal(AUTH_FAILED); suspension is for the caller to judge."""
    presented = pepper.key_hashes(api_key)
    member = members.member(view, did)
    matched: str | None = None
    for state in members.keys_of(view, did) or [_NOBODYS_KEY]:
        same = sum(hmac.compare_digest(state.key_hash, one) for one in presented) > 0
        if same and state.revoked_at is None:
            matched = state.key_id
    if member is None or matched is None:
        raise Refusal("AUTH_FAILED", "the DID is not known here, or the API key does not match it")
    return Principal(did, matched), member


def check_not_suspended(member: members.MemberState) -> None:
    """Raises Refusal(MEMBER_SUSPENDED)."""
    if member.status == "suspended":
        raise Refusal("MEMBER_SUSPENDED", "this membership is suspended; ask the operator of the relay")


def is_active_key(view: Snapshot, principal: Principal) -> bool:
    """Whether the key by which somebody was authenticated before is still good."""
    keys = members.keys_of(view, principal.did)
    return any(state.key_id == principal.key_id and state.revoked_at is None for state in keys)
