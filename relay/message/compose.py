"""Makes the message that is sent, from what was accepted: a pure function of its arguments.

Contract. Composing the same draft for the same recipient gives the same bytes, today or in a year, on
any machine. Whatever the relay accepted comes out

* as CRLF lines of at most 998 octets (RFC 5322 §2.1.1), header lines folded at 78 where they can be;
* with a body of 7-bit ASCII, so that no receiver's lack of 8BITMIME can change the bytes;
* with headers of ASCII, but for a non-ASCII local part, which stands in UTF-8 (RFC 6532 §3.2) and asks
  for SMTPUTF8: it has no other form. Names and subjects are encoded words (RFC 2047) even then.

The text and the subject that a reader sees are those that the member gave: white space at the end of a
line, a line "From ", a dot alone, tabs, all survive. Three things are mended, because mail has no way to
say them: every line end becomes CRLF (a bare CR or LF is how SMTP smuggling starts), a text without a
line end at its end gets one, and white space around a header's value goes.

A send has one body and many recipients: `compose_body` is called once, `compose` for each. The bodies
are equal octets, so one body hash serves all signatures of all recipients.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence
from email.utils import format_datetime
from functools import lru_cache
from typing import Final, NamedTuple

from relay.addresses import Mailbox
from relay.message.canonical import PIECE_OCTETS
from relay.message.headers import STRUCTURED, STRUCTURED_SINCE_2
from relay.message.lines import long_line
from relay.times import SECOND_US, utc

# RFC 5322 would like header lines of at most 78 octets, and RFC 2047 §2 demands 76 where a line holds an
# encoded word. One limit serves both.
FOLD_AT: Final = 76
ENCODED_WORD_MAX: Final = 75  # RFC 2047 §2
# Below this an encoded word holds next to nothing, and its line is better begun after the header's name.
_ENCODED_WORD_MIN: Final = 32
# A longer word is not folded but encoded, which can split it. Leaves room for the longest header name.
_WORD_OCTETS_MAX: Final = 900

Header = tuple[bytes, bytes]
MIME_VERSION: Final[Header] = (b"MIME-Version", b"1.0")


class Draft(NamedTuple):
    """What a member asked to send, checked: see `relay.addresses` and `relay.message.headers`."""

    sender: Mailbox
    subject: str
    text: str | None = None
    html: str | None = None
    reply_to: Mailbox | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Body(NamedTuple):
    """The MIME body that all recipients of a send share, and the header fields that describe it."""

    headers: tuple[Header, ...]
    octets: bytes


class Message(NamedTuple):
    """A message: header fields in order, their values folded, and a body that ends in CRLF."""

    headers: tuple[Header, ...]
    body: bytes

    def as_bytes(self) -> bytes:
        return b"".join([self.head, b"\r\n", self.body])

    @property
    def head(self) -> bytes:
        """The header as it goes out, without the empty line."""
        return b"".join(map(header_line, self.headers))

    @property
    def message_id(self) -> bytes | None:
        """By which others can name it."""
        return dict(self.headers)[b"Message-ID"]

    @property
    def smtputf8(self) -> bool:
        """Whether the receiver must offer SMTPUTF8: a header holds a non-ASCII address."""
        return not all(value.isascii() for _, value in self.headers)


class Shared(NamedTuple):
    """The header fields that are the same for all recipients of a send: made once, because encoding takes long."""

    sender: Header
    subject: Header
    reply_to: tuple[Header, ...]
    #: The member's own, in its order.
    members: tuple[Header, ...]


def header_line(header: Header) -> bytes:
    """Return a header field as it stands in a message. An empty value gets no trailing space."""
    name, value = header
    return b"%b: %b\r\n" % (name, value) if value else b"%b:\r\n" % name


def compose(
    draft: Draft,
    body: Body,
    *,
    to: Mailbox,
    message_id: str,
    accepted_at_us: int,
    feedback_id: str,
    member_did: str,
    list_unsubscribe_url: str | None = None,
    token: str | None = None,
    shared: Shared | None = None,
) -> Message:
    """Return one recipient's message. `body` is `compose_body` of the same draft, `shared` its `shared_fields`.

    `message_id` includes its angle brackets. A `list_unsubscribe_url` (bulk class) puts the relay's pair of
    headers (RFC 8058) in the place of any that the member gave: there is exactly one pair. A `token` (composition 3)
    stands in X-Atmos-Message: who reports this message, however little of it, can prove that it got it.
    """
    shared = shared or shared_fields(draft)
    headers = [
        shared.sender,
        (b"To", mailbox_value("To", to)),
        shared.subject,
        (b"Date", date_value(accepted_at_us).encode()),
        (b"Message-ID", message_id.encode()),
        *shared.reply_to,
    ]
    replaced = {b"message-id"}
    if list_unsubscribe_url is not None:
        replaced |= {b"list-unsubscribe", b"list-unsubscribe-post"}
        headers.extend(unsubscribe_pair(list_unsubscribe_url))
    headers.extend(header for header in shared.members if header[0].lower() not in replaced)
    headers.append((b"Feedback-ID", feedback_id.encode()))
    headers.append((b"X-Atmos-Member-Did", member_did.encode()))
    headers += token_field(token)
    return Message((*headers, *body.headers), body.octets)


def token_field(token: str | None) -> tuple[Header, ...]:
    return () if token is None else ((b"X-Atmos-Message", token.encode()),)


def unsubscribe_pair(url: str) -> tuple[Header, Header]:
    """What a mailbox provider's button needs (RFC 8058 §3.1)."""
    return (
        (b"List-Unsubscribe", b"<%b>" % url.encode()),
        (b"List-Unsubscribe-Post", b"List-Unsubscribe=One-Click"),
    )


