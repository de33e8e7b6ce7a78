"""A program for a child that does what it is told, and what no program should do."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from typing import Any

import msgspec


class Echo(msgspec.Struct, frozen=True, tag=True):
    text: str = ""


class Echoed(msgspec.Struct, frozen=True):
    text: str
    octets: int
    pid: int


class Take(msgspec.Struct, frozen=True, tag=True):
    """So much memory."""

    data_bytes: int


class Hang(msgspec.Struct, frozen=True, tag=True):
    """In one call into C, as a regular expression hangs. Before, it says HANGS on standard error."""


HANGS = "it hangs from now on"


class Work(msgspec.Struct, frozen=True, tag=True):
    """So many seconds of processor time."""

    cpu_seconds: float


class End(msgspec.Struct, frozen=True, tag=True):
    code: int = 0


class Raise(msgspec.Struct, frozen=True, tag=True):
    secret: str


class Say(msgspec.Struct, frozen=True, tag=True):
    """On standard error."""

    line: str
    lines: int = 1


class Write(msgspec.Struct, frozen=True, tag=True):
    """These octets in place of an answer."""

    octets: bytes
    and_end: bool = False


class Look(msgspec.Struct, frozen=True, tag=True):
    """At yourself."""


class Looks(msgspec.Struct, frozen=True):
    descriptors: dict[str, str]
    no_new_privs: bool
    core: tuple[int, int]
    files: tuple[int, int]
    data: tuple[int, int]
    niceness: int
    environment: list[str]
    dies_with_parent: int
    modules: list[str]


QUESTIONS = Echo | Take | Hang | Work | End | Raise | Say | Write | Look


def answer(question: Any, octets: bytes) -> Any:
    match question:
        case Take(data_bytes):
            taken = bytearray(data_bytes)
            return Echoed("", len(taken), os.getpid())
        case Hang():
            sys.stderr.write(f"{HANGS}\n")
            sys.stderr.flush()
            re.match(r"(a|a)*b", "a" * 64)
        case Work(cpu_seconds):
            end = time.process_time() + cpu_seconds
            while time.process_time() < end:
                pass
        case End(code):
            os._exit(code)
        case Raise(secret):
            raise ValueError(secret)
        case Say(line, lines):
            sys.stderr.write(f"{line}\n" * lines)
            sys.stderr.flush()
        case Write(raw, and_end):
            _socket().sendall(raw)
            if and_end:
                os._exit(0)
            time.sleep(60)
        case Look():
            return _looks()
        case Echo(text):
            return Echoed(text, len(octets), os.getpid())
    return Echoed("", len(octets), os.getpid())


def _socket() -> socket.socket:
    (descriptor,) = (int(name) for name, what in _descriptors().items() if what.startswith("socket:"))
    return socket.socket(fileno=os.dup(descriptor))


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that listed them
    return found


def _looks() -> Looks:
    import ctypes
    import resource

    pdeathsig = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(2, ctypes.byref(pdeathsig), 0, 0, 0)
    with open("/proc/self/status") as status:
        lines = status.read()
    return Looks(
        descriptors=_descriptors(),
        no_new_privs="NoNewPrivs:\t1" in lines,
        core=resource.getrlimit(resource.RLIMIT_CORE),
        files=resource.getrlimit(resource.RLIMIT_NOFILE),
        data=resource.getrlimit(resource.RLIMIT_DATA),
        niceness=os.getpriority(os.PRIO_PROCESS, 0),
        environment=sorted(os.environ),
        dies_with_parent=pdeathsig.value,
        modules=sorted(name for name in sys.modules if name.partition(".")[0] in ("trio", "relay")),
    )
