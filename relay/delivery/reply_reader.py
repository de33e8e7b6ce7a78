"""What an SMTP server says: its bytes, cut into replies, and what stands in them. No I/O, no clock.

The contract. `ReplyReader` takes any bytes (`feed`) and gives whole replies, code and lines (`next_reply`), or raises
RemoteProtocolError where they are none. Its memory is bounded by the limits below. The text of a reply is one line
wherever it is shown: what is no text in it, and what would move a cursor, is U+FFFD.

An empty line is read over everywhere, and so is a line without a code inside a reply of several lines. After DATA
(`lenient`) all is read over that is no reply, and whatever is like a reply is one, as Postfix has it: the receiver has
the message by then, and to be strict about its words would be to send it again, and again.

Sources: RFC 5321 sections 4.2 and 4.5.3.1.5, 2034 and 3463 (enhanced status codes), 1870 (SIZE).
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

# RFC 5321 section 4.5.3.1.5 allows 512 octets for a reply line. Receivers that put URLs into refusals do pass
# it, so four times as much is read; beyond these limits it is no reply but an attack or another protocol.
REPLY_LINE_BYTES_MAX: Final = 2048
REPLY_LINES_MAX: Final = 100
REPLY_BYTES_MAX: Final = 16 * 1024
# After DATA more than that is read over, in search of the reply's last line, but not without end.
READ_OVER_BYTES_MAX: Final = 1024 * 1024


class Command(Enum):
    """What a reply answers."""

    BANNER = "banner"
    """No command at all: the server speaks first."""
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    END_OF_DATA = "end of data"
    RSET = "RSET"
    QUIT = "QUIT"
    IDLE = "idle"
    """Nothing was asked: a 421 on a resting connection (RFC 5321 section 3.8)."""


class ProtocolError(Exception):
    """The dialogue cannot go on."""


class RemoteProtocolError(ProtocolError):
    """The server did what SMTP does not allow. The connection is of no further use."""


class ConnectionLost(RemoteProtocolError):
    """The server closed the connection without a 421."""


class SmtpReply(msgspec.Struct, frozen=True, array_like=True):
    """One reply of the server, whole. RFC 5321 section 4.2."""

    command: Command
    code: int
    enhanced: str | None
    """RFC 3463, however it is dressed, only where its class is the code's first digit."""
    lines: tuple[str, ...]
    """What follows the code, line by line: undecodable bytes and control characters are U+FFFD."""

    @property
    def text(self) -> str:
        """The lines as one sentence for people, without the enhanced code that begins each of them."""
        lines = self.lines
        if self.enhanced is not None:
            lines = tuple(_without_status(line, self.enhanced) for line in lines)
        return " ".join(stripped for line in lines if (stripped := line.strip()))

    @property
    def accepts(self) -> bool:
        """2xx or 3xx: the server goes along."""
        return self.code < 400


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the server's EHLO offered, of what we know how to use."""

    extended: bool = False
    """It answered EHLO, not only HELO."""
    pipelining: bool = False
    eight_bit_mime: bool = False
    smtputf8: bool = False
    starttls: bool = False
    enhanced_status_codes: bool = False
    size: bool = False
    size_max: int | None = None
    """Octets in a message; None where the server states no fixed limit (RFC 1870 section 4)."""


