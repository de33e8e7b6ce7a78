"""The pages of both consoles, as their own routes have them: a page that is added is looked at because it is there.

What stands in a path as `{name}` differs, so `EXAMPLES` says what to put there, for all pages or for one; a name that
is not in it fails the tests. `ARGUMENTS` are query strings that a page is looked at with, besides none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from relay.config import Config
from relay.console.frame import Frame
from relay.console.member_door import member_console
from relay.console.pages import Page
from relay.edge import Edge
from relay.operator_console.door import OperatorDoor
from tests.browser.filled import BARE_DOMAIN, DID, DOMAIN, OTHER_DOMAIN, FilledRelay
from tests.browser.hostile import RECIPIENT


class Route(NamedTuple):
    """One page of one console."""

    #: `member` or `operator`.
    door: str
    #: With `{name}`.
    path: str
    page: Page

    def __str__(self) -> str:
        return f"{self.door} {self.page.method} {self.path}"

    def paths(self, relay: FilledRelay) -> Iterator[str]:
        """Those that there is something to see at, the first of them without a query string."""
        for values in product(*(self._examples(name, relay) for name in re.findall(r"\{(\w+)\}", self.path))):
            rest = iter(values)
            yield re.sub(r"\{\w+\}", lambda _: quote(next(rest), safe=":"), self.path)  # noqa: B023 (at once)
        yield from (self.path + each for each in ARGUMENTS.get(self.path, ()))

    def _examples(self, name: str, relay: FilledRelay) -> list[str]:
        found = EXAMPLES.get(f"{self.path} {name}") or EXAMPLES[name]
        # The operator sees the pages that each member sees: one of each kind is looked at again.
        return found(relay)[:1] if self.path.startswith("/members/") else found(relay)


Example = Callable[[FilledRelay], list[str]]

_TWO: Final = ("sent", "hostile_put_off")


def _messages(relay: FilledRelay, *names: str) -> list[str]:
    return [relay.messages[name] for name in names]


EXAMPLES: Final[Mapping[str, Example]] = {
    "did": lambda relay: [DID],
    "message_id": lambda relay: _messages(relay, *_TWO, "scheduled", "later", "cancelled"),
    # These differ by what the mail is, and not by what became of it.
    "/console/messages/{message_id}/contents message_id": lambda relay: _messages(relay, *_TWO),
    "/messages/{message_id}/audit message_id": lambda relay: _messages(relay, *_TWO),
    "domain": lambda relay: [DOMAIN, BARE_DOMAIN],
    "/reputation/{domain} domain": lambda relay: [OTHER_DOMAIN],
    "webhook_id": lambda relay: [relay.webhook_id],
    "provider": lambda relay: ["google"],
    "key_id": lambda relay: [relay.other_key_id],
}

#: By the path.
ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "/console/messages": ("?status=bounced", f"?recipient={quote(RECIPIENT)}"),
    "/console/suppressions": (f"?recipient={quote(RECIPIENT)}",),
    "/find": (f"?recipient={quote(RECIPIENT)}", "?status=bounced&provider=google"),
    "/top": ("?by=class", "?by=member"),
    "/queue": ("?site=silent.example",),
}


def _frames() -> Iterator[tuple[str, Frame]]:
    # A frame asks for what a relay has when a page is asked for; none is asked for here.
    edge: Any = Edge(**dict.fromkeys(field.name for field in fields(Edge)))  # type: ignore[arg-type]
    core: Any = SimpleNamespace(
        config=Config(operator_domain="", public_url=""), pepper=None, edge=edge, directory=Path()
    )
    nursery: Any = None
    yield "member", member_console(edge)
    yield "operator", OperatorDoor(core, "127.0.0.1:8026", nursery).frame


ROUTES: Final = tuple(
    Route(door, mount.prefix + page.path, page)
    for door, frame in _frames()
    for mount in frame.mounts
    for page in mount.pages
)
#: But for the previews of HTML mail, which are no pages of ours.
GETS: Final = tuple(
    route for route in ROUTES if route.page.method == "GET" and not route.path.endswith("/html")
)
POSTS: Final = tuple(route for route in ROUTES if route.page.method == "POST")
