"""One request for a page: who asks, whose page it is, and what the page may have of the relay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote

import msgspec

from relay.api.request import Request
from relay.config import Config
from relay.data_directory import LogToRead
from relay.edge import ByName, Edge
from relay.message.tokens import ConsoleSession
from relay.principals import Asker, Operator
from relay.refusals import Refusal, invalid

#: Fields of one form. A page of messages has a box for each.
FIELDS_MAX: Final = 1000


class Said(NamedTuple):
    """A line on top of a page."""

    text: str
    #: It is a refusal, or something else that did not go well.
    is_wrong: bool = False


class Form:
    """What a form has sent: text, in the order of its fields."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields = fields

    def one(self, name: str) -> str:
        """The field of this name, without white space around it; "" where there is none. Raises
        Refusal(INVALID_REQUEST) where there are two."""
        values = self.all(name)
        if len(values) > 1:
            raise invalid(name, "is given twice")
        return values[0].strip() if values else ""

    def all(self, name: str) -> list[str]:
        """All fields of this name: boxes that are ticked, say."""
        return [value for key, value in self._fields if key == name]


class Visit:
    def __init__(
        self,
        edge: Edge,
        request: Request,
        *,
        home: str,
        base: str,
        did: str,
        asker: Asker | None,
        session: ConsoleSession | None,
        token: str,
    ) -> None:
        self.edge: Final = edge
        self.request: Final = request
        #: The path of the door's first page, without the slash.
        self.home: Final = home
        #: That of the pages among which this one is: the door's, or one member's at the operator's.
        self.base: Final = base
        #: Whose page it is; "": nobody's.
        self.did: Final = did
        self._asker = asker
        self.session: Final = session
        #: What each form of this session has in it.
        self.token: Final = token
        self.now_us: Final = edge.store.now_us()
        self.said: Final[list[Said]] = []
        #: Of the answer, where the page itself is what is answered.
        self.status = 200
        #: So many it may have, roughly, where it shows much that somebody else has written.
        self.page_octets = 0
        self._form: Form | None = None

    @property
    def asker(self) -> Asker:
        assert self._asker is not None, "this page is open to everybody"
        return self._asker

    @property
    def by_operator(self) -> bool:
        return isinstance(self._asker, Operator)

    @property
    def store(self) -> LogToRead:
        return self.edge.store

    @property
    def config(self) -> Config:
        return self.edge.config

    @property
    def in_path(self) -> Mapping[str, str]:
        return self.request.in_path

    def argument(self, name: str) -> str | None:
        """Of the query string; None where it is not there, or empty, as the field of a form that was left empty is."""
        return self.request.argument(name) or None

    def path(self, path: str) -> str:
        """That of a page, by what stands in its decorator, with the names filled in."""
        return self.base + quote(path, safe="/:?&=%+,@")

    async def decide(self, name: str, arguments: msgspec.Struct) -> Any:
        """Ask the core for a decision of `relay.registry`, as who asks here. `relay.edge.Decide` has the contract."""
        return await self.edge.decide(name, arguments, self.asker)

    async def order(self, command: str, **arguments: Any) -> Any:
        """What the operator's command answers, as on the command line with `--json`. Raises Refusal, as it does."""
        # It has the time that it takes, as one of the command line has: the form has arrived.
        self.request.limit.deadline = math.inf
        return await self.edge.decide(command, ByName(arguments), self.asker)

    def typed(self, name: str) -> str:
        """What stood in a field of the form that is shown again; "" where none was sent."""
        return self._form.one(name) if self._form is not None else ""

    async def form(self) -> Form:
        """What the form has sent: the frame has read and judged it."""
        assert self._form is not None, "this page is no answer to a form"
        return self._form

    def take_form(self, form: Form) -> None:
        self._form = form

    def say(self, text: str) -> None:
        """On top of the page that this request is answered with."""
        self.said.append(Said(text))

    def refused(self, refusal: Refusal) -> None:
        """On top of the page, which has the refusal's status: what was asked for was refused, and the page is shown so
        that it can be asked for again."""
        self.warn(refusal.message)
        self.status = refusal.http_status

    def warn(self, text: str) -> None:
        self.said.append(Said(text, is_wrong=True))


def form_in(body: bytes) -> Form:
    """Raises Refusal(INVALID_REQUEST)."""
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX
        )
    except (UnicodeDecodeError, ValueError):
        raise Refusal("INVALID_REQUEST", "this is not what a form of the console sends") from None
    return Form(fields)
