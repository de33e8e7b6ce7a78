"""Handles: the host names by which people know a DID (atproto.com/specs/handle).

Contract: `parse_handle` gives a handle in the one spelling that compares equal byte for byte, or raises AddressError
with a sentence for whoever wrote it. `first_handle` gives the one that a DID's document names. Neither says whether
the handle is that DID's: for that the handle must name the DID as well (`relay.decisions.handles`).

A handle is an ASCII host name of two labels or more, in lower case, whose last label does not begin with a digit and
is none that the specification reserves: nobody can own such a name.
"""

from __future__ import annotations

from typing import Any, Final

from relay.addresses import AddressError, is_host_name
from relay.refusals import invalid

#: "handle.invalid" is what atproto's programs show in the place of a handle that is not right.
_RESERVED: Final = frozenset({"alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion"})
_SCHEME: Final = "at://"
#: Of a document's other names, so many are looked at.
NAMES_MAX: Final = 100


def parse_handle(text: str) -> str:
    if not is_host_name(text):  # before it is in lower case: that makes ASCII letters of others
        raise AddressError("a handle is a host name of two labels or more, as in mira.example.com")
    handle = text.lower()
    last = handle.rpartition(".")[2]
    if last in _RESERVED:
        raise AddressError(f"a handle cannot end in .{last}: nobody can own such a name")
    if last[0].isdigit():
        raise AddressError("the last label of a handle does not begin with a digit")
    return handle


def handle_in(field: str, text: str) -> str:
    """As `parse_handle`, also of what people write before a handle; raises Refusal(INVALID_REQUEST)."""
    try:
        return parse_handle(text.removeprefix(_SCHEME).removeprefix("@"))
    except AddressError as error:
        raise invalid(field, str(error)) from error


def first_handle(document: dict[str, Any]) -> str | None:
    """The handle that a DID's document names: its first at:// name, and no other. None: it names none, or what is no
    handle."""
    names = document.get("alsoKnownAs")
    if not isinstance(names, list):
        return None
    for name in names[:NAMES_MAX]:
        if isinstance(name, str) and name.startswith(_SCHEME):
            try:
                return parse_handle(name.removeprefix(_SCHEME))
            except AddressError:
                return None
    return None
