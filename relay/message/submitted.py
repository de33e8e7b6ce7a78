"""Reads a message that a member submits whole: what of it is kept, and what must be known of it.

Contract. `read_submitted` is a pure function. What it returns as `raw` is what was submitted, octet for octet, without
the fields that are removed; whoever composes puts fields on top of it and changes nothing. What is refused is a
`SubmissionError`, with the octet at which it is wrong: it is not mended, because what was mended is another mail. The
one exception is a bare CR or LF, which becomes CRLF, and says so (`normalised`): every receiver sees the same lines
then (RFC 5321 §2.3.8). Time and memory are linear in the message, only its header is looked into, and a thread that
reads a large one lets others run in between.

Removed: what says who gets it besides (Bcc), what the relay writes itself, and what only receivers write. In the bulk
class the relay's List-Unsubscribe pair takes the place of the member's (SPEC 3.3).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from relay.addresses import AddressError, Mailbox
from relay.events import BULK_CATEGORIES, TRANSACTIONAL_CATEGORIES
from relay.message.field_values import readable, single_mailbox
from relay.message.fields_of import Field, HeaderSection, HeaderSectionError, header_of
from relay.message.headers import RESERVED_IN_BULK, SUBJECT_CHARACTERS_MAX, unsubscribe_https_url
from relay.message.lines import LINE_OCTETS_MAX, has_bare_ends, long_line

#: A batch of the log holds so much with the events of all its recipients (`spool.log`).
MESSAGE_OCTETS_MAX: Final = 15 << 20
#: RFC 5321 §6.3: a mail that has been through as many servers goes in circles.
RECEIVED_MAX: Final = 50

CATEGORY: Final = b"x-atmos-category"
IDEMPOTENCY_KEY: Final = b"x-atmos-idempotency-key"

#: These, and all that begin with one of the prefixes.
_REMOVED: Final = frozenset(
    {
        b"authentication-results",
        b"bcc",
        b"domainkey-signature",
        b"feedback-id",
        b"received-spf",
        b"resent-bcc",
        b"return-path",
    }
)
_REMOVED_PREFIXES: Final = (b"arc-", b"x-atmos-")
_REMOVED_IN_BULK: Final = frozenset({b"list-unsubscribe", b"list-unsubscribe-post"})

#: RFC 5322 §3.6 and RFC 2045 §3: of these a message has one. Of two, readers choose as they like.
ONCE: Final = frozenset(
    {
        b"cc",
        b"content-description",
        b"content-disposition",
        b"content-id",
        b"content-transfer-encoding",
        b"content-type",
        b"date",
        b"from",
        b"in-reply-to",
        b"message-id",
        b"mime-version",
        b"references",
        b"reply-to",
        b"sender",
        b"subject",
        b"to",
        CATEGORY,
        IDEMPOTENCY_KEY,
    }
)

_is_key: Final = re.compile(r"[ -~]{1,255}").fullmatch
_find_non_ascii: Final = re.compile(rb"[\x80-\xff]").search


class SubmissionError(ValueError):
    """What is wrong with a message, as one sentence for the member who submitted it."""

    def __init__(self, sentence: str, *, enhanced: str = "5.6.0") -> None:
        super().__init__(sentence)
        #: The enhanced status code (RFC 3463).
        self.enhanced = enhanced


class Submitted(NamedTuple):
    """A message that can be sent, and what its header says."""

    #: What is kept of it.
    raw: bytes
    sender: Mailbox
    #: Of the field Sender, where there is one: who sent it for the author.
    sent_by: Mailbox | None
    #: Readable; cut where it is very long.
    subject: str
    category: str
    #: Its own X-Atmos-Idempotency-Key.
    idempotency_key: str | None
    #: It has its own Message-ID and Date, by which a retry is the same message and two messages are two.
    is_one_of_its_kind: bool
    #: The https URL of the List-Unsubscribe that was removed.
    unsubscribe_url: str | None
    normalised: bool


def read_submitted(octets: bytes, *, smtputf8: bool, default_category: str) -> Submitted:
    """Read a message as it was submitted, dots unstuffed. Raises SubmissionError.

    `smtputf8`: the client said SMTPUTF8, so that its header may be UTF-8 (RFC 6532). `default_category` is that of a
    message that names none.
    """
    message, normalised = _crlf_lines(octets)
    try:
        section = header_of(message)
    except HeaderSectionError as error:
        raise SubmissionError(str(error)) from None
    _check_characters(message[: section.body_start], smtputf8=smtputf8)
    by_name = _first_of_each(section)
    category = _category(by_name.get(CATEGORY), default_category)
    is_bulk = category in BULK_CATEGORIES
    sender = _mailbox(by_name.get(b"from"), "From")
    if sender is None:
        raise SubmissionError("the message has no From")
    unsubscribe = by_name.get(b"list-unsubscribe") if is_bulk else None
    subject = by_name.get(b"subject")
    if is_bulk:
        _check_no_receipt(by_name)
    return Submitted(
        raw=_without_removed(message, section, is_bulk=is_bulk),
        sender=sender,
        sent_by=_mailbox(by_name.get(b"sender"), "Sender"),
        subject="" if subject is None else readable(subject.text)[:SUBJECT_CHARACTERS_MAX],
        category=category,
        idempotency_key=_idempotency_key(by_name.get(IDEMPOTENCY_KEY)),
        is_one_of_its_kind=b"message-id" in by_name and b"date" in by_name,
        unsubscribe_url=None if unsubscribe is None else unsubscribe_https_url(unsubscribe.text),
        normalised=normalised,
    )


# ------------------------------------------------------------------------------------------------ octets


def _crlf_lines(octets: bytes) -> tuple[bytes, bool]:
    """The message in CRLF lines, none of them too long, and whether it had others."""
    nul = octets.find(b"\0")
    if nul >= 0:
        raise SubmissionError(f"the message has a NUL (octet {nul})")
    is_bare = has_bare_ends(octets)
    if is_bare:
        octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if len(octets) > MESSAGE_OCTETS_MAX:
        raise SubmissionError(f"the message is over {MESSAGE_OCTETS_MAX} octets", enhanced="5.3.4")
    if octets and not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    start = long_line(octets)
    if start is not None:
        raise SubmissionError(f"the message has a line over {LINE_OCTETS_MAX} octets (octet {start})")
    return octets, is_bare


def _check_characters(header: bytes, *, smtputf8: bool) -> None:
    found = _find_non_ascii(header)
    if found is None:
        return
    if not smtputf8:
        raise SubmissionError(
            f"the header has 8-bit characters (octet {found.start()}); write them as encoded words (RFC 2047), "
            "or say SMTPUTF8"
        )
    try:
        header.decode()
    except UnicodeDecodeError as error:
        raise SubmissionError(f"the header is no UTF-8 (octet {error.start})") from None


def _without_removed(message: bytes, section: HeaderSection, *, is_bulk: bool) -> bytes:
    whole = memoryview(message)
    kept: list[memoryview] = []
    start = 0
    for field in section.fields:
        if _is_removed(field.name, is_bulk=is_bulk):
            kept.append(whole[start : field.start])
            start = field.end
    return b"".join([*kept, whole[start:]]) if start else message


def _is_removed(name: bytes, *, is_bulk: bool) -> bool:
    return name in _REMOVED or name.startswith(_REMOVED_PREFIXES) or (is_bulk and name in _REMOVED_IN_BULK)


# ------------------------------------------------------------------------------------------------ fields


def _first_of_each(section: HeaderSection) -> dict[bytes, Field]:
    found: dict[bytes, Field] = {}
    received = 0
    for field in section.fields:
        if field.name in ONCE and field.name in found:
            name = field.name.decode("ascii").title()
            raise SubmissionError(
                f"the header has a second {name} (octet {field.start}); it must have one (RFC 5322 section 3.6)"
            )
        found.setdefault(field.name, field)
        received += field.name == b"received"
    if received > RECEIVED_MAX:
        raise SubmissionError(
            f"the message has been through {received} servers: it goes in circles", enhanced="5.4.6"
        )
    return found


def _category(field: Field | None, default: str) -> str:
    category = default if field is None else field.text or default
    known = (*TRANSACTIONAL_CATEGORIES, *BULK_CATEGORIES)
    if category not in known:
        raise SubmissionError(f"X-Atmos-Category: expected one of {', '.join(known)}")
    return category


def _idempotency_key(field: Field | None) -> str | None:
    if field is None:
        return None
    if not _is_key(field.text):
        raise SubmissionError("X-Atmos-Idempotency-Key: expected 1 to 255 printable ASCII characters")
    return field.text


def _mailbox(field: Field | None, name: str) -> Mailbox | None:
    if field is None:
        return None
    try:
        return single_mailbox(field.text)
    except AddressError as error:
        raise SubmissionError(f"{name}: {error} (octet {field.start})") from None


def _check_no_receipt(by_name: dict[bytes, Field]) -> None:
    for name, why in RESERVED_IN_BULK.items():
        field = by_name.get(name.encode())
        if field is not None:
            raise SubmissionError(f"{name.title()} is reserved (octet {field.start}): {why}")
