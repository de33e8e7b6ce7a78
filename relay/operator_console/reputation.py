"""Which domains are paused or near it, and why: the messages that counted, with what their receivers said."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from relay.console.pages import Context, See, page
from relay.console.visit import Visit
from relay.decisions.reputation import counted_now, messages_of
from relay.views import members


class Judged(NamedTuple):
    """A domain, by the numbers that pause it: they count otherwise than `top` does."""

    domain: str
    messages: int
    bounced: int
    complaints: int
    #: What receivers said against it, then or in later reports, and how often.
    classes: dict[str, int]

    def rate(self, count: int) -> float | None:
        return count / self.messages if self.messages else None


@page("GET", "/reputation", "operator_reputation.html", "Reputation", nav="Reputation")
async def reputation(visit: Visit) -> Context:
    window = visit.config.reputation.window_hours
    counted = await visit.order("top", by="domain", order="bounced", since=f"{window}h", limit=50)
    domains = await visit.order("domain_list")
    return {
        "window": window,
        "limits": visit.config.reputation,
        "paused": [each for each in domains if each["status"] != "active"],
        "rows": _judged(visit, counted["rows"]),
    }


def _judged(visit: Visit, rows: list[dict[str, Any]]) -> list[Judged]:
    found = []
    with visit.store.read() as view:
        for row in rows:
            # Who had the name and has it no more is judged no more.
            state = None if row["name"] is None else members.domain(view, row["name"])
            if state is not None:
                evidence = counted_now(view, visit.config.reputation, state, visit.now_us)
                classes = Counter(row["bouncedByClass"]) + Counter(row["reportedByClass"])
                found.append(
                    Judged(
                        state.domain,
                        messages_of(evidence),
                        evidence.bounced,
                        evidence.complaints,
                        dict(classes.most_common()),
                    )
                )
    return sorted(found, key=lambda each: (-each.bounced, -each.complaints, each.domain))


@page(
    "GET",
    "/reputation/{domain}",
    "operator_why.html",
    "Why it may not send",
    says={"paused": "The domain is paused.", "resumed": "The domain may send again; what was held goes on."},
)
async def why(visit: Visit) -> Context:
    domain = visit.in_path["domain"]
    owners = [each for each in await visit.order("domain_list") if each["domain"] == domain]
    return {
        "domain": domain,
        "owners": owners,
        "answer": await visit.order("why", domain=domain),
    }


@page("POST", "/reputation/{domain}/pause", "operator_why.html", "Why it may not send", again=why)
async def pause(visit: Visit) -> Context | See:
    form = await visit.form()
    domain = visit.in_path["domain"]
    await visit.order("domain_pause", did=form.one("did"), domain=domain, reason=form.one("reason") or None)
    return See(f"/reputation/{domain}", "paused")


@page("POST", "/reputation/{domain}/resume", "operator_why.html", "Why it may not send", again=why)
async def resume(visit: Visit) -> Context | See:
    form = await visit.form()
    domain = visit.in_path["domain"]
    await visit.order("domain_resume", did=form.one("did"), domain=domain, reason=form.one("reason") or None)
    return See(f"/reputation/{domain}", "resumed")


PAGES: Final = (reputation, why, pause, resume)
