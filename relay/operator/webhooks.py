"""The operator's commands that change webhooks: its own, which are told of all members' events, and members'.

What it adds is its own; orders to a webhook hold for whomever's it is. `webhooks_shown` lists them.
"""

from __future__ import annotations

import msgspec

from relay.core import Core
from relay.operator.protocol import CommandAnswer
from relay.operator.webhooks_shown import described
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.webhooks import orders


class WebhookAdd(Arguments, frozen=True, kw_only=True):
    url: str
    #: None of them: all of the stream.
    types: list[str] = msgspec.field(default_factory=list)
    #: Events behind it are told; None: those that are yet to come.
    after: int | None = None
    batch: int = 1
    ed25519: bool = False


class WebhookNamed(Arguments, frozen=True, kw_only=True):
    webhook_id: str


class WebhookReplay(WebhookNamed, frozen=True, kw_only=True):
    after: int
    #: None: all that were told.
    until: int | None = None


@decision(by=Operator)
async def webhook_add(core: Core, order: WebhookAdd, by: Operator) -> CommandAnswer:
    made = await orders.add(
        core,
        by,
        url=order.url,
        types=order.types,
        batch=order.batch,
        ed25519=order.ed25519,
        cursor=order.after,
    )
    return described(core, made)


@decision(by=Operator)
async def webhook_remove(core: Core, order: WebhookNamed, by: Operator) -> CommandAnswer:
    await orders.remove(core, by, order.webhook_id)
    return {"webhookId": order.webhook_id, "status": "removed"}


@decision(by=Operator)
async def webhook_pause(core: Core, order: WebhookNamed, by: Operator) -> CommandAnswer:
    return described(core, await orders.pause(core, by, order.webhook_id))


@decision(by=Operator)
async def webhook_resume(core: Core, order: WebhookNamed, by: Operator) -> CommandAnswer:
    return described(core, await orders.resume(core, by, order.webhook_id))


@decision(by=Operator)
async def webhook_rotate(core: Core, order: WebhookNamed, by: Operator) -> CommandAnswer:
    return described(core, await orders.rotate(core, by, order.webhook_id))


@decision(by=Operator)
async def webhook_replay(core: Core, order: WebhookReplay, by: Operator) -> CommandAnswer:
    replayed = await orders.replay(core, by, order.webhook_id, after_seq=order.after, until_seq=order.until)
    return described(core, replayed)


@decision(by=Operator)
async def webhook_test(core: Core, order: WebhookNamed, by: Operator) -> CommandAnswer:
    """Only a running relay can."""
    answer: CommandAnswer = msgspec.to_builtins(await orders.test(core, by, order.webhook_id))
    return answer
