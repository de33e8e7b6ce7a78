"""The task that pauses domains by their reputation.

Whenever something final has happened to a domain's mail, `relay.decisions.reputation.judge` is asked; what it finds
becomes an event with its evidence, and `domain resume` starts the counting anew. A crash between an outcome and
its judgement loses nothing: every domain is judged once at the start.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from relay.alarm import Alarm
from relay.codec import Recorded
from relay.core import Core
from relay.decisions.reputation import judge
from relay.events import Event, MessageBounced, MessageComplained, MessageSent
from relay.views import members, messages
from spool.views import Snapshot

logger = logging.getLogger(__name__)


async def guard_reputation(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Judge each domain after its mail has fared well or badly. Runs until cancelled; an unexpected exception ends it,
    and with it the process."""
    store = core.store
    # Outcomes of before a crash may not have been judged.
    with store.read() as view:
        pending = {state.domain: None for state in members.domains(view)}
    alarm = Alarm(store.now_us)

    def observe(recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            if isinstance(item.event, MessageSent | MessageBounced | MessageComplained):
                with store.read() as view:
                    state = messages.message(view, item.event.message_id)
                assert state is not None
                pending[state.domain] = None
                alarm.ring()

    store.observers.append(observe)
    try:
        task_status.started()
        while True:
            while pending:
                name = next(iter(pending))
                del pending[name]
                await _judge(core, name)
            await alarm.wait()
    finally:
        store.observers.remove(observe)


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
