"""The events of webhooks among the golden ones."""

from collections.abc import Mapping
from typing import Final

from relay.events import (
    Addressee,
    Event,
    WebhookAdded,
    WebhookDisabled,
    WebhookNoticeQueued,
    WebhookPaused,
    WebhookProgressed,
    WebhookRemoved,
    WebhookResumed,
    WebhookRewound,
    WebhookSecretRotated,
    WebhookSkipped,
    WebhookUrl,
)
from tests.golden_events.facts import ACCEPTED_AT_US, DID, MINUTE_US

_ID: Final = "whabcdefghijklmnop234567"
_KEY: Final = "0a1b2c3d4e5f"

WEBHOOKS: Final[Mapping[tuple[str, int], Event]] = {
    ("webhook.added", 1): WebhookAdded(
        did=DID,
        webhook_id=_ID,
        key_id=_KEY,
        by="postmaster",
        types=["message.sent", "message.bounced"],
        batch=100,
        cursor=447,
        ed25519=True,
        pepper=2,
        personal=WebhookUrl(url="https://member.example/hook?token=1"),
    ),
    ("webhook.removed", 1): WebhookRemoved(
        did=DID, webhook_id=_ID, key_id=_KEY, by="postmaster", because="key_revoked"
    ),
    ("webhook.paused", 1): WebhookPaused(did=DID, webhook_id=_ID, key_id=_KEY, by="postmaster"),
    ("webhook.resumed", 1): WebhookResumed(did=DID, webhook_id=_ID, key_id=_KEY, by="postmaster"),
    ("webhook.rewound", 1): WebhookRewound(
        did=DID, webhook_id=_ID, key_id=_KEY, by="postmaster", after_seq=400, until_seq=447
    ),
    ("webhook.secret_rotated", 1): WebhookSecretRotated(
        did=DID, webhook_id=_ID, key_id=_KEY, by="postmaster", secret_version=2, pepper=3
    ),
    ("webhook.progressed", 1): WebhookProgressed(
        did=DID,
        webhook_id=_ID,
        until_seq=447,
        replayed_seq=410,
        failures=3,
        failing_since=ACCEPTED_AT_US,
        failed_at=ACCEPTED_AT_US + 5 * MINUTE_US,
        http_status=422,
        error="timeout",
        refused_since=ACCEPTED_AT_US + MINUTE_US,
    ),
    ("webhook.skipped", 1): WebhookSkipped(did=DID, webhook_id=_ID, skipped_seq=448, http_status=422),
    ("webhook.disabled", 1): WebhookDisabled(
        did=DID, webhook_id=_ID, because="gone", until_seq=447, http_status=410, error="timeout"
    ),
    ("webhook_notice.queued", 1): WebhookNoticeQueued(
        did=DID,
        domain="member.example",
        next_attempt_at=ACCEPTED_AT_US,
        give_up_at=ACCEPTED_AT_US + 60 * MINUTE_US,
        operator_domain="relay.example",
        operator_stem="atmos20250101",
        message_id_entropy="00112233445566ff",
        composition=3,
        webhook_id=_ID,
        because="failing",
        until_seq=447,
        http_status=503,
        error="timeout",
        link_base="https://relay.example",
        personal=Addressee(
            given="büro@xn--bcher-kva.example", name="Büro", address="büro@xn--bcher-kva.example"
        ),
    ),
}
