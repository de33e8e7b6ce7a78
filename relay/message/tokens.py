"""Makes and opens the three things that come back from outside: bounce addresses, unsubscribe links, and links by which
the owner of a mailbox confirms that a domain's notifications may go there.

Contract. What this relay made opens to what it was made from; anything else, altered in a single bit, cut
short, or made with another relay's keys, is None. Both are functions of their contents, without a
nonce from dice: composing the same message again gives the same bytes. Neither expires.

A bounce address (VERP) shows its message id and proves it. It lives in a local part, whose case a server
on the way may fold, so it is made of lower case only and read in any.

A token of a link shows nothing. It is sealed with AES-SIV (RFC 5297), which stays safe without a
nonce: two equal tokens tell that their contents are equal, and nothing more. That of an unsubscribe link carries all
that is needed to suppress, so that it still works when the message's personal data have been removed. That of a
confirmation is bound to the domain, the address, and the mail that it stands in.
"""

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

BOUNCE_KEY_OCTETS: Final = 32
UNSUBSCRIBE_KEY_OCTETS: Final = 64  # AES-256-SIV takes two keys of 32
CONFIRMATION_KEY_OCTETS: Final = 64

_MAC_OCTETS: Final = 10  # 80 bits, each guess a message to the relay
_MESSAGE_ID_OCTETS: Final = 8
_is_bounce_local: Final = re.compile(r"bounces\+([1-9][0-9]{0,15})-([a-z2-7]{16})", re.IGNORECASE).fullmatch
# Bound into the seal, so that a later format cannot be taken for this one.
_FORMAT: Final = [b"atmos-relay unsubscribe 1"]
_CONFIRMATION_FORMAT: Final = [b"atmos-relay confirmation 1"]
# A DID of 261, an address of 254, the message id, the seal, in base64, and room: what is longer is no token.
_TOKEN_CHARACTERS_MAX: Final = 1024


class BounceAddresses:
    """Envelope senders `bounces+<messageId>-<hmac>@<operator domain>`."""

    def __init__(self, key: bytes, operator_domain: str) -> None:
        assert len(key) == BOUNCE_KEY_OCTETS
        self._key: Final = key
        self._domain: Final = operator_domain

    def make(self, message_id: int) -> str:
        return f"bounces+{message_id}-{self._mac(str(message_id))}@{self._domain}"

    def parse(self, address: str) -> int | None:
        """Return the message id of a bounce address of ours, or None."""
        local, _, domain = address.rpartition("@")
        match = _is_bounce_local(local)
        if match is None or domain.lower() != self._domain:
            return None
        if not hmac.compare_digest(self._mac(match[1]), match[2].lower()):
            return None
        return int(match[1])

    def _mac(self, message_id: str) -> str:
        mac = hmac.digest(self._key, message_id.encode(), hashlib.sha256)[:_MAC_OCTETS]
        return base64.b32encode(mac).decode().lower()


class Unsubscribe(NamedTuple):
    """Who does not want whose mail any more, and which message said so."""

    did: str
    message_id: int
    recipient: str


class UnsubscribeTokens:
    """Seals an `Unsubscribe` into a word for a URL, and opens it again."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == UNSUBSCRIBE_KEY_OCTETS
        self._cipher: Final = AESSIV(key)

    def seal(self, unsubscribe: Unsubscribe) -> str:
        return _sealed(self._cipher, _FORMAT, *_in_order(unsubscribe))

    def open(self, token: str) -> Unsubscribe | None:
        """Return what was sealed, or None for anything that this relay did not make."""
        opened = _opened(self._cipher, _FORMAT, token)
        return None if opened is None else Unsubscribe(opened[1], opened[0], opened[2])


class Confirmation(NamedTuple):
    """The owner of `address` wants to hear of the domain's bounces, as this mail asked."""

    domain: str
    message_id: int
    address: str


class ConfirmationTokens:
    """The same for a `Confirmation`."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == CONFIRMATION_KEY_OCTETS
        self._cipher: Final = AESSIV(key)

    def seal(self, confirmation: Confirmation) -> str:
        return _sealed(self._cipher, _CONFIRMATION_FORMAT, *_in_order(confirmation))

    def open(self, token: str) -> Confirmation | None:
        """Return what was sealed, or None for anything that this relay did not make."""
        opened = _opened(self._cipher, _CONFIRMATION_FORMAT, token)
        return None if opened is None else Confirmation(opened[1], opened[0], opened[2])


def _in_order(of: Unsubscribe | Confirmation) -> tuple[int, str, str]:
    owner, message_id, address = of
    return message_id, owner, address


def _sealed(cipher: AESSIV, form: list[bytes], message_id: int, owner: str, address: str) -> str:
    contents = b"%b%b\0%b" % (
        message_id.to_bytes(_MESSAGE_ID_OCTETS, "big"),
        owner.encode(),
        address.encode(),
    )
    return _to_text(cipher.encrypt(contents, form))


def _opened(cipher: AESSIV, form: list[bytes], token: str) -> tuple[int, str, str] | None:
    if len(token) > _TOKEN_CHARACTERS_MAX or not token.isascii():
        return None
    try:
        sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        # Base64 has several spellings for some octets, and Python reads past what is not base64 at all.
        if _to_text(sealed) != token:
            return None
        contents = cipher.decrypt(sealed, form)
    except (binascii.Error, ValueError, InvalidTag):
        return None
    owner, _, address = contents[_MESSAGE_ID_OCTETS:].decode().partition("\0")
    return int.from_bytes(contents[:_MESSAGE_ID_OCTETS], "big"), owner, address


def _to_text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")
