"""Whether a domain whose mail bounces or is complained about too much is paused (SPEC 4).

`judge` is the decision; `relay.reputation_guard` asks it whenever something final has happened to a domain's mail, and
`relay.past.simulation` asks it again about the past.
"""

from __future__ import annotations

from relay.config import ReputationConfig
from relay.events import DomainPaused, Event, Evidence
from relay.times import HOUR_US
from relay.views import members, reputation
from spool.views import Snapshot


def judge(view: Snapshot, config: ReputationConfig, domain: members.DomainState, now_us: int) -> list[Event]:
    """A `domain.paused` where a rate of the domain's window is too high, else nothing."""
    if domain.status != "active":
        return []
    start = max(now_us - config.window_hours * HOUR_US, domain.resumed_at)
    evidence = reputation.evidence(view, domain.domain, start, now_us)
    status = status_for(config, evidence)
    if status is None:
        return []
    return [DomainPaused(did=domain.did, domain=domain.domain, status=status, evidence=evidence)]


def status_for(config: ReputationConfig, evidence: Evidence) -> str | None:
    """What these counts pause a domain for; None: they do not."""
    if evidence.final < config.messages_min:
        return None
    if evidence.bounced / evidence.final >= config.bounce_rate_max:
        return "paused_bounce_rate"
    if evidence.complaints / evidence.final >= config.complaint_rate_max:
        return "paused_complaint_rate"
    return None