class ReplyReader:
    """Cuts the server's bytes into replies, within the limits above.

    A lone LF ends a line as well: some servers send it, and in a reply nothing can be smuggled by it.
    """

    def __init__(self) -> None:
        self.octets_fed = 0
        """All in all."""
        self.began_at = 0
        """How many octets had been fed before the first one of the last reply (its first line with a code)."""
        self.is_spoilt = False
        """The last reply was so odd that nobody can say where the next one begins."""
        self._buffer = bytearray()
        self._searched = 0
        self._ended = False
        self._code: int | None = None
        self._lines: list[str] = []
        self._lines_read = 0
        self._bytes_read = 0
        self._discards = False

    @property
    def is_empty(self) -> bool:
        """Nothing has been received that has not been returned."""
        return not self._buffer and not self._lines

    @property
    def at_end(self) -> bool:
        return self._ended

    def feed(self, data: bytes) -> None:
        if data:
            self._buffer += data
            self.octets_fed += len(data)
        else:
            self._ended = True

    def next_reply(self, *, lenient: bool = False) -> tuple[int, tuple[str, ...]] | None:
        """Code and lines of the next complete reply; None where there is none yet."""
        while True:
            began_at = self.octets_fed - len(self._buffer)
            line = self._next_line(lenient)
            if line is None:
                return None
            self._lines_read += 1
            self._bytes_read += len(line) + 1
            ends = self._take(line, began_at, lenient)
            if self._is_too_much(lenient):
                raise RemoteProtocolError("an endless reply")
            if ends:
                self.is_spoilt |= self._discards
                return self._whole()

    def last_words(self) -> tuple[int, tuple[str, ...]] | None:
        """A reply whose last line was begun and will not be ended, as it stands; None where there is none.

        With its code the server has answered. One that goes on ("250-") has not: it may be still thinking.
        """
        began_at = self.octets_fed - len(self._buffer)
        line = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        if self._discards or not self._take(line, began_at, True):
            return None
        self.is_spoilt = True
        return self._whole()

    def _take(self, line: bytes, began_at: int, lenient: bool) -> bool:
        """Take one line in; whether the reply ends with it."""
        match = _REPLY_LINE.fullmatch(line)
        if match is None and lenient:
            # An indented line is text inside a reply, and may be one where none was begun.
            match = _LIKE_A_REPLY_LINE.fullmatch(line.lstrip(b" \t\0") if self._code is None else line)
        if match is None:
            if lenient or self._code is not None or not line.strip():
                return False
            raise RemoteProtocolError(f"not a line of an SMTP reply: {_printable(line[:80])!r}")
        code = int(match["code"])
        if self._code is None:
            self.began_at = began_at
        elif self._code != code:
            if not lenient:
                raise RemoteProtocolError(f"one reply with two codes, {self._code} and {code}")
            self.is_spoilt = True  # the last one decides
        self._code = code
        if len(self._lines) < REPLY_LINES_MAX and self._bytes_read <= REPLY_BYTES_MAX:
            self._lines.append(_printable((match["text"] or b"")[:REPLY_LINE_BYTES_MAX]))
        elif not self._lines:
            self._lines.append("")
        return match["more"] != b"-"

    def _is_too_much(self, lenient: bool) -> bool:
        if lenient:
            return self._bytes_read > READ_OVER_BYTES_MAX
        return self._bytes_read > REPLY_BYTES_MAX or self._lines_read > REPLY_LINES_MAX

    def _whole(self) -> tuple[int, tuple[str, ...]]:
        assert self._code is not None
        code, lines = self._code, tuple(self._lines)
        self._code, self._lines = None, []
        self._lines_read = self._bytes_read = 0
        return code, lines

    def _next_line(self, lenient: bool) -> bytes | None:
        """The next line. Of one that is read over because it is too long, its beginning, or b"" for more of it."""
        # Remembering how far was searched keeps a server that sends byte by byte from costing quadratic time.
        end = self._buffer.find(b"\n", self._searched)
        self._searched = len(self._buffer)
        octets = end if end >= 0 else len(self._buffer)
        if octets > REPLY_LINE_BYTES_MAX and not lenient:
            raise RemoteProtocolError(f"a reply line over {REPLY_LINE_BYTES_MAX} octets")
        if end < 0 and octets <= REPLY_BYTES_MAX:
            return None
        line = bytes(self._buffer[:octets]).removesuffix(b"\r")
        del self._buffer[: octets + 1]
        self._searched = 0
        if self._discards:
            self._bytes_read += len(line)
            line = b""
        self._discards = end < 0
        return line


# A bare code is a complete last line (RFC 5321 section 4.2: clients must accept it). SMTP has no 1yz replies.
_REPLY_LINE: Final = re.compile(rb"(?P<code>[2-5][0-9][0-9])(?:(?P<more>[ -])(?P<text>.*))?", re.DOTALL)
# Three digits, and anything but a fourth one.
_LIKE_A_REPLY_LINE: Final = re.compile(
    rb"(?P<code>[2-5][0-9][0-9])(?P<more>[ \t-]|(?![0-9]))(?P<text>.*)", re.DOTALL
)
_STATUS: Final = r"([245]\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2}))"
# Where it belongs, at the beginning; and as receivers dress it there: "#5.1.0", "5.1.1:", "(5.1.1)", "[5.7.1]".
_ENHANCED: Final = re.compile(rf"\s*[#(\[<]{{0,2}}{_STATUS}(?:[)\]>:;,.-]{{0,2}}(?=\s|$)|[)\]>:;,](?![0-9]))")
# Elsewhere a mark tells it from an address or a version: "No such user (#5.1.1)".
_MARKED: Final = re.compile(rf"#{_STATUS}(?![0-9.])")


def _printable(raw: bytes) -> str:
    """Text that is one line wherever it is shown, in the order in which it was written (no U+202E)."""
    text = raw.decode("utf-8", "replace").replace("\t", " ")
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "�" for character in text)


def enhanced_status(code: int, lines: tuple[str, ...]) -> str | None:
    """The status that the reply has (RFC 3463): what its first line begins with, else the first that is marked as one.

    None where its class is not the code's first digit: that is a contradiction, so it is only text.
    """
    found = _ENHANCED.match(lines[0]) or next(filter(None, map(_MARKED.search, lines)), None)
    return found[1] if found and found[1][0] == str(code)[0] else None


def _without_status(line: str, status: str) -> str:
    match = _ENHANCED.match(line)
    return line[match.end() :] if match and match[1] == status else line


def capabilities_in(reply: SmtpReply) -> Capabilities:
    """RFC 5321 section 4.1.1.1. The first line is the server's name; keywords are in any case."""
    offered: dict[str, list[str]] = {}
    for line in reply.lines[1:]:
        keyword, *parameters = line.upper().split() or [""]
        offered.setdefault(keyword, parameters)
    return Capabilities(
        extended=True,
        pipelining="PIPELINING" in offered,
        eight_bit_mime="8BITMIME" in offered,
        smtputf8="SMTPUTF8" in offered,
        starttls="STARTTLS" in offered,
        enhanced_status_codes="ENHANCEDSTATUSCODES" in offered,
        size="SIZE" in offered,
        size_max=_size_max(offered.get("SIZE", [])),
    )


def _size_max(parameters: list[str]) -> int | None:
    """RFC 1870 section 4: up to 20 digits; 0 or nothing is no fixed limit."""
    if len(parameters) == 1 and re.fullmatch(r"[0-9]{1,20}", parameters[0]):
        return int(parameters[0]) or None
    return None
