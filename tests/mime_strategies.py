"""Hypothesis strategies for messages as programs submit them: a header of many hands, MIME of any shape below it."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

#: Names that the relay takes out, in any case.
REMOVED = (
    "Bcc",
    "BCC",
    "bcc",
    "Resent-Bcc",
    "Return-Path",
    "Feedback-ID",
    "X-Atmos-Anything",
    "x-atmos-member-did",
    "Authentication-Results",
    "ARC-Seal",
    "arc-message-signature",
    "Received-SPF",
    "DomainKey-Signature",
)
REMOVED_IN_BULK = ("List-Unsubscribe", "LIST-UNSUBSCRIBE-POST", "list-unsubscribe")
#: Names that stay, and may stand more than once.
KEPT = (
    "Received",
    "DKIM-Signature",
    "Comments",
    "Keywords",
    "X-Mailer",
    "X-AtmosNot",
    "Bccx",
    "Arc",
    "List-Id",
    "Resent-To",
    "Delivered-To",
    "x.strange!name",
)
#: Names that stay, and stand once.
KEPT_ONCE = (
    "To",
    "Cc",
    "Subject",
    "Reply-To",
    "MIME-Version",
    "In-Reply-To",
    "References",
    "Date",
    "Message-ID",
)

_text = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40)
_words = st.lists(_text, max_size=5)
_gap = st.sampled_from([" ", "\t", "  ", "\r\n ", "\r\n\t", "\r\n  \t"])


@st.composite
def _values(draw: st.DrawFn) -> str:
    """A value of a field, with the white space before it, folded or not."""
    value = draw(st.sampled_from(["", " ", "\t", "\r\n "]))
    for word in draw(_words):
        value += word + draw(_gap)
    # A line of white space alone is no line of a field any more.
    return value if value.rpartition("\r\n")[2].strip(" \t") else value + "x"


@st.composite
def _lines(draw: st.DrawFn) -> bytes:
    """Lines of a body: any octets but NUL, dots and boundaries where they hurt."""
    pieces = draw(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        b".",
                        b"..",
                        b"",
                        b"--b",
                        b"--b--",
                        b"From me",
                        b" ",
                        b"\t",
                        b"x" * 998,
                        b"Bcc: kept",
                        b"\xff\xfe",
                    ]
                ),
                st.binary(max_size=60).map(lambda line: line.translate(None, b"\0\r\n")),
            ),
            max_size=8,
        )
    )
    return b"".join(piece + b"\r\n" for piece in pieces)


@st.composite
def _parts(draw: st.DrawFn, depth: int = 2) -> bytes:
    """Content-Type, an empty line and a body; a multipart or a message within it, where it goes deeper."""
    kind = draw(st.sampled_from(["text", "binary", "multipart", "message"] if depth else ["text", "binary"]))
    if kind == "multipart":
        boundary = draw(st.sampled_from([b"b", b"=_x", b"b b"]))
        parts = draw(st.lists(_parts(depth - 1), max_size=3))
        inside = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
        body = draw(_lines()) + inside + b"--" + boundary + b"--\r\n" + draw(_lines())
        return b'Content-Type: multipart/mixed;\r\n boundary="' + boundary + b'"\r\n\r\n' + body
    if kind == "message":
        return b"Content-Type: message/rfc822\r\n\r\nBcc: inside@example.com\r\n" + draw(_parts(depth - 1))
    if kind == "binary":
        return b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + draw(
            _lines()
        )
    return b"Content-type:text/plain\r\n\r\n" + draw(_lines())


class Composed(NamedTuple):
    """A message, and what of it the relay keeps."""

    submitted: bytes
    kept: bytes


@st.composite
def messages(draw: st.DrawFn, *, sender: str = "you@yourdomain.com", is_bulk: bool = True) -> Composed:
    """A legal message from this sender."""
    once = [(name, True) for name in draw(st.lists(st.sampled_from(KEPT_ONCE), unique=True))]
    others = draw(
        st.lists(
            st.one_of(
                st.sampled_from(KEPT).map(lambda name: (name, True)),
                st.sampled_from(REMOVED).map(lambda name: (name, False)),
                st.sampled_from(REMOVED_IN_BULK).map(lambda name: (name, not is_bulk)),
            ),
            max_size=12,
        )
    )
    author = draw(
        st.sampled_from([sender, f"<{sender}>", f'"A, (b" <{sender}>', f"=?utf-8?q?=C3=A9?=\r\n <{sender}>"])
    )
    fields = [(f"{name}:{draw(_values())}\r\n", kept) for name, kept in once + others]
    fields.append((f"From: {author}\r\n", True))
    order = draw(st.permutations(fields))
    rest = draw(_parts())
    return Composed(
        "".join(field for field, _ in order).encode() + rest,
        "".join(field for field, kept in order if kept).encode() + rest,
    )
