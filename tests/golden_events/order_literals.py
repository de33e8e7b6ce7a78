"""The events of which a later version says who ordered them: those versions. See README.md."""

from collections.abc import Mapping
from typing import Final

from relay.events import (
    DomainAdded,
    DomainForwardSet,
    DomainPaused,
    DomainResumed,
    Event,
    Evidence,
    ForwardAddress,
    KeyIssued,
    KeyRevoked,
    MemberAdded,
    MemberLimitsSet,
    MemberResumed,
    MemberSuspended,
    RecipientSuppressed,
    RecipientUnsuppressed,
    SuppressedRecipient,
)
from tests.golden_events.facts import ACCEPTED_AT_US, DID, MINUTE_US, SHA256

_SESSION: Final = "console:1a2b3c4d"

#: An order has one who gave it, so no real event has both `by` and a key of the member's.
ORDERED: Final[Mapping[tuple[str, int], Event]] = {
    ("member.added", 2): MemberAdded(did=DID, by="root"),
    ("member.suspended", 2): MemberSuspended(did=DID, reason="unpaid", by=_SESSION),
    ("member.resumed", 3): MemberResumed(did=DID, reason="paid", in_steps=True, by=_SESSION),
    ("member.limits_set", 2): MemberLimitsSet(did=DID, hour=500, day=5_000, by="root"),
    ("key.issued", 3): KeyIssued(
        did=DID,
        key_id="0a1b2c3d4e5f",
        key_hash=SHA256,
        scope="send",
        category="verification",
        issued_by="f5e4d3c2b1a0",
        by=_SESSION,
    ),
    ("key.revoked", 3): KeyRevoked(did=DID, key_id="0a1b2c3d4e5f", revoked_by="f5e4d3c2b1a0", by="root"),
    ("domain.added", 2): DomainAdded(
        did=DID,
        domain="member.example",
        selector_stem="atmos20251124",
        rsa_public="MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
        ed25519_public="11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        key_id="0a1b2c3d4e5f",
        by="root",
    ),
    ("domain.paused", 3): DomainPaused(
        did=DID,
        domain="member.example",
        status="paused",
        stops="bulk",
        evidence=Evidence(
            window_start=ACCEPTED_AT_US - 24 * 60 * MINUTE_US,
            window_end=ACCEPTED_AT_US,
            first_seq=12,
            last_seq=440,
            final=100,
            bounced=7,
            complaints=1,
        ),
        reason="too many bounces",
        by=_SESSION,
    ),
    ("domain.resumed", 3): DomainResumed(
        did=DID, domain="member.example", reason="the list was cleaned", in_steps=True, by="root"
    ),
    ("domain.forward_set", 3): DomainForwardSet(
        did=DID,
        domain="member.example",
        key_id="0a1b2c3d4e5f",
        asks=True,
        by="root",
        personal=ForwardAddress(address="postmaster@elsewhere.example"),
    ),
    ("recipient.suppressed", 2): RecipientSuppressed(
        did=DID,
        reason="manual",
        message_id=448,
        call_at=ACCEPTED_AT_US,
        key_id="0a1b2c3d4e5f",
        by=_SESSION,
        personal=SuppressedRecipient(address="bob@recipient.example", note="asked by telephone"),
    ),
    ("recipient.unsuppressed", 2): RecipientUnsuppressed(
        did=DID,
        key_id="0a1b2c3d4e5f",
        by="root",
        personal=SuppressedRecipient(address="bob@recipient.example", note="asked again"),
    ),
}
