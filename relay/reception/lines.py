"""The client's octets, cut into command lines. No I/O, no clock.

The invariant: **a line ends at CRLF, and nowhere else.** A CR or an LF that stands alone could be read as the end of a
command by one side and as a part of it by the other (a `MAIL FROM` with an LF in its address would be two commands), so
it is `BareLineEnd`, at once and for good: whoever asks closes the connection.

Memory is bounded: of a line that is too long only its last octet is kept, and it is `TooLong` when its end comes, so
that it gets the one reply that every command gets. One that has no end is `Endless`.

Sources: RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.3.1.4.
"""

from __future__ import annotations

from typing import Final

#: RFC 5321 section 4.5.3.1.4 has 512 with the CRLF, and extensions add to it; four times as much is read.
COMMAND_BYTES_MAX: Final = 2048
#: RFC 4954 section 4: a line of an AUTH exchange, without the CRLF.
AUTH_LINE_BYTES_MAX: Final = 12_288
#: A line that has no end after so many octets never gets one.
LINE_BYTES_MAX: Final = 64 * 1024


class LineError(Exception):
    """These octets are no line."""


class BareLineEnd(LineError):
    """A CR or an LF stands alone. What follows it cannot be trusted to be what it looks like."""


class TooLong(LineError):
    """A whole line that is longer than it may be. What follows is the next one."""


class Endless(LineError):
    """More than LINE_BYTES_MAX without an end."""


class LineReader:
    """Any octets in, lines out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._dropped = 0

    @property
    def is_empty(self) -> bool:
        """Nothing has come that has not been taken."""
        return not self._buffer and not self._dropped

    def feed(self, octets: bytes) -> None:
        self._buffer += octets

    def next_line(self, bytes_max: int) -> bytes | None:
        """The next line without its CRLF; None: it is not whole yet. Raises LineError."""
        # Remembering how far was searched keeps a client that sends byte by byte from costing quadratic time.
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._drop(bytes_max)
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[: end + 1])
        length, self._dropped = self._dropped + end - 1, 0
        del self._buffer[: end + 1]
        self._searched = 0
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise BareLineEnd
        if length > bytes_max:
            raise TooLong
        return line[:-2]

    def take_all(self) -> bytes:
        """Everything that has come and is not a line yet."""
        octets, self._buffer, self._searched = bytes(self._buffer), bytearray(), 0
        return octets

    def _drop(self, bytes_max: int) -> None:
        """Of a line that is too long already, keep what tells whether its end is a CRLF."""
        last = len(self._buffer) - 1
        if self._buffer.find(b"\r", max(self._searched - 1, 0), max(last, 0)) >= 0:
            raise BareLineEnd
        if self._dropped + last > bytes_max:
            self._dropped += last
            del self._buffer[:last]
        if self._dropped > LINE_BYTES_MAX:
            raise Endless
