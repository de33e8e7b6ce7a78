"""What is wrong with a TOML file, said with the key and the line that it stands on.

`convert` makes a struct of what `tomllib` has read, or raises BadValueError, which knows the key; `line_of` finds the
key's line. Neither knows what the settings mean.
"""

from __future__ import annotations

import re
from copy import deepcopy
from tomllib import loads
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

KeyPath = tuple[str | int, ...]


class BadValueError(Exception):
    """A sentence for people, and the path of the key that it is about."""

    def __init__(self, key: KeyPath, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


def convert(values: dict[str, Any], type_: type[T]) -> T:
    """`values` as that struct. Raises BadValueError."""
    try:
        return msgspec.convert(values, type_)
    except msgspec.ValidationError as error:
        raise _explain(str(error), values, type_) from error


def _explain(problem: str, values: dict[str, Any], type_: type[Any]) -> BadValueError:
    """From msgspec's message, which ends with a path like `$.warming.tiers[0].hour`."""
    what, _, path = problem.partition(" - at `$")
    parts = re.findall(r"[^.\[\]`]+|\.\.\.", path)
    key: KeyPath = tuple(int(part) if part.isdigit() else part for part in parts)
    if "..." in key:
        key = _name_entry(problem, values, key, type_)
    unknown = re.search(r"unknown field `([^`]+)`", what)
    if unknown:
        key = (*key, unknown[1])
        return BadValueError(key, f"{dotted(key)} is not a setting that the relay knows")
    missing = re.search(r"missing required field `([^`]+)`", what)
    if missing:
        return BadValueError(key, f"{dotted((*key, missing[1]))} is missing")
    return BadValueError(key, f"{dotted(key)}: {what}")


def _name_entry(problem: str, values: dict[str, Any], key: KeyPath, type_: type[Any]) -> KeyPath:
    """msgspec writes `[...]` for an entry of a mapping. It means the one that makes the same problem alone."""
    at = key.index("...")
    for name in _get(values, key[:at]):
        alone = deepcopy(values)
        entries = _get(alone, key[:at])
        for other in set(entries) - {name}:
            del entries[other]
        try:
            msgspec.convert(alone, type_)
        except msgspec.ValidationError as error:
            if str(error) == problem:
                return (*key[:at], name, *key[at + 1 :])
    raise AssertionError(f"no entry alone has the problem: {problem}")


def dotted(key: KeyPath) -> str:
    """As people write it: `warming.tiers[0].hour`."""
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return dotted.removeprefix(".")


def _get(values: Any, key: KeyPath) -> Any:
    for part in key:
        values = values[part]
    return values


def line_of(text: str, key: KeyPath) -> int | None:
    """The line that a key stands on, or the nearest one around it; for what is inside a value of several lines, the
    value's first line. None where it is nowhere.

    It needs no parser that knows lines: a key stands in the first whole statement after which the file has it.
    """
    while key and not _has(loads(text), key):
        key = key[:-1]
    if not key:
        return None
    lines = text.split("\n")
    # The first `without` lines lack the key, the first `having` have it: halved until one statement is between them.
    without, having = 0, len(lines)
    while True:
        middle = (without + having + 1) // 2
        for end in (*range(middle, having), *range(middle - 1, without, -1)):
            try:
                values = loads("\n".join(lines[:end]))
            except ValueError:  # within a statement
                continue
            if _has(values, key):
                having = end
            else:
                without = end
            break
        else:
            return without + 1


def _has(values: dict[str, Any], key: KeyPath) -> bool:
    try:
        _get(values, key)
    except (LookupError, TypeError):
        return False
    return True
