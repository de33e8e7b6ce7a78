"""Which bit was flipped, where one was.

The invariant: **the answer, if there is one, is the only one.** A checksum says that a part is damaged; for the
commonest damage, a single flipped bit, it also says where. A CRC is linear: the stored checksum and the one of the
damaged bytes differ by what the flip alone contributes, and CRC-32C gives each bit of anything shorter than 256 MiB a
contribution of its own. (Damage of another kind may look like a flip by chance, once in 2^32 divided by the bits
searched.)
"""

from __future__ import annotations

from typing import Final, NamedTuple

# x^32 + x^28 + x^27 + x^26 + x^25 + ... of Castagnoli, bits reversed (RFC 3720, 12.1).
_POLYNOMIAL: Final = 0x82F63B78


class Flip(NamedTuple):
    """One flipped bit: in the byte number `byte`, or, if that is negative, in the checksum, counted from its end."""

    byte: int
    bit: int


def _contribution(byte: int) -> int:
    """What the last byte of a message adds to its checksum."""
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(map(_contribution, range(256)))
_BIT_OF: Final = {_TABLE[1 << bit]: bit for bit in range(8)}
# The highest byte of an entry is the entry's own, so that a step over one byte can be taken back.
_BY_HIGH_BYTE: Final = {entry >> 24: number for number, entry in enumerate(_TABLE)}
_BACK: Final = tuple(_BY_HIGH_BYTE[high] for high in range(256))


def find_flip(difference: int, length: int) -> Flip | None:
    """The one bit whose flip makes this difference between the stored checksum and that of `length` bytes."""
    if difference.bit_count() == 1:
        byte, bit = divmod(difference.bit_length() - 1, 8)
        return Flip(byte - 4, bit)
    for index in range(length - 1, -1, -1):
        bit_found = _BIT_OF.get(difference)
        if bit_found is not None:
            return Flip(index, bit_found)
        number = _BACK[difference >> 24]
        difference = ((difference ^ _TABLE[number]) << 8 | number) & 0xFFFFFFFF
    return None
