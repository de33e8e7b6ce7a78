"""What the properties of `tests.campaigns.inputs` are given to spoil: inputs of the kind that each reader is made for.

Made from the golden files, the dialogues and the hostile texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from spool.record import CHAIN_START, Entry, crc32c, encode_record, make_record
from spool.segment import Position, encode_footer, encode_segment_header, seal
from tests.campaigns import dns_inputs, inputs
from tests.golden_events import literals as golden

TESTS = Path(__file__).parent.parent


def seeds(name: str) -> Iterator[bytes]:
    """What each property begins with: inputs of the kind that the reader is made for."""
    match name:
        case "records" | "segments" | "sealed_segments":
            yield from _segments(whole=name == "segments", alone=name == "records")
        case "events":
            for skeleton, payload in _golden_entries():
                yield skeleton + (payload or b"")
                if payload:
                    yield payload
                    yield skeleton[: len(payload)].ljust(len(payload), b"\0") + payload
        case "tokens":
            yield inputs.BOUNCES.make(7).encode()
            yield inputs.TOKENS.seal(inputs.UNSUBSCRIBE).encode()
        case "headers":
            yield from _hostile_texts()
            for path in sorted((TESTS / "golden_messages").glob("*.eml")):
                yield from path.read_bytes().partition(b"\r\n\r\n")[0].split(b"\r\n")
        case "reports":
            for sample in sorted((TESTS / "reports" / "samples").glob("*.eml")):
                yield from _bent(sample.read_bytes())
        case "requests":
            yield _send()
            for text in _hostile_texts():
                for field in ("from", "subject", "text", "html", "replyTo"):
                    yield _send(**{field: f"{text.decode()} <you@yourdomain.com>"})
                yield _send(to=["friend@example.com", f"a{text.decode()}@b.example"])
                yield _send(
                    headers={"X-Mine": text.decode(), "List-Unsubscribe": f"<https://{text.decode()}>"}
                )
        case "replies":
            for path in sorted((TESTS / "delivery" / "dialogues").glob("*.txt")):
                said = [line[3:] for line in path.read_text().splitlines() if line.startswith("S: ")]
                yield b"\x3f" + "".join(f"{line}\r\n" for line in said).encode()
        case "commands":
            for path in sorted((TESTS / "reception" / "dialogues").glob("*.txt")):
                said = [line[3:] for line in path.read_text().splitlines() if line.startswith("C: ")]
                for behaving in range(10):
                    yield bytes((0x3F, behaving)) + "".join(f"{line}\r\n" for line in said).encode()
        case "dns_answers" | "txt_answers":
            yield from dns_inputs.dns_seeds()


def _bent(mail: bytes) -> Iterator[bytes]:
    """The mail, and what becomes of it on the way: types, boundaries, empty lines and field names lost or doubled."""
    yield mail
    for lost in (
        b"Content-Type:",
        b"multipart/report",
        b"message/",
        b"--",
        b"\n\n",
        b": ",
        b";",
        b"Action: ",
        b"Status: 5",
    ):
        yield mail.replace(lost, b"")
        yield mail.replace(lost, lost + lost)
        head, _, tail = mail.rpartition(lost)
        yield head + tail
    lines = mail.split(b"\n")
    yield b"\n".join(reversed(lines))
    yield b"\n".join(line[:20] for line in lines)
    yield b"Content-Type: message/rfc822\n\n" + mail


def _segments(*, whole: bool, alone: bool) -> Iterator[bytes]:
    """Sealed segments of a few golden events, whole or without the header; or one record."""
    entries = _golden_entries()
    header = encode_segment_header(inputs.SEGMENT)
    for count in (1, 2, 5):
        data, chain = header, CHAIN_START
        for seq, entry in enumerate(entries[:count], start=1):
            record = make_record(
                entry, seq=seq, time_us=seq, batch_seq=1, batch_end=seq == count, previous_chain=chain, segment=1,
                offset=len(data),
            )  # fmt: skip
            chain = record.chain
            octets = b"".join(encode_record(record, inputs.SEGMENT_SEED))
            if alone:
                yield octets
            data += octets
        end = Position(1, len(data), count + 1, chain, count)
        sealed = data + encode_footer(seal(end, crc32c(0, data)), inputs.SEGMENT_SEED)
        for octets in (data, sealed):
            if not alone:
                yield octets if whole else octets[len(header) :]


def _golden_entries() -> list[Entry]:
    return [golden.read(name, version).entry for name, version in golden.EVENTS]


def _hostile_texts() -> list[bytes]:
    lines = (TESTS / "hostile_texts.txt").read_text().splitlines()
    return [
        line.encode().decode("unicode_escape").encode("latin-1")
        for line in lines
        if line and not line.startswith("#")
    ]


def _send(**fields: object) -> bytes:
    body = {
        "from": "you@yourdomain.com",
        "to": "friend@example.com",
        "subject": "Hello",
        "text": "Hello",
        **fields,
    }
    return json.dumps(body, ensure_ascii=False).encode()
