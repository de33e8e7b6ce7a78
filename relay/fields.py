"""What somebody wrote into a field, in normal form; or the refusal that names the field.

One function for each kind of thing that is written at more than one door: the HTTP API, the operator's commands. They
raise Refusal(INVALID_REQUEST) with what is wrong and what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from relay.addresses import (
    SEVERAL_ADDRESSES,
    AddressError,
    Mailbox,
    parse_address,
    parse_domain,
    parse_mailbox,
)
from relay.characters import FORBIDDEN
from relay.refusals import invalid
from relay.times import parse_moment, parse_rfc3339

_Parsed = TypeVar("_Parsed")

NOTE_CHARACTERS_MAX = 256


def moment_in(field: str, text: str) -> int:
    """RFC 3339 with its zone: microseconds since the epoch."""
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise invalid(field, str(error)) from error


def since_in(field: str, text: str, now_us: int) -> int:
    """From when on: `2h`, `yesterday`, a day from its beginning, a time."""
    return _moment(field, text, now_us, end=False)


def until_in(field: str, text: str, now_us: int) -> int:
    """Until when: the same, but a day to its end."""
    return _moment(field, text, now_us, end=True)


def _moment(field: str, text: str, now_us: int, *, end: bool) -> int:
    try:
        return parse_moment(text[:100], now_us, end=end)
    except ValueError as error:
        raise invalid(field, str(error)) from error


def mailbox_in(field: str, text: str) -> Mailbox:
    """`address` or `Name <address>`."""
    return _parsed(field, text, parse_mailbox)


def mailbox_of_many_in(field: str, text: str) -> Mailbox:
    """The same where there may be more, in an array."""
    try:
        return parse_mailbox(text)
    except AddressError as error:
        sentence = str(error)
        if sentence == SEVERAL_ADDRESSES:
            sentence = "this looks like several addresses; give each its own entry in an array"
        raise invalid(field, sentence) from error


def address_in(field: str, text: str) -> str:
    """The address of a mailbox, as `relay.addresses.parse_address` gives it."""
    return _parsed(field, text, parse_address)


def domain_in(field: str, text: str) -> str:
    """A domain in lower-case A-labels."""
    return _parsed(field, text, parse_domain)


def note_in(field: str, text: str | None) -> str | None:
    """A note beside something, in one line; None where nothing is written."""
    if not text:
        return None
    if len(text) > NOTE_CHARACTERS_MAX:
        raise invalid(field, f"is longer than {NOTE_CHARACTERS_MAX} characters")
    if FORBIDDEN.search(text):
        raise invalid(field, "contains a control character; remove it")
    return text


def _parsed(field: str, text: str, parse: Callable[[str], _Parsed]) -> _Parsed:
    try:
        return parse(text)
    except AddressError as error:
        raise invalid(field, str(error)) from error
