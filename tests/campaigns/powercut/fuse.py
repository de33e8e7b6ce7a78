"""The kernel's FUSE protocol, as far as a directory with one file after the other in it needs it. No I/O.

Each message of the kernel is one read from /dev/fuse: a header of 40 octets and a body; each answer is one write: a
header of 16 and a body, or an error. Layouts are those of include/uapi/linux/fuse.h, protocol 7.31, little-endian.

The directory holds `disk-N.img`, where N counts how often the machine has been switched on. Files are not cached by the
kernel (FOPEN_DIRECT_IO): what the loop device writes comes at once, and its flush comes as FSYNC.
"""

from __future__ import annotations

import errno
import re
import struct
from enum import IntEnum
from typing import Final, NamedTuple

#: At most so many octets in one read or write.
TRANSFER_BYTES_MAX: Final = 1 << 20
#: A message of the kernel with the largest write fits.
MESSAGE_BYTES_MAX: Final = TRANSFER_BYTES_MAX + 4096

_IN: Final = struct.Struct("<IIQQIIIHH")
_OUT: Final = struct.Struct("<IiQ")
_INIT_IN: Final = struct.Struct("<4I")
_INIT_OUT: Final = struct.Struct("<4I2H2I2HI28x")
_ENTRY: Final = struct.Struct("<4Q2I")
_ATTR_HEAD: Final = struct.Struct("<QII")
_ATTR: Final = struct.Struct("<6Q10I")
_OPEN_OUT: Final = struct.Struct("<QII")
_TRANSFER: Final = struct.Struct("<QQI")
_TRANSFER_BYTES: Final = 40
_WRITE_OUT: Final = struct.Struct("<II")

_ASYNC_READ, _BIG_WRITES, _ASYNC_DIO, _MAX_PAGES = 1 << 0, 1 << 5, 1 << 15, 1 << 22
_FOPEN_DIRECT_IO: Final = 1
_ROOT: Final = 1
_KEPT_SECONDS: Final = 3600
_NAME: Final = re.compile(rb"disk-([0-9]+)\.img\0")


class Op(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    WRITE = 16
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    RELEASEDIR = 29
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


#: The kernel waits for no answer to these.
UNANSWERED: Final = frozenset({Op.FORGET, Op.INTERRUPT, Op.BATCH_FORGET})


class Message(NamedTuple):
    """What the kernel asks. `op` may be a number that `Op` does not have."""

    op: int
    unique: int
    node: int
    body: memoryview

    @property
    def generation(self) -> int:
        """Which of the files it is about."""
        return self.node - _ROOT


def name_of(generation: int) -> str:
    return f"disk-{generation}.img"


def decode(data: bytes) -> Message:
    length, op, unique, node, *_ = _IN.unpack_from(data)
    assert length == len(data)
    return Message(op, unique, node, memoryview(data)[_IN.size :])


def read_range(message: Message) -> tuple[int, int]:
    """Offset and length."""
    _, offset, length = _TRANSFER.unpack_from(message.body)
    return offset, length


def write_data(message: Message) -> tuple[int, bytes]:
    """Offset and octets."""
    offset, length = read_range(message)
    data = bytes(message.body[_TRANSFER_BYTES:])
    assert len(data) == length
    return offset, data


def answer(message: Message, body: bytes = b"") -> bytes:
    return _OUT.pack(_OUT.size + len(body), 0, message.unique) + body


def refusal(message: Message, error: int) -> bytes:
    return _OUT.pack(_OUT.size, -error, message.unique)


def written(message: Message) -> bytes:
    _, length = read_range(message)
    return answer(message, _WRITE_OUT.pack(length, 0))


def formality(message: Message, size: int) -> bytes:
    """The answer to whatever is not about the disk's bytes. The kernel does without what is refused as ENOSYS."""
    match message.op:
        case Op.INIT:
            _, _, readahead, _ = _INIT_IN.unpack_from(message.body)
            flags = _ASYNC_READ | _BIG_WRITES | _ASYNC_DIO | _MAX_PAGES
            pages = TRANSFER_BYTES_MAX // 4096
            return answer(
                message, _INIT_OUT.pack(7, 31, readahead, flags, 16, 12, TRANSFER_BYTES_MAX, 1, pages, 0, 0)
            )
        case Op.LOOKUP:
            found = _NAME.fullmatch(message.body)
            if found is None:
                return refusal(message, errno.ENOENT)
            node = _ROOT + int(found[1])
            return answer(
                message, _ENTRY.pack(node, 0, _KEPT_SECONDS, _KEPT_SECONDS, 0, 0) + _attributes(node, size)
            )
        case Op.GETATTR:
            return answer(message, _ATTR_HEAD.pack(_KEPT_SECONDS, 0, 0) + _attributes(message.node, size))
        case Op.OPEN | Op.OPENDIR:
            return answer(message, _OPEN_OUT.pack(0, _FOPEN_DIRECT_IO, 0))
        case Op.RELEASE | Op.RELEASEDIR | Op.FLUSH | Op.DESTROY:
            return answer(message)
    return refusal(message, errno.ENOSYS)


def _attributes(node: int, size: int) -> bytes:
    mode, octets = (0o40700, 0) if node == _ROOT else (0o100600, size)
    return _ATTR.pack(node, octets, octets // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
