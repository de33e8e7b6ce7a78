"""What is left of a simulated relay, as judges read it: the log, batch by batch, and whether the views are its fold."""

from __future__ import annotations

import tempfile
from pathlib import Path

from relay.codec import decode
from relay.file_names import VIEWS_DIRECTORY
from relay.views import relay_views
from spool.reader import LogReader
from tests.world.ledger import Entry


def views_that_differ(directory: Path, log: Path) -> list[str]:
    """The tables in which the relay's last views differ from a fresh fold of the log."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        fresh, last = relay_views(Path(name) / "fresh"), relay_views(directory / VIEWS_DIRECTORY)
        fresh.open()
        with LogReader(log) as reader:
            fresh.catch_up(reader)
        last.open()
        expected, found = fresh.digests(), last.digests()
        fresh.close()
        last.close()
    return [table for table in expected if expected[table] != found[table]]


def in_batches(reader: LogReader) -> list[Entry]:
    entries: list[Entry] = []
    batch, batch_seq = 0, 0
    for record in reader.read(1):
        if record.batch_seq != batch_seq:
            batch, batch_seq = batch + 1, record.batch_seq
        entries.append(Entry(decode(record), batch))
    return entries
