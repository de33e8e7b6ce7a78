"""Webhooks: endpoints of members, or of the operator, that are told of events in the order of the log.

What is told to them is not recorded; how far each has got is, now and then. A webhook's own events are in nobody's
stream: else it would feed itself.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from relay.events.base import OwnedEvent, Personal


class WebhookUrl(Personal, frozen=True, kw_only=True, omit_defaults=True):
    #: It may carry a token. It stays as long as the webhook does.
    url: str


class WebhookEvent(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """`did` is NOBODY where it is the operator's own, which is told of all members' events."""

    ABOUT = "webhook"
    webhook_id: str


class WebhookOrder(WebhookEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A member wanted it, by one of its keys, or the operator did. Neither: it is the relay's own doing."""

    #: The member's key, or the Unix user.
    key_id: str | None = None
    by: str | None = None


class WebhookAdded(WebhookOrder, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "webhook.added"
    STREAMED = False
    #: Types of events that are told; none: all.
    types: list[str] = msgspec.field(default_factory=list)
    #: How many events one request may bring.
    batch: int = 1
    #: Events after this sequence number are told.
    cursor: int
    #: It is signed with Ed25519, too (`v1a`).
    ed25519: bool = False
    #: The number of the pepper that its first secret, version 1, is derived from.
    pepper: int
    personal: WebhookUrl | None = None


class WebhookRemoved(WebhookOrder, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "webhook.removed"
    STREAMED = False
    because: Literal["ordered", "key_revoked", "member_removed"] = "ordered"


class WebhookPaused(WebhookOrder, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "webhook.paused"
    STREAMED = False


class WebhookResumed(WebhookOrder, frozen=True, kw_only=True, omit_defaults=True):
    """It was paused or disabled, and goes on from its cursor."""

    TYPE = "webhook.resumed"
    STREAMED = False


class WebhookRewound(WebhookOrder, frozen=True, kw_only=True, omit_defaults=True):
    """Events are told once more: those in (`after_seq`, `until_seq`], before what is new."""

    TYPE = "webhook.rewound"
    STREAMED = False
    after_seq: int
    #: At most how far it had got.
    until_seq: int


class WebhookSecretRotated(WebhookOrder, frozen=True, kw_only=True, omit_defaults=True):
    """From now on this secret signs, and for 24 hours the one before it, too."""

    TYPE = "webhook.secret_rotated"
    STREAMED = False
    secret_version: int
    pepper: int


class WebhookProgressed(WebhookEvent, frozen=True, kw_only=True, omit_defaults=True):
    """How far it has got, and how it is. At most once a minute, and when the relay stops."""

    TYPE = "webhook.progressed"
    STREAMED = False
    #: All up to this one was taken, or is nothing that it is told of.
    until_seq: int
    #: The same of a replay that is under way; None: there is none.
    replayed_seq: int | None = None
    #: Requests that failed since the last that was taken, when the first of them was, and the last.
    failures: int = 0
    failing_since: int | None = None
    failed_at: int | None = None
    #: What the last failure was: an HTTP status, or a word where there was no answer (`timeout`, `dns`, `tls` ...).
    http_status: int | None = None
    error: str | None = None
    #: The event at the front was refused for good (4xx) since then, whatever else failed meanwhile.
    refused_since: int | None = None


class WebhookSkipped(WebhookEvent, frozen=True, kw_only=True, omit_defaults=True):
    """One event was refused for a day, and the one behind it was taken: it is told no more."""

    TYPE = "webhook.skipped"
    STREAMED = False
    skipped_seq: int
    http_status: int


class WebhookDisabled(WebhookEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing is told to it until it is resumed. `gone`: it answered 410; `failing`: nothing was taken for five
    days."""

    TYPE = "webhook.disabled"
    STREAMED = False
    because: Literal["gone", "failing"]
    until_seq: int
    http_status: int | None = None
    error: str | None = None
