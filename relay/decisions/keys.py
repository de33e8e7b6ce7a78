"""A member's API keys: who may make one, and which are revoked together (SPEC 4). Pure, like all decisions.

A key remembers the key that made it. So whoever has to take back a key that got into strange hands can take back all
that was made with it, however long the chain: `made_by` follows it over keys that were revoked meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.decisions.members import NewKey, known_member
from relay.decisions.webhooks import By, end_with_key
from relay.events import BULK_CATEGORIES, TRANSACTIONAL_CATEGORIES, Event, KeyIssued, KeyRevoked
from relay.principals import FULL, SEND, Principal, Scope, recorded
from relay.refusals import Refusal, invalid
from relay.views import members
from spool.views import Snapshot

ACTIVE_KEYS_MAX = 10


def scope_of(scope: Scope | None, category: str | None) -> Scope:
    """What a new key is good for where nobody said: one that has a category is for a program that sends."""
    return scope or (SEND if category else FULL)


def check_category(category: str | None) -> None:
    """Raises Refusal(INVALID_REQUEST)."""
    known = TRANSACTIONAL_CATEGORIES + BULK_CATEGORIES
    if category is not None and category not in known:
        raise invalid("category", f"{category[:100]!r} is none of {', '.join(known)}")


def issue_key(view: Snapshot, did: str, key: NewKey, *, by: By) -> list[Event]:
    """`by`: the member that makes it, by which of its keys, or the operator."""
    known_member(view, did)
    check_category(key.category)
    active = sum(state.revoked_at is None for state in members.keys_of(view, did))
    if active >= ACTIVE_KEYS_MAX:
        raise Refusal("CONFLICT", f"did: it has {active} active keys, the most; revoke one first")
    return [
        KeyIssued(
            did=did,
            key_id=key.key_id,
            key_hash=key.key_hash,
            scope=key.scope,
            category=key.category,
            **_order("issued_by", by),
        )
    ]


def made_by(view: Snapshot, did: str, key_id: str) -> list[members.KeyState]:
    """The active keys that this one made, that those made, and so on."""
    keys = {state.key_id: state for state in members.keys_of(view, did)}

    def came_of_it(state: members.KeyState) -> bool:
        for _ in keys:
            if state.issued_by is None or state.issued_by == key_id:
                break
            if state.issued_by not in keys:
                return False
            state = keys[state.issued_by]
        return state.issued_by == key_id

    return [state for state in keys.values() if state.revoked_at is None and came_of_it(state)]


def revoke_key(
    view: Snapshot,
    did: str,
    key_id: str,
    *,
    all_of_it: bool = False,
    by: By,
    self_too: bool = False,
) -> list[Event]:
    """The key ends; with `all_of_it` the active keys and the webhooks that came of it as well, also where it was
    revoked before.

    `by`: the member that revokes it, by which of its keys (that one only ends where `self_too`), or the operator.
    Raises Refusal(NOT_FOUND or CONFLICT).
    """
    known_member(view, did)
    state = next((state for state in members.keys_of(view, did) if state.key_id == key_id), None)
    if state is None:
        raise Refusal("NOT_FOUND", f"key: {did} has no key {key_id[:100]}")
    ending = [state] if state.revoked_at is None else []
    if all_of_it:
        ending += made_by(view, did, key_id)
    ended: list[Event] = end_with_key(view, did, key_id, by=by) if all_of_it else []
    if not ending and not ended:
        raise Refusal("CONFLICT", f"key: {key_id} was revoked already")
    if isinstance(by, Principal) and not self_too:
        _check_not_by_itself(ending, by)
    ended += [KeyRevoked(did=did, key_id=each.key_id, **_order("revoked_by", by)) for each in ending]
    return ended


def _order(word: str, by: By) -> dict[str, str]:
    """Whose order it is; `word` is what the event calls a key of the member's."""
    return {word: by.key_id} if isinstance(by, Principal) else recorded(by)


def _check_not_by_itself(ending: Sequence[members.KeyState], by: Principal) -> None:
    if any(state.key_id == by.key_id for state in ending):
        raise Refusal(
            "CONFLICT",
            "key: this would revoke the key that you are asking with; use another, or say ?self=1 if it is meant",
        )
