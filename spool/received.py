"""Batches that another machine made, and their place in this machine's own file.

The invariant: **what is placed has the chain values that the other machine gave it, directly behind what is here.** The
records are made anew from what they say, with our own sequence numbers and batch ends; then the chain value of the
last one agrees, or nothing is believed (`DivergedError`). The chain covers all of that, so nothing else needs to be
compared, but for one thing: whoever read the record has seen that a digest is its payload's. To compute it once more
would be most of what is done here with a large mail.

Whoever has computed the chain values to check a batch, from these numbers and ends, hands them on (`Received.chains`),
and they are not computed again: with small records that would be most of what is done here. What they begin with and
end with is compared all the same.

Pure. The segment's salt, and so all checksums, are this machine's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from spool.errors import DivergedError
from spool.record import Record, next_chain, record_bytes
from spool.segment import FOOTER_BYTES, SEGMENT_HEADER_BYTES, Position


class PlainRecord(NamedTuple):
    """A record without its place."""

    skeleton: bytes
    payload: bytes | None
    payload_sha256: bytes
    """NO_DIGEST where there is no payload. Whoever makes one of these has computed it, or compared."""
    time_us: int


class Received(NamedTuple):
    """One batch. Its records are numbered from `first_seq` on, and the last of them ends the batch."""

    first_seq: int
    previous_chain: bytes
    """The chain value of the record before them."""
    chain: bytes
    """That of the last of them."""
    records: Sequence[PlainRecord]
    chains: Sequence[bytes] | None = None
    """Those of all of them, where whoever made this has computed each from the one before it and the record, and has
    found the last one to be `chain`. None: it is for whoever places them to do so."""

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.records) - 1


def place(
    batches: Sequence[Received], end: Position, *, segment_bytes_max: int, run_records_max: int
) -> list[list[Record]]:
    """The records of these batches behind `end`, in runs that are written by one call each: whole batches, of one
    segment, of no more than `run_records_max` records unless one batch has more. A run whose segment is not that of the
    run before begins it.

    Raises `DivergedError` for the first batch that does not follow from what is in front of it.
    """
    runs: list[list[Record]] = []
    for batch in batches:
        _check_follows(batch, end)
        sizes = [
            record_bytes(len(skeleton), 0 if payload is None else len(payload))
            for skeleton, payload, *_ in batch.records
        ]
        size = sum(sizes)
        begins = bool(end.records) and end.offset + size + FOOTER_BYTES > segment_bytes_max
        if begins:
            end = Position(end.next_seq, SEGMENT_HEADER_BYTES, end.next_seq, end.chain, end.time_us)
        records = list(_placed(batch, sizes, end))
        last = records[-1]
        if runs and not begins and len(runs[-1]) + len(records) <= run_records_max:
            runs[-1] += records
        else:
            runs.append(records)
        end = Position(end.segment, end.offset + size, last.seq + 1, last.chain, last.time_us)
    return runs


def _check_follows(batch: Received, end: Position) -> None:
    if not batch.records:
        raise DivergedError(batch.first_seq, "it has no records")
    if batch.first_seq != end.next_seq:
        raise DivergedError(
            batch.first_seq, f"the log here ends with {end.next_seq - 1}, which it does not follow"
        )
    if batch.previous_chain != end.chain:
        raise DivergedError(
            batch.first_seq, "the record in front of it has another chain value in the log here"
        )


def _chains_of(batch: Received) -> Sequence[bytes]:
    """Of all its records. Raises `DivergedError` where they do not end with its chain value."""
    chains = batch.chains
    if chains is None:
        chains = list(_computed(batch))
    if len(chains) != len(batch.records) or chains[-1] != batch.chain:
        raise DivergedError(batch.first_seq, "its records do not have the chain value that it was given with")
    return chains


def _computed(batch: Received) -> Iterator[bytes]:
    first_seq, last_seq, chain = batch.first_seq, batch.last_seq, batch.previous_chain
    for seq, (skeleton, _, payload_sha256, time_us) in enumerate(batch.records, first_seq):
        chain = next_chain(chain, seq, time_us, first_seq, seq == last_seq, skeleton, payload_sha256)
        yield chain


def _placed(batch: Received, sizes: Sequence[int], end: Position) -> Iterator[Record]:
    segment, offset, seq, _, last_time_us = end
    first_seq, last_seq = batch.first_seq, batch.last_seq
    for (skeleton, payload, payload_sha256, time_us), chain, size in zip(
        batch.records, _chains_of(batch), sizes, strict=True
    ):
        if time_us < last_time_us:
            raise DivergedError(first_seq, "its time is before the time of the record in front of it")
        # Half of what `Record(...)` costs.
        yield tuple.__new__(
            Record,
            (
                seq,
                time_us,
                first_seq,
                seq == last_seq,
                skeleton,
                payload,
                payload_sha256,
                chain,
                False,
                segment,
                offset,
            ),
        )
        seq, offset, last_time_us = seq + 1, offset + size, time_us
