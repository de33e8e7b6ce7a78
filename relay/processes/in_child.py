"""The child's half, begun by `child`.

    python -m relay.processes.in_child PROGRAM SOCKET PARENT DATA_BYTES_MAX CPU_SECONDS_MAX

The invariant: **a child can do nothing but compute, and ends with its parent**, however that one ends:

- It asks the kernel to be killed when the thread that made it ends (PR_SET_PDEATHSIG), and looks whether that had
  happened before it asked. Where it waits, the end of its socket ends it, too.
- It has four descriptors: the null device twice, the pipe of its errors, its socket. It may open few more (modules,
  and tables of character sets, are read when they are first wanted), never gets rights by exec (no_new_privs), and
  leaves no core file with somebody's mail in it.
- Beyond what it needs to be ready it gets DATA_BYTES_MAX of memory (RLIMIT_DATA), and for each question
  CPU_SECONDS_MAX of processor time (ITIMER_PROF, whose signal ends it in the middle of whatever it does, C code as
  well). Whatever needs more ends it.
- The signals that end a relay in order are not for it: who sends them to a whole group wants what is being asked
  answered. It is nice: where processor time is short, the relay has it.

What it says on standard error are types and places of exceptions, never their texts (`relay.logs`): these may quote
a mail.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
from types import TracebackType
from typing import Any, BinaryIO, Final, cast

import msgspec

from relay.logs import describe
from relay.processes import frames, own_rights

#: Its own four, and those of a module that is being read.
FILES_MAX: Final = 16
NICENESS: Final = 5


def main(arguments: list[str]) -> None:
    """Answer until the relay closes its side. Whatever goes wrong ends the process."""
    program_name, descriptor, parent, data_bytes_max = (arguments[0], *map(int, arguments[1:4]))
    own_rights.end_with(parent)
    _give_up_rights()
    sys.excepthook = _say_where
    # Libraries log what they stumble over, and quote it.
    logging.disable(logging.CRITICAL)
    program = importlib.import_module(program_name)
    # A pair of buffers, which has what `frames` asks for.
    stream = cast(BinaryIO, socket.socket(fileno=descriptor).makefile("rwb"))
    own_rights.limit("RLIMIT_DATA", _data_bytes() + data_bytes_max)
    frames.write(stream, frames.READY)
    _answer(program, stream, float(arguments[4]))


def _answer(program: Any, stream: BinaryIO, cpu_seconds_max: float) -> None:
    decode = msgspec.msgpack.Decoder(program.QUESTIONS).decode
    while (question := frames.read(stream)) is not None:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds_max)
        answer = program.answer(decode(question.head), question.octets)
        signal.setitimer(signal.ITIMER_PROF, 0)
        del question  # its octets, before the next come
        frames.write(stream, frames.Frame(msgspec.msgpack.encode(answer)))


def _give_up_rights() -> None:
    # Whoever began the relay may have had it ignored, or blocked.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    own_rights.gain_nothing()
    own_rights.limit("RLIMIT_NOFILE", FILES_MAX)
    os.nice(NICENESS)


def _data_bytes() -> int:
    """What RLIMIT_DATA counts, now."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    raise OSError("the kernel does not say how much data this process has")


def _say_where(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    for line in describe(error):
        sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
