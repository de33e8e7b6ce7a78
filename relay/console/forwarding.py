"""Who is told of a domain's bounces, by mail (SPEC 6): a mailbox for each domain, whose owner has to confirm it."""

from __future__ import annotations

from typing import Final

from relay.api.member import status_of
from relay.console.desk import desk_of
from relay.console.pages import Context, See, page
from relay.console.visit import Visit

_SAYS: Final = {
    "asked": "Set. A mail with a link goes to that mailbox; it is told nothing until its owner has used the link.",
    "set": "Set: the mailbox is told of the domain's bounces.",
    "ended": "Nobody is told of the domain's bounces any more.",
}


@page("GET", "/forwarding", "forwarding.html", "Forwarding", nav="Forwarding", says=_SAYS)
async def forwarding(visit: Visit) -> Context:
    return {
        "domains": status_of(visit.store, visit.did).domains,
        "typed_for": visit.typed("domain"),
        "typed": visit.typed("to"),
    }


@page("POST", "/forwarding", "forwarding.html", "Forwarding", again=forwarding)
async def set_forward(visit: Visit) -> See:
    form = await visit.form()
    to = form.one("to")
    await desk_of(visit).set_forward(form.one("domain"), to)
    if not to:
        return See("/forwarding", "ended")
    return See("/forwarding", "set" if visit.by_operator else "asked")


PAGES: Final = (forwarding, set_forward)
