"""One segment, checked to its end: whatever is damaged in it is named, and what stands behind it is checked too.

The invariant: **no byte is taken on trust, and no damage hides what stands behind it.** Start-up and readers stop
at the first fault, because they must not go on; this goes on, so that whoever has to mend a log knows from one run
what is lost and what is not. A record whose header is whole says where the next one begins; where a header is
damaged, the next whole one is found by its checksum. What damage has hidden (a chain value, the batch) is not
compared, and everything else is.

It is written against the layout, not on top of `segment.Walk`: what checks does not share the mistakes of what is
checked. The tests hold the two against each other.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final, NamedTuple

from spool.record import (
    HEADER_BYTES,
    KIND_AT,
    KIND_FOOTER,
    KIND_RECORD,
    NO_DIGEST,
    DamagedError,
    RecordHeader,
    chain_of,
    crc32c,
    decode_header,
    decode_record,
    padded,
)
from spool.recovery import Witness
from spool.segment import (
    FOOTER_BYTES,
    SEGMENT_HEADER_BYTES,
    Fault,
    Footer,
    decode_footer,
    decode_segment_header,
    find_later,
)
from spool.verify.flips import find_flip

# Where the salt and the checksum stand in a segment header.
_SALT: Final = slice(32, 48)
_HEADER_CRC_AT: Final = 12
_CRC: Final = struct.Struct("<I")
# Half a second's search.
_FLIP_SEARCH_BYTES_MAX: Final = 1 << 20


class LogProblem(NamedTuple):
    """One thing that is not as it was written."""

    file: str
    offset: int
    """Where the damaged header, record or footer begins; `problem` says which byte, where that can be told."""
    seq: int
    part: str
    """`segment` (the file as a whole), `segment-header`, `header`, `skeleton`, `payload` or `footer`."""
    problem: str


class Expected(NamedTuple):
    """The sequence number of the next record, and what it must follow from. None is what damage has hidden."""

    seq: int | None
    chain: bytes | None
    time_us: int


class SegmentCheck:
    """Goes through the bytes of one segment, and on behind whatever is damaged in it.

    `problems` is what had been acknowledged and is damaged. `torn` is a last batch that is not whole and that
    nothing proves ever to have been.
    """

    def __init__(
        self,
        path: Path,
        first_seq: int,
        expected: Expected,
        *,
        last: bool = False,
        witness: Witness | None = None,
        mark: Witness | None = None,
    ) -> None:
        self.file = path.name
        self.data = path.read_bytes()
        self.records = 0
        #: Of these, the ones whose payload was stripped.
        self.stripped = 0
        self.problems: list[LogProblem] = []
        self.torn: LogProblem | None = None
        self._first_seq = first_seq
        self._last = last
        #: Whichever of the two knows more.
        self._witness = mark if mark is not None and (witness is None or mark.seq > witness.seq) else witness
        self._is_marked = mark is not None
        self._seed = 0

        # Where the next record stands, and what it must follow from.
        self._offset = SEGMENT_HEADER_BYTES
        self._seq = first_seq
        self._chain = expected.chain
        self._time_us = expected.time_us
        # The batch that we are in; None between batches, and where damage has hidden which one it is.
        self._batch_seq: int | None = None
        self._batch_hidden = False
        self._batch_records = 0
        self._batches_end = SEGMENT_HEADER_BYTES
        self._footer: Footer | None = None

        if self._check_header():
            self._check_records()
        else:
            self._lose_the_rest()

    @property
    def expected_next(self) -> Expected:
        """What the next segment must follow from."""
        lost = self._offset > len(self.data)
        return Expected(None if lost else self._seq, self._chain, self._time_us)

    def _check_header(self) -> bool:
        """False if nothing behind it can be read."""
        try:
            header = decode_segment_header(self.data, self._first_seq)
        except DamagedError as damage:
            self._report(0, self._seq, damage.part, damage.problem + self._flip_in_segment_header())
            return self._guess_seed()
        if self._chain is not None and header.previous_chain != self._chain:
            problem = "its chain value does not follow from the segment before it"
            self._report(0, self._seq, "segment-header", problem)
        self._chain = header.previous_chain
        self._seed = header.seed
        return True

    def _guess_seed(self) -> bool:
        """The damage may have spared the salt: the first record tells, by its checksum."""
        self._seed = crc32c(0, self.data[_SALT])
        return self._headed(SEGMENT_HEADER_BYTES) is not None

    def _check_records(self) -> None:
        while self._offset < len(self.data) and self._footer is None:
            offset, seq, batch_seq = self._offset, self._seq, self._batch_seq or self._seq
            try:
                self._step()
            except DamagedError as damage:
                problem = damage.problem + self._flip(offset, damage.part)
                if not self._is_proven(offset, seq, batch_seq):
                    self._report_torn(offset, seq, damage.part, problem)
                    return
                if self._offset == offset:
                    self._go_on_behind(offset)
                    if self._seq > seq + 1:
                        problem += f"; sequences {seq} to {self._seq - 1} cannot be read"
                self._report(offset, seq, damage.part, problem)
        self._check_end()

    def _step(self) -> None:
        """Check what stands at our place, and go on behind it. Raises `DamagedError`; it has gone on even so, if
        what stands there is damaged but says what follows it."""
        if self._is_at_footer():
            self._check_footer()
        else:
            self._check_record()

    def _is_at_footer(self) -> bool:
        """By its kind; where that cannot be right, by its place: nothing else stands so near to the end."""
        rest = len(self.data) - self._offset
        kind = self.data[self._offset + KIND_AT] if rest > KIND_AT else None
        if rest == FOOTER_BYTES:
            return kind != KIND_RECORD
        if rest < FOOTER_BYTES:
            return kind == KIND_FOOTER
        return kind == KIND_FOOTER and isinstance(self._headed(self._offset), Footer)

    def _headed(self, offset: int) -> RecordHeader | Footer | None:
        """What begins at `offset`, if its checksum is right. What it heads may be damaged all the same."""
        rest = len(self.data) - offset
        try:
            if rest >= FOOTER_BYTES and self.data[offset + KIND_AT] == KIND_FOOTER:
                return decode_footer(self.data, offset, self._seed)
            if rest >= HEADER_BYTES:
                return decode_header(self.data, offset, self._seed)
        except DamagedError:
            pass
        return None

    def _check_record(self) -> None:
        data, offset = self.data, self._offset
        if len(data) - offset < HEADER_BYTES:
            raise DamagedError("header", f"the file ends at {len(data)}, inside a record")
        header = decode_header(data, offset, self._seed)
        if len(data) - offset < header.size:
            raise DamagedError("header", f"the file ends at {len(data)}, inside a record")
        expected_seq, expected_chain, expected_time_us = self._seq, self._chain, self._time_us
        expected_batch_seq = header.batch_seq if self._batch_hidden else self._batch_seq or self._seq

        # The header is believed, whatever is wrong with what it heads.
        self._offset += header.size
        self._seq = header.seq + 1
        self._chain = header.chain
        self._time_us = max(self._time_us, header.time_us)
        self._batch_seq, self._batch_hidden = None, True
        record = decode_record(data, offset, self._seed, self._first_seq, offset, header)
        assert record is not None
        self._batch_seq, self._batch_hidden = None if record.batch_end else record.batch_seq, False

        if record.seq != expected_seq:
            raise DamagedError("header", f"sequence {record.seq} stands where {expected_seq} belongs")
        if record.batch_seq != expected_batch_seq:
            problem = f"batch {record.batch_seq} stands where batch {expected_batch_seq} belongs"
            raise DamagedError("header", problem)
        if record.time_us < expected_time_us:
            raise DamagedError("header", "its time is before the time of the record in front of it")
        if expected_chain is not None and record.chain != chain_of(record, expected_chain):
            raise DamagedError("header", "its chain value does not follow from the record in front of it")
        if record.stripped != (record.payload is None and record.payload_sha256 != NO_DIGEST):
            raise DamagedError(
                "payload", "its payload is missing, and the record does not say that it was stripped"
            )
        self.records += 1
        self.stripped += record.stripped
        self._batch_records += 1
        if record.batch_end:
            self._batch_records = 0
            self._batches_end = self._offset

    def _check_footer(self) -> None:
        offset = self._offset
        if len(self.data) - offset < FOOTER_BYTES:
            raise DamagedError("footer", f"the file ends at {len(self.data)}, inside the footer")
        footer = decode_footer(self.data, offset, self._seed)
        inside_batch = self._batch_seq is not None
        expected = Footer(
            records=self._seq - self._first_seq,
            first_seq=self._first_seq,
            last_seq=self._seq - 1,
            end_offset=offset,
            last_time_us=self._time_us if self._seq > self._first_seq else footer.last_time_us,
            chain=self._chain or footer.chain,
            file_crc=footer.file_crc,  # checked at the end
            stripped=footer.stripped or self.stripped > 0,
        )
        self._footer = footer
        self._offset += FOOTER_BYTES
        if inside_batch:
            raise DamagedError(
                "footer", f"the footer stands inside the batch that began with {self._batch_seq}"
            )
        wrong = [name for name, value in expected._asdict().items() if getattr(footer, name) != value]
        if self._chain is None:
            # The record before it is lost, and its time with it.
            wrong = [name for name in wrong if name != "last_time_us"]
        self._chain = footer.chain
        if wrong:
            problem = f"the footer does not agree with the records before it: {', '.join(wrong)}"
            raise DamagedError("footer", problem)

    def _check_end(self) -> None:
        """Check that the segment ends where and how it may, and holds all that the views have seen."""
        if self._offset > len(self.data):
            return  # lost, and that has been said
        if self._footer is not None:
            before_footer = self._offset - FOOTER_BYTES
            if self._offset < len(self.data):
                self._report(self._offset, self._seq, "footer", "bytes follow the footer")
            elif not self.problems and self._footer.file_crc != crc32c(0, self.data[:before_footer]):
                self._report(before_footer, self._seq, "footer", "the checksum over the file does not match")
        elif self._batch_seq is not None:
            problem = f"the file ends inside the batch that began with sequence {self._batch_seq}"
            if not self._is_proven(self._offset, self._seq, self._batch_seq):
                self._report_torn(self._offset, self._seq, "header", problem)
            else:
                self._report(self._offset, self._seq, "header", problem)
                self._lose_the_rest()
            return
        elif not self._last:
            problem = "the segment ends here without a footer, and another one follows"
            self._report(self._offset, self._seq, "segment", problem)
            self._lose_the_rest()
        if self._last and self._witness is not None and self._witness.seq >= self._seq:
            who = "the mark says" if self._is_marked else "the views prove"
            problem = f"the log ends here; {who} that sequence {self._witness.seq} had been durable"
            self._report(self._offset, self._seq, "segment", problem)

    # Damage.

    def _is_proven(self, offset: int, seq: int, batch_seq: int) -> bool:
        """Whether a batch that is damaged had been whole once: by the rules of `spool.recovery`."""
        if not self._last or (self._witness is not None and self._witness.seq >= batch_seq):
            return True
        fault = Fault(offset, seq, "", "")
        return find_later(self.data, 0, fault, batch_seq, self._seed) is not None

    def _go_on_behind(self, offset: int) -> None:
        """Go to the next header whose checksum is right. What it must follow from is hidden."""
        # Not the header at `offset` itself: it may be whole, and what it heads cut short.
        found = find_later(self.data, 0, Fault(offset + 8, self._seq + 1, "", ""), 0, self._seed)
        headed = None if found is None else self._headed(found)
        self._chain = None
        self._batch_seq, self._batch_hidden = None, True
        if found is None or headed is None:
            self._lose_the_rest()
            return
        self._offset = found
        self._seq = headed.last_seq + 1 if isinstance(headed, Footer) else headed.seq

    def _lose_the_rest(self) -> None:
        """Nothing more can be read in this segment, nor is it known where it should have ended."""
        self._offset = len(self.data) + 1
        self._chain = None

    def _report(self, offset: int, seq: int, part: str, problem: str) -> None:
        self.problems.append(LogProblem(self.file, offset, seq, part, problem))

    def _report_torn(self, offset: int, seq: int, part: str, problem: str) -> None:
        self.records -= self._batch_records
        size = len(self.data) - self._batches_end
        tail = f"torn tail: {problem}; the last {size} bytes, from offset {self._batches_end} on,"
        believed = "" if self._witness is not None else ", as far as the log can tell without the views"
        if self._is_marked:
            problem = f"{tail} are not whole"
        else:
            problem = f"{tail} were never acknowledged{believed}; the next start cuts them and keeps a copy"
        self.torn = LogProblem(self.file, offset, seq, part, problem)

    def _flip(self, offset: int, part: str) -> str:
        """Which bit it was, where one flipped bit explains the damage."""
        data = self.data
        (crc,) = _CRC.unpack(data[offset : offset + _CRC.size].ljust(_CRC.size, b"\0"))
        if part in ("header", "footer"):
            start, end = offset + _CRC.size, offset + (HEADER_BYTES if part == "header" else FOOTER_BYTES)
            return _explain_flip(crc, data[start:end], self._seed, at=start, crc_at=offset)
        header = self._headed(offset)
        if part not in ("skeleton", "payload") or not isinstance(header, RecordHeader):
            return ""
        start = offset + HEADER_BYTES
        if part == "skeleton":
            return _explain_flip(
                header.skeleton_crc, data[start : start + padded(header.skeleton_len)], self._seed, at=start
            )
        start += padded(header.skeleton_len)
        return _explain_flip(
            header.payload_crc, data[start : start + padded(header.payload_len)], self._seed, at=start
        )

    def _flip_in_segment_header(self) -> str:
        header = self.data[:SEGMENT_HEADER_BYTES]
        if len(header) < SEGMENT_HEADER_BYTES:
            return ""
        (crc,) = _CRC.unpack_from(header, _HEADER_CRC_AT)
        covered = header[:_HEADER_CRC_AT] + bytes(_CRC.size) + header[_HEADER_CRC_AT + _CRC.size :]
        return _explain_flip(crc, covered, 0, at=0, crc_at=_HEADER_CRC_AT)


def _explain_flip(crc: int, covered: bytes, seed: int, *, at: int, crc_at: int | None = None) -> str:
    """`covered` stands at the offset `at`, and its checksum at `crc_at`, if that may be the damaged one."""
    difference = crc ^ crc32c(seed, covered)
    if not difference or len(covered) > _FLIP_SEARCH_BYTES_MAX:
        return ""
    flip = find_flip(difference, len(covered))
    if flip is None or (flip.byte < 0 and crc_at is None):
        return ""
    offset = at + flip.byte if flip.byte >= 0 else (crc_at or 0) + _CRC.size + flip.byte
    return f"; one flipped bit explains it: bit {flip.bit} of the byte at offset {offset}"
