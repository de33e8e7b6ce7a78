"""The header of a message that is octets: its fields, each where it stands, and where the body begins (RFC 5322 §2.2).

Contract. `header_of` takes a message of CRLF lines, and is the one place that says where a field and where the header
end; whatever removes, reads or signs fields goes by it. Nothing is mended: what no reader would surely read in the same
way (a line that is no field, white space before a colon) is a `HeaderSectionError` with its offset. The time is linear,
and no more of a message is looked at than its header may have.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

HEADER_OCTETS_MAX: Final = 64 * 1024
HEADER_LINES_MAX: Final = 1000

_match_name: Final = re.compile(rb"([!-9;-~]+):").match  # RFC 5322 §3.6.8: ftext
_unfold: Final = re.compile(r"\r\n(?=[ \t])").sub


class HeaderSectionError(ValueError):
    """What is wrong with a header: one sentence, and at which octet of the message."""

    def __init__(self, sentence: str, offset: int) -> None:
        super().__init__(f"{sentence} (octet {offset})")
        self.offset = offset


class Field(NamedTuple):
    """One field. All octets between `start` and `end`, folds and last CRLF included, are its own."""

    #: In lower case.
    name: bytes
    #: Behind the colon, folded as it is, without the CRLF at its end.
    value: bytes
    start: int
    end: int

    @property
    def text(self) -> str:
        """The value unfolded, without white space at its ends. What is not UTF-8 shows as U+FFFD."""
        return _unfold("", self.value.decode("utf-8", "replace")).strip(" \t\r\n")


class HeaderSection(NamedTuple):
    fields: tuple[Field, ...]
    #: Where the body begins, behind the empty line; at the message's end where it has neither.
    body_start: int


def header_of(message: bytes) -> HeaderSection:
    """The header of a message of CRLF lines. Raises HeaderSectionError."""
    if message.startswith(b"\r\n"):
        return HeaderSection((), 2)
    empty = message.find(b"\r\n\r\n", 0, HEADER_OCTETS_MAX + 4)
    if empty >= 0:
        end, body_start = empty + 2, empty + 4
    else:
        end = body_start = len(message)
    if end > HEADER_OCTETS_MAX:
        raise HeaderSectionError(f"the header is over {HEADER_OCTETS_MAX} octets", HEADER_OCTETS_MAX)
    lines = message[:end].split(b"\r\n")
    assert not lines[-1], "the header ends with a line's end"
    if len(lines) - 1 > HEADER_LINES_MAX:
        start = sum(len(line) + 2 for line in lines[:HEADER_LINES_MAX])
        raise HeaderSectionError(f"the header has over {HEADER_LINES_MAX} lines", start)
    starts: list[int] = []
    at = 0
    for line in lines[:-1]:
        if not line.startswith((b" ", b"\t")):
            if _match_name(line) is None:
                raise HeaderSectionError("a line of the header is no field; it begins with no Name:", at)
            starts.append(at)
        elif not starts:
            raise HeaderSectionError("the first line of the header is the continuation of none", at)
        at += len(line) + 2
    fields = []
    for start, field_end in zip(starts, [*starts, end][1:], strict=True):
        name, _, value = message[start : field_end - 2].partition(b":")
        fields.append(Field(name.lower(), value, start, field_end))
    return HeaderSection(tuple(fields), body_start)
