"""The operator's commands that show webhooks, everybody's."""

from __future__ import annotations

from typing import Any

import msgspec

from relay.data_directory import Readable
from relay.decisions.webhooks import known_webhook
from relay.events import NOBODY
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.views import webhooks
from relay.webhooks.shown import Webhook, attempts_shown, shown


class WebhookList(Arguments, frozen=True, kw_only=True):
    """All webhooks, or those of one member."""

    did: str | None = None
    #: The operator's own alone.
    own: bool = False


class WebhookShow(Arguments, frozen=True, kw_only=True):
    webhook_id: str


@decision(by=Operator, reads=True, remembered=True)
async def webhook_list(core: Readable, asked: WebhookList, by: Operator) -> CommandAnswer:
    """The first that was made first."""
    with core.store.read() as view:
        if asked.did is None and not asked.own:
            states = sorted(webhooks.all_webhooks(view), key=lambda state: state.added_seq)
        else:
            states = webhooks.webhooks_of(view, asked.did or NOBODY)
    return [described(core, shown(core.store, state)) for state in states]


@decision(by=Operator, reads=True, remembered=True)
async def webhook_show(core: Readable, asked: WebhookShow, by: Operator) -> CommandAnswer:
    """With its last requests, the newest first, where a relay runs."""
    with core.store.read() as view:
        state = known_webhook(view, by, asked.webhook_id)
    return {
        **described(core, shown(core.store, state)),
        "attempts": msgspec.to_builtins(attempts_shown(core, asked.webhook_id)),
    }


def described(core: Readable, webhook: Webhook) -> dict[str, Any]:
    """And whose it is; null: the operator's."""
    with core.store.read() as view:
        state = webhooks.webhook(view, webhook.webhook_id)
    return {"did": state and (state.did or None), **msgspec.to_builtins(webhook)}
