"""Standard input, output and error, whatever the caller has made of them.

- Closed ones are opened on /dev/null: else the next file that is opened would be one of them, and would get what is
  printed.
- A terminal that is not UTF-8 gets `\\uXXXX` for what it cannot show, which JSON can still read.
- Whoever stops reading (`| head -1`) has seen what he wanted: that is no error, and nothing is said of it.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ESCAPING = "atmos-relay-escape"


def prepare() -> None:
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(null, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    codecs.register_error(_ESCAPING, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPING)


class NobodyReadsError(Exception):
    """The reader of standard output is gone. Not the OSError that it was: click has its own mind about those."""


@contextmanager
def noticing_that_nobody_reads() -> Iterator[None]:
    """Raises NobodyReadsError for a broken pipe, where that is standard output."""
    try:
        yield
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        raise NobodyReadsError from None


def _nobody_reads() -> bool:
    """Whether standard output is a pipe, or a socket, whose reader is gone."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def fall_silent() -> None:
    """Python would try to write what is left when it exits, and complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    escaped = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
    return escaped, error.end
