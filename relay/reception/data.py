"""What comes behind DATA: where it ends, and the message in its stored form. No I/O, no clock.

The invariant: **only CRLF.CRLF ends the data, and what is inside has one reading.** No other mixture of CR, LF and dots
ends it, at whatever octets the network has cut it (CVE-2023-51764 to 51766: what one server takes for the end and the
next one does not is a message smuggled inside another). A dot that begins a line is taken away (RFC 5321 section
4.5.2), and a line begins behind CRLF only. A bare CR or LF becomes CRLF where line ends are mended (a member's own
mail: whoever sends it on stuffs its dots anew), and else the data are refused there and then.

Memory is bounded by `bytes_max` and one block. What is refused is dropped at once, and read on to its end, so that the
one reply comes where the client looks for it; but of a client that goes on for ever (`is_hopeless`) no end is awaited.

RFC 5321 section 4.5.3.1.6 (998 octets and CRLF), RFC 1870 section 6 (552).
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from relay.reception.replies import Reply

LINE_BYTES_MAX: Final = 998
#: So many times the size that is taken may come of a message that is refused, before the client is not heard out.
HEARD_OUT_TIMES: Final = 8

_END: Final = b"\r\n.\r\n"
#: The beginnings of the end, the longest first.
_BEGINNINGS: Final = tuple(_END[:length] for length in range(len(_END) - 1, 0, -1))
_WHOLE_LINE: Final = LINE_BYTES_MAX + 2


class Message(NamedTuple):
    """What DATA brought, whole.

    `octets` is the stored form: dots are unstuffed, and the final dot is not there; it is empty, or its last line ends
    in CRLF. There is no NUL in it, no line of more than 998 octets unless the port takes them, and no bare CR or LF
    (each has become CRLF where the port mends them, which `normalised` tells). Nothing else was looked at: there need
    not even be a header.
    """

    octets: bytes
    normalised: bool
    #: SHA-256 of `octets`.
    sha256: bytes


class DataReader:
    """One message's octets in, in blocks of any size."""

    def __init__(self, *, bytes_max: int, mends_line_ends: bool, takes_long_lines: bool = False) -> None:
        self.refusal: Reply | None = None
        """The first thing that was wrong with it."""
        self.is_hopeless = False
        """Say the refusal and close: its end is not to be found, or not to be believed."""
        self.normalised = False
        self._bytes_max = bytes_max
        self._mends_line_ends = mends_line_ends
        self._takes_long_lines = takes_long_lines
        # The line of DATA itself ended in CRLF, so that a first line of one dot is the end.
        self._pending = _END[:2]
        self._begun = False
        self._held = bytearray()
        self._digest = hashlib.sha256()
        self._line_bytes = 0
        self._dropped_bytes = 0

    @property
    def held_bytes(self) -> int:
        """How much of the message is held now."""
        return len(self._held)

    def feed(self, octets: bytes) -> bytes | None:
        """None: the end has not come. Else it has, and these octets came behind it."""
        octets = self._pending + octets
        end = octets.find(_END)
        if end >= 0:
            self._take(octets[: end + 2])
            return octets[end + len(_END) :]
        kept = next((len(beginning) for beginning in _BEGINNINGS if octets.endswith(beginning)), 0)
        self._pending = octets[len(octets) - kept :]
        self._take(octets[: len(octets) - kept])
        return None

    def refuse(self, reply: Reply, *, hopeless: bool = False) -> None:
        """Whatever comes, the answer will be this one, unless there is another already. What is held is dropped."""
        self.refusal = self.refusal or reply
        self.is_hopeless = self.is_hopeless or hopeless
        self._held = bytearray()

    def message(self) -> Message:
        """After the end has come, of data that were not refused."""
        assert self.refusal is None, "a refused message was asked for"
        octets, self._held = bytes(self._held), bytearray()
        return Message(octets, self.normalised, self._digest.digest())

    def _take(self, octets: bytes) -> None:
        # Of what begins the end nothing is taken before it is known not to be one, so no CRLF and no CRLF-dot is ever
        # cut in two here.
        octets = octets.replace(b"\r\n.", b"\r\n")
        if octets and not self._begun:
            self._begun = True
            octets = octets[2:]
        if self.refusal is None:
            octets = self._with_good_line_ends(octets)
        if self.refusal is None:
            self._check(octets)
        if self.refusal is None:
            self._digest.update(octets)
            self._held += octets
        else:
            self._dropped_bytes += len(octets)
            if self._dropped_bytes > HEARD_OUT_TIMES * self._bytes_max:
                self.is_hopeless = True

    def _with_good_line_ends(self, octets: bytes) -> bytes:
        if octets.count(b"\r\n") == octets.count(b"\r") == octets.count(b"\n"):
            return octets
        if not self._mends_line_ends:
            self.refuse(
                Reply(521, "5.5.2", "a CR or LF stands alone in the message; lines end in CRLF"),
                hopeless=True,
            )
            return octets
        self.normalised = True
        return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def _check(self, octets: bytes) -> None:
        nul = octets.find(b"\0")
        if nul >= 0:
            self._refuse_content(nul, "there is a NUL")
            return
        # From line to line by the last line end within reach, so that a line costs no step of its own.
        start = -self._line_bytes
        while not self._takes_long_lines and len(octets) - start >= _WHOLE_LINE:
            end = octets.rfind(b"\n", max(start, 0), start + _WHOLE_LINE)
            if end < 0:
                self._refuse_content(start, f"a line is over {LINE_BYTES_MAX} octets")
                return
            start = end + 1
        last = octets.rfind(b"\n", max(start, 0))
        self._line_bytes = len(octets) - (last + 1 if last >= 0 else start)
        if len(self._held) + len(octets) > self._bytes_max:
            self.refuse(too_big(self._bytes_max))

    def _refuse_content(self, at: int, problem: str) -> None:
        """`at`: in the octets that are being looked at."""
        self.refuse(Reply(554, "5.6.0", f"octet {len(self._held) + at} of the message: {problem}"))


def too_big(bytes_max: int) -> Reply:
    return Reply(552, "5.3.4", f"the message is over {bytes_max} octets, the most that is taken here")
