"""The member's domains: what to publish, what the DNS says of it now, and why one is paused.

The pages show what was found when the DNS was looked at last. The button looks now, as `POST /v1/domains/…/verify` and
`domain verify` do.
"""

from __future__ import annotations

from typing import Final

from relay.console.desk import Shown, desk_of
from relay.console.pages import Context, See, page
from relay.console.visit import Visit
from relay.refusals import Refusal

_SAYS_OF_ALL: Final = {"removed": "The domain is removed. What it had waiting is cancelled."}
_SAYS: Final = {
    "looked": "The DNS was looked at just now; this is what it says.",
    "enrolled": "The domain is enrolled. Publish the records below, then look at the DNS.",
    "paused": "The domain is paused: its mail is held.",
    "resumed": "The domain may send again; what was held goes on.",
}


@page("GET", "/domains", "domains.html", "Domains", nav="Domains", says=_SAYS_OF_ALL)
async def domains(visit: Visit) -> Context:
    return {
        "domains": await desk_of(visit).domains(),
        "may_enrol": visit.by_operator or visit.config.members.self_service,
        "most": visit.config.members.domains_max,
        "typed": visit.typed("domain"),
    }


@page("POST", "/domains", "domains.html", "Domains", again=domains)
async def enrol(visit: Visit) -> See:
    name = (await visit.form()).one("domain")
    before = {domain["domain"] for domain in await desk_of(visit).domains()}
    await desk_of(visit).enrol_domain(name)
    made = [each["domain"] for each in await desk_of(visit).domains() if each["domain"] not in before]
    return See(f"/domains/{made[0]}", "enrolled") if made else See("/domains")


@page("GET", "/domains/{domain}", "domain.html", "Domain", says=_SAYS)
async def domain(visit: Visit) -> Context:
    shown = await _named(visit)
    records = shown["records"]
    return {
        "title": shown["domain"],
        "domain": shown,
        "wrong": sum(record["ok"] is False for record in records),
        "was_looked_at": any(record["found"] is not None for record in records),
    }


@page("POST", "/domains/{domain}/look", "domain.html", "Domain", again=domain)
async def look(visit: Visit) -> See:
    name = (await _named(visit))["domain"]
    await desk_of(visit).verify_domain(name)
    return See(f"/domains/{name}", "looked")


async def _named(visit: Visit) -> Shown:
    """The domain in the path. Raises Refusal(NOT_FOUND)."""
    name = visit.in_path["domain"]
    for each in await desk_of(visit).domains():
        if each["domain"] == name:
            return each
    raise Refusal("NOT_FOUND", f"domain: {name[:300]} is not enrolled here")


PAGES: Final = (domains, enrol, domain, look)
