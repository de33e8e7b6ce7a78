"""A batch becomes a row and is the same batch again, or it is refused: whatever somebody has done to the row."""

from __future__ import annotations

import pytest

from spool.received import Received
from spool.record import Entry, Record, encode_record
from spool.replicated.rows import PLAIN, SEALED, DamagedRowError, Seal, decode, encode, place_of
from spool.replicated.table import Row
from tests.world.batches import TransparentSeal, make_batch

ENTRIES = [Entry(b"one", b"payload"), Entry(b"two"), Entry(b"", b""), Entry(b"four", bytes(range(100)))]
SEALS = [None, TransparentSeal()]


def make_row(
    seal: Seal | None, entries: list[Entry] = ENTRIES, beside: bytes = b""
) -> tuple[list[Record], Row]:
    records = make_batch(entries, first_seq=7, previous_chain=b"p" * 32)
    return records, encode(records, b"p" * 32, epoch=3, seal=seal, beside=beside)


def contents(batch: Received) -> list[Entry]:
    return [Entry(skeleton, payload) for skeleton, payload, *_ in batch.records]


@pytest.mark.parametrize("seal", SEALS)
def test_a_batch_comes_back_as_it_was(seal: Seal | None) -> None:
    records, row = make_row(seal, beside=b"a key")
    assert (row.first_seq, row.last_seq, row.epoch, row.chain) == (7, 10, 3, records[-1].chain)
    assert row.beside == b"a key"
    assert row.data[0] == (PLAIN if seal is None else SEALED)
    batch = decode(row, seal=seal)
    assert contents(batch) == ENTRIES
    assert {record.time_us for record in batch.records} == {1_000}
    assert (batch.first_seq, batch.last_seq) == (7, 10)
    assert (batch.previous_chain, batch.chain) == (b"p" * 32, records[-1].chain)
    assert batch.chains == [record.chain for record in records]


@pytest.mark.parametrize("seal", SEALS)
def test_no_bit_of_a_row_can_be_changed(seal: Seal | None) -> None:
    _, row = make_row(seal)
    for position in range(len(row.data)):
        for bit in range(8):
            data = bytearray(row.data)
            data[position] ^= 1 << bit
            with pytest.raises(DamagedRowError):
                decode(row._replace(data=bytes(data)), seal=seal)
    changed = [
        row._replace(first_seq=6),
        row._replace(first_seq=8),
        row._replace(last_seq=9),
        row._replace(last_seq=11),
        row._replace(last_seq=0),
        row._replace(previous_chain=b"q" * 32),
        row._replace(chain=b"q" * 32),
    ]
    for other in changed:
        with pytest.raises(DamagedRowError):
            decode(other, seal=seal)


@pytest.mark.parametrize("seal", SEALS)
def test_a_row_that_is_cut_or_goes_on_is_refused(seal: Seal | None) -> None:
    _, row = make_row(seal)
    for length in range(len(row.data)):
        with pytest.raises(DamagedRowError):
            decode(row._replace(data=row.data[:length]), seal=seal)
    with pytest.raises(DamagedRowError):
        decode(row._replace(data=row.data + bytes(8)), seal=seal)


def test_what_is_whole_in_itself_and_is_not_this_batch_is_refused() -> None:
    """The checksums say nothing against whoever can make new ones: the chain and the place do."""
    records, row = make_row(None)

    def refused(problem: str, *changed: Record) -> None:
        data = bytes((PLAIN,)) + b"".join(b"".join(encode_record(record, 0)) for record in changed)
        with pytest.raises(DamagedRowError, match=problem):
            decode(row._replace(data=data), seal=None)

    first, second, third, last = records
    refused("record 1: its sequence number is 8", second, third, last)
    refused("it has 3 records", first, second, third)
    refused("record 5: its sequence number is 10", first, second, third, last, last)
    another = last._replace(seq=11, batch_end=False)
    refused("record 5: its sequence number is 11", first, second, third, last, another)
    refused("does not follow", first._replace(skeleton=b"uno"), second, third, last)
    refused("another batch", first._replace(batch_end=True), second, third, last)
    refused("another batch", first, second, third, last._replace(batch_end=False))
    refused("another batch", first._replace(batch_seq=6), second, third, last)
    refused("its time is before", first, second._replace(time_us=999), third, last)
    refused("stripped", first._replace(payload=None, stripped=True), second, third, last)
    refused("stripped", first._replace(payload=None), second, third, last)
    refused("stripped", first, second._replace(stripped=True), third, last)
    refused("SHA-256", first._replace(payload=b"other"), second, third, last)


def test_whoever_has_a_seal_takes_nothing_that_is_plain() -> None:
    _, plain = make_row(None)
    _, sealed = make_row(TransparentSeal())
    with pytest.raises(DamagedRowError, match="it is not sealed"):
        decode(plain, seal=TransparentSeal())
    with pytest.raises(DamagedRowError, match="there is no key"):
        decode(sealed, seal=None)
    with pytest.raises(DamagedRowError, match="another key's"):
        decode(sealed, seal=TransparentSeal(b"another"))


def test_a_form_of_a_newer_version_is_named() -> None:
    _, row = make_row(None)
    with pytest.raises(DamagedRowError, match="its form is 3, which this version does not know"):
        decode(row._replace(data=b"\3" + row.data[1:]), seal=None)


def test_places_differ_with_all_that_they_bind() -> None:
    _, row = make_row(None)
    others = [
        row._replace(first_seq=6),
        row._replace(last_seq=9),
        row._replace(previous_chain=b"q" * 32),
        row._replace(chain=b"q" * 32),
    ]
    assert len({place_of(row), *map(place_of, others)}) == 5
