"""Batches of records as a leader makes them, without a log; and a seal for tests, which hides nothing."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from spool.record import CHAIN_START, Entry, Record, make_record
from spool.replicated.rows import BrokenSealError


def make_batch(
    entries: Sequence[Entry], *, first_seq: int = 1, previous_chain: bytes = CHAIN_START, time_us: int = 1_000
) -> list[Record]:
    records: list[Record] = []
    seq, chain = first_seq, previous_chain
    for entry in entries:
        record = make_record(
            entry,
            seq=seq,
            time_us=time_us,
            batch_seq=first_seq,
            batch_end=seq == first_seq + len(entries) - 1,
            previous_chain=chain,
            segment=1,
            offset=0,
        )
        records.append(record)
        seq, chain = seq + 1, record.chain
    return records


class TransparentSeal:
    """Authenticates, and encrypts nothing."""

    def __init__(self, key: bytes = b"key") -> None:
        self._key = key

    def seal(self, data: bytes, place: bytes) -> bytes:
        return hmac.digest(self._key, place + data, "sha256") + data

    def open(self, data: bytes, place: bytes) -> bytes:
        if not hmac.compare_digest(self.seal(data[32:], place)[:32], data[:32]):
            raise BrokenSealError("it does not match")
        return data[32:]
