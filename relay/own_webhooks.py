"""What members do with their own webhooks (docs/WEBHOOKS.md).

All of it, reading too, is for keys of scope `full`: a URL may carry a token, and who has the secret can write what
looks like the relay's.
"""

from __future__ import annotations

from relay.core import Core
from relay.data_directory import Readable
from relay.principals import Principal
from relay.registry import Arguments, decision
from relay.webhooks import orders
from relay.webhooks.shown import Attempt, NewWebhook, Webhook


class OwnWebhooks(Arguments, frozen=True, kw_only=True):
    """All of the member's."""


class OneWebhook(Arguments, frozen=True, kw_only=True):
    webhook_id: str


class AddWebhook(Arguments, frozen=True, kw_only=True):
    url: str
    #: None of them: all.
    types: tuple[str, ...] = ()
    batch: int = 1
    ed25519: bool = False
    #: Events behind it are told; None: those that are yet to come.
    cursor: int | None = None


class ReplayWebhook(Arguments, frozen=True, kw_only=True):
    webhook_id: str
    after_seq: int
    #: None: all that were told.
    until_seq: int | None = None


@decision(by=Principal, reads=True, remembered=True)
async def own_webhooks(core: Readable, asked: OwnWebhooks, member: Principal) -> list[Webhook]:
    """The first that was made first."""
    return orders.all_of(core, member.did)


@decision(by=Principal, reads=True, remembered=True)
async def own_webhook(core: Readable, asked: OneWebhook, member: Principal) -> Webhook:
    """Raises Refusal(NOT_FOUND), as all do that name one."""
    return orders.one(core, member, asked.webhook_id)


@decision(by=Principal, reads=True, remembered=True)
async def own_webhook_attempts(core: Readable, asked: OneWebhook, member: Principal) -> list[Attempt]:
    """The newest first."""
    return orders.attempts(core, member, asked.webhook_id)


@decision(by=Principal)
async def add_own_webhook(core: Core, wanted: AddWebhook, member: Principal) -> NewWebhook:
    """Raises Refusal(CONFLICT or INVALID_REQUEST)."""
    return await orders.add(
        core,
        member,
        url=wanted.url,
        types=wanted.types,
        batch=wanted.batch,
        ed25519=wanted.ed25519,
        cursor=wanted.cursor,
    )


@decision(by=Principal)
async def remove_own_webhook(core: Core, wanted: OneWebhook, member: Principal) -> None:
    await orders.remove(core, member, wanted.webhook_id)


@decision(by=Principal)
async def pause_own_webhook(core: Core, wanted: OneWebhook, member: Principal) -> Webhook:
    return await orders.pause(core, member, wanted.webhook_id)


@decision(by=Principal)
async def resume_own_webhook(core: Core, wanted: OneWebhook, member: Principal) -> Webhook:
    return await orders.resume(core, member, wanted.webhook_id)


@decision(by=Principal)
async def rotate_own_webhook(core: Core, wanted: OneWebhook, member: Principal) -> NewWebhook:
    return await orders.rotate(core, member, wanted.webhook_id)


@decision(by=Principal)
async def replay_own_webhook(core: Core, wanted: ReplayWebhook, member: Principal) -> Webhook:
    return await orders.replay(
        core, member, wanted.webhook_id, after_seq=wanted.after_seq, until_seq=wanted.until_seq
    )


@decision(by=Principal)
async def test_own_webhook(core: Core, wanted: OneWebhook, member: Principal) -> Attempt:
    """Raises Refusal(RATE_LIMITED or TEMPORARILY_UNAVAILABLE)."""
    return await orders.test(core, member, wanted.webhook_id)
