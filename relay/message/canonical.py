"""The canonical forms of DKIM: relaxed (RFC 6376 §3.4.2 and §3.4.4), and of bodies simple as well (§3.4.3).

Contract: the octets are those of dkimpy's `Relaxed` and `Simple`, which the tests hold against these, in a time that
grows with the length and nothing else. dkimpy's regular expressions go back over every run of white space: a mail of
spaces took it four seconds. A body is taken in pieces, so that a thread that hashes a large one lets others run in
between.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final

#: Of a body, at a time.
PIECE_OCTETS: Final = 64 * 1024

_unfold: Final = re.compile(rb"\r?\n").sub
_leading_ends: Final = re.compile(rb"(?:\n\r)*").match
#: What `bytes.strip` takes for white space.
_WHITE_SPACE: Final = b" \t\r\n\v\f"

Header = tuple[bytes, bytes]


def relaxed_headers(headers: Iterable[Header]) -> list[Header]:
    """Names in lower case; values unfolded, each run of white space one space, none at either end, and a CRLF."""
    return [
        (name.lower().rstrip(), _compressed(_unfold(b"", value)).strip(_WHITE_SPACE) + b"\r\n")
        for name, value in headers
    ]


def body_hash(body: bytes) -> bytes:
    """The bh= of a body (relaxed, SHA-256, base64). One serves all recipients of a send."""
    hasher = hashlib.sha256()
    for piece in relaxed_body(body):
        hasher.update(piece)
    return base64.b64encode(hasher.digest())


def relaxed_body(body: bytes) -> Iterator[bytes]:
    """The canonical form, piece by piece: no white space at a line's end, each run of it one space, no empty lines at
    the end, and a CRLF after the last line."""
    empty_lines = 0
    is_empty = True
    for piece in _pieces(body):
        relaxed = _compressed(piece).replace(b" \r\n", b"\r\n")
        ends = _ends_at_end(relaxed)
        content = relaxed[: len(relaxed) - 2 * ends]
        if content:
            if empty_lines:
                yield b"\r\n" * empty_lines
            yield content
            empty_lines = ends
            is_empty = False
        else:
            empty_lines += ends
    if not is_empty:
        yield b"\r\n"


def simple_body(body: bytes) -> Iterator[bytes]:
    """The simple form (RFC 6376 §3.4.3), piece by piece: no empty lines at the end, and a CRLF after the last line."""
    yield body[: len(body) - 2 * _ends_at_end(body)]
    yield b"\r\n"


def _compressed(octets: bytes) -> bytes:
    """Each run of spaces and tabs as one space. Every pass halves the longest run."""
    octets = octets.replace(b"\t", b" ")
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets


def _pieces(body: bytes) -> Iterator[bytes]:
    """Each ends with a line, so that no run of white space is divided; the last is the rest."""
    start = 0
    while len(body) - start > PIECE_OCTETS:
        end = body.rfind(b"\r\n", start, start + PIECE_OCTETS)
        if end < 0:
            end = body.find(b"\r\n", start + PIECE_OCTETS)
            if end < 0:
                break
        yield body[start : end + 2]
        start = end + 2
    if start < len(body):
        yield body[start:]


def _ends_at_end(piece: bytes) -> int:
    """How many CRLFs a piece ends with."""
    tail = piece[len(piece.rstrip(b"\r\n")) :]
    found = _leading_ends(tail[::-1])
    return 0 if found is None else len(found[0]) // 2
