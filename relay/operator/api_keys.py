"""The operator's commands that make and revoke members' API keys. `membership_shown` lists them."""

from __future__ import annotations

from typing import Any

from relay.core import Core
from relay.decisions.keys import issue_key, made_by, revoke_key, scope_of
from relay.decisions.webhooks import made_by_key
from relay.enrolment import new_key
from relay.events import Event, KeyRevoked
from relay.message.keys import new_api_key
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator, Scope
from relay.registry import Arguments, decision
from relay.views.members import KeyState
from relay.views.webhooks import WebhookState
from spool.views import Snapshot


class KeyIssue(Arguments, frozen=True, kw_only=True):
    did: str
    #: None: `send` where it has a category, else `full`.
    scope: Scope | None = None
    category: str | None = None


@decision(by=Operator)
async def key_issue(core: Core, order: KeyIssue, by: Operator) -> CommandAnswer:
    api_key = new_api_key(core.surroundings.dice)
    scope = scope_of(order.scope, order.category)
    key = new_key(core, api_key, scope=scope, category=order.category)
    await core.store.decide(lambda view: issue_key(view, order.did, key, by=by))
    return {
        "did": order.did,
        "keyId": key.key_id,
        "apiKey": api_key,
        "scope": scope,
        "category": order.category,
    }


class KeyRevoke(Arguments, frozen=True, kw_only=True):
    did: str
    key_id: str
    #: The keys and the webhooks that it made, too.
    all_of_it: bool = False


@decision(by=Operator)
async def key_revoke(core: Core, order: KeyRevoke, by: Operator) -> CommandAnswer:
    """`made`: the keys that it made and that were good until now, and what became of each; `webhooks` likewise."""
    made: list[KeyState] = []
    hooks: list[WebhookState] = []

    def decide(view: Snapshot) -> list[Event]:
        made[:] = made_by(view, order.did, order.key_id)
        hooks[:] = made_by_key(view, order.did, order.key_id)
        return revoke_key(view, order.did, order.key_id, all_of_it=order.all_of_it, by=by)

    recorded = await core.store.decide(decide)
    ended = {item.event.key_id for item in recorded if isinstance(item.event, KeyRevoked)}
    return {
        "did": order.did,
        "keyId": order.key_id,
        "status": "revoked",
        "made": [_shown(state, state.key_id in ended) for state in made],
        "webhooks": [
            {"webhookId": state.webhook_id, "status": "removed" if order.all_of_it else state.status}
            for state in hooks
        ],
    }


def _shown(state: KeyState, is_ended: bool) -> dict[str, Any]:
    return {
        "keyId": state.key_id,
        "status": "revoked" if is_ended else "active",
        "scope": state.scope,
        "category": state.category,
    }
