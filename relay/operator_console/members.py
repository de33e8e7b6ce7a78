"""All members, and what the operator orders about one: to enrol it, to stop it, its limits, its handle, its end."""

from __future__ import annotations

from typing import Any, Final

from relay.api.answers import Answer
from relay.console.pages import Context, See, page
from relay.console.visit import Form, Visit
from relay.refusals import Refusal, invalid

#: Of a list; what is looked for is looked for in all.
ROWS_MAX: Final = 100

_SAYS: Final = {
    "removed": "The member is removed: its keys are good for nothing, and what it had waiting is cancelled.",
}


@page("GET", "/members", "members.html", "Members", nav="Members", arguments=("q",), says=_SAYS)
async def members(visit: Visit) -> Context:
    searched = (visit.argument("q") or "").strip()
    found = [row for row in await visit.order("member_list") if _is_meant(row, searched.lower())]
    return {
        "rows": found[:ROWS_MAX],
        "more": len(found) - ROWS_MAX,
        "count": len(found),
        "searched": searched,
        "typed": {name: visit.typed(name) for name in ("did", "domains", "handle", "offline")},
    }


def _is_meant(row: dict[str, Any], searched: str) -> bool:
    return any(searched in text.lower() for text in (row["did"], row["handle"] or "", *row["domains"]))


@page("POST", "/members", "member_added.html", "A new member", again=members)
async def add(visit: Visit) -> Context:
    form = await visit.form()
    names = form.one("domains").replace(",", " ").split()
    if not names:
        raise invalid("domains", "name at least one")
    added = await visit.order(
        "member_add",
        did=form.one("did"),
        domains=names,
        handle=form.one("handle") or None,
        offline=form.one("offline") == "yes",
    )
    return {"added": added}


PAGES: Final = (members, add)

# ------------------------------------------------------------------------------------------------ below a member

_SAYS_OF_ONE: Final = {
    "suspended": "The member is suspended: it may not send, and what it had waiting is held.",
    "resumed": "The member may send again; what was held goes on.",
    "limits": "The limits are set.",
    "tiers": "The limits are those of the warming tiers again.",
    "handle": "The handle is set.",
    "no-handle": "The member has no handle any more.",
}


@page("GET", "/membership", "membership.html", "Membership", nav="Membership", says=_SAYS_OF_ONE)
async def membership(visit: Visit) -> Context:
    return {
        "member": await visit.order("member_show", did=visit.did),
        "typed": {name: visit.typed(name) for name in ("reason", "hour", "day", "handle", "really")},
    }


@page("POST", "/membership/suspend", "membership.html", "Membership", again=membership)
async def suspend(visit: Visit) -> See:
    await visit.order("member_suspend", did=visit.did, reason=_reason(await visit.form()))
    return See("/membership", "suspended")


@page("POST", "/membership/resume", "membership.html", "Membership", again=membership)
async def resume(visit: Visit) -> See:
    await visit.order("member_resume", did=visit.did, reason=_reason(await visit.form()))
    return See("/membership", "resumed")


@page("POST", "/membership/limits", "membership.html", "Membership", again=membership)
async def limits(visit: Visit) -> See:
    form = await visit.form()
    hour, day = _number(form, "hour"), _number(form, "day")
    await visit.order("member_limits", did=visit.did, hour=hour, day=day)
    return See("/membership", "tiers" if hour is None else "limits")


@page("POST", "/membership/handle", "membership.html", "Membership", again=membership)
async def handle(visit: Visit) -> See:
    form = await visit.form()
    wanted = form.one("handle")
    await visit.order("member_set_handle", did=visit.did, handle=wanted, offline=form.one("offline") == "yes")
    return See("/membership", "handle" if wanted else "no-handle")


@page("POST", "/membership/remove", "membership.html", "Membership", again=membership)
async def remove(visit: Visit) -> Answer:
    form = await visit.form()
    if form.one("really") != visit.did:
        raise invalid("really", "write the member's DID, so that no other is removed by mistake")
    await visit.order("member_remove", did=visit.did, reason=_reason(form))
    # Its own pages are gone with it.
    return Answer(303, b"", (("Location", f"{visit.home}/members?done=removed"),))


def _reason(form: Form) -> str | None:
    return form.one("reason") or None


def _number(form: Form, name: str) -> int | None:
    """None where the field is empty. Raises Refusal(INVALID_REQUEST)."""
    given = form.one(name)
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 12):
        raise Refusal("INVALID_REQUEST", f"{name}: expected a number")
    return int(given)


PAGES_OF_ONE: Final = (membership, suspend, resume, limits, handle, remove)
