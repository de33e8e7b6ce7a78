"""What members do with their own API keys: see them, make one, revoke one (SPEC 4, "Members help themselves").

Each is a decision of `relay.registry`, the reading too: which keys there are is for keys of scope `full`. A key that is
made remembers the one that made it, and a key is never revoked by itself unless that is said.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.core import Core
from relay.data_directory import Readable
from relay.decisions.keys import issue_key, made_by, revoke_key, scope_of
from relay.decisions.webhooks import made_by_key
from relay.enrolment import new_key
from relay.events import Event
from relay.message.keys import new_api_key
from relay.principals import Principal, Scope
from relay.registry import Arguments, decision
from relay.views import members
from relay.views.members import KeyState
from relay.views.webhooks import WebhookState
from spool.views import Snapshot


class OwnKeys(Arguments, frozen=True, kw_only=True):
    """All of the member's."""


class IssueOwnKey(Arguments, frozen=True, kw_only=True):
    #: None: `send` where it has a category, else `full`.
    scope: Scope | None = None
    category: str | None = None


class IssuedKey(NamedTuple):
    #: It is kept nowhere.
    api_key: str
    state: KeyState


class Revoked(NamedTuple):
    """What came of a key that was revoked, as it is then."""

    #: The keys that were active until now.
    keys: list[KeyState]
    #: (id, status) of the webhooks.
    webhooks: list[tuple[str, str]]


class RevokeOwnKey(Arguments, frozen=True, kw_only=True):
    key_id: str
    #: The active keys and the webhooks that came of it, too.
    all_of_it: bool = False
    #: The one that asks may be among them.
    self_too: bool = False


@decision(by=Principal, reads=True)
async def own_keys(core: Readable, asked: OwnKeys, member: Principal) -> list[KeyState]:
    """In the order in which they were issued."""
    with core.store.read() as view:
        states = members.keys_of(view, member.did)
    return sorted(states, key=lambda state: (state.issued_at, state.key_id))


@decision(by=Principal)
async def issue_own_key(core: Core, wanted: IssueOwnKey, member: Principal) -> IssuedKey:
    """Raises Refusal(CONFLICT) where it has as many as may be."""
    api_key = new_api_key(core.surroundings.dice)
    key = new_key(core, api_key, scope=scope_of(wanted.scope, wanted.category), category=wanted.category)
    await core.writes.decide(member, lambda view: issue_key(view, member.did, key, by=member))
    with core.store.read() as view:
        state = members.key(view, member.did, key.key_id)
    assert state is not None
    return IssuedKey(api_key, state)


@decision(by=Principal)
async def revoke_own_key(core: Core, wanted: RevokeOwnKey, member: Principal) -> Revoked:
    """Raises Refusal(NOT_FOUND or CONFLICT)."""
    made: list[KeyState] = []
    hooks: list[WebhookState] = []

    def decide(view: Snapshot) -> list[Event]:
        made[:] = made_by(view, member.did, wanted.key_id)
        hooks[:] = made_by_key(view, member.did, wanted.key_id)
        return revoke_key(
            view,
            member.did,
            wanted.key_id,
            all_of_it=wanted.all_of_it,
            by=member,
            self_too=wanted.self_too,
        )

    await core.writes.decide(member, decide)
    with core.store.read() as view:
        keys = [members.key(view, member.did, state.key_id) or state for state in made]
    ended: list[tuple[str, str]] = [
        (state.webhook_id, "removed" if wanted.all_of_it else state.status) for state in hooks
    ]
    return Revoked(keys, ended)