def shared_fields(draft: Draft, composition: int = 1) -> Shared:
    """What `compose` takes from the draft. In composition 2 more of the member's fields are known to be structured,
    in which nothing may become an encoded word (RFC 2047 §5)."""
    structured = STRUCTURED if composition == 1 else STRUCTURED | STRUCTURED_SINCE_2
    reply_to = draft.reply_to
    return Shared(
        (b"From", mailbox_value("From", draft.sender)),
        (b"Subject", _subject(draft.subject)),
        () if reply_to is None else ((b"Reply-To", mailbox_value("Reply-To", reply_to)),),
        tuple((name.encode(), _member_value(name, value, structured)) for name, value in draft.headers),
    )


def compose_body(text: str | None, html: str | None) -> Body:
    """Return the body: text alone, HTML alone, or both as alternatives, the plainest first (RFC 2046 §5.1.4).

    An empty part is no part. One of the two must have a character in it.
    """
    assert text or html, "a message needs text or html"
    parts = [text_part(subtype, value) for subtype, value in (("plain", text), ("html", html)) if value]
    body = parts[0] if len(parts) == 1 else multipart("alternative", parts)
    return Body((MIME_VERSION, *body.headers), body.octets)


def multipart(subtype: str, parts: Sequence[Body]) -> Body:
    """Return the parts as one body (RFC 2046 §5.1). All are 7-bit, and so is the whole.

    `subtype` may bring parameters: `report; report-type=delivery-status`.
    """
    whole = [b"".join([*map(header_line, part.headers), b"\r\n", part.octets]) for part in parts]
    boundary = _boundary(whole)
    delimiter = b"--" + boundary
    octets = b"".join(b"%b\r\n%b\r\n" % (delimiter, part) for part in whole) + delimiter + b"--\r\n"
    content_type = b'multipart/%b;\r\n boundary="%b"' % (subtype.encode(), boundary)
    return Body(((b"Content-Type", content_type), (b"Content-Transfer-Encoding", b"7bit")), octets)


def message_id_header(draft: Draft, *, message_id: int, entropy: str, domain: str) -> str:
    """Return the Message-ID of one message: the member's own, or one made of what was recorded."""
    for name, value in draft.headers:
        if name.lower() == "message-id":
            return value
    return f"<{message_id}.{entropy}@{domain}>"


