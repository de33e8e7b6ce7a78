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

A send has one body and many recipients: its body (`relay.message.bodies`) is made once, `compose` is called for
each. The bodies are equal octets, so one body hash serves all signatures of all recipients.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from email.utils import format_datetime
from functools import lru_cache
from typing import Final, NamedTuple

from relay.addresses import Mailbox
from relay.events import Attachment, Calendar
from relay.message.bodies import Body, Header, compose_body, header_line
from relay.message.headers import STRUCTURED, STRUCTURED_SINCE_2
from relay.times import SECOND_US, utc

# RFC 5322 would like header lines of at most 78 octets, and RFC 2047 §2 demands 76 where a line holds an
# encoded word. One limit serves both.
FOLD_AT: Final = 76
ENCODED_WORD_MAX: Final = 75  # RFC 2047 §2
# Below this an encoded word holds next to nothing, and its line is better begun after the header's name.
_ENCODED_WORD_MIN: Final = 32
# A longer word is not folded but encoded, which can split it. Leaves room for the longest header name.
_WORD_OCTETS_MAX: Final = 900


class Draft(NamedTuple):
    """What a member asked to send, checked: see `relay.addresses` and `relay.message.headers`."""

    sender: Mailbox
    subject: str
    text: str | None = None
    html: str | None = None
    reply_to: tuple[Mailbox, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    #: Of a conversation: what To and Cc show to every recipient. Empty: each is its message's only one.
    to_shown: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    calendar: Calendar | None = None

    def body(self) -> Body:
        """That all its recipients share."""
        return compose_body(self.text, self.html, self.attachments, self.calendar)


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
    #: To and Cc of a conversation.
    shown: tuple[Header, ...]
    subject: Header
    reply_to: tuple[Header, ...]
    #: The member's own, in its order.
    members: tuple[Header, ...]


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
    """Return one recipient's message. `body` is that of the same draft, `shared` its `shared_fields`.

    `to` is who gets it; in a conversation what its fields show is the draft's (RFC 5322 §3.6.3: Bcc is in no field).
    `message_id` includes its angle brackets. A `list_unsubscribe_url` (bulk class) puts the relay's pair of
    headers (RFC 8058) in the place of any that the member gave: there is exactly one pair. A `token` (composition 3)
    stands in X-Atmos-Message: who reports this message, however little of it, can prove that it got it.
    """
    shared = shared or shared_fields(draft)
    headers = [
        shared.sender,
        *(shared.shown or ((b"To", mailbox_value("To", to)),)),
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
    return Shared(
        (b"From", mailbox_value("From", draft.sender)),
        (*_list_field("To", draft.to_shown), *_list_field("Cc", draft.cc)),
        (b"Subject", _subject(draft.subject)),
        _list_field("Reply-To", draft.reply_to),
        tuple((name.encode(), _member_value(name, value, structured)) for name, value in draft.headers),
    )


def message_id_header(
    headers: Iterable[tuple[str, str]], *, message_id: int, entropy: str, domain: str
) -> str:
    """Return the Message-ID of one message: the member's own among its headers, or one made of what was recorded."""
    for name, value in headers:
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


def _list_field(name: str, mailboxes: Sequence[Mailbox]) -> tuple[Header, ...]:
    """A field that names some mailboxes (RFC 5322 §3.4: mailbox-list), each on a line of its own; none: no field."""
    if not mailboxes:
        return ()
    first, *others = mailboxes
    # Behind the fold there is one space, and no name: two columns less than this leaves room for.
    values = [mailbox_value(name, first), *(mailbox_value("", mailbox) for mailbox in others)]
    return ((name.encode(), b",\r\n ".join(values)),)


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
