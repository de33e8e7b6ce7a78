"""What is ordered of webhooks, by members (`relay.own_webhooks`) and by the operator (`relay.operator.webhooks`) alike.

`by` says whose webhooks it is about: a member finds its own, and adds to them; the operator finds everybody's, and adds
to its own, which are told of all members' events. Each function returns when what it did is durable; cancelled, nothing
is written. They raise Refusal, as `relay.decisions.webhooks` says.

A secret is shown when it is made, and by nothing later.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

import msgspec

from relay.codec import Recorded
from relay.core import Core
from relay.data_directory import Readable
from relay.decisions import webhooks as decisions
from relay.decisions.webhooks import By, known_webhook
from relay.events import NOBODY, Event
from relay.internet.https import FetchError
from relay.principals import Principal
from relay.refusals import Refusal, invalid
from relay.space import EVENT_BYTES
from relay.views import webhooks
from relay.webhooks.secrets import ed25519_key, hmac_key, public_key_text, secret_text
from relay.webhooks.shown import Attempt, NewWebhook, Webhook, attempt_shown, attempts_shown, shown
from relay.webhooks.urls import check_url
from spool.views import Snapshot

#: Before base32: 22 characters of it are 110 bits.
_ID_OCTETS = 15
_ID_CHARACTERS = 22


def one(core: Readable, by: By, webhook_id: str) -> Webhook:
    with core.store.read() as view:
        state = known_webhook(view, by, webhook_id)
    return shown(core.store, state)


def all_of(core: Readable, did: str) -> list[Webhook]:
    """The member's, or with NOBODY the operator's own."""
    with core.store.read() as view:
        states = webhooks.webhooks_of(view, did)
    return [shown(core.store, state) for state in states]


async def add(
    core: Core,
    by: By,
    *,
    url: str,
    types: Sequence[str],
    batch: int,
    ed25519: bool,
    cursor: int | None,
) -> NewWebhook:
    """`cursor`: events behind it are told; None: those that are yet to come."""
    did = by.did if isinstance(by, Principal) else NOBODY
    try:
        check_url(url, did, core.config.webhooks)
    except FetchError as error:
        raise invalid("url", str(error)) from error
    new = decisions.NewWebhook(
        _new_id(core), url, decisions.checked_types(types), batch, ed25519, cursor, core.pepper.current
    )
    await _decide(
        core,
        by,
        lambda view: decisions.add_webhook(view, by, new, last_seq=core.store.last_seq),
        size=EVENT_BYTES + len(url),
    )
    return _made(core, by, new.webhook_id)


async def remove(core: Core, by: By, webhook_id: str) -> None:
    await _decide(core, by, lambda view: decisions.remove_webhook(view, by, webhook_id))


async def pause(core: Core, by: By, webhook_id: str) -> Webhook:
    await _decide(core, by, lambda view: decisions.pause_webhook(view, by, webhook_id))
    return one(core, by, webhook_id)


async def resume(core: Core, by: By, webhook_id: str) -> Webhook:
    await _decide(core, by, lambda view: decisions.resume_webhook(view, by, webhook_id))
    return one(core, by, webhook_id)


async def rotate(core: Core, by: By, webhook_id: str) -> NewWebhook:
    number = core.pepper.current
    await _decide(core, by, lambda view: decisions.rotate_secret(view, by, webhook_id, pepper=number))
    return _made(core, by, webhook_id)


async def replay(core: Core, by: By, webhook_id: str, *, after_seq: int, until_seq: int | None) -> Webhook:
    def decision(view: Snapshot) -> Sequence[Event]:
        return decisions.rewind(
            view,
            by,
            webhook_id,
            after_seq=after_seq,
            until_seq=until_seq,
            # What is written may be a minute old.
            told_seq=None if core.webhooks is None else core.webhooks.told_seq(webhook_id),
            last_seq=core.store.last_seq,
        )

    await _decide(core, by, decision)
    return one(core, by, webhook_id)


async def test(core: Core, by: By, webhook_id: str) -> Attempt:
    """Send it a `webhook.test` now, also where it is paused or disabled: so one sees whether to resume it."""
    with core.store.read() as view:
        state = known_webhook(view, by, webhook_id)
    if core.webhooks is None:
        raise Refusal(
            "TEMPORARILY_UNAVAILABLE", "there is no running relay that could send it; start it, and try again"
        )
    core.quota.take_webhook_test(state.did)
    return attempt_shown(await core.webhooks.test(webhook_id))


def attempts(core: Readable, by: By, webhook_id: str) -> list[Attempt]:
    """The last requests since the relay was started, the newest first."""
    with core.store.read() as view:
        known_webhook(view, by, webhook_id)
    return attempts_shown(core, webhook_id)


async def _decide(
    core: Core, by: By, decision: Callable[[Snapshot], Sequence[Event]], *, size: int = EVENT_BYTES
) -> list[Recorded]:
    """For a member, within its bounds; the operator has none."""
    if isinstance(by, Principal):
        return await core.writes.decide(by, decision, size=size)
    return await core.store.decide(decision)


def _made(core: Core, by: By, webhook_id: str) -> NewWebhook:
    """With the secret that is in use now."""
    with core.store.read() as view:
        state = known_webhook(view, by, webhook_id)
    pepper, version = core.pepper.numbered(state.secret.pepper), state.secret.version
    public = None
    if state.ed25519:
        public = public_key_text(ed25519_key(pepper, webhook_id, version))
    return NewWebhook(
        **msgspec.structs.asdict(shown(core.store, state)),
        secret=secret_text(hmac_key(pepper, webhook_id, version)),
        public_key=public,
    )


def _new_id(core: Core) -> str:
    """It says that it is a webhook's, and no more."""
    text = base64.b32encode(core.surroundings.dice.randbytes(_ID_OCTETS)).decode().lower()
    return f"wh{text[:_ID_CHARACTERS]}"