@lru_cache(maxsize=256)
def feedback_id(*, sending_domain: str, did: str, category: str, operator_domain: str) -> str:
    """Return the Feedback-ID value, by which mailbox providers group complaints.

    The member is in it as a hash: the provider can tell members apart, a passer-by cannot name them.
    """
    member = base64.b32encode(hashlib.sha256(did.encode()).digest()).decode().lower()[:16]
    return f"{sending_domain}:{member}:{category}:{operator_domain}"


# ---- bodies


_overlong_ends: Final = re.compile(rb"^([^\r\n]{74})(=20|=09)\r\n", re.MULTILINE)
_from_lines: Final = re.compile(rb"^From ", re.MULTILINE)
#: After so much, b2a_qp breaks the line.
_FULL_LINE: Final = b"a" * 75
_PLAIN_OCTETS: Final = bytes([*b"\t\r\n", *range(0x20, 0x7F)])


def text_part(subtype: str, text: str) -> Body:
    """Return one text part, in the first transfer encoding (RFC 2045 §6) that is safe for it and compact."""
    # Whole passes over the text, each a few milliseconds for the longest there may be: regular expressions would take
    # ten times as long, and let nobody in between.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    octets = (lines if lines.endswith("\r\n") else lines + "\r\n").encode()
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
    content_type = f"text/{subtype}; charset=utf-8".encode()
    return Body(((b"Content-Type", content_type), (b"Content-Transfer-Encoding", encoding)), octets)


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


def _boundary(parts: list[bytes]) -> bytes:
    """Return a boundary (RFC 2046 §5.1.1) that is a function of the parts and occurs in none of them.

    It does not depend on the recipient, so that all recipients share one body. Encoded parts cannot
    contain "=_"; a 7bit part could, and a colliding hash is not a thing to rely upon being impossible.
    """
    digest = hashlib.sha256(b"\0".join(parts))
    while True:
        boundary = b"=_" + digest.hexdigest()[:32].encode()
        if not any(boundary in part for part in parts):
            return boundary
        digest.update(b"again")


# ---- header values


