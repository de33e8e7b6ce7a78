"""One signing identity: a private key, and under which name DNS has its public half.

Apart from `relay.message.signing`, which needs all of dkimpy: whoever makes keys, or says what DNS must hold, needs
only this.
"""

import base64
from typing import Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

_SHA256: Final = Prehashed(hashes.SHA256())
_PKCS1V15: Final = padding.PKCS1v15()


class Signer:
    """One signing identity: a domain, a selector, and the private key whose public half DNS holds there."""

    __slots__ = ("_key", "algorithm", "domain", "selector")

    def __init__(self, domain: str, selector: str, key: PrivateKey) -> None:
        self.domain: Final = domain
        self.selector: Final = selector
        self.algorithm: Final[Literal["rsa-sha256", "ed25519-sha256"]] = (
            "rsa-sha256" if isinstance(key, RSAPrivateKey) else "ed25519-sha256"
        )
        self._key: Final = key

    def __repr__(self) -> str:
        return f"<Signer d={self.domain} s={self.selector} a={self.algorithm}>"

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the signature over a SHA-256 digest. Ed25519 signs it as a message (RFC 8463 §3)."""
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(digest, _PKCS1V15, _SHA256)
        return self._key.sign(digest)

    @property
    def public_key(self) -> str:
        """The p= of the DNS record, in base64: SubjectPublicKeyInfo for RSA, the 32 octets for Ed25519."""
        if isinstance(self._key, RSAPrivateKey):
            octets = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            octets = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(octets).decode()
