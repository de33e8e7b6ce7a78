"""All sending domains, those that may not send first; and what the operator orders about one, on its member's page."""

from __future__ import annotations

from typing import Any, Final

from relay.console.domains import domain
from relay.console.pages import Context, See, page
from relay.console.visit import Visit
from relay.refusals import Refusal, invalid

#: Of a list; what is looked for is looked for in all.
ROWS_MAX: Final = 100

_SAYS: Final = {"resumed": "All domains that were paused may send again; what was held goes on."}
_ONLY: Final = {"paused": "paused", "unverified": "not verified"}


@page("GET", "/domains", "all_domains.html", "Domains", nav="Domains", arguments=("q", "only"), says=_SAYS)
async def domains(visit: Visit) -> Context:
    searched, only = (visit.argument("q") or "").strip(), visit.argument("only") or ""
    if only and only not in _ONLY:
        raise invalid("only", f"expected {' or '.join(_ONLY)}")
    rows = await visit.order("domain_list")
    found = [row for row in rows if _is_meant(row, searched.lower(), only)]
    found.sort(key=lambda row: (row["status"] == "active", row["verified"], row["domain"]))
    return {
        "rows": found[:ROWS_MAX],
        "more": len(found) - ROWS_MAX,
        "count": len(found),
        "paused": sum(row["status"] != "active" for row in rows),
        "searched": searched,
        "only": only,
        "choices": _ONLY,
        "typed": visit.typed("reason"),
    }


def _is_meant(row: dict[str, Any], searched: str, only: str) -> bool:
    if only == "paused" and row["status"] == "active":
        return False
    if only == "unverified" and row["verified"]:
        return False
    return searched in row["domain"] or searched in row["did"].lower()


@page("POST", "/domains/resume-all", "all_domains.html", "Domains", again=domains)
async def resume_all(visit: Visit) -> See:
    await visit.order("domain_resume_all", reason=(await visit.form()).one("reason") or None)
    return See("/domains", "resumed")


PAGES: Final = (domains, resume_all)

# ------------------------------------------------------------------------------------------------ below a member


@page("POST", "/domains/{domain}/pause", "domain.html", "Domain", again=domain)
async def pause(visit: Visit) -> See:
    return await _ordered(visit, "domain_pause", "paused")


@page("POST", "/domains/{domain}/resume", "domain.html", "Domain", again=domain)
async def resume(visit: Visit) -> See:
    return await _ordered(visit, "domain_resume", "resumed")


@page("POST", "/domains/{domain}/remove", "domain.html", "Domain", again=domain)
async def remove(visit: Visit) -> See:
    form, name = await visit.form(), visit.in_path["domain"]
    if form.one("really") != name:
        raise invalid("really", "write the domain's name, so that no other is removed by mistake")
    await _ordered(visit, "domain_remove", "")
    return See("/domains", "removed")


@page(
    "GET",
    "/domains/{domain}/signing-keys",
    "signing_keys.html",
    "Signing keys",
    says={"made": "New keys are made, or wait already. They are used once the DNS has their records."},
)
async def signing_keys(visit: Visit) -> Context:
    name = visit.in_path["domain"]
    found = (await visit.order("dns", domain=name))["domains"]
    shown = next((each for each in found if each["did"] == visit.did), None)
    if shown is None:
        raise Refusal("NOT_FOUND", f"domain: {name[:300]} is not enrolled here")
    stem = shown["nextSelector"]
    coming = [record for record in shown["records"] if stem is not None and record["name"].startswith(stem)]
    return {"domain": shown, "coming": coming}


@page("POST", "/domains/{domain}/rotate", "signing_keys.html", "Signing keys", again=signing_keys)
async def rotate(visit: Visit) -> See:
    form, name = await visit.form(), visit.in_path["domain"]
    await visit.order("domain_rotate_key", did=visit.did, domain=name, now=form.one("now") == "yes")
    return See(f"/domains/{name}/signing-keys", "made")


async def _ordered(visit: Visit, command: str, done: str) -> See:
    name, reason = visit.in_path["domain"], (await visit.form()).one("reason") or None
    await visit.order(command, did=visit.did, domain=name, reason=reason)
    return See(f"/domains/{name}", done)


PAGES_OF_ONE: Final = (pause, resume, remove, signing_keys, rotate)
