"""What an SMTP server says: its bytes, cut into replies, and what stands in them. No I/O, no clock.

The contract. `ReplyReader` takes any bytes (`feed`) and gives whole replies, code and lines (`next_reply`), or raises
RemoteProtocolError where they are none. Its memory is bounded by the limits below. The text of a reply is one line
wherever it is shown: what is no text in it, and what would move a cursor, is U+FFFD.

Sources: RFC 5321 sections 4.2 and 4.5.3.1.5, 2034 and 3463 (enhanced status codes), 1870 (SIZE).
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

# RFC 5321 section 4.5.3.1.5 allows 512 octets for a reply line. Receivers that put URLs into refusals do pass
# it, so four times as much is read; beyond these limits it is no reply but an attack or another protocol.
REPLY_LINE_BYTES_MAX: Final = 2048
REPLY_LINES_MAX: Final = 100
REPLY_BYTES_MAX: Final = 16 * 1024


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


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """One reply of the server, whole. RFC 5321 section 4.2."""

    command: Command
    code: int
    enhanced: str | None
    """RFC 3463, only where it is well-formed and its class is the code's first digit."""
    lines: tuple[str, ...]
    """What follows the code, line by line: undecodable bytes and control characters are U+FFFD."""

    @property
    def text(self) -> str:
        """The lines as one sentence for people, without the enhanced code that begins each of them."""
        lines = self.lines
        if self.enhanced is not None:
            lines = tuple(line.removeprefix(self.enhanced) for line in lines)
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
        self._buffer = bytearray()
        self._searched = 0
        self._ended = False
        self._code: int | None = None
        self._lines: list[str] = []
        self._reply_bytes = 0

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
        else:
            self._ended = True

    def next_reply(self) -> tuple[int, tuple[str, ...]] | None:
        """Code and lines of the next complete reply; None where there is none yet."""
        while (line := self._next_line()) is not None:
            match = _REPLY_LINE.fullmatch(line)
            if match is None:
                raise RemoteProtocolError(f"not a line of an SMTP reply: {_printable(line[:80])!r}")
            code = int(match["code"])
            if self._code not in (None, code):
                raise RemoteProtocolError(f"one reply with two codes, {self._code} and {code}")
            self._code = code
            self._lines.append(_printable(match["text"] or b""))
            self._reply_bytes += len(line)
            if self._reply_bytes > REPLY_BYTES_MAX or len(self._lines) > REPLY_LINES_MAX:
                raise RemoteProtocolError("an endless reply")
            if match["more"] != b"-":
                lines, self._lines = tuple(self._lines), []
                self._code, self._reply_bytes = None, 0
                return code, lines
        return None

    def _next_line(self) -> bytes | None:
        # Remembering how far was searched keeps a server that sends byte by byte from costing quadratic time.
        end = self._buffer.find(b"\n", self._searched)
        self._searched = len(self._buffer)
        if (end if end >= 0 else len(self._buffer)) > REPLY_LINE_BYTES_MAX:
            raise RemoteProtocolError(f"a reply line over {REPLY_LINE_BYTES_MAX} octets")
        if end < 0:
            return None
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        self._searched = 0
        return line


# A bare code is a complete last line (RFC 5321 section 4.2: clients must accept it). SMTP has no 1yz replies.
_REPLY_LINE: Final = re.compile(rb"(?P<code>[2-5][0-9][0-9])(?:(?P<more>[ -])(?P<text>.*))?", re.DOTALL)
_ENHANCED: Final = re.compile(r"([245])\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})(?= |$)")


def _printable(raw: bytes) -> str:
    """Text that is one line wherever it is shown, in the order in which it was written (no U+202E)."""
    text = raw.decode("utf-8", "replace").replace("\t", " ")
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "�" for character in text)


def enhanced_status(code: int, lines: tuple[str, ...]) -> str | None:
    match = _ENHANCED.match(lines[0])
    return match[0] if match and match[1] == str(code)[0] else None


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
