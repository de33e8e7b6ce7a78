"""What can be asked over HTTP: an `Operation` stands beside each function that answers.

It says all that there is to know of a route: method, path, parameters, body, answers and errors. The router finds the
function by it, `/openapi.json` is folded from it, and it knows which query parameters are legal. So none of these can
drift from another.

    @operation("GET", "/v1/messages/{messageId}", "getMessage", "One message with its timeline", answers={...})
    async def message(edge: Edge, request: Request) -> Answer: ...

`{name}` in a path is one segment; `{name...}` is the rest of the path, slashes and all (the document shows `{name}`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from relay.api.answers import Answer
from relay.api.request import Request
from relay.edge import Edge
from relay.presentation import ErrorAnswer

Handler = Callable[[Edge, Request], Awaitable[Answer]]

#: What every error is: an ErrorAnswer.
MEMBERS_ERRORS = (400, 401, 500)


@dataclass(frozen=True)
class Parameter:
    """One parameter beside the body: its schema is JSON Schema's."""

    name: str
    schema: Mapping[str, Any]
    description: str = ""
    where: str = "query"


@dataclass(frozen=True)
class Described:
    """One possible answer: a sentence, and the type of its body, or a media type where it is no JSON."""

    description: str
    body: type | None = None
    media_type: str = "application/json"


@dataclass(frozen=True)
class Operation:
    method: str
    #: With `{name}` for what differs.
    path: str
    #: OpenAPI's operationId.
    name: str
    summary: str
    answers: Mapping[int, Described]
    #: HTTP statuses, and the type of their body.
    errors: tuple[int, ...] = ()
    error: type = ErrorAnswer
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    #: Its JSON body, or what OpenAPI says of another one.
    body: type | Mapping[str, Any] | None = None
    #: It wants a member's credentials.
    for_members: bool = True
    #: Its key alone says which member asks.
    by_key_alone: bool = False
    #: It is there for this machine and `[http] monitors`, and for nobody else.
    for_monitors: bool = False
    #: Each refusal is counted by its code (`atmos_sends_refused`).
    counts_refusals: bool = False
    #: None: a page, which Quart serves.
    handler: Handler | None = field(default=None, compare=False)

    @property
    def shown_path(self) -> str:
        return self.path.replace("...}", "}")

    @cached_property
    def query(self) -> frozenset[str]:
        """The query parameters that are legal here."""
        own = {parameter.name for parameter in self.parameters if parameter.where == "query"}
        return frozenset(own | {"did"} if self.for_members and not self.by_key_alone else own)


def operation(method: str, path: str, name: str, summary: str, **more: Any) -> Callable[[Handler], Operation]:
    """Make an operation of the function that answers it."""

    def made(handler: Handler) -> Operation:
        return Operation(method, path, name, summary, handler=handler, **more)

    return made


class Routed(Protocol):
    """What is found by its method and path."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...


Found = TypeVar("Found", bound=Routed)


class Router(Generic[Found]):
    """Finds operations by method and path."""

    def __init__(self, operations: Iterable[Found]) -> None:
        self._fixed: dict[str, dict[str, Found]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Found]]] = []
        by_path: dict[str, dict[str, Found]] = {}
        for each in operations:
            of_path = by_path.setdefault(each.path, {})
            assert each.method not in of_path, f"two operations for {each.method} {each.path}"
            of_path[each.method] = each
            if each.method == "GET":
                of_path["HEAD"] = each
        for path, of_path in by_path.items():
            if "{" in path:
                self._patterns.append((_pattern(path), of_path))
            else:
                self._fixed[path] = of_path

    def find(self, path: str) -> tuple[Mapping[str, Found], Mapping[str, str]]:
        """The operations of a path by method, and what stands in the path. Both empty: there is nothing."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, {}
        for pattern, of_path in self._patterns:
            found = pattern.fullmatch(path)
            if found is not None:
                return of_path, found.groupdict()
        return {}, {}


def _pattern(path: str) -> re.Pattern[str]:
    pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)
    return re.compile(re.sub(r"{(\w+)\.\.\.}", r"(?P<\1>.+)", pattern), re.DOTALL)
