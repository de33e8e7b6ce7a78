"""JSON bodies: a type that validates them, and sentences that name the field and say what to do.

Contract. `JsonBody(type).decode(body)` gives the type, or a Refusal(INVALID_REQUEST). Nothing is silently left out: an
unknown field is refused, with the one that was probably meant, and so is a key that stands twice in one object, of
which every JSON reader drops one.

What is made of a body is bounded, whatever its size: STRINGS_MAX strings and VALUES_MAX values. An array of six million
small numbers fits into 12 MiB, takes 400 MiB as objects, and a reader in C lets nobody else run while it makes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
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
#: Names and values of a body together. The largest that can be legal, a send, has some four hundred; of more it can
#: still be said what is wrong with them.
STRINGS_MAX = 2_000
#: Values of all kinds, about.
VALUES_MAX = 2 * STRINGS_MAX
#: Smaller bodies cannot hold more than takes two milliseconds.
SMALL_OCTETS = 16 * 1024
#: Looked through at a time.
_PIECE_OCTETS = 64 * 1024
#: A key of an object that is not refused for its length is shorter.
_LONG_STRING_OCTETS = 1024

#: Of a field.
IS_MISSING = "is required, and missing"

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class JsonBody(Generic[Fields]):
    """Bodies of one type, in which nothing is `Any`: it would be made before it is looked at.

    `instead`: what to do in the place of a field that people expect and that there is not; where
    it stands in another one, `attachments.path`."""

    def __init__(self, fields: type[Fields], instead: Mapping[str, str] | None = None) -> None:
        self._fields = fields
        self._decode = msgspec.json.Decoder(fields).decode
        self._known = {field.encode_name: field for field in msgspec.structs.fields(fields)}
        self._optional = [name for name, field in self._known.items() if not field.required]
        self._instead = instead or {}

    def decode(self, body: bytes) -> Fields:
        """Raises Refusal(INVALID_REQUEST)."""
        check_strings(body)
        try:
            try:
                fields = self._decode(body)
            except msgspec.ValidationError:
                fields = self._decode(self._without_empty(body))
            keys = body if len(body) <= SMALL_OCTETS else _without_long_strings(body)
            json.loads(keys, object_pairs_hook=_once)
            return fields
        except msgspec.ValidationError as error:
            raise self._refusal(str(error), body) from error
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise Refusal("INVALID_REQUEST", _not_json(body, error)) from error

    def decode_outside(self, body: bytes, items_max: int) -> list[bytes]:
        """Of a type with one field, which is `array_of_raw(items_max)`: what stands in the array, as it is written. It
        is for somebody else to decode, each by itself. Raises Refusal(INVALID_REQUEST)."""
        (name,) = self._known
        try:
            array = getattr(self._decode(body), name)
        except msgspec.ValidationError as error:
            if HAS_MORE in str(error):
                raise invalid(name, f"has over {items_max} entries; expected 1 to {items_max}") from error
            raise self._refusal(str(error), body) from error
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise Refusal("INVALID_REQUEST", _not_json(body, error)) from error
        items = items_of(array)
        inside = sum(item.count(b'"') for item in items)
        if body.count(b'"') - inside != 2:  # outside there is its name, and nothing else that has quotes
            raise invalid(name, "stands twice, and one of the two would be dropped; keep one")
        return items

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
            return invalid(_joined(field, unknown[1]), self._no_such_field(field, unknown[1]))
        missing = re.search(r"missing required field `([^`]*)`", what)
        if missing:
            return invalid(_joined(field, missing[1]), IS_MISSING)
        name, _, inner = field.partition("[")
        known = self._known.get(name)
        if what.startswith("Invalid enum value") and known is not None:
            legal = ", ".join(_choices(known.type))
            given = what.removeprefix("Invalid enum value ")
            if _takes_numbers(known.type):
                return invalid(name, f"{given} is neither a number nor {legal}")
            return invalid(name, f"{given} is none of {legal}")
        what = re.sub(r"`([a-z |]+)`", _in_words, what).replace("Expected", "expected")
        if not name:
            return invalid("the body", what)
        if inner == "...]":
            return invalid(_first_wrong_value(body, name) or name, what)
        return invalid(field, what)

    def _no_such_field(self, where: str, given: str) -> str:
        """`where`: in which object it stands, `attachments[0]`; empty: the body."""
        names = _names(where)
        instead = self._instead.get(".".join([*names, given]))
        if instead is not None:
            return instead
        known = _known_within(self._fields, names)
        nearest = nearest_of(given, known)
        if nearest is not None:
            return f"there is no such field; did you mean `{nearest}`?"
        return f"there is no such field; there are {', '.join(known)}"


#: In what msgspec says of an array that is longer than `array_of_raw` takes.
HAS_MORE = "of at most length"


def array_of_raw(items_max: int) -> type[msgspec.Struct]:
    """An array of at most so many values, which are not decoded. msgspec looks at the length of a list when it has
    made all of it; of this it makes no more."""
    empty = msgspec.field(default=msgspec.Raw())
    fields = [(f"item{number}", msgspec.Raw, empty) for number in range(items_max)]
    return msgspec.defstruct("ArrayOfRaw", fields, array_like=True, forbid_unknown_fields=True)


def items_of(array: msgspec.Struct) -> list[bytes]:
    """Of an `array_of_raw`."""
    every = (bytes(getattr(array, name)) for name in array.__struct_fields__)
    return [item for item in every if item]


def check_strings(body: bytes) -> None:
    """Raises Refusal(INVALID_REQUEST)."""
    # Every string has an opening quote, which no backslash stands before, and none that is one has more than two.
    if body.count(b'"') - body.count(b'\\"') > 2 * STRINGS_MAX:
        raise Refusal("INVALID_REQUEST", f"the body holds more than {STRINGS_MAX} strings; send less at once")


def outside_strings(body: bytes) -> Iterator[tuple[int, int]]:
    """Where what is in no string begins and ends, piece by piece; there is a string between two pieces. As far as it
    is JSON at all."""
    plain = _without_escapes(body)
    at = 0
    while (opened := plain.find(b'"', at)) >= 0:
        yield at, opened
        closed = plain.find(b'"', opened + 1)
        if closed < 0:
            return
        at = closed + 1
    yield at, len(body)


def _without_escapes(body: bytes) -> bytes:
    """With something else of the same length in the place of each escaped quote or backslash."""
    if b"\\" not in body:
        return body
    pieces = []
    start = 0
    while start < len(body):
        piece = body[start : start + _PIECE_OCTETS]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2 and len(piece) == _PIECE_OCTETS:
            piece = piece[:-1]  # an escape is not divided
        pieces.append(piece.replace(b"\\\\", b"__").replace(b'\\"', b"__"))
        start += len(piece)
    return b"".join(pieces)


def _without_long_strings(body: bytes) -> bytes:
    """With the same objects and keys. Raises Refusal(INVALID_REQUEST) where there are too many values."""
    pieces: list[bytes] = []
    values = before = 0
    for start, end in outside_strings(body):
        values += sum(body.count(mark, start, end) for mark in (b",", b"[", b"{"))
        if values > VALUES_MAX:
            raise Refusal(
                "INVALID_REQUEST", f"the body holds more than {VALUES_MAX} values; send less at once"
            )
        string = body[before:start]
        pieces += [b'""' if len(string) > _LONG_STRING_OCTETS else string, body[start:end]]
        before = end
    pieces.append(body[before:])
    return b"".join(pieces)


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


_names = re.compile(r"(?:\A|(?<=\.))[^.\[\]]+").findall


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _known_within(fields: type[msgspec.Struct], names: Sequence[str]) -> list[str]:
    """The fields of what stands behind these names."""
    known = {field.encode_name: field.type for field in msgspec.structs.fields(fields)}
    if not names:
        return list(known)
    inner = _struct_in(known[names[0]])
    assert inner is not None, "msgspec misses no field in what has none"
    return _known_within(inner, names[1:])


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The object that stands in a list, an Annotated or a union."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    inside = map(_struct_in, getattr(kind, "__args__", ()))
    return next((found for found in inside if found is not None), None)


def _choices(kind: Any) -> list[str]:
    """The words of a Literal, which may stand in an Annotated or a union."""
    words: list[str] = []
    for argument in getattr(kind, "__args__", ()):
        words += [argument] if isinstance(argument, str) else _choices(argument)
    return words


def _takes_numbers(kind: Any) -> bool:
    """As `_choices`."""
    return kind is int or any(map(_takes_numbers, getattr(kind, "__args__", ())))


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
