"""The first page of a member: what is wrong and what to do about it, what may be sent now, and the last 14 days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.api.member import deliverability_of, status_of
from relay.console.days_picture import days_picture
from relay.console.pages import Context, page
from relay.console.visit import Visit
from relay.decisions.limits import Standing, standing
from relay.finding.hindrances import Hindrance, Hindrances
from relay.message.advice import advice_when_over
from relay.presentation import MemberStatus
from relay.views import members, traffic
from relay.views.counting import Traffic

DAYS: Final = 14
#: So many classes of failures are named.
CLASSES_SHOWN: Final = 6
_OF_RECORDS: Final = ("unverified", "failing")


class Wrong(NamedTuple):
    """Something that wants the member, and what to do about it."""

    text: str
    fix: str
    #: Below the page's base; "": nowhere.
    path: str = ""


class Why(NamedTuple):
    bounce_class: str
    messages: int
    advice: str


class Allowed(NamedTuple):
    """What one domain may send, and how much of that it has."""

    domain: members.DomainState
    standing: Standing
    #: It may send nothing, or nothing of the bulk class.
    is_stopped: bool


@page("GET", "/", "overview.html", "Overview", nav="Overview")
async def overview(visit: Visit) -> Context:
    status = status_of(visit.store, visit.did)
    with visit.store.read() as view:
        member, states = members.member(view, visit.did), members.domains_of(view, visit.did)
        assert member is not None
        allowed = [
            Allowed(
                state,
                standing(view, visit.config, member, state, visit.now_us),
                member.status == "suspended" or state.is_stopped(bulk=True),
            )
            for state in states
        ]
        days = traffic.days_of(view, visit.did, visit.now_us, DAYS)
    return {
        "status": status,
        "fared": deliverability_of(visit.config, visit.store, visit.did),
        "wrong": await wrongs(visit, status, states),
        "allowed": allowed,
        "wants_verified": visit.config.require_verified_domains,
        "picture": days_picture(days, visit.now_us),
        "reported": sum(day.reported_count for day in days),
        "whys": whys(days),
    }


async def wrongs(visit: Visit, status: MemberStatus, states: Sequence[members.DomainState]) -> list[Wrong]:
    found = []
    if status.status == "suspended":
        found.append(
            Wrong(
                "This membership is suspended: nothing is accepted, and what waits is held.",
                "Ask the operator.",
            )
        )
    for state in states:
        path = f"/domains/{state.domain}"
        for hindrance in await _hindrances(visit, state.domain):
            what = "See what to publish" if hindrance.what in _OF_RECORDS else "See why"
            found.append(Wrong(f"{state.domain}: {hindrance.says}", f"{what}, and what to do.", path))
        if state.forward_to and not state.forward_confirmed:
            found.append(
                Wrong(
                    f"Nobody is told of the bounces of {state.domain} yet.",
                    f"The owner of {state.forward_to} has to use the link in the mail that asks.",
                    "/forwarding",
                )
            )
    if not states:
        found.append(Wrong("There is no domain to send from.", "Enrol one, or ask the operator.", "/domains"))
    return found


async def _hindrances(visit: Visit, domain: str) -> list[Hindrance]:
    """What stands in the domain's own way, and not in its member's, as `why` has it; without the messages that counted,
    which the domain's page shows."""
    question = Hindrances(visit.config, visit.store.get, domain=domain)

    def look() -> None:
        with visit.store.read() as view:
            question.step(view)

    await visit.edge.heavy_work.step(visit.did, look)
    answer = question.answer()
    return [each for each in answer.hindrances if each.what != "suspended"] if answer.did == visit.did else []


def whys(days: Sequence[Traffic]) -> list[Why]:
    """Why mail bounced, the most frequent first."""
    counted: Counter[str] = Counter()
    for day in days:
        counted.update(day.bounced)
        counted.update(day.reported)
    return [
        Why(name, count, advice_when_over(name) or "")
        for name, count in counted.most_common(CLASSES_SHOWN)
        if count > 0
    ]


PAGES: Final = (overview,)
