"""The worst that receivers and name servers may say. See `benchmarks.worst_inputs`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

import dns.exception
import dns.message
import dns.resolver

from benchmarks.search import Frame
from benchmarks.worst_kinds import Kind, at_once
from relay.delivery.bounce_classes import classify
from relay.delivery.outcomes import AttemptOutcome
from relay.delivery.reply_reader import (
    REPLY_BYTES_MAX,
    Command,
    RemoteProtocolError,
    ReplyReader,
    SmtpReply,
    capabilities_in,
    enhanced_status,
)
from relay.internet.bounded_answers import (
    ANSWER_BYTES_MAX,
    ANSWER_RECORDS_MAX,
    check_header,
    check_labels,
)

#: Whole lines of a refusal.
_REFUSED = (f"550-{'a' * 150}\r\n", f"550-{'é ' * 50}\r\n", "550-\r\n", "550-a b\r\n")
#: Words of `_wire`, and what can become one.
_RECORDS = (f"m{'a' * 60} ", "ma ", "m# ", "ca ", "ca! ", f"c{'a' * 100}! ", "t ", "a", "b", " ", "m")


def _reply(text: str) -> None:
    reader = ReplyReader()
    reader.feed(text.encode("latin-1", "replace"))
    with suppress(RemoteProtocolError):
        while (parsed := reader.next_reply()) is not None:
            code, lines = parsed
            for command in (Command.EHLO, Command.END_OF_DATA):
                reply = SmtpReply(command, code, enhanced_status(code, lines), lines)
                capabilities_in(reply)
                if command is Command.END_OF_DATA:
                    AttemptOutcome.of(reply)
                    classify(reply)


def _answer(text: str) -> None:
    """A text of names, each of which is a record; they are compressed as far as they go."""
    wire = _wire(text)
    with suppress(dns.exception.DNSException):
        check_header(wire)
        check_labels(wire)
        message = dns.message.from_wire(wire)
        dns.resolver.Answer(
            message.question[0].name, message.question[0].rdtype, message.question[0].rdclass, message
        )


def _wire(text: str) -> bytes:
    """Each word is a record: its letters say its type, and how its name is made of labels and pointers."""
    question = b"\1a\7example\0" + struct.pack(">HH", 15, 1)
    records: list[bytes] = []
    size = 12 + len(question)
    longest = 12
    for word in text.split(" "):
        if len(records) == ANSWER_RECORDS_MAX - 1:
            break
        labels = b"".join(b"\1" + letter.encode("latin-1", "replace")[:1] for letter in word[1:110])
        pointer = struct.pack(">H", 0xC000 | longest)
        name = labels + pointer
        if word[:1] == "c":
            owner, kind, data = name, 5, name
        elif word[:1] == "t":
            owner, kind, data = b"\xc0\x0c", 16, (b"\1x" * 100)
        else:
            owner, kind, data = b"\xc0\x0c", 15, b"\0\1" + name
        record = owner + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
        if size + len(record) > ANSWER_BYTES_MAX:
            break
        if word[-1:] == "!" and size + len(owner) < 0x3FFF and kind == 5:
            longest = size
        size += len(record)
        records.append(record)
    return struct.pack(">6H", 0, 0x8180, 1, len(records), 0, 0) + question + b"".join(records)


def of_answers() -> Iterator[Kind]:
    pieces = (
        "a",
        "250-a\r\n",
        "550-5.1.1 a\n",
        " ",
        "é",
        "Ã©",
        "\u202e",
        "5.7.1 ",
        "spf",
        "-",
        "SIZE 1",
        "250-SIZE\r\n",
    )
    yield Kind(
        "SMTP reply",
        (
            Frame("250-", pieces, "\r\n250 a\r\n"),
            Frame(
                "550-5.7.1 a\r\n",
                _REFUSED,
                "550 a\r\n",
            ),
        ),
        REPLY_BYTES_MAX + 2048,
        _reply,
        at_once(_reply),
        crowd=8,
    )
    yield Kind(
        "DNS answer",
        (
            Frame(
                "",
                (
                    "m" + "a" * 60 + " ",
                    "ma ",
                    "m# ",
                    "ca ",
                    "ca! ",
                    "c" + "a" * 100 + "! ",
                    "t ",
                    "a",
                    "b",
                    " ",
                    "m",
                ),
                "",
            ),
        ),
        ANSWER_BYTES_MAX,
        _answer,
        at_once(_answer),
    )
