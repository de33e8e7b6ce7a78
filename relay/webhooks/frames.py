"""What is sent to an endpoint: the body, and the headers that sign it (Standard Webhooks 1.0.0). Pure.

The invariant: **what is signed is what is sent, octet for octet.** The body is made once, signed, and never encoded
again. Events stand in it as they stand in the stream.

An id is `<webhook>.<sequence number>`, that of the last event that the request brings. It is the same in every retry
and replay of it, so a receiver that keeps one number knows what it has had. The time of the headers is the attempt's:
receivers refuse what is older than some minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.times import SECOND_US, rfc3339

TEST: Final = "webhook.test"
CURSOR_HEADER: Final = "Atmos-Cursor"
REPLAY_HEADER: Final = "Atmos-Replay"


class Keys(NamedTuple):
    """Each that signs, the newest first. Ed25519 only where it is wanted."""

    hmac: Sequence[bytes]
    ed25519: Sequence[Ed25519PrivateKey] = ()


_encode = msgspec.json.Encoder().encode


class Told(NamedTuple):
    """An event, as its endpoint is told of it."""

    seq: int
    time: str
    type: str
    #: As in the stream: an object of JSON.
    frame: bytes


def body_of(told: Sequence[Told], *, is_batch: bool) -> bytes:
    """Of one event, or of a batch, which may have one as well."""
    last = told[-1]
    if not is_batch:
        (one,) = told
        return b'{"type":%b,"timestamp":%b,"data":%b}' % (_encode(one.type), _encode(one.time), one.frame)
    events = b",".join(one.frame for one in told)
    return b'{"type":"batch","timestamp":%b,"data":{"events":[%b],"cursor":%d}}' % (
        _encode(last.time),
        events,
        last.seq,
    )


def body_of_test(webhook_id: str, at_us: int) -> bytes:
    return _encode({"type": TEST, "timestamp": rfc3339(at_us), "data": {"webhookId": webhook_id}})


def headers_of(
    webhook_id: str, told: Sequence[Told], body: bytes, at_us: int, keys: Keys, *, is_replay: bool = False
) -> list[tuple[str, str]]:
    """Of a request that brings these events, made at that time."""
    last = told[-1].seq
    headers = _signed(f"{webhook_id}.{last}", body, at_us, keys)
    headers.append((CURSOR_HEADER, str(last)))
    if is_replay:
        headers.append((REPLAY_HEADER, "true"))
    return headers


def headers_of_test(webhook_id: str, body: bytes, at_us: int, keys: Keys) -> list[tuple[str, str]]:
    """Of a test, which has no place in the order of events."""
    return _signed(f"{webhook_id}.test-{at_us}", body, at_us, keys)


def _signed(message_id: str, body: bytes, at_us: int, keys: Keys) -> list[tuple[str, str]]:
    timestamp = str(at_us // SECOND_US)
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = [f"v1,{_base64(hmac.digest(key, signed, hashlib.sha256))}" for key in keys.hmac]
    signatures += [f"v1a,{_base64(key.sign(signed))}" for key in keys.ed25519]
    return [
        ("Content-Type", "application/json"),
        ("webhook-id", message_id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", " ".join(signatures)),
    ]


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
