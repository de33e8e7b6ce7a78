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
from relay.refusals import invalid

_Parsed = TypeVar("_Parsed")


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


def _parsed(field: str, text: str, parse: Callable[[str], _Parsed]) -> _Parsed:
    try:
        return parse(text)
    except AddressError as error:
        raise invalid(field, str(error)) from error
