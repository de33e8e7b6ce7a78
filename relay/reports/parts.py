"""Cuts a mail of any octets into its parts, in linear time, and keeps little of each.

The contract. `cut` takes any octets with any line ends (CRLF, LF, CR, mixed) and never fails. What it gives back is
bounded whatever comes in: at most PARTS_MAX parts down to DEPTH_MAX, of each the header (64 KiB) and the first
BODY_BYTES_MAX of the body, with its transfer encoding undone and LF between lines. Of the octets themselves nothing
is copied but that. The same mail with other line ends is cut into the same parts.

MIME (RFC 2046) as it comes: a multipart whose boundary is not said, or said wrongly, is taken to have that of its
first line with two dashes; one without any is one part of text. What stands behind the last boundary is left out, the
closing boundary may be missing. A message within (message/rfc822 and its kin, or only its header) is a part, and so is
each part of it; all of these know that they are enclosed.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.reports.header import HEADER_BYTES_MAX, Header, to_text

PARTS_MAX: Final = 50
DEPTH_MAX: Final = 5
BODY_BYTES_MAX: Final = 65_536
#: All searches for boundaries together; a multipart behind that is one part of text. Three times the largest mail.
SEARCHED_OCTETS_MAX: Final = 36_000_000

_ANY_BOUNDARY: Final = re.compile(rb"[\r\n]--([^\s-][^\r\n]{0,199})(?=[\r\n])")
_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,100}")
_PARAMETER: Final = re.compile(
    r"[;\s]\s{0,20}([A-Za-z0-9*_-]{1,40})\s{0,20}=\s{0,20}(?:\"([^\"]{0,998})\"?|([^;\s\"]{1,998}))"
)
_PARAMETERS_MAX: Final = 20
_ENCLOSED: Final = frozenset({"message/rfc822", "message/global", "message/news"})
_ENCLOSED_HEADER: Final = frozenset({"text/rfc822-headers", "message/global-headers", "text/rfc822-header"})
#: How far a boundary that nobody has told is looked for.
_GUESS_BYTES_MAX: Final = 8192


class Part(NamedTuple):
    """One part without parts, or a message that is enclosed."""

    header: Header
    content_type: str
    """In lower case; "text/plain" where none is said."""
    parameters: dict[str, str]
    body: bytes
    """Its beginning, decoded, lines end in LF. Of an enclosed message its header and the beginning of its body."""
    is_enclosed: bool
    """It is a message that is enclosed, or stands in one."""

    @property
    def text(self) -> str:
        return to_text(self.body, self.parameters.get("charset", ""))


class Mail(NamedTuple):
    header: Header
    content_type: str
    parameters: dict[str, str]
    parts: tuple[Part, ...]

    @property
    def own(self) -> tuple[Part, ...]:
        """The parts that no message within it encloses."""
        return tuple(part for part in self.parts if not part.is_enclosed)


def cut(octets: bytes) -> Mail:
    """The mail in its parts."""
    header, _ = _header_at(octets, 0, len(octets))
    content_type, parameters = content_type_of(header)
    cutter = _Cutter()
    cutter.entity(octets, 0, len(octets), depth=0, is_enclosed=False)
    return Mail(header, content_type, parameters, tuple(cutter.parts))


def content_type_of(header: Header) -> tuple[str, dict[str, str]]:
    """Type and parameters (RFC 2045 section 5), also where the semicolon between them is missing."""
    value = header.first("content-type")
    match = _TYPE.match(value)
    if match is None:
        return "text/plain", {}
    parameters: dict[str, str] = {}
    for parameter in _PARAMETER.finditer(value, match.end()):
        if len(parameters) == _PARAMETERS_MAX:
            break
        parameters.setdefault(
            parameter[1].lower(), parameter[2] if parameter[2] is not None else parameter[3]
        )
    return match[0].lower(), parameters


class _Cutter:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._octets_left = SEARCHED_OCTETS_MAX

    def entity(self, octets: bytes, start: int, end: int, *, depth: int, is_enclosed: bool) -> None:
        """Header and body between these two."""
        header, body_at = _header_at(octets, start, end)
        content_type, parameters = content_type_of(header)
        if content_type.startswith("multipart/") and depth < DEPTH_MAX and self._octets_left > 0:
            self._octets_left -= end - body_at
            cuts = list(_between_boundaries(octets, body_at, end, parameters.get("boundary", "")))
            for part_start, part_end in cuts:
                if len(self.parts) == PARTS_MAX:
                    return
                self.entity(octets, part_start, part_end, depth=depth + 1, is_enclosed=is_enclosed)
            if cuts:
                return
            content_type = "text/plain"
        if len(self.parts) == PARTS_MAX:
            return
        body = _decoded(
            _first_lines(octets, body_at, end, BODY_BYTES_MAX), header.first("content-transfer-encoding")
        )
        is_message = content_type in _ENCLOSED or content_type in _ENCLOSED_HEADER
        if depth > 0 and not is_enclosed and not is_message and header.has("received", "return-path"):
            # A mail that is brought back without a header of the part before its own.
            is_message = True
            body = _first_lines(octets, start, end, BODY_BYTES_MAX)
        self.parts.append(Part(header, content_type, parameters, body, is_enclosed or is_message))
        if content_type in _ENCLOSED and depth < DEPTH_MAX:
            if header.first("content-transfer-encoding").lower() in ("base64", "quoted-printable"):
                octets, body_at, end = body, 0, len(body)
            self.entity(octets, body_at, end, depth=depth + 1, is_enclosed=True)


def _header_at(octets: bytes, start: int, end: int) -> tuple[Header, int]:
    """The header there, and where the body begins."""
    header_end, body_at = _empty_line(octets, start, end)
    return Header.of(_first_lines(octets, start, header_end, HEADER_BYTES_MAX)), body_at


def _empty_line(octets: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the lines before the first empty one end, and where those behind it begin."""
    if octets[start : min(start + 1, end)] in (b"\r", b"\n"):
        return start, _after_line_end(octets, start, end)
    # Whatever two line ends stand behind each other, CRLF, LF or CR: one of these three pairs is in the middle.
    found = end
    for pair in (b"\n\n", b"\n\r", b"\r\r"):
        at = octets.find(pair, start, min(found + 1, end))
        found = found if at < 0 else at
    if found == end:
        return end, end
    return _before_line_end(octets, found + 1, start), _after_line_end(octets, found + 1, end)


