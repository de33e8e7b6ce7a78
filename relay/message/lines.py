"""Whether octets are lines as mail has them: CRLF ends only (RFC 5321 §2.3.8), none too long (RFC 5322 §2.1.1).

Contract. Both are linear, make no object for a line, and take a message in pieces, so that a thread that looks at a
large one lets others run in between.
"""

from __future__ import annotations

from typing import Final

LINE_OCTETS_MAX: Final = 998  # MUST; the CRLF is not counted
#: Looked at at a time.
_PIECE_OCTETS: Final = 256 * 1024


def has_bare_ends(octets: bytes) -> bool:
    """Whether there is a CR or a LF that is not one of a CRLF."""
    for start in range(0, len(octets), _PIECE_OCTETS):
        end = start + _PIECE_OCTETS
        # A CRLF counts where its CR stands; its LF may stand in the next piece.
        ends = octets.count(b"\r\n", start, end + 1)
        if octets.count(b"\r", start, end) != ends:
            return True
        begun_before = start > 0 and octets.startswith(b"\r\n", start - 1)
        ended_behind = octets.startswith(b"\r\n", end - 1)
        if octets.count(b"\n", start, end) != ends + begun_before - ended_behind:
            return True
    return False


def long_line(octets: bytes) -> int | None:
    """Where the first line begins that is too long, of CRLF lines. Looks at one line's end in so many octets."""
    start = 0
    while len(octets) - start > LINE_OCTETS_MAX:
        end = octets.rfind(b"\r\n", start, start + LINE_OCTETS_MAX + 2)
        if end < 0:
            return start
        start = end + 2
    return None
