"""Attempts that a crash interrupted: named at the next start."""

from __future__ import annotations

import logging

from relay.events import AttemptInterrupted, Event
from relay.store import Store
from relay.views import due, messages

logger = logging.getLogger(__name__)


async def name_interrupted(store: Store) -> None:
    """An attempt that was started and has no outcome was interrupted: say so before anything is tried again."""
    with store.read() as view:
        started = due.in_flight(view)
        states = [(messages.message(view, message_id), attempt) for message_id, attempt in started]
    events: list[Event] = []
    for state, attempt in states:
        assert state is not None
        assert state.next_attempt_at is not None
        events.append(
            AttemptInterrupted(
                did=state.did,
                message_id=state.message_id,
                attempt=attempt,
                next_attempt_at=state.next_attempt_at,
            )
        )
    for event in events:
        await store.append([event])
    if events:
        logger.warning("delivery.interrupted", extra={"attempts": len(events)})
