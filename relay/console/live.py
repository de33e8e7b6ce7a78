"""A ticket for the member's own status stream, for the script that keeps a page up to date.

The script listens on `/v1/stream`, as any client of a member's does, and asks for the page itself again when something
has happened: so what is shown is made in one place, with the script and without it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from relay.api.answers import Answer
from relay.console.pages import page
from relay.console.visit import Visit
from relay.principals import Principal
from relay.refusals import Refusal


class LiveTicket(msgspec.Struct):
    #: Of the stream, with its ticket; good for a minute, once.
    stream: str


@page("POST", "/ticket", "", "Ticket")
async def ticket(visit: Visit) -> Answer:
    if not isinstance(visit.asker, Principal):
        raise Refusal("NOT_FOUND", "there is no stream at this door")
    issued, _ = visit.edge.streams.issue_ticket(visit.asker, visit.now_us)
    return Answer.of(LiveTicket(f"/v1/stream?ticket={issued}"))


PAGES: Final = (ticket,)
