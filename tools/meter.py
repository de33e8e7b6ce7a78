"""How far a long scan has come, on a terminal; nothing where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from relay.codec import Recorded, decode
from spool.record import Record

_PROGRESS_RECORDS = 1000


class Meter:
    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        text = f"{what}: {done * 100 // max(total, 1)} %"
        if self._terminal and text != self._shown:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
            self._shown = text

    def decoding(self, what: str, total: int) -> Callable[[Record], Recorded]:
        """`decode`, which tells how far it has come."""

        def decode_counted(record: Record) -> Recorded:
            if record.seq % _PROGRESS_RECORDS == 0:
                self(what, record.seq, total)
            return decode(record)

        return decode_counted

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)


@contextmanager
def open_meter() -> Iterator[Meter]:
    meter = Meter()
    try:
        yield meter
    finally:
        meter.clear()
