"""Checks the header fields that a member adds to a message.

Contract: what `check_headers` returns can be put into a message as it stands. It cannot start another
header (no line ends, no control characters but tab), cannot stand in for a field that the relay writes
itself (reserved names), cannot appear twice, and can be folded to lines of at most 998 octets (RFC 5322
§2.1.1). What does not fit is refused with the name of the field and what to do, never mended: a header
dropped or changed in silence is a mail that says something else.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from relay.characters import FORBIDDEN

HEADERS_MAX: Final = 50
NAME_CHARACTERS_MAX: Final = 76
VALUE_OCTETS_MAX: Final = 998
SUBJECT_CHARACTERS_MAX: Final = 4_000

#: Written by the relay, or by the servers after it; with what to use instead, where there is something.
RESERVED: Final = {
    "from": 'use the field "from"',
    "to": 'use the field "to"',
    "cc": 'use the field "cc"',
    "bcc": 'use the field "bcc"',
    "subject": 'use the field "subject"',
    "reply-to": 'use the field "replyTo"',
    "sender": 'the sender is the mailbox in "from"',
    "date": 'the relay writes when it was accepted, or the time in "scheduledAt"',
    "mime-version": "the relay writes it",
    "return-path": "the relay receives the bounces",
    "received": "only mail servers write it",
    "dkim-signature": "the relay signs",
    "authentication-results": "only receivers write it",
    "feedback-id": "the relay writes it",
    # What claims a history that the mail does not have.
    "delivered-to": "only receivers write it",
    "domainkey-signature": "the relay signs",
    "errors-to": "the relay receives the bounces",
    "received-spf": "only receivers write it",
}
RESERVED_PREFIXES: Final = {
    "arc-": "only mail servers write it",
    "bimi-": "only receivers write it",
    "content-": "the relay writes it",
    "resent-": "only who sends a mail again writes it",
    "x-atmos-": "the relay writes it",
    "x-google-": "only receivers write it",
    "x-original-": "only receivers write it",
}
#: Asking everybody on a list for a receipt is what spam does.
_RECEIPT: Final = "a receipt can be asked for in the transactional class only"
RESERVED_IN_BULK: Final = {"disposition-notification-to": _RECEIPT, "return-receipt-to": _RECEIPT}
# Fields made of identifiers and URLs: an encoded word (RFC 2047 §5) may not stand in them, and a word
# of theirs cannot be split.
STRUCTURED: Final = frozenset(
    {"message-id", "in-reply-to", "references", "list-unsubscribe", "list-unsubscribe-post"}
)
#: Composed as structured since composition 2: fields whose value is addresses, identifiers or URLs.
STRUCTURED_SINCE_2: Final = frozenset(
    {
        "archived-at",
        "autocrypt",
        "disposition-notification-to",
        "list-archive",
        "list-help",
        "list-id",
        "list-owner",
        "list-post",
        "list-subscribe",
        "mail-followup-to",
        "mail-reply-to",
        "original-message-id",
        "return-receipt-to",
        "x-confirm-reading-to",
    }
)
# A word of a structured field must fit on one line with the name of its field (RFC 5322 §2.1.1).
_STRUCTURED_WORD_OCTETS_MAX: Final = 998 - len("List-Unsubscribe-Post: ")

_is_field_name: Final = re.compile(r"[!-9;-~]+").fullmatch  # RFC 5322 §3.6.8: ftext
_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM: Final = rf"{_ATEXT}(?:\.{_ATEXT})*"
# RFC 5322 §3.6.4: msg-id, with its no-fold-literal.
_is_message_id: Final = re.compile(rf"<{_DOT_ATOM}@(?:{_DOT_ATOM}|\[[!-Z^-~]*\])>").fullmatch
#: In a field of any name: an address or URL that is not ASCII, or an address whose name in quotes is not. An encoded
#: word for such a value swallows the address, or half of the quotes.
_find_swallowed: Final = re.compile(
    r"""<(?=[^<>\s]*[^\x00-\x7f])(?:[^<>\s@]*@|[A-Za-z][A-Za-z0-9+.-]*:)[^<>\s]*>
    |"[^"]*[^"\x00-\x7f][^"]*"[ \t]*<[^<>\s@]+@[^<>\s]+>
    |\A[ \t]*[A-Za-z][A-Za-z0-9+.-]*://\S*[^\s\x00-\x7f]\S*[ \t]*\Z""",
    re.VERBOSE,
).search
_find_bracketed: Final = re.compile(r"<([^<>]*)>").findall
_remove_white_space: Final = re.compile(r"\s+").sub


