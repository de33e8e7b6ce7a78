"""Secrets that are derived: each webhook, version and pepper has its own, and what is shown is what signs."""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.message.keys import Pepper
from relay.webhooks.secrets import ed25519_key, hmac_key, public_key_text, secret_text

PEPPER, OTHER = Pepper(b"p" * 32), Pepper(b"q" * 32)


def test_each_webhook_version_and_pepper_has_its_own() -> None:
    made = [
        *(
            hmac_key(pepper, name, version)
            for pepper in (PEPPER, OTHER)
            for name in ("a", "b")
            for version in (1, 2)
        ),
        *(
            ed25519_key(PEPPER, name, version).private_bytes_raw()
            for name in ("a", "b")
            for version in (1, 2)
        ),
        # Side by side these are the same octets as ("a", ...), but for the length that stands before.
        hmac_key(PEPPER, "a\0", 1),
        hmac_key(PEPPER, "a" + "\0" * 8, 1),
    ]
    assert len(set(made)) == len(made)


def test_a_secret_stays_what_it_is() -> None:
    """Receivers have it: what is derived from one pepper is that for ever."""
    info = b"atmos-relay webhook"
    root = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(b"p" * 32)
    of = b"\0\0\0\x03abc" + b"\0\0\0\0\0\0\0\x02"
    assert hmac_key(PEPPER, "abc", 2) == hmac.digest(root, of, hashlib.sha256)


def test_what_is_shown_is_what_verifies() -> None:
    text = secret_text(hmac_key(PEPPER, "abc", 1))
    assert text.startswith("whsec_")
    assert base64.b64decode(text.removeprefix("whsec_"), validate=True) == hmac_key(PEPPER, "abc", 1)
    key = ed25519_key(PEPPER, "abc", 1)
    shown = public_key_text(key)
    assert shown.startswith("whpk_")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(shown.removeprefix("whpk_"), validate=True))
    public.verify(key.sign(b"signed"), b"signed")
