"""The first page of the operator: how the relay stands, and what wants a person, with what to do."""

from __future__ import annotations

from typing import Final

from relay.console.pages import Context, page
from relay.console.visit import Visit


@page("GET", "/", "operator_overview.html", "Overview", nav="Overview")
async def overview(visit: Visit) -> Context:
    monitoring = visit.config.monitoring
    return {
        "status": await visit.order("status"),
        "alarms": await visit.order("alarm_list"),
        "listings": await visit.order("listing_list"),
        "lists_named": bool(monitoring.dnsbl or monitoring.dnsbl_domains),
        # Then receivers see another machine, and no list is asked.
        "goes_by_one_route": "*" in visit.config.delivery.routes,
        "wants_verified": visit.config.require_verified_domains,
    }


PAGES: Final = (overview,)
