"""The MIME body of a message: texts, an invitation, files, and how they are put together.

Contract. A body is a pure function of its parts: the same bytes, today or in a year, on any machine. It is CRLF lines
of 7-bit ASCII, at most 998 octets each. The shape is that of RFC 2046 and RFC 2387, and no more of it than is needed:

    mixed
      related; type=...
        alternative
          text/plain, text/html, text/calendar; method=...
        files that the HTML shows
      all other files, and the invitation once more, as invite.ics

A file is in base64 whatever it is, so that no server on the way can change an octet of it. A boundary is made of the
SHA-256 of what it stands between.

The time is linear, and made of short steps: who composes a large mail in a thread lets others run in between. A file
is copied twice, once as it is encoded and once as all is put together.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from relay.events import Attachment, Calendar
from relay.message.canonical import PIECE_OCTETS
from relay.message.lines import long_line

Header = tuple[bytes, bytes]
MIME_VERSION: Final[Header] = (b"MIME-Version", b"1.0")
_SEVEN_BIT: Final[Header] = (b"Content-Transfer-Encoding", b"7bit")


class Body(NamedTuple):
    """A MIME body, and the header fields that describe it. All recipients of a send share theirs."""

    headers: tuple[Header, ...]
    octets: bytes


class _Part(NamedTuple):
    """A body that is not put together yet. Each piece ends where a line does."""

    headers: tuple[Header, ...]
    pieces: Sequence[bytes]

    @classmethod
    def of(cls, body: Body) -> "_Part":
        return cls(body.headers, (body.octets,))

    def whole(self) -> list[bytes]:
        return [b"".join([*map(header_line, self.headers), b"\r\n"]), *self.pieces]

    def as_body(self) -> Body:
        return Body(self.headers, self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces))


def header_line(header: Header) -> bytes:
    """Return a header field as it stands in a message. An empty value gets no trailing space."""
    name, value = header
    return b"%b: %b\r\n" % (name, value) if value else b"%b:\r\n" % name


def compose_body(
    text: str | None,
    html: str | None,
    attachments: Sequence[Attachment] = (),
    calendar: Calendar | None = None,
) -> Body:
    """Return the body: text, HTML and an invitation as alternatives, the plainest first (RFC 2046 §5.1.4), and files.

    An empty text is no part. One of the two must have a character in it.
    """
    assert text or html, "a message needs text or html"
    shown = [
        _Part.of(text_part(subtype, value)) for subtype, value in (("plain", text), ("html", html)) if value
    ]
    files = [_file(one) for one in attachments if not one.inline]
    if calendar is not None:
        shown.append(_Part.of(text_part("calendar", calendar.content, f"; method={calendar.method}")))
        files.append(_file(_invitation(calendar)))
    whole = shown[0] if len(shown) == 1 else _multipart("alternative", shown)
    inline = [_file(one) for one in attachments if one.inline]
    if inline:
        root = "text/html" if len(shown) == 1 else "multipart/alternative"
        whole = _multipart(f'related; type="{root}"', [whole, *inline])
    if files:
        whole = _multipart("mixed", [whole, *files])
    body = whole.as_body()
    return Body((MIME_VERSION, *body.headers), body.octets)


def multipart(subtype: str, parts: Iterable[Body]) -> Body:
    """Return the parts as one body (RFC 2046 §5.1). All are 7-bit, and so is the whole.

    `subtype` may bring parameters: `report; report-type=delivery-status`.
    """
    return _multipart(subtype, [_Part.of(part) for part in parts]).as_body()


def _multipart(subtype: str, parts: Sequence[_Part]) -> _Part:
    wholes = [part.whole() for part in parts]
    boundary = _boundary(wholes)
    delimiter = b"--%b\r\n" % boundary
    pieces: list[bytes] = []
    for whole in wholes:
        pieces += [delimiter, *whole, b"\r\n"]
    pieces.append(b"--%b--\r\n" % boundary)
    content_type = b'multipart/%b;\r\n boundary="%b"' % (subtype.encode(), boundary)
    return _Part(((b"Content-Type", content_type), _SEVEN_BIT), pieces)


def _boundary(parts: Sequence[Sequence[bytes]]) -> bytes:
    """Return a boundary (RFC 2046 §5.1.1) that is a function of the parts and occurs in none of them.

    It does not depend on the recipient, so that all recipients share one body. Encoded parts cannot
    contain "=_"; a 7bit part could, and a colliding hash is not a thing to rely upon being impossible.
    """
    digest = hashlib.sha256()
    for number, pieces in enumerate(parts):
        digest.update(b"\0" if number else b"")
        for piece in pieces:
            digest.update(piece)
    while True:
        boundary = b"=_" + digest.hexdigest()[:32].encode()
        if not any(boundary in piece for pieces in parts for piece in pieces):
            return boundary
        digest.update(b"again")


# ------------------------------------------------------------------------------------------------ files

#: Encoded at a time: whole lines of base64.
_LINE_OCTETS: Final = 57
_PIECE_OF_FILE: Final = 1024 * _LINE_OCTETS
_LINE_CHARACTERS: Final = 76
#: RFC 2231 would have a parameter of more than a line divided, and RFC 5322 would like lines of 78.
_PARAMETER_CHARACTERS: Final = 60
#: In a quoted string as themselves.
_is_plain: Final = re.compile(r"[ !#-\[\]-~]*").fullmatch
#: In an extended value (RFC 2231 §7: attribute-char).
_UNESCAPED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`{|}~")

INVITATION_NAME: Final = "invite.ics"


def _invitation(calendar: Calendar) -> Attachment:
    """For whoever keeps a calendar that the mail program does not know. Its type is not text/calendar, so that no
    reader shows the invitation twice."""
    content = _lines(calendar.content).encode()
    return Attachment(filename=INVITATION_NAME, content_type="application/ics", content=content)


def _file(attachment: Attachment) -> _Part:
    # Readers take an inline text for one of the mail's own texts, and no more for a file (RFC 2183 §2.10 leaves it to
    # them). It is found by its Content-ID all the same.
    is_text = attachment.content_type.startswith("text/")
    disposition = b"inline" if attachment.inline and not is_text else b"attachment"
    headers: list[Header] = [
        (b"Content-Type", attachment.content_type.encode().replace(b"; ", b";\r\n ")),
        (b"Content-Transfer-Encoding", b"base64"),
        (b"Content-Disposition", b";\r\n ".join([disposition, *_filename(attachment.filename)])),
    ]
    if attachment.content_id is not None:
        headers.append((b"Content-ID", b"<%b>" % attachment.content_id.encode()))
    return _Part(tuple(headers), list(_base64_lines(attachment.content)))


def _base64_lines(octets: bytes) -> Iterator[bytes]:
    for start in range(0, len(octets), _PIECE_OF_FILE):
        encoded = binascii.b2a_base64(octets[start : start + _PIECE_OF_FILE], newline=False)
        lines = [encoded[at : at + _LINE_CHARACTERS] for at in range(0, len(encoded), _LINE_CHARACTERS)]
        lines.append(b"")
        yield b"\r\n".join(lines)


def _filename(name: str) -> list[bytes]:
    """The parameters that say a file's name (RFC 2183 §2.3).

    In RFC 2231's form where a quoted string would need an escape, or looks like an encoded word: some readers take no
    escapes, and others decode what nobody encoded. A plain name beside that form would be a second value to some
    (Python's email takes the first of the two).
    """
    if _is_plain(name) and "=?" not in name:
        return [b'filename="%b"' % name.encode()]
    values = [b"utf-8''"]
    for character in name:
        octets = character.encode()
        escaped = b"".join(b"%c" % octet if octet in _UNESCAPED else b"%%%02X" % octet for octet in octets)
        if len(values[-1]) + len(escaped) > _PARAMETER_CHARACTERS:
            values.append(b"")
        values[-1] += escaped
    if len(values) == 1:
        return [b"filename*=" + values[0]]
    return [b"filename*%d*=%b" % numbered for numbered in enumerate(values)]


# ------------------------------------------------------------------------------------------------ texts

_overlong_ends: Final = re.compile(rb"^([^\r\n]{74})(=20|=09)\r\n", re.MULTILINE)
_from_lines: Final = re.compile(rb"^From ", re.MULTILINE)
#: After so much, b2a_qp breaks the line.
_FULL_LINE: Final = b"a" * 75
_PLAIN_OCTETS: Final = bytes([*b"\t\r\n", *range(0x20, 0x7F)])


def text_part(subtype: str, text: str, parameters: str = "") -> Body:
    """Return one text part, in the first transfer encoding (RFC 2045 §6) that is safe for it and compact."""
    octets = _lines(text).encode()
    if not _is_fragile(octets) and long_line(octets) is None:
        encoding = b"7bit"
    elif 6 * len(octets.translate(None, _PLAIN_OCTETS)) <= len(octets):
        # Three octets for each that is escaped is less than base64's third on top of everything, and
        # spam filters are kinder to it.
        encoding = b"quoted-printable"
        octets = _quoted_printable(octets)
    else:
        encoding = b"base64"
        octets = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    content_type = f"text/{subtype}; charset=utf-8{parameters}".encode()
    return Body(((b"Content-Type", content_type), (b"Content-Transfer-Encoding", encoding)), octets)


def _lines(text: str) -> str:
    """The text in CRLF lines, the last one, too."""
    # Whole passes over the text, each a few milliseconds for the longest there may be: regular expressions would take
    # ten times as long, and let nobody in between.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    return lines if lines.endswith("\r\n") else lines + "\r\n"


def _is_fragile(octets: bytes) -> bool:
    """Whether something in these lines must not go out as it is: octets that are no printable ASCII, white space at a
    line's end (servers on the way strip it), or a line "From " (an mbox puts a > before it)."""
    return (
        bool(octets.translate(None, _PLAIN_OCTETS))
        or b" \r\n" in octets
        or b"\t\r\n" in octets
        or octets.startswith(b"From ")
        or b"\nFrom " in octets
    )


def _quoted_printable(octets: bytes) -> bytes:
    """Return `octets` (CRLF lines) in quoted-printable (RFC 2045 §6.7), without a line "From "."""
    return b"".join(map(_without_from_lines, _quoted_printable_pieces(octets)))


def _quoted_printable_pieces(octets: bytes) -> Iterator[bytes]:
    """What `binascii.b2a_qp` makes of `octets`, in pieces that end where a line of the result does.

    A piece of the text ends where a line does. Of a line that is longer than a piece, b2a_qp has broken what it was
    given: the last of its own lines, which might have become longer, is given to it again with what follows.
    """
    start = 0
    is_continued = False
    while len(octets) - start > PIECE_OCTETS:
        end = octets.rfind(b"\r\n", start, start + PIECE_OCTETS) + 2
        if end >= 2:
            yield _quoted(octets[start:end], is_continued)
            start, is_continued = end, False
            continue
        line = octets[start : start + PIECE_OCTETS].removesuffix(b"\r")
        encoded = _quoted(line + b"\r\n", is_continued)  # by the line end it knows what line ends are like
        broken = encoded.rfind(b"=\r\n") + len(b"=\r\n")
        yield encoded[:broken]
        start += len(line) + len(b"\r\n") - len(binascii.a2b_qp(encoded[broken:]))
        is_continued = True
    yield _quoted(octets[start:], is_continued)


def _quoted(octets: bytes, is_continued: bool) -> bytes:
    """b2a_qp treats a line that it has broken itself otherwise than one that begins (a dot may be escaped). For what
    goes on in the middle of a line, it is made to break one."""
    before = _FULL_LINE if is_continued else b""
    encoded = binascii.b2a_qp(before + octets, quotetabs=False, istext=True)
    return encoded[len(before) + len(b"=\r\n") :] if is_continued else encoded


def _without_from_lines(encoded: bytes) -> bytes:
    """Return whole lines of quoted-printable so that none is too long, and none begins with "From "."""
    # b2a_qp does not count the escape of the white space at a line's end, and can make a line of 77.
    if b"=20\r\n" in encoded or b"=09\r\n" in encoded:  # ten times as fast as the regular expression is
        encoded = _overlong_ends.sub(rb"\1=\r\n\2\r\n", encoded)
    # The escape would make a line of 76 octets too long, so the line is broken right after it. What follows
    # begins with "rom ", and so cannot be a "From " again.
    if b"From " in encoded:
        encoded = _from_lines.sub(b"=46=\r\nrom ", encoded)
    return encoded