def _after_line_end(octets: bytes, at: int, end: int) -> int:
    """Behind the line end at this place, where there is one."""
    if octets[at : min(at + 2, end)] == b"\r\n":
        return at + 2
    return at + 1 if octets[at : min(at + 1, end)] in (b"\r", b"\n") else at


def _before_line_end(octets: bytes, at: int, start: int) -> int:
    """Before the line end that ends at this place, where there is one."""
    if octets[max(at - 2, start) : at] == b"\r\n":
        return at - 2
    return at - 1 if octets[max(at - 1, start) : at] in (b"\r", b"\n") else at


def _first_lines(octets: bytes, start: int, end: int, bytes_max: int) -> bytes:
    """The beginning of what stands between these two, with LF at the ends of lines."""
    taken = octets[start : min(end, start + 2 * bytes_max)]
    return taken.replace(b"\r\n", b"\n").replace(b"\r", b"\n")[:bytes_max]


def _between_boundaries(octets: bytes, start: int, end: int, boundary: str) -> Iterator[tuple[int, int]]:
    """Where each part begins and ends; at most PARTS_MAX."""
    # The first line may be a boundary already: the line end before it ends the header.
    start = max(start - 1, 0)
    delimiter = boundary.strip().encode("utf-8", "replace")[:200]
    found = _delimiter(delimiter).finditer(octets, start, end)
    first = next(found, None) if delimiter else None
    if first is None:
        guess = _ANY_BOUNDARY.search(octets, start, min(end, start + _GUESS_BYTES_MAX))
        if guess is None:
            return
        found = _delimiter(guess[1].rstrip()).finditer(octets, start, end)
        first = next(found, None)
        if first is None:
            return
    part_at: int | None = None
    count = 0
    for match in itertools.chain([first], found):
        if part_at is not None:
            yield part_at, max(_before_line_end(octets, match.start() + 1, part_at), part_at)
            count += 1
        if match["close"] or count == PARTS_MAX:
            return
        part_at = _after_line_end(octets, match.end(), end)
    if part_at is not None:
        yield part_at, end


def _delimiter(boundary: bytes) -> re.Pattern[bytes]:
    """A line with the boundary (RFC 2046 section 5.1.1), and the last octet before it."""
    return re.compile(rb"[\r\n]--" + re.escape(boundary) + rb"(?P<close>--)?[ \t]{0,100}(?=[\r\n]|\Z)")


def _decoded(body: bytes, encoding: str) -> bytes:
    """The body with its transfer encoding undone (RFC 2045 section 6), as far as it is in one."""
    encoding = encoding.lower().strip()
    try:
        if encoding == "base64":
            letters = re.sub(rb"[^A-Za-z0-9+/]", b"", body)
            body = base64.b64decode(letters[: len(letters) // 4 * 4] or letters + b"=" * (-len(letters) % 4))
        elif encoding == "quoted-printable":
            body = binascii.a2b_qp(body)
        else:
            return body
    except (binascii.Error, ValueError):
        return body
    return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")[:BODY_BYTES_MAX]