def date_value(time_us: int) -> str:
    """Return a time as mail writes it (RFC 5322 §3.3), in UTC."""
    return _date_of_second(time_us // SECOND_US)


@lru_cache(maxsize=64)
def _date_of_second(seconds: int) -> str:
    """Kept, because what is sent now was mostly accepted in the same few seconds."""
    return format_datetime(utc(seconds * SECOND_US))


def folded(name: str, value: str) -> bytes:
    """Return the line `value`, which has no word too long for a line, as it stands after the header's `name`."""
    return _fold(name, _find_words(value))


_find_words: Final = re.compile(r"[ \t]*[^ \t]+").findall  # each with the white space before it
_is_phrase: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+").fullmatch  # RFC 5322 §3.2.5
# What an encoded word in Q may hold as itself, anywhere that an encoded word may stand (RFC 2047 §5(3)).
_Q_LITERALS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
_Q: Final = [chr(octet) if octet in _Q_LITERALS else f"={octet:02X}" for octet in range(256)]
_Q[0x20] = "_"
#: Of ASCII; what each octet of another character takes is the same for all.
_Q_SIZES: Final = {chr(octet): len(_Q[octet]) for octet in range(128)}
_B_SIZES: Final = {chr(octet): 1 for octet in range(128)}


def _subject(text: str) -> bytes:
    """Return a subject that reads exactly as `text`, whatever its white space and "=?" look like."""
    if "=?" in text or text != text.strip(" \t"):
        return _fold("Subject", _encoded_words(len("Subject: "), text))
    return _unstructured("Subject", text)


def _member_value(name: str, value: str, structured: frozenset[str]) -> bytes:
    """Return the value of a member's header. ASCII goes as it is, encoded words of the member's included."""
    value = value.strip(" \t")
    if name.lower() in structured:
        return _fold(name, _find_words(value))
    return _unstructured(name, value)


def _unstructured(name: str, value: str) -> bytes:
    """Return `value` folded; the words from the first to the last that need it become encoded words.

    The others stay as they are, so that the `<list.example>` after the name in a List-Id remains one.
    """
    words = _find_words(value)
    if any(len(word) > _WORD_OCTETS_MAX for word in words):
        return _fold(name, _encoded_words(len(name) + 2, value))
    if value.isascii():
        return _fold(name, words)
    first = next(index for index, word in enumerate(words) if not word.isascii())
    last = next(index for index in range(len(words) - 1, -1, -1) if not words[index].isascii())
    run = "".join(words[first : last + 1])
    text = run.lstrip(" \t")
    gap = run[: len(run) - len(text)]
    encoded = _encoded_words(len(gap) if first else len(name) + 2, text)
    return _fold(name, [*words[:first], gap + encoded[0], *encoded[1:], *words[last + 1 :]])


def mailbox_value(name: str, mailbox: Mailbox) -> bytes:
    """Return a mailbox as the value of the header `name` (RFC 5322 §3.4)."""
    if not mailbox.name:
        return mailbox.address.encode()
    if not mailbox.name.isascii() or "=?" in mailbox.name:
        words = _encoded_words(len(name) + 2, mailbox.name)
    elif _is_phrase(mailbox.name):
        words = _find_words(mailbox.name)
    else:
        escaped = mailbox.name.replace("\\", "\\\\").replace('"', '\\"')
        words = _find_words(f'"{escaped}"')
    return _fold(name, [*words, f" <{mailbox.address}>"])


def _encoded_words(column: int, text: str) -> list[str]:
    """Return `text` as encoded words (RFC 2047), in the shorter of Q and B, to be put at `column`.

    The first ends before `FOLD_AT`, or begins a new line where that leaves too little room; the others begin
    with the space that divides them, and that a reader drops. No character is divided between two words.
    """
    octets = text.encode()
    escapes = len(octets.translate(None, _Q_LITERALS + b" "))
    in_q = len(octets) + 2 * escapes <= (len(octets) + 2) // 3 * 4
    room = FOLD_AT - column
    words = []
    separator = ""
    if room < _ENCODED_WORD_MIN:
        room, separator = ENCODED_WORD_MAX, "\r\n "
    begun = pending_size = 0
    payload_max = _payload_max(min(room, ENCODED_WORD_MAX), in_q=in_q)
    for index, size in enumerate(_sizes(text, in_q=in_q)):
        pending_size += size
        if pending_size > payload_max:
            words.append(separator + _encoded_word(text[begun:index], in_q=in_q))
            begun, pending_size, separator = index, size, " "
            payload_max = _payload_max(ENCODED_WORD_MAX, in_q=in_q)
    words.append(separator + _encoded_word(text[begun:], in_q=in_q))
    return words


def _sizes(text: str, *, in_q: bool) -> Iterator[int]:
    """How much each character takes in an encoded word."""
    sizes = _Q_SIZES if in_q else _B_SIZES
    for character in text:
        yield sizes.get(character) or len(character.encode()) * (len("=C3") if in_q else 1)


def _payload_max(word_max: int, *, in_q: bool) -> int:
    """How much an encoded word of `word_max` characters holds: characters in Q, octets of text in B."""
    room = word_max - len("=?utf-8?q??=")
    return room if in_q else room // 4 * 3


def _encoded_word(text: str, *, in_q: bool) -> str:
    octets = text.encode()
    if in_q:
        return f"=?utf-8?q?{''.join([_Q[octet] for octet in octets])}?="
    return f"=?utf-8?b?{base64.b64encode(octets).decode()}?="


def _fold(name: str, words: list[str]) -> bytes:
    """Join words, folding before the white space of one that would pass `FOLD_AT` (RFC 5322 §2.2.3).

    The first stays beside the header's name. The white space itself is untouched: unfolding restores it.
    """
    value = "".join(words).encode()
    if len(name) + 2 + len(value) <= FOLD_AT:
        return value
    lines: list[bytes] = []
    column = len(name) + 2
    for word in words:
        octets = word.encode()
        if lines and column + len(octets) > FOLD_AT:
            lines.append(b"\r\n")
            column = 0
        lines.append(octets)
        column += len(octets)
    return b"".join(lines)