class HeaderError(ValueError):
    """What is wrong with a header or the subject: one sentence that begins with the name of the field."""


def check_headers(
    headers: Iterable[tuple[str, str]], *, subject: str, bulk: bool = False
) -> tuple[tuple[str, str], ...]:
    """Return the member's headers as given, all of them legal for the class; raises `HeaderError`.

    `headers` are the entries as they were written, so that a name given twice is seen.
    """
    _check_text("subject", subject)
    if len(subject) > SUBJECT_CHARACTERS_MAX:
        raise HeaderError(f"subject: longer than {SUBJECT_CHARACTERS_MAX} characters; shorten it")
    pairs = tuple(headers)
    if len(pairs) > HEADERS_MAX:
        raise HeaderError(f"headers: {len(pairs)} are given; the most for one message is {HEADERS_MAX}")
    seen: set[str] = set()
    for name, value in pairs:
        _check_name(name, bulk=bulk)
        lowered = name.lower()
        if lowered in seen:
            raise HeaderError(f"headers: {name} is given twice; give each name once, in any case")
        seen.add(lowered)
        _check_value(name, lowered, value)
    return pairs


def unsubscribe_https_url(value: str) -> str | None:
    """Return the first https URL of a List-Unsubscribe value (RFC 2369 §3.2), or None.

    White space inside the angle brackets comes from folding and is no part of the URL.
    """
    for bracketed in _find_bracketed(value):
        url = _remove_white_space("", bracketed)
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError:  # a malformed IPv6 host
            continue
        if parts.scheme == "https" and host:
            return url
    return None


def _check_name(name: str, *, bulk: bool) -> None:
    if _is_field_name(name) is None:
        raise HeaderError(
            f"headers: {name!a} is not a header name; it takes printable ASCII without spaces and colons"
        )
    if len(name) > NAME_CHARACTERS_MAX:
        raise HeaderError(f"headers: a name is longer than {NAME_CHARACTERS_MAX} characters: {name[:40]}...")
    lowered = name.lower()
    advice = RESERVED.get(lowered)
    if advice is None:
        advice = next((why for prefix, why in RESERVED_PREFIXES.items() if lowered.startswith(prefix)), None)
    if advice is None and bulk:
        advice = RESERVED_IN_BULK.get(lowered)
    if advice is not None:
        raise HeaderError(f"headers: {name} is reserved: {advice}")


def _check_value(name: str, lowered: str, value: str) -> None:
    _check_text(f"headers: {name}", value)
    if len(value.encode()) > VALUE_OCTETS_MAX:
        raise HeaderError(f"headers: {name} is longer than {VALUE_OCTETS_MAX} octets; shorten it")
    is_structured = lowered in STRUCTURED | STRUCTURED_SINCE_2
    if not value.isascii() and (is_structured or _find_swallowed(value) is not None):
        raise HeaderError(
            f"headers: {name} may hold ASCII only; write a host name in its xn-- form, and a name before an address "
            "as an encoded word (RFC 2047), as in =?utf-8?q?J=C3=B6rg?= <j@example.com>"
        )
    if not is_structured:
        return
    if lowered == "message-id" and _is_message_id(value) is None:
        raise HeaderError(f"headers: {name} must be one identifier in the form <left@right>")
    if any(len(word) > _STRUCTURED_WORD_OCTETS_MAX for word in value.split()):
        raise HeaderError(
            f"headers: {name} holds a word too long for a line; at most {_STRUCTURED_WORD_OCTETS_MAX} octets fit"
        )


def _check_text(field: str, text: str) -> None:
    forbidden = FORBIDDEN.search(text)
    if forbidden is None:
        return
    code_point = ord(forbidden[0])
    what = "a line end" if forbidden[0] in "\r\n" else f"the control character U+{code_point:04X}"
    raise HeaderError(f"{field}: contains {what}; remove it")
