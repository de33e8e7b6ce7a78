"""The secrets by which the receiver of a webhook knows that a request is the relay's (Standard Webhooks 1.0.0). Pure.

The invariant: **no secret is stored.** Each is derived from a pepper, the webhook's id and a version, under a label
that nothing else uses; so it can be shown and used whenever the pepper is there, and a copy of the log holds none. The
event that begins a version names the pepper's number, and a pepper is never thrown away.

The id's length stands before it, so that no two pairs of id and version are the same octets.

A secret of HMAC is shown as `whsec_` and base64, and its 32 octets are the key. Of Ed25519 only the public key is
shown, as `whpk_` and base64: the receiver has nothing that could sign.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.message.keys import Pepper

SECRET_PREFIX = "whsec_"
PUBLIC_KEY_PREFIX = "whpk_"

_KEY_OCTETS = 32


def hmac_key(pepper: Pepper, webhook_id: str, version: int) -> bytes:
    """The 32 octets that sign with HMAC-SHA256 (`v1`)."""
    return _derived(pepper, "webhook", webhook_id, version)


def ed25519_key(pepper: Pepper, webhook_id: str, version: int) -> Ed25519PrivateKey:
    """The key that signs with Ed25519 (`v1a`)."""
    return Ed25519PrivateKey.from_private_bytes(_derived(pepper, "webhook ed25519", webhook_id, version))


def secret_text(key: bytes) -> str:
    """A secret of HMAC as its receiver gets it."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def public_key_text(key: Ed25519PrivateKey) -> str:
    """The public half of an Ed25519 key as its receiver gets it."""
    return PUBLIC_KEY_PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _derived(pepper: Pepper, label: str, webhook_id: str, version: int) -> bytes:
    octets = webhook_id.encode()
    of = len(octets).to_bytes(4, "big") + octets + version.to_bytes(8, "big")
    return hmac.digest(pepper.derive(label, _KEY_OCTETS), of, hashlib.sha256)
