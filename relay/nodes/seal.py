"""What goes into the database is sealed: it belongs to the operator, but others run it, back it up, and read its disks.

The invariant: **what is opened is what was sealed for that very place, by a node with the same pepper.** A row that was
altered, cut short, or moved to another place, is refused, and so is one of another relay.

The form, all of it under the seal's tag::

    1   version
    4   number of the pepper, big-endian
    8   which key it is: derived from the pepper, as the key is, and tells nothing of either
    24  nonce, of chance
    …   XChaCha20-Poly1305 of the data, with the octets before the nonce and the place as what is attested besides

The key comes from the pepper, of which a data directory may have several. What is new is sealed under the one that is
in use; all that are there open. So a node finds at the first row that it has another pepper, and says so, rather than
that the row is damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from relay.message.key_files import KeyFileError
from relay.message.keys import Pepper, Peppers
from spool.errors import SpoolError
from spool.replicated.rows import BrokenSealError

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BI8s")
_NONCE_OCTETS: Final = 24
_KEY_OCTETS: Final = 32
_KEY_ID_OCTETS: Final = 8
#: By how much what is sealed is longer.
SEAL_OCTETS: Final = _HEAD.size + _NONCE_OCTETS + 16

#: What is sealed; keys of different purposes say nothing of each other.
ROWS: Final = "rows"
BESIDE: Final = "beside"


class SealError(BrokenSealError, SpoolError):
    """What was to be opened is not what a node with the same pepper sealed for that place."""


class Seal:
    """For one purpose. `spool.replicated.rows` says what it is for."""

    def __init__(self, peppers: Peppers, purpose: str, chance: Callable[[int], bytes]) -> None:
        """`chance(n)`: n octets that never come again."""
        self._peppers: Final = peppers
        self._purpose: Final = purpose
        self._chance: Final = chance
        #: Number of a pepper -> that, its key, and which it is. A file that was never used may give way to another.
        self._keys: Final[dict[int, tuple[Pepper, bytes, bytes]]] = {}

    def __repr__(self) -> str:
        return f"<Seal {self._purpose}>"

    def seal(self, data: bytes, place: bytes) -> bytes:
        number = self._peppers.current
        key, key_id = self._key(number)
        head = _HEAD.pack(_VERSION, number, key_id)
        nonce = self._chance(_NONCE_OCTETS)
        return head + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(data, head + place, nonce, key)

    def open(self, data: bytes, place: bytes) -> bytes:
        """Raises SealError."""
        if len(data) < SEAL_OCTETS:
            raise SealError(f"it is cut short: {len(data)} octets are no sealed {self._purpose}")
        version, number, named = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise SealError(
                f"it is sealed in version {version}, which this version of the relay does not know"
            )
        try:
            key, key_id = self._key(number)
        except KeyFileError as error:
            raise SealError(f"it is sealed under a pepper that this node does not have: {error}") from None
        if named != key_id:
            raise SealError(
                f"it is sealed under another pepper than this node's number {number}: all nodes have the same "
                "peppers; those of `node add` are right"
            )
        head, nonce, sealed = data[: _HEAD.size], data[_HEAD.size :][:_NONCE_OCTETS], data[SEAL_OCTETS - 16 :]
        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, head + place, nonce, key)
        except CryptoError:
            raise SealError("it was altered, or belongs in another place") from None

    def _key(self, number: int) -> tuple[bytes, bytes]:
        """Raises KeyFileError."""
        pepper = self._peppers.numbered(number)
        kept = self._keys.get(number)
        if kept is not None and kept[0] is pepper:
            return kept[1:]
        key = pepper.derive(f"nodes {self._purpose}", _KEY_OCTETS)
        key_id = pepper.derive(f"nodes {self._purpose} key id", _KEY_ID_OCTETS)
        self._keys[number] = (pepper, key, key_id)
        return key, key_id


def pepper_digests(peppers: Peppers) -> dict[str, str]:
    """Number of a pepper -> what it is known by among nodes. It tells nothing of the pepper, nor of its keys."""
    return {str(number): _digest(pepper) for number, pepper in sorted(peppers.items())}


def differing_pepper(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    """The number of a pepper that two nodes have otherwise; None: those that both have are the same."""
    return next((number for number in ours if theirs.get(number, ours[number]) != ours[number]), None)


def _digest(pepper: Pepper) -> str:
    return pepper.derive("nodes digest", 16).hex()
