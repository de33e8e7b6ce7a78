"""A batch as a row of the table, and a row as a batch again, or refused.

The invariant: **what `decode` returns is a batch that follows from the record with the chain value `previous_chain`,
and is, to the last bit, what ends with the chain value `chain`.** The database is a stranger: all that it brings is
checked before anybody believes it, by lengths, checksums, digests, sequence numbers and the chain.

A row's `data`::

    0  1  form: 1 plain, 2 sealed
    1  …  the records, as they stand in a segment whose seed is zero (`spool` has the layout); sealed, where the form is
    2

Whoever has a seal takes nothing that is plain, and whoever has none takes nothing that is sealed. A form that is not
known here was made by a newer version. What is sealed is bound to its place: a row that was exchanged for another one,
or whose columns were changed, does not open.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Protocol

from spool.errors import SpoolError
from spool.received import PlainRecord, Received
from spool.record import (
    NO_DIGEST,
    DamagedError,
    Record,
    decode_record,
    encode_record,
    next_chain,
    record_bytes,
)
from spool.replicated.table import Row

PLAIN: Final = 1
SEALED: Final = 2

#: The checksums tell damage; strangers are told by the seal.
_SEED: Final = 0
_PLACE: Final = struct.Struct("<QQ32s32s")


class DamagedRowError(SpoolError):
    """A row of the table is not what a leader would have written. Nothing of it was used."""

    def __init__(self, row: Row, problem: str) -> None:
        super().__init__(f"the row with sequences {row.first_seq} to {row.last_seq}: {problem}")
        self.first_seq = row.first_seq
        self.problem = problem


class BrokenSealError(Exception):
    """This was not sealed by whoever has our key, or not for this place, or is not what was sealed."""


class Seal(Protocol):
    """Keeps what is in the rows from whoever can read the database, and our logs from what he writes there."""

    def seal(self, data: bytes, place: bytes) -> bytes:
        """Encrypt and authenticate it, bound to its place."""

    def open(self, data: bytes, place: bytes) -> bytes:
        """What was sealed for this place. Raises `BrokenSealError`."""


def place_of(row: Row) -> bytes:
    """What the seal of a row's data is bound to: its place in the log, and what is in it."""
    return _PLACE.pack(row.first_seq, row.last_seq, row.previous_chain, row.chain)


def encode(
    records: Sequence[Record], previous_chain: bytes, *, epoch: int, seal: Seal | None, beside: bytes = b""
) -> Row:
    """The row of one batch."""
    last = records[-1]
    row = Row(records[0].seq, last.seq, epoch, previous_chain, last.chain, b"", beside)
    pieces: list[bytes] = []
    for record in records:
        pieces += encode_record(record, _SEED)
    data = b"".join(pieces)
    if seal is None:
        return row._replace(data=bytes((PLAIN,)) + data)
    return row._replace(data=bytes((SEALED,)) + seal.seal(data, place_of(row)))


def decode(row: Row, *, seal: Seal | None) -> Received:
    """The batch. Raises `DamagedRowError`."""
    data = _opened(row, seal)
    if row.last_seq < row.first_seq or row.first_seq < 1:
        raise DamagedRowError(row, "these are no sequence numbers of a batch")
    records: list[PlainRecord] = []
    chains: list[bytes] = []
    first_seq, last_seq = row.first_seq, row.last_seq
    position, seq, chain, time_us = 0, first_seq, row.previous_chain, 0
    while position < len(data):
        try:
            record = decode_record(data, position, _SEED, 0, 0)
        except DamagedError as error:
            raise DamagedRowError(row, f"record {len(records) + 1}: {error.problem}") from error
        if record is None:
            raise DamagedRowError(row, f"record {len(records) + 1} is cut short")
        (
            own_seq,
            own_time_us,
            batch_seq,
            ends,
            skeleton,
            payload,
            payload_sha256,
            own_chain,
            stripped,
            _,
            _,
        ) = record
        # Not in a function: the call, and a record's fields by their names, cost a tenth of all that is done here.
        if (
            own_seq != seq
            or seq > last_seq
            or batch_seq != first_seq
            or ends != (seq == last_seq)
            or own_time_us < time_us
            or stripped
            or (payload is None and payload_sha256 != NO_DIGEST)
        ):
            raise DamagedRowError(row, f"record {len(records) + 1}: {_problem(record, row, seq, time_us)}")
        time_us = own_time_us
        chain = next_chain(chain, seq, time_us, batch_seq, ends, skeleton, payload_sha256)
        if own_chain != chain:
            raise DamagedRowError(row, f"record {len(records) + 1} does not follow from the one before it")
        # Half of what `PlainRecord(...)` costs.
        records.append(tuple.__new__(PlainRecord, (skeleton, payload, payload_sha256, time_us)))
        chains.append(chain)
        position += record_bytes(len(skeleton), 0 if payload is None else len(payload))
        seq += 1
    if seq != last_seq + 1:
        raise DamagedRowError(row, f"it has {len(records)} records")
    if chain != row.chain:
        raise DamagedRowError(row, "its last record has another chain value")
    return Received(first_seq, row.previous_chain, chain, records, chains)


def _opened(row: Row, seal: Seal | None) -> bytes:
    form = row.data[0] if row.data else None
    if form not in (PLAIN, SEALED):
        raise DamagedRowError(row, f"its form is {form}, which this version does not know")
    if (form == SEALED) != (seal is not None):
        raise DamagedRowError(
            row, "it is sealed, and there is no key" if seal is None else "it is not sealed"
        )
    if seal is None:
        return row.data[1:]
    try:
        return seal.open(row.data[1:], place_of(row))
    except BrokenSealError as error:
        raise DamagedRowError(row, f"its seal is broken, or is another key's: {error}") from error


def _problem(record: Record, row: Row, seq: int, time_us: int) -> str:
    """What is wrong with a record that is whole in itself, and is not the one that belongs here."""
    if record.seq != seq or seq > row.last_seq:
        return f"its sequence number is {record.seq}"
    if record.batch_seq != row.first_seq or record.batch_end != (seq == row.last_seq):
        return "it is of another batch"
    if record.time_us < time_us:
        return "its time is before the time of the record in front of it"
    return "its payload has been stripped"
