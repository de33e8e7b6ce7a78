"""Pausing a domain whose mail bounces or is complained about too much (SPEC 4).

`judge` is the decision, pure. `guard_reputation` is the task that asks it whenever something final has happened to a
domain's mail; what it finds becomes an event with its evidence, and `domain resume` starts the counting anew.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from relay.codec import Recorded
from relay.config import ReputationConfig
from relay.core import Core
from relay.events import DomainPaused, Event, Evidence, MessageBounced, MessageComplained, MessageSent
from relay.views import members, messages, reputation
from spool.views import Snapshot

logger = logging.getLogger(__name__)

HOUR_US = 3600 * 1_000_000


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


async def guard_reputation(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Judge each domain after its mail has fared well or badly. Runs until cancelled."""
    store = core.store
    # A crash may have come between an outcome and its judgement: all are judged once.
    with store.read() as view:
        pending = {state.domain: None for state in members.domains(view)}
    news = trio.Event()

    def observe(recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            if isinstance(item.event, MessageSent | MessageBounced | MessageComplained):
                with store.read() as view:
                    state = messages.message(view, item.event.message_id)
                assert state is not None
                pending[state.domain] = None
                news.set()

    store.views.observers.append(observe)
    try:
        task_status.started()
        while True:
            while pending:
                name = next(iter(pending))
                del pending[name]
                await _judge(core, name)
            await news.wait()
            news = trio.Event()
    finally:
        store.views.observers.remove(observe)


async def _judge(core: Core, name: str) -> None:
    with core.store.read() as view:
        domain = members.domain(view, name)
        assert domain is not None
        events = judge(view, core.config.reputation, domain, core.store.now_us())
    if not events:
        return

    def decision(view: Snapshot) -> list[Event]:
        # Once more, in turn with the operator's hand.
        domain = members.domain(view, name)
        assert domain is not None
        return judge(view, core.config.reputation, domain, core.store.now_us())

    recorded = await core.store.decide(decision)
    if recorded:
        logger.warning("domain.paused", extra={"seq": recorded[0].seq})
