"""What a worker may not do with files, enforced by the kernel (Landlock), for good, in it and in all that it begins.

    Rules(not_read=(directory / "keys",), write=(directory / "views" / "lock.mdb",))

The invariant: **once `enforce` has returned, this process changes no file but those of `write`, and reads no file below
`not_read`**, whatever somebody makes it do. (It sees their names.) It is a second fence behind the code, which does
neither. What it has open already stays open. Since version 6 it sends no signal to a process that is not fenced in by
it, the core among them.

Landlock knows what is allowed, and nothing else. So what may be read is written down: beside each path of `not_read`,
and beside each directory above it, all that is there at this moment. **What is made later in one of these directories
itself cannot be opened** (in those below and beside them it can): a process that has to know of a new file right in the
data directory is told its contents.

Where the kernel has no Landlock (`version` 0), or the system forbids to use it, nothing is enforced; whoever begins a
worker says so in the log. Rules hold for the calling thread and those that it makes, so this is for a process with one
thread. <linux/landlock.h>, Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from relay.processes import own_rights

# The same on every machine that Linux has run on for long.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_GET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
#: To remove a directory or a file, and to make a file of any of seven kinds.
_REMOVE_AND_MAKE: Final = sum(1 << bit for bit in range(4, 13))
#: Since version 3.
_TRUNCATE: Final = 1 << 14

#: Since version 6: abstract sockets of others, and signals to others.
_SCOPED: Final = 3

#: Programs that are begun write what they need not say there.
_NOWHERE: Final = Path("/dev/null")


class Rules(msgspec.Struct, frozen=True):
    """Paths, of what is there when they are enforced."""

    #: No file below these can be read.
    not_read: tuple[str, ...] = ()
    #: Only these files can be written; they are never made or removed.
    write: tuple[str, ...] = ()


def version() -> int:
    """Of the kernel's Landlock; 0: there is none to be had."""
    return max(_syscall(_CREATE_RULESET, None, 0, _GET_VERSION), 0)


def enforce(rules: Rules) -> bool:
    """See the module docstring; False: there is no Landlock. Raises OSError where a file of `write` is missing, or the
    kernel refuses; nothing may be done then that relies on this."""
    found = version()
    if not found:
        return False
    if len(os.listdir("/proc/self/task")) != 1:
        raise OSError("this process has several threads, and the rules would hold for one")
    # To move or link into another directory is forbidden without being named.
    writing = _WRITE_FILE | _REMOVE_AND_MAKE | (_TRUNCATE if found >= 3 else 0)
    reading = _READ_FILE if rules.not_read else 0
    attributes = struct.pack("=Q", writing | reading)
    if found >= 6:
        attributes += struct.pack("=QQ", 0, _SCOPED)
    ruleset = _checked(_syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for name in (*rules.write, str(_NOWHERE)):
            _allow(ruleset, Path(name), (_WRITE_FILE | _TRUNCATE) & writing)
        if reading:
            for path in _beside([Path(name).resolve() for name in rules.not_read]):
                try:
                    _allow(ruleset, path, reading)
                except (FileNotFoundError, PermissionError):
                    continue  # it went meanwhile, or is closed to this process anyway
        own_rights.gain_nothing()  # the kernel asks for that
        _checked(_syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _beside(hidden: list[Path]) -> Iterator[Path]:
    """All that covers everything but the hidden."""
    above = {parent for path in hidden for parent in path.parents}
    for directory in sorted(above - {path for path in above if any(_is_in(path, one) for one in hidden)}):
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, PermissionError):
            continue
        yield from (path for name in names if (path := directory / name) not in above and path not in hidden)


def _is_in(path: Path, directory: Path) -> bool:
    return path == directory or directory in path.parents


def _allow(ruleset: int, path: Path, access: int) -> None:
    # A link is no file of its own: what it leads to is beside something else.
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISLNK(mode):
            return
        if not stat.S_ISDIR(mode):
            access &= _READ_FILE | _WRITE_FILE | _TRUNCATE
        # struct landlock_path_beneath_attr, which is packed.
        _checked(_syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", access, descriptor), 0))
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    """-1 and errno where it fails."""
    taken = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    done: int = _libc().syscall(ctypes.c_long(number), *taken)
    return done


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _checked(done: int) -> int:
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done
