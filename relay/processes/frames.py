"""What passes between the relay and a child, over a pair of connected Unix sockets: frames.

    length of the head, length of the octets (4 octets each, big-endian) | head | octets

The head is a value in MessagePack (msgspec), small by its nature. The octets are a mail, say: they stand apart, so
that neither side copies them to take them out of something. Both lengths are bounded, and are judged before anything of
that length is made. A frame without head and octets is what a child says first: it is ready.

The invariant: **who reads a frame has all of it, or learns that it will never have it** (`BrokenFrame`, or an error of
the socket). What is behind half a frame is not looked for; the connection has ended with it.

A child has no event loop, and reads and writes here; `child` does the same on trio.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final, NamedTuple

HEAD_BYTES_MAX: Final = 256 * 1024
OCTETS_MAX: Final = 16 * 1024 * 1024

LENGTHS: Final = struct.Struct(">II")


class BrokenFrame(Exception):
    """The other side has ended, within a frame or before one, or announces more than may be."""


class Frame(NamedTuple):
    head: bytes
    octets: bytes = b""

    def beginning(self) -> bytes:
        """All but the octets."""
        assert len(self.head) <= HEAD_BYTES_MAX
        assert len(self.octets) <= OCTETS_MAX
        return LENGTHS.pack(len(self.head), len(self.octets)) + self.head


READY: Final = Frame(b"")


def write(stream: BinaryIO, frame: Frame) -> None:
    """Raises OSError where the relay is gone."""
    stream.write(frame.beginning())
    stream.write(frame.octets)
    stream.flush()


def read(stream: BinaryIO) -> Frame | None:
    """The next frame; None: the relay has closed its side, or is gone."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head_bytes, octets = judged(lengths, OCTETS_MAX)
    frame = Frame(stream.read(head_bytes), stream.read(octets))
    return frame if (len(frame.head), len(frame.octets)) == (head_bytes, octets) else None


def judged(lengths: bytes, octets_max: int) -> tuple[int, int]:
    """How long head and octets are. Raises BrokenFrame where that is more than may be."""
    head_bytes, octets = LENGTHS.unpack(lengths)
    if head_bytes > HEAD_BYTES_MAX or octets > octets_max:
        raise BrokenFrame(f"a frame of {head_bytes} and {octets} octets is not read")
    return head_bytes, octets
