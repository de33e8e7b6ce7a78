"""Webhooks: who may have which, and what an order to one comes to. Pure, like all decisions.

Each function gives events, or a Refusal. What is so already gives none: an order may be given twice. A member finds
only its own webhooks, the operator everybody's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from relay.decisions.members import known_member
from relay.events import (
    EVENT_TYPES,
    NOBODY,
    Event,
    WebhookAdded,
    WebhookPaused,
    WebhookRemoved,
    WebhookResumed,
    WebhookRewound,
    WebhookSecretRotated,
    WebhookUrl,
)
from relay.principals import Operator, Principal, recorded
from relay.refusals import Refusal, invalid, nearest_of
from relay.views import webhooks
from relay.views.webhooks import WebhookState
from spool.views import Snapshot

WEBHOOKS_MAX = 10
#: The operator's own.
OPERATORS_WEBHOOKS_MAX = 100
BATCH_MAX = 100
#: What JSON numbers hold exactly everywhere.
CURSOR_MAX = 2**53 - 1

#: The types that a webhook can be told of: those of the stream.
STREAMED_TYPES = tuple(sorted(name for name, kind in EVENT_TYPES.items() if kind.STREAMED))

FUTURE = "is beyond the last event of this relay; is it another relay's?"

_is_id = re.compile(r"wh[a-z2-7]{22}").fullmatch

#: Who gives an order.
By = Principal | Operator


class NewWebhook(NamedTuple):
    webhook_id: str
    #: It was looked at (`relay.webhooks.urls`).
    url: str
    types: tuple[str, ...]
    batch: int
    ed25519: bool
    #: Events after this one are told; None: after what there is.
    cursor: int | None
    #: The number of the pepper that makes what is new.
    pepper: int


def checked_types(given: Sequence[str]) -> tuple[str, ...]:
    """Each once, in their order. Raises Refusal(INVALID_REQUEST)."""
    for name in given:
        if name not in STREAMED_TYPES:
            nearest = nearest_of(name, STREAMED_TYPES)
            hint = f"did you mean `{nearest}`?" if nearest else f"there are {', '.join(STREAMED_TYPES)}"
            raise invalid("types", f"{name[:100]!r} is no event of the stream; {hint}")
    return tuple(dict.fromkeys(given))


def known_webhook(view: Snapshot, by: By, webhook_id: str) -> WebhookState:
    """Raises Refusal(NOT_FOUND), also where it is another's."""
    state = webhooks.webhook(view, webhook_id) if _is_id(webhook_id) else None
    if state is None or (isinstance(by, Principal) and state.did != by.did):
        raise Refusal("NOT_FOUND", f"webhook: there is no {webhook_id[:100]}")
    return state


def add_webhook(view: Snapshot, by: By, new: NewWebhook, *, last_seq: int) -> list[Event]:
    """The member's, or the operator's own. Raises Refusal(CONFLICT or INVALID_REQUEST)."""
    did, most = NOBODY, OPERATORS_WEBHOOKS_MAX
    if isinstance(by, Principal):
        known_member(view, by.did)
        did, most = by.did, WEBHOOKS_MAX
    if len(webhooks.webhooks_of(view, did)) >= most:
        raise Refusal("CONFLICT", f"there are {most} webhooks, the most; remove one first")
    cursor = last_seq if new.cursor is None else new.cursor
    if cursor > last_seq:
        raise invalid("from", FUTURE)
    return [
        WebhookAdded(
            did=did,
            webhook_id=new.webhook_id,
            types=list(new.types),
            batch=new.batch,
            cursor=cursor,
            ed25519=new.ed25519,
            pepper=new.pepper,
            personal=WebhookUrl(url=new.url),
            **recorded(by),
        )
    ]


def remove_webhook(view: Snapshot, by: By, webhook_id: str) -> list[Event]:
    state = known_webhook(view, by, webhook_id)
    return [WebhookRemoved(did=state.did, webhook_id=webhook_id, **recorded(by))]


def pause_webhook(view: Snapshot, by: By, webhook_id: str) -> list[Event]:
    """Raises Refusal(CONFLICT) where it is disabled: what is resumed after a pause for some work must not be what had
    ended before."""
    state = known_webhook(view, by, webhook_id)
    if state.status == "disabled":
        raise Refusal("CONFLICT", "webhook: it is disabled, so that nothing is told to it; resume it first")
    if state.status == "paused":
        return []
    return [WebhookPaused(did=state.did, webhook_id=webhook_id, **recorded(by))]


def resume_webhook(view: Snapshot, by: By, webhook_id: str) -> list[Event]:
    """It goes on from its cursor, which may be far behind."""
    state = known_webhook(view, by, webhook_id)
    if state.status == "active":
        return []
    return [WebhookResumed(did=state.did, webhook_id=webhook_id, **recorded(by))]


def rotate_secret(view: Snapshot, by: By, webhook_id: str, *, pepper: int) -> list[Event]:
    """The secret in use signs for a day yet. One before it, which still did, ends now: so who rotates twice has none
    left that anybody knows."""
    state = known_webhook(view, by, webhook_id)
    return [
        WebhookSecretRotated(
            did=state.did,
            webhook_id=webhook_id,
            secret_version=state.secret.version + 1,
            pepper=pepper,
            **recorded(by),
        )
    ]


def rewind(
    view: Snapshot,
    by: By,
    webhook_id: str,
    *,
    after_seq: int,
    until_seq: int | None,
    told_seq: int | None,
    last_seq: int,
) -> list[Event]:
    """Tell the events in (`after_seq`, `until_seq`] again, before what is new; None: all that were told. It takes the
    place of a replay that is under way. `told_seq`: how far it has got, where somebody knows more than is written.
    Raises Refusal(INVALID_REQUEST)."""
    state = known_webhook(view, by, webhook_id)
    told = max(state.cursor, told_seq or 0)
    for field, cursor in (("from", after_seq), ("to", until_seq)):
        if cursor is not None and cursor > last_seq:
            raise invalid(field, FUTURE)
    if after_seq >= told:
        raise invalid("from", f"it has got to {told}: nothing behind {after_seq} was told yet")
    if until_seq is not None and until_seq <= after_seq:
        raise invalid("to", f"nothing is behind {after_seq} and up to {until_seq}")
    until = told if until_seq is None else min(until_seq, told)
    return [
        WebhookRewound(
            did=state.did, webhook_id=webhook_id, after_seq=after_seq, until_seq=until, **recorded(by)
        )
    ]


def made_by_key(view: Snapshot, did: str, key_id: str) -> list[WebhookState]:
    """The member's webhooks that came of this key, or of one that it made, and so on."""
    return [state for state in webhooks.webhooks_of(view, did) if key_id in state.made_by]


def end_with_key(view: Snapshot, did: str, key_id: str, *, by: By) -> list[Event]:
    """The end of all webhooks that came of a key."""
    return [
        WebhookRemoved(did=did, webhook_id=state.webhook_id, because="key_revoked", **recorded(by))
        for state in made_by_key(view, did, key_id)
    ]


def end_with_member(view: Snapshot, did: str, by: str) -> list[Event]:
    """The end of all webhooks of a member that is removed."""
    return [
        WebhookRemoved(did=did, webhook_id=state.webhook_id, because="member_removed", by=by)
        for state in webhooks.webhooks_of(view, did)
    ]
