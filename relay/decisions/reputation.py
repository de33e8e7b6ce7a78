"""Whether a domain whose mail bounces or is complained about too much is paused (SPEC 4). Pure.

`judge` is the decision; `relay.reputation_guard` asks it whenever something final has happened to a domain's mail, and
`relay.past.simulation` asks it again about the past.

A rate alone pauses nobody: one mistyped address among ten login links is ten per cent. It takes bounces of several
recipients, or several complaints. A pause for bounces stops the bulk class; the transactional class goes on in a
trickle, so that no community is locked out of its logins. A pause for complaints stops everything, and takes the place
of one for bounces.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.config import ReputationConfig
from relay.events import DomainPaused, Event, Evidence
from relay.times import HOUR_US
from relay.views import members, reputation
from spool.views import Snapshot


class Pause(NamedTuple):
    """What a pause for a rate is called, and what it stops."""

    status: str
    stops: str


FOR_BOUNCES = Pause("paused_bounce_rate", "bulk")
FOR_COMPLAINTS = Pause("paused_complaint_rate", "all")


def judge(view: Snapshot, config: ReputationConfig, domain: members.DomainState, now_us: int) -> list[Event]:
    """A `domain.paused` where a rate of the domain's window is too high, else nothing."""
    if domain.is_stopped(bulk=False):
        return []
    evidence = counted_now(view, config, domain, now_us)
    pause = None
    if is_complained_about(config, evidence):
        pause = FOR_COMPLAINTS
    elif not domain.is_stopped(bulk=True) and does_bounce(config, evidence):
        recipients = reputation.bounced_recipients(
            view, domain.domain, evidence.window_start, now_us, config.bounces_min
        )
        if recipients >= config.bounces_min:
            pause = FOR_BOUNCES
    if pause is None:
        return []
    return [
        DomainPaused(
            did=domain.did, domain=domain.domain, status=pause.status, stops=pause.stops, evidence=evidence
        )
    ]


def counted_now(
    view: Snapshot, config: ReputationConfig, domain: members.DomainState, now_us: int
) -> Evidence:
    """What a domain is judged by: its window's, or what came since it was let go on."""
    start = max(now_us - config.window_hours * HOUR_US, domain.resumed_at)
    return reputation.evidence(view, domain.domain, start, now_us)


def does_bounce(config: ReputationConfig, evidence: Evidence) -> bool:
    """By its counts. To how many recipients, they do not say."""
    return (
        messages_of(evidence) >= config.messages_min
        and evidence.bounced >= config.bounces_min
        and evidence.bounced / messages_of(evidence) >= config.bounce_rate_max
    )


def is_complained_about(config: ReputationConfig, evidence: Evidence) -> bool:
    return (
        messages_of(evidence) >= config.messages_min
        and evidence.complaints >= config.complaints_min
        and evidence.complaints / messages_of(evidence) >= config.complaint_rate_max
    )


def messages_of(evidence: Evidence) -> int:
    """Of how many the rates are. What is reported later may have been final before the window began: it was at least as
    many as are told of."""
    return max(evidence.final, evidence.bounced, evidence.complaints)
