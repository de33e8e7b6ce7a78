"""How table keys are built: fixed-width big-endian numbers, so that key order is number order."""

from __future__ import annotations

import struct

_U64 = struct.Struct(">Q")
_TWO_U64 = struct.Struct(">QQ")

u64 = _U64.pack
two_u64 = _TWO_U64.pack


def read_u64(key: bytes, at: int = 0) -> int:
    number: int
    (number,) = _U64.unpack_from(key, at)
    return number


def owned(did: str) -> bytes:
    """Prefix of everything that belongs to a member. A DID holds no NUL, so no member's prefix begins another's."""
    return did.encode() + b"\0"
