"""JSON bodies: a type that validates them, and sentences that name the field and say what to do.

Contract. `JsonBody(type).decode(body)` gives the type, or a Refusal(INVALID_REQUEST). Nothing is silently left out: an
unknown field is refused, with the one that was probably meant, and so is a key that stands twice in one object, of
which every JSON reader drops one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from relay.refusals import Refusal, invalid, nearest_of

Fields = TypeVar("Fields", bound=msgspec.Struct)

_WORD_OF_KIND = {
    "str": "a string",
    "array": "an array",
    "object": "an object",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
}
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"
#: Names and values of a body together. The largest that can be legal, a send, has some two hundred; of more it can
#: still be said what is wrong with them.
STRINGS_MAX = 2_000

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class JsonBody(Generic[Fields]):
    """Bodies of one type. `instead`: what to do in the place of a field that people expect and that there is not."""

    def __init__(self, fields: type[Fields], instead: Mapping[str, str] | None = None) -> None:
        self._decode = msgspec.json.Decoder(fields).decode
        self._known = {field.encode_name: field for field in msgspec.structs.fields(fields)}
        self._optional = [name for name, field in self._known.items() if not field.required]
        self._instead = instead or {}

    def decode(self, body: bytes) -> Fields:
        """Raises Refusal(INVALID_REQUEST)."""
        # Every string has an opening quote, which no backslash stands before, and none that is one has more than two.
        if body.count(b'"') - body.count(b'\\"') > 2 * STRINGS_MAX:
            raise Refusal(
                "INVALID_REQUEST", f"the body holds more than {STRINGS_MAX} strings; send less at once"
            )
        try:
            try:
                fields = self._decode(body)
            except msgspec.ValidationError:
                fields = self._decode(self._without_empty(body))
            json.loads(body, object_pairs_hook=_once)
            return fields
        except msgspec.ValidationError as error:
            raise self._refusal(str(error), body) from error
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise Refusal("INVALID_REQUEST", _not_json(body, error)) from error

    def _without_empty(self, body: bytes) -> bytes:
        """An empty string in an optional field is absent, like null (SPEC 1.1), also where it is no legal value."""
        values = _fields_of(body)
        if values is None:
            return body
        return msgspec.json.encode(
            {
                name: value
                for name, value in values.items()
                if name not in self._optional or bytes(value) != b'""'
            }
        )

    def _refusal(self, problem: str, body: bytes) -> Refusal:
        """From msgspec's message, which ends with a path like `$.headers[...]`."""
        what, _, path = problem.partition(" - at `$")
        field = path.rstrip("`").lstrip(".")
        unknown = re.search(r"unknown field `([^`]*)`", what)
        if unknown:
            return invalid(unknown[1], self._no_such_field(unknown[1]))
        missing = re.search(r"missing required field `([^`]*)`", what)
        if missing:
            return invalid(missing[1], "is required, and missing")
        name, _, inner = field.partition("[")
        known = self._known.get(name)
        if what.startswith("Invalid enum value") and known is not None:
            legal = ", ".join(_choices(known.type))
            return invalid(name, f"{what.removeprefix('Invalid enum value ')} is none of {legal}")
        what = re.sub(r"`([a-z |]+)`", _in_words, what).replace("Expected", "expected")
        if not name:
            return invalid("the body", what)
        if inner == "...]":
            return invalid(_first_wrong_value(body, name) or name, what)
        return invalid(field, what)

    def _no_such_field(self, given: str) -> str:
        if given in self._instead:
            return self._instead[given]
        nearest = nearest_of(given, self._known)
        if nearest is not None:
            return f"there is no such field; did you mean `{nearest}`?"
        return f"there is no such field; there are {', '.join(self._known)}"


def _in_words(kinds: re.Match[str]) -> str:
    """`str | null` as people say it."""
    return " or ".join(_WORD_OF_KIND.get(kind, kind) for kind in kinds[1].split(" | "))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise invalid(
                    key, "stands twice in one object, and one of the two would be dropped; keep one"
                )
            seen.add(key)
    return found


def _not_json(body: bytes, error: Exception) -> str:
    if body.startswith(_BOM):
        return "the body begins with a byte order mark, which JSON does not have (RFC 8259 8.1); leave it out"
    if body.startswith(_GZIP):
        return "the body is compressed (gzip); send it as it is"
    if body.startswith(_UTF16_BOMS):
        return "the body is in UTF-16; send UTF-8"
    if not body:
        return "the body is empty; send JSON"
    return f"the body is not JSON in UTF-8: {error}"


def _choices(kind: Any) -> list[str]:
    """The words of a Literal, which may stand in an Annotated or a union."""
    words: list[str] = []
    for argument in getattr(kind, "__args__", ()):
        words += [argument] if isinstance(argument, str) else _choices(argument)
    return words


def _first_wrong_value(body: bytes, name: str) -> str | None:
    """`headers.X-A`: the first key of this object whose value is no string."""
    values = _fields_of((_fields_of(body) or {}).get(name, b""))
    if values is None:
        return None
    return next((f"{name}.{key}" for key, value in values.items() if bytes(value)[:1] != b'"'), None)


def _fields_of(body: bytes | msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    """The values of an object as they are written; None where it is none. Nothing is made of the values: whoever sends
    nonsense could have half a million made."""
    try:
        return _raw_fields(body)
    except (msgspec.DecodeError, RecursionError):
        return None
