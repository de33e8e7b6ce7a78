"""Checks a JSON value against a schema of `/openapi.json`: the part of JSON Schema 2020-12 that the relay uses.

Stricter than the standard in two ways, so that it cannot look away: a keyword that it does not know is an error, and
an object may have no property that its schema does not name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "null": type(None),
}
_ANNOTATIONS = frozenset({"title", "description", "examples", "default"})
_CHECKED = frozenset(
    {
        "$ref",
        "type",
        "enum",
        "anyOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minimum",
        "maximum",
    }
)


def mismatches(value: Any, schema: Schema, document: Schema, where: str = "$") -> Iterator[str]:
    """What in `value` is not as the schema says; nothing where it is."""
    unknown = schema.keys() - _ANNOTATIONS - _CHECKED
    assert not unknown, f"teach this checker {', '.join(sorted(unknown))}"
    if "$ref" in schema:
        yield from mismatches(value, resolve(schema["$ref"], document), document, where)
    if "type" in schema and not _is_of_type(value, schema["type"]):
        yield f"{where}: {value!r} is not of type {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if "anyOf" in schema:
        attempts = [list(mismatches(value, option, document, where)) for option in schema["anyOf"]]
        if all(attempts):
            yield min(attempts, key=len)[0]
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{where}: {value!r} is less than {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        yield f"{where}: {value!r} is more than {schema['maximum']}"
    if isinstance(value, dict):
        yield from _object_mismatches(value, schema, document, where)
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from mismatches(item, schema["items"], document, f"{where}[{number}]")


def _object_mismatches(value: Schema, schema: Schema, document: Schema, where: str) -> Iterator[str]:
    for name in schema.get("required", []):
        if name not in value:
            yield f"{where}: {name} is missing"
    if "properties" not in schema and "additionalProperties" not in schema:
        return
    others = schema.get("additionalProperties", False)
    for name, item in value.items():
        if name in schema.get("properties", {}):
            yield from mismatches(item, schema["properties"][name], document, f"{where}.{name}")
        elif others is False:
            yield f"{where}: {name} is not in the schema"
        else:
            yield from mismatches(item, others, document, f"{where}.{name}")


def resolve(reference: str, document: Schema) -> Schema:
    """What a `#/...` reference stands for. Raises KeyError where it leads nowhere."""
    assert reference.startswith("#/")
    found: Any = document
    for part in reference[2:].split("/"):
        found = found[part]
    schema: Schema = found
    return schema


def references(value: Any) -> Iterator[str]:
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def _is_of_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])
