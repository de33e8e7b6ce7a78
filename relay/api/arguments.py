"""Query parameters that several paths share, and what is legal in them."""

from __future__ import annotations

import re
from typing import Any

from relay.api.operations import Parameter
from relay.api.request import Request
from relay.refusals import invalid

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
#: What JSON numbers hold exactly everywhere.
NUMBER_MAX = 2**53 - 1

AFTER = Parameter("after", {"type": "string"}, "The `next` of the page before.")


def limit_parameter(default: int = LIMIT_DEFAULT, most: int = LIMIT_MAX) -> Parameter:
    schema: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return Parameter("limit", schema)


def flag_parameter(name: str, description: str) -> Parameter:
    return Parameter(name, {"type": "string", "enum": ["1"]}, description)


def flag_of(request: Request, name: str) -> bool:
    """Whether `?name=1` is said. Anything else is not guessed at."""
    given = request.argument(name)
    if given not in (None, "1"):
        raise invalid(name, "expected 1, or leave it out")
    return given is not None


def limit_of(request: Request, default: int = LIMIT_DEFAULT, most: int = LIMIT_MAX) -> int:
    """How many the client wants. Raises Refusal(INVALID_REQUEST), as all here do."""
    given = request.argument("limit")
    if given is None:
        return default
    if not re.fullmatch(r"[0-9]{1,4}", given) or not 1 <= int(given) <= most:
        raise invalid("limit", f"expected a number from 1 to {most}")
    return int(given)


def before_of(request: Request) -> int | None:
    """Where the page begins: the `next` of the page before, which is a number; None: at the newest."""
    after = request.argument("after")
    if after is None:
        return None
    number = number_in(after)
    if number is None:
        raise invalid("after", "expected the `next` of the page before")
    return number


def number_in(text: str) -> int | None:
    """A message id or a sequence number; None where it can be none."""
    if not re.fullmatch(r"[1-9][0-9]{0,15}", text) or int(text) > NUMBER_MAX:
        return None
    return int(text)
