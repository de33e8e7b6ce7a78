"""A worker reaches no other process by a socket of this machine (AF_UNIX), enforced by the kernel (seccomp), for good,
in it and in all that it begins.

    forbid()

The invariant: **once `forbid` has returned True, this process makes no such socket.** For a worker has the relay's
user, and whoever has that may give the operator's orders through the admin socket, where the kernel names nobody but
the user. Landlock does not know of connecting to a path. (Pairs of sockets are made as before: they lead nowhere.)

io_uring is closed, too, by which a socket is made past the filter, and so are system calls of other architectures than
Python's own. Where the machine is none that is known here, or the kernel has no filters, nothing is enforced. A filter
holds for the calling thread and those that it makes, so this is for a process with one thread.
<linux/seccomp.h>, <linux/bpf_common.h>, seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from typing import Final, NamedTuple

from relay.processes import own_rights


class _Machine(NamedTuple):
    #: <linux/audit.h>
    architecture: int
    socket: int
    seccomp: int
    #: Numbers from here on are of another way to call the kernel.
    numbers_max: int = 0x3FFF_FFFF


_MACHINES: Final = {
    "x86_64": _Machine(0xC000_003E, socket=41, seccomp=317),
    "aarch64": _Machine(0xC000_00B7, socket=198, seccomp=277),
}
#: The same on every machine.
_IO_URING_SETUP: Final = 425

_SET_MODE_FILTER: Final = 1
#: Against Spectre such a process would be made slower on older kernels. What it runs is ours.
_SPEC_ALLOW: Final = 1 << 2

_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER: Final = 0x25
_RETURN: Final = 0x06
#: In struct seccomp_data; of an argument the lower half.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

_ALLOW: Final = 0x7FFF_0000
_REFUSE: Final = 0x0005_0000 | errno.EACCES


def forbid() -> bool:
    """See the module docstring; False: it cannot be enforced here."""
    machine = _MACHINES.get(platform.machine())
    if machine is None or sys.byteorder != "little" or struct.calcsize("P") != 8:
        return False
    if len(os.listdir("/proc/self/task")) != 1:
        raise OSError("this process has several threads, and the filter would hold for one")
    # An instruction: code, how many to skip when it is so, and when not, operand. (struct sock_filter)
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_LOAD, 0, 0, _ARCHITECTURE),
            (_JUMP_EQUAL, 0, 7, machine.architecture),
            (_LOAD, 0, 0, _NUMBER),
            (_JUMP_GREATER, 5, 0, machine.numbers_max),
            (_JUMP_EQUAL, 4, 0, _IO_URING_SETUP),
            (_JUMP_EQUAL, 0, 2, machine.socket),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_JUMP_EQUAL, 1, 0, socket.AF_UNIX),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _REFUSE),
        )
    )
    octets = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog
    filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(octets))
    own_rights.gain_nothing()  # the kernel asks for that
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = map(ctypes.c_long, (machine.seccomp, _SET_MODE_FILTER, _SPEC_ALLOW))
    return bool(libc.syscall(*numbers, filter_) == 0)
