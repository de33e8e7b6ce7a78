"""What became of mail at each mailbox provider, whether its demands are met, and what it says itself.

A provider's own page is where its spam rate stands; who has read it there writes it down here, as `provider record`
does.
"""

from __future__ import annotations

from typing import Any, Final

from relay.console.days_picture import days_picture
from relay.console.pages import Context, See, page
from relay.console.visit import Form, Visit
from relay.providers import OTHER, PROVIDERS, UNKNOWN
from relay.refusals import Refusal, invalid
from relay.views.counting import Traffic

DAYS: Final = 14

_SAYS: Final = {"recorded": "What the provider says is recorded, and the demands are judged by it."}
_LEVELS: Final = {"good": "good", "warn": "warning", "red": "bad"}
_WORDS: Final = {"met": "met", "not_met": "not met", "unseen": "cannot be seen from here"}


@page("GET", "/providers", "providers.html", "Providers", nav="Providers")
async def providers(visit: Visit) -> Context:
    answer = await visit.order("providers", days=DAYS)
    return {"days": DAYS, "since": answer["since"], "rows": [_row(each) for each in answer["providers"]]}


def _row(found: dict[str, Any]) -> dict[str, Any]:
    verdicts = [verdict["verdict"] for verdict in found["readiness"]]
    return {**found, "notMet": verdicts.count("not_met"), "unseen": verdicts.count("unseen")}


@page("GET", "/providers/{provider}", "provider.html", "Provider", says=_SAYS)
async def provider(visit: Visit) -> Context:
    name = visit.in_path["provider"]
    if name not in PROVIDERS and name not in (OTHER, UNKNOWN):
        raise Refusal("NOT_FOUND", f"provider: {name[:100]} is none that this relay knows")
    answer = await visit.order("providers", days=DAYS, provider=name)
    found = answer["providers"][0] if answer["providers"] else None
    return {
        "title": f"Provider {name}",
        "provider": name,
        "days": DAYS,
        "since": answer["since"],
        "found": found,
        "picture": None if found is None else days_picture(_traffic(found["byDay"]), visit.now_us),
        "levels": _LEVELS,
        "words": _WORDS,
        "may_record": name not in (OTHER, UNKNOWN),
        "operator_domain": visit.config.operator_domain,
        "typed": {field: visit.typed(field) for field in ("domain", "date", "spam_rate", "compliance")},
    }


def _traffic(by_day: list[dict[str, Any]]) -> list[Traffic]:
    return [Traffic(sent=day["sent"], bounced=day["bouncedByClass"]) for day in by_day]


@page("POST", "/providers/{provider}", "provider.html", "Provider", again=provider)
async def record(visit: Visit) -> See:
    form, name = await visit.form(), visit.in_path["provider"]
    await visit.order(
        "provider_record",
        provider=name,
        domain=form.one("domain"),
        date=form.one("date"),
        spam_rate=_share(form.one("spam_rate")),
        compliance=_compliance(form),
    )
    return See(f"/providers/{name}", "recorded")


def _share(percent: str) -> float | None:
    """Of one, where a percentage is written; None where nothing is. Raises Refusal(INVALID_REQUEST)."""
    if not percent:
        return None
    try:
        return float(percent.removesuffix("%").replace(",", ".")) / 100
    except ValueError:
        raise invalid("spam_rate", "expected a percentage, as 0.07") from None


def _compliance(form: Form) -> dict[str, str]:
    """A line each, `dmarc = met`. Raises Refusal(INVALID_REQUEST)."""
    said = {}
    for line in filter(None, (line.strip() for line in form.one("compliance").splitlines())):
        demand, equals, word = line.partition("=")
        if not equals:
            raise invalid("compliance", "expected a line for each demand, as dmarc = met")
        said[demand.strip()] = word.strip()
    return said


PAGES: Final = (providers, provider, record)
