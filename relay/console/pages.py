"""What a page is: a path, a template, and the function that gives the template what it shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from relay.api.answers import Answer
from relay.console.visit import Visit

#: What a template is given.
Context: TypeAlias = Mapping[str, Any]

FORM_BYTES_MAX: Final = 64 * 1024


class See(NamedTuple):
    """303: what was asked for is done, and this page of the console shows it."""

    #: Below the page's own base.
    path: str
    #: A word of `says` of the page that is seen.
    done: str | None = None


Handler = Callable[[Visit], Awaitable["Context | See | Answer"]]


@dataclass(frozen=True)
class Page:
    method: str
    #: With `{name}` for what differs; below the base that it is mounted at.
    path: str
    template: str
    title: str
    handler: Handler = field(compare=False)
    #: Its name in the list of pages that stands on each; None: it is not in it.
    nav: str | None = None
    #: The page that is shown where this one's POST is refused, with the refusal on it.
    again: Page | None = None
    #: What is said on top of the page, by the word that `See` names.
    says: Mapping[str, str] = field(default_factory=dict)
    #: Query parameters that mean something here.
    arguments: Collection[str] = ()
    #: Nobody needs to have signed in.
    is_open: bool = False
    form_bytes_max: int = FORM_BYTES_MAX

    @property
    def legal_arguments(self) -> frozenset[str]:
        return frozenset({*self.arguments, "done"}) if self.says else frozenset(self.arguments)


def page(method: str, path: str, template: str, title: str, **more: Any) -> Callable[[Handler], Page]:
    """Make a page of the function that gives what it shows."""

    def made(handler: Handler) -> Page:
        return Page(method, path, template, title, handler, **more)

    return made
