"""To whom the member's mail may not go, and why; to add to that, and to take reasons back (SPEC 3.4)."""

from __future__ import annotations

from typing import Final

from relay.api.arguments import before_of
from relay.api.suppressions import suppression_page
from relay.console.desk import desk_of
from relay.console.pages import Context, See, page
from relay.console.visit import Visit
from relay.fields import NOTE_CHARACTERS_MAX, address_in
from relay.presentation import SuppressedAddress, suppressed_address
from relay.views.suppressions import count_of, suppression

ROWS: Final = 50

#: A reason, as it is told, and what it stops.
_REASONS: Final = {
    "unsubscribe": ("unsubscribed", "stops bulk mail"),
    "bounced": ("no such mailbox", "stops bulk mail"),
    "manual": ("put here by hand", "stops all mail"),
    "complaint": ("called it spam", "stops all mail, for good"),
}
_SAYS: Final = {
    "suppressed": "The address is on the list: no mail goes there any more.",
    "taken-back": "The reasons are taken back: mail may go there again.",
}


@page(
    "GET",
    "/suppressions",
    "suppressions.html",
    "Suppressions",
    nav="Suppressions",
    arguments=("after", "recipient"),
    says=_SAYS,
)
async def suppressions(visit: Visit) -> Context:
    searched = visit.argument("recipient")
    with visit.store.read() as view:
        count = count_of(view, visit.did)
    if searched is not None:
        rows, following = _one(visit, address_in("recipient", searched.strip())), None
    else:
        found = await suppression_page(visit.edge, visit.did, before_of(visit.request), ROWS)
        rows, following = found.suppressions, found.next
    return {
        "rows": rows,
        "next": following,
        "is_first": visit.argument("after") is None,
        "searched": searched or "",
        "count": count,
        "most": visit.config.members.suppressions_per_member_max,
        "reasons": _REASONS,
        "note_characters_max": NOTE_CHARACTERS_MAX,
        "typed": {name: visit.typed(name) for name in ("recipient", "note")},
    }


def _one(visit: Visit, address: str) -> list[SuppressedAddress]:
    with visit.store.read() as view:
        state = suppression(view, visit.did, address)
    return [] if state is None else [suppressed_address(state)]


@page("POST", "/suppressions", "suppressions.html", "Suppressions", again=suppressions)
async def suppress(visit: Visit) -> See:
    form = await visit.form()
    await desk_of(visit).suppress(form.one("recipient"), form.one("note"))
    return See("/suppressions", "suppressed")


@page("POST", "/suppressions/take-back", "suppressions.html", "Suppressions", again=suppressions)
async def take_back(visit: Visit) -> See:
    # The address stands in the form, and not in the path: paths are written down by proxies.
    await desk_of(visit).unsuppress((await visit.form()).one("suppressed"))
    return See("/suppressions", "taken-back")


PAGES: Final = (suppressions, suppress, take_back)
