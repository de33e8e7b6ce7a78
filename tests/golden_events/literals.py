"""The event that each golden file decodes to. See README.md."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from relay.codec import decode_raw, encode
from relay.events import (
    NOBODY,
    Addressee,
    AttemptInterrupted,
    AttemptStarted,
    CallResult,
    ConfirmationQueued,
    DomainAdded,
    DomainCheckFailed,
    DomainForwardConfirmed,
    DomainForwardSet,
    DomainKeyCreated,
    DomainKeySwitched,
    DomainPaused,
    DomainRemoved,
    DomainResumed,
    DomainUnverified,
    DomainVerified,
    DsnQueued,
    Event,
    Evidence,
    ForwardAddress,
    HeldReleased,
    KeyIssued,
    KeyRevoked,
    LogStripped,
    MemberAdded,
    MemberHandleCheckFailed,
    MemberHandleLost,
    MemberHandleSet,
    MemberHandleVerified,
    MemberLimitsSet,
    MemberRemoved,
    MemberResumed,
    MemberSuspended,
    MessageBounced,
    MessageDeferred,
    MessageHeld,
    MessageReleased,
    MessageRescheduled,
    MessageSent,
    OperatorKeyCreated,
    OperatorKeySwitched,
    OperatorsReason,
    PayloadErased,
    PepperRotated,
    RecipientSuppressed,
    RecipientUnsuppressed,
    RemoteSide,
    SigningKeyDeleted,
    SuppressedRecipient,
    TornTailCut,
    UnsubscribeCalled,
    ViewsRebuilt,
)
from spool.record import Entry, Record
from tests.golden_events.facts import ACCEPTED_AT_US, DID, MINUTE_US, SHA256
from tests.golden_events.inbound_literals import INBOUND
from tests.golden_events.order_literals import ORDERED
from tests.golden_events.seeing_literals import SEEING
from tests.golden_events.sends_literals import SENDS
from tests.golden_events.webhook_literals import WEBHOOKS

HERE: Final = Path(__file__).parent

#: Of version 1.
_OUTCOME: Final[dict[str, Any]] = {
    "did": DID,
    "message_id": 448,
    "attempt": 3,
    "command": "end of data",
    "code": 250,
    "enhanced": "2.0.0",
    "tls_version": "TLSv1.3",
    "tls_cipher": "TLS_AES_256_GCM_SHA384",
    "tls_certificate": "self-signed",
    "duration_us": 1_234_567,
    "sha256": SHA256,
    "size": 2_048,
    "personal": RemoteSide(mx="mx.recipient.example", address="192.0.2.25", text="Queued, thank you: ü"),
}

#: Every field has a value, as README.md wants it: a real `message.sent` has no class.
_CLASSIFIED: Final = {**_OUTCOME, "bounce_class": "transient_failure"}

#: (type, version) -> what its golden file decodes to, by today's code.
EVENTS: Final[Mapping[tuple[str, int], Event]] = {
    ("member.added", 1): MemberAdded(did=DID),
    ("domain.added", 1): DomainAdded(
        did=DID,
        domain="member.example",
        selector_stem="atmos20251124",
        rsa_public="MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
        ed25519_public="11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    ),
    ("key.issued", 1): KeyIssued(did=DID, key_id="0a1b2c3d4e5f", key_hash=SHA256),
    ("key.issued", 2): KeyIssued(
        did=DID,
        key_id="0a1b2c3d4e5f",
        key_hash=SHA256,
        scope="send",
        category="verification",
        issued_by="f5e4d3c2b1a0",
    ),
    ("key.revoked", 1): KeyRevoked(did=DID, key_id="0a1b2c3d4e5f"),
    ("key.revoked", 2): KeyRevoked(did=DID, key_id="0a1b2c3d4e5f", revoked_by="f5e4d3c2b1a0"),
    ("domain.key_created", 1): DomainKeyCreated(
        did=DID,
        domain="member.example",
        selector_stem="atmos20261124",
        rsa_public="MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
        ed25519_public="11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        by="root",
    ),
    ("domain.key_switched", 1): DomainKeySwitched(
        did=DID, domain="member.example", selector_stem="atmos20261124", retired_stem="atmos20251124"
    ),
    ("operator.key_created", 1): OperatorKeyCreated(
        domain="relay.example",
        selector_stem="atmos20261124",
        rsa_public="MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
        ed25519_public="11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        by="root",
    ),
    ("operator.key_switched", 1): OperatorKeySwitched(
        domain="relay.example", selector_stem="atmos20261124", retired_stem="atmos20251124"
    ),
    ("pepper.rotated", 1): PepperRotated(number=2, by="root"),
    ("signing_key.deleted", 1): SigningKeyDeleted(domain="relay.example", selector_stem="atmos20251124"),
    ("member.handle_set", 1): MemberHandleSet(
        did=DID,
        handle="mira.example.com",
        proved=True,
        instead_of="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
        by="root",
    ),
    ("member.handle_verified", 1): MemberHandleVerified(did=DID, handle="mira.example.com"),
    ("member.handle_check_failed", 1): MemberHandleCheckFailed(
        did=DID, handle="mira.example.com", failed=["handle", "document"]
    ),
    ("member.handle_lost", 1): MemberHandleLost(
        did=DID, handle="mira.example.com", because="unproved", failed=["document"], by="root"
    ),
    ("member.removed", 1): MemberRemoved(did=DID, by="root", personal=OperatorsReason(why="it asked for it")),
    ("domain.removed", 1): DomainRemoved(
        did=DID,
        domain="member.example",
        because="operator",
        selector_stems=["atmos20251124"],
        by="root",
        personal=OperatorsReason(why="a typing error"),
    ),
    ("member.suspended", 1): MemberSuspended(did=DID, reason="unpaid"),
    ("member.resumed", 1): MemberResumed(did=DID, reason="paid"),
    ("member.resumed", 2): MemberResumed(did=DID, reason="paid", in_steps=True),
    ("member.limits_set", 1): MemberLimitsSet(did=DID, hour=500, day=5_000),
    ("domain.verified", 1): DomainVerified(did=DID, domain="member.example"),
    ("domain.check_failed", 1): DomainCheckFailed(did=DID, domain="member.example", failed=["spf", "dmarc"]),
    ("domain.unverified", 1): DomainUnverified(did=DID, domain="member.example", failed=["spf"]),
    ("domain.paused", 1): DomainPaused(
        did=DID,
        domain="member.example",
        status="paused_bounce_rate",
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
    ),
    ("domain.paused", 2): DomainPaused(
        did=DID,
        domain="member.example",
        status="paused_bounce_rate",
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
    ),
    ("domain.resumed", 1): DomainResumed(did=DID, domain="member.example", reason="list cleaned"),
    ("domain.resumed", 2): DomainResumed(
        did=DID, domain="member.example", reason="list cleaned", in_steps=True
    ),
    ("domain.forward_set", 1): DomainForwardSet(
        did=DID,
        domain="member.example",
        key_id="0a1b2c3d4e5f",
        personal=ForwardAddress(address="postmaster@elsewhere.example"),
    ),
    ("domain.forward_set", 2): DomainForwardSet(
        did=DID,
        domain="member.example",
        key_id="0a1b2c3d4e5f",
        asks=True,
        personal=ForwardAddress(address="postmaster@elsewhere.example"),
    ),
    ("domain.forward_confirmed", 1): DomainForwardConfirmed(
        did=DID, domain="member.example", confirmation=448
    ),
    **ORDERED,
    **SENDS,
    ("message.held", 1): MessageHeld(did=DID, message_id=448, because="domain"),
    ("message.held", 2): MessageHeld(
        did=DID,
        message_id=448,
        because="operator",
        by="postmaster",
        personal=OperatorsReason(why="is it spam?"),
    ),
    ("message.released", 1): MessageReleased(
        did=DID, message_id=448, by="postmaster", personal=OperatorsReason(why="it is not")
    ),
    ("held.released", 1): HeldReleased(did=DID, because="domain", message_ids=[444, 448]),
    ("message.rescheduled", 1): MessageRescheduled(
        did=DID,
        message_id=448,
        next_attempt_at=ACCEPTED_AT_US + 15 * MINUTE_US,
        by="postmaster",
        personal=OperatorsReason(why="their server is back"),
    ),
    ("message.rescheduled", 2): MessageRescheduled(
        did=DID,
        message_id=448,
        next_attempt_at=ACCEPTED_AT_US + 15 * MINUTE_US,
        by="postmaster",
        key_id="0a1b2c3d4e5f",
        give_up_at=ACCEPTED_AT_US + 75 * MINUTE_US,
        personal=OperatorsReason(why="their server is back"),
    ),
    **WEBHOOKS,
    **SEEING,
    **INBOUND,
    ("recipient.suppressed", 1): RecipientSuppressed(
        did=DID,
        reason="manual",
        message_id=448,
        call_at=ACCEPTED_AT_US,
        personal=SuppressedRecipient(address="bob@recipient.example", note="asked by telephone"),
    ),
    ("recipient.unsuppressed", 1): RecipientUnsuppressed(
        did=DID, personal=SuppressedRecipient(address="bob@recipient.example", note="asked again")
    ),
    ("unsubscribe.called", 1): UnsubscribeCalled(
        did=DID,
        suppressed_seq=450,
        message_id=448,
        attempt=2,
        status=503,
        next_attempt_at=ACCEPTED_AT_US + 15 * MINUTE_US,
        personal=CallResult(error="the server answered 503"),
    ),
    ("attempt.started", 1): AttemptStarted(
        did=DID, message_id=448, attempt=3, next_attempt_at=ACCEPTED_AT_US + 15 * MINUTE_US
    ),
    ("attempt.interrupted", 1): AttemptInterrupted(
        did=DID, message_id=448, attempt=3, next_attempt_at=ACCEPTED_AT_US + 15 * MINUTE_US
    ),
    ("message.deferred", 1): MessageDeferred(
        **{**_OUTCOME, "code": 451, "enhanced": "4.7.1"}, next_attempt_at=ACCEPTED_AT_US + 15 * MINUTE_US
    ),
    ("message.deferred", 2): MessageDeferred(
        **{**_CLASSIFIED, "code": 451, "enhanced": "4.7.1"}, next_attempt_at=ACCEPTED_AT_US + 15 * MINUTE_US
    ),
    ("message.sent", 1): MessageSent(**_OUTCOME),
    ("message.deferred", 3): MessageDeferred(
        **{**_CLASSIFIED, "code": 451, "enhanced": "4.7.1"},
        provider="google",
        next_attempt_at=ACCEPTED_AT_US + 15 * MINUTE_US,
    ),
    ("message.sent", 2): MessageSent(**_CLASSIFIED),
    ("message.sent", 3): MessageSent(**_CLASSIFIED, provider="google"),
    ("message.bounced", 1): MessageBounced(
        **{**_OUTCOME, "code": 550, "enhanced": "5.1.1"}, reason="rejected"
    ),
    ("message.bounced", 2): MessageBounced(
        **{**_CLASSIFIED, "code": 550, "enhanced": "5.1.1", "bounce_class": "invalid_recipient"},
        reason="rejected",
        by="postmaster",
    ),
    ("message.bounced", 3): MessageBounced(
        **{**_CLASSIFIED, "code": 550, "enhanced": "5.1.1", "bounce_class": "invalid_recipient"},
        reason="rejected",
        key_id="0a1b2c3d4e5f",
        by="postmaster",
    ),
    ("message.bounced", 4): MessageBounced(
        **{**_CLASSIFIED, "code": 550, "enhanced": "5.1.1", "bounce_class": "invalid_recipient"},
        provider="google",
        reason="rejected",
        key_id="0a1b2c3d4e5f",
        by="postmaster",
    ),
    ("dsn.queued", 1): DsnQueued(
        did=DID,
        domain="member.example",
        about=448,
        next_attempt_at=ACCEPTED_AT_US,
        give_up_at=ACCEPTED_AT_US + 60 * MINUTE_US,
        operator_domain="relay.example",
        operator_stem="atmos20250101",
        message_id_entropy="00112233445566ff",
        personal=Addressee(
            given="Büro <büro@BÜCHER.example>", name="Büro", address="büro@xn--bcher-kva.example"
        ),
    ),
    ("dsn.queued", 2): DsnQueued(
        did=DID,
        domain="member.example",
        about=448,
        next_attempt_at=ACCEPTED_AT_US,
        give_up_at=ACCEPTED_AT_US + 60 * MINUTE_US,
        operator_domain="relay.example",
        operator_stem="atmos20250101",
        message_id_entropy="00112233445566ff",
        composition=2,
        personal=Addressee(
            given="Büro <büro@BÜCHER.example>", name="Büro", address="büro@xn--bcher-kva.example"
        ),
    ),
    ("dsn.queued", 3): DsnQueued(
        did=DID,
        domain="member.example",
        about=448,
        scheduled_at=ACCEPTED_AT_US - 90 * MINUTE_US,
        next_attempt_at=ACCEPTED_AT_US,
        give_up_at=ACCEPTED_AT_US + 60 * MINUTE_US,
        operator_domain="relay.example",
        operator_stem="atmos20250101",
        message_id_entropy="00112233445566ff",
        composition=3,
        personal=Addressee(
            given="Büro <büro@BÜCHER.example>", name="Büro", address="büro@xn--bcher-kva.example"
        ),
    ),
    ("confirmation.queued", 1): ConfirmationQueued(
        did=NOBODY,
        domain="member.example",
        next_attempt_at=ACCEPTED_AT_US,
        give_up_at=ACCEPTED_AT_US + 60 * MINUTE_US,
        operator_domain="relay.example",
        operator_stem="atmos20250101",
        message_id_entropy="00112233445566ff",
        composition=2,
        link_base="https://relay.example",
        personal=Addressee(
            given="büro@xn--bcher-kva.example", name="Büro", address="büro@xn--bcher-kva.example"
        ),
    ),
    ("payload.erased", 1): PayloadErased(
        did=DID,
        because="operator",
        message_ids=[448, 70_000],
        send_ids=[12],
        by="maria",
        reason="ticket 4711",
    ),
    ("payload.erased", 2): PayloadErased(
        did=DID,
        because="operator",
        message_ids=[448, 70_000],
        send_ids=[12],
        seqs=[31, 32],
        by="maria",
        reason="ticket 4711",
    ),
    ("log.stripped", 1): LogStripped(until=71_000, segments=2, payloads=9, bytes_freed=7_777),
    ("log.torn_tail_cut", 1): TornTailCut(
        segment="00000000000000000449.seg", offset=4_096, bytes_cut=777, loss_ruled_out=True
    ),
    ("log.views_rebuilt", 1): ViewsRebuilt(because="there were none"),
}


class Golden(NamedTuple):
    """What stands in a golden file."""

    entry: Entry
    readable: Any


def path_of(name: str, version: int) -> Path:
    return HERE / f"{name}.v{version}.txt"


def read(name: str, version: int) -> Golden:
    skeleton, payload, readable = path_of(name, version).read_text().split("\n", 2)
    return Golden(
        Entry(_octets(skeleton, "skeleton"), _octets(payload, "payload")),  # type: ignore[arg-type]
        json.loads(readable),
    )


def recorded(entry: Entry, *, seq: int = 448, time_us: int = ACCEPTED_AT_US) -> Record:
    """The entry as it comes out of a log."""
    return Record(seq, time_us, seq, True, entry.skeleton, entry.payload, bytes(32), bytes(32), False, 1, 80)


def _octets(line: str, part: str) -> bytes | None:
    label, _, octets = line.partition(" ")
    assert label == part
    return None if octets == "-" else bytes.fromhex(octets)


def _write_missing() -> None:
    for (name, version), event in EVENTS.items():
        path = path_of(name, version)
        if path.exists():
            continue
        assert version == event.VERSION, f"{path.name} is of an old version: it can only come from history"
        entry = encode(event)
        payload = "-" if entry.payload is None else entry.payload.hex()
        readable = json.dumps(msgspec.to_builtins(decode_raw(recorded(entry))), ensure_ascii=False, indent=2)
        path.write_text(f"skeleton {entry.skeleton.hex()}\npayload {payload}\n{readable}\n")
        print(f"wrote {path.name}")


if __name__ == "__main__":
    _write_missing()
