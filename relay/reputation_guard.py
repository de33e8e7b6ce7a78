"""The task that pauses domains by their reputation, and alarms the operator about the relay's own.

Whenever something final has happened to a domain's mail, or is reported of it later, `relay.decisions.reputation.judge`
is asked; what it finds becomes an event with its evidence, and `domain resume` starts the counting anew. A crash
between an outcome and its judgement loses nothing: every domain is judged once at the start.

A bounce that tells of the relay itself (`RELAY_CLASSES`: its address is on a list), at once or later, pauses nobody. It
is the operator's trouble: `reputation.relay_refused` in the log, for each class at most once in ALARM_SECONDS; the
metric counts each. So is mail for the operator's own mailbox that could not be passed on: `inbound.not_passed_on`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import trio

from relay.alarm import Alarm
from relay.codec import Recorded
from relay.config import Config
from relay.core import Core
from relay.decisions.reputation import judge
from relay.events import (
    NOBODY,
    RELAY_CLASSES,
    DomainAdded,
    Event,
    MessageBounced,
    MessageBounceReported,
)
from relay.views import members, messages
from relay.views.reputation import RATED
from spool.views import Snapshot

logger = logging.getLogger(__name__)

#: Thousands of refusals for one reason are one alarm.
ALARM_SECONDS = 3600.0


class _Alarms:
    """When the operator was last told of each class."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def look_at(self, item: Recorded) -> None:
        event = item.event
        match event:
            case MessageBounced() | MessageBounceReported(counts=True) if event.bounce_class in RELAY_CLASSES:
                self._tell("reputation.relay_refused", event.bounce_class, item.seq)
            case _:
                pass

    def look_at_forward(self, item: Recorded, state: messages.MessageState) -> None:
        """Mail for the operator's own mailbox that could not be passed on: who else would notice?"""
        event = item.event
        if isinstance(event, MessageBounced) and state.is_forward and state.did == NOBODY:
            self._tell("inbound.not_passed_on", event.bounce_class or event.reason, item.seq)

    def _tell(self, what: str, bounce_class: str, seq: int) -> None:
        now = trio.current_time()
        told = f"{what} {bounce_class}"
        if now >= self._told.get(told, -ALARM_SECONDS) + ALARM_SECONDS:
            self._told[told] = now
            logger.warning(what, extra={"bounce_class": bounce_class, "seq": seq})


async def guard_reputation(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Judge each domain after its mail has fared well or badly. Runs until cancelled; an unexpected exception ends it,
    and with it the process."""
    store = core.store
    pending: dict[str, None] = {}
    alarm = Alarm(store.now_us)
    alarms = _Alarms()

    def observe(recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            alarms.look_at(item)
            if isinstance(item.event, RATED):
                with store.read() as view:
                    state = messages.message(view, item.event.message_id)
                assert state is not None
                alarms.look_at_forward(item, state)
                pending[state.domain] = None
                alarm.ring()
            elif isinstance(item.event, DomainAdded):
                # Its rates stay with the name: outcomes may have come while nobody had it.
                pending[item.event.domain] = None
                alarm.ring()

    def judge_all() -> None:
        with store.read() as view:
            pending.update(dict.fromkeys(members.names(view)))
        alarm.ring()

    def settings_changed(before: Config) -> None:
        if core.config.reputation != before.reputation:
            judge_all()

    store.observers.append(observe)
    core.settings.observers.append(settings_changed)
    judge_all()  # outcomes of before a crash may not have been judged
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
        core.settings.observers.remove(settings_changed)


async def _judge(core: Core, name: str) -> None:
    with core.store.read() as view:
        if not _judgement(core, name, view):
            return
    # Once more, in turn with the operator's hand.
    recorded = await core.store.decide(partial(_judgement, core, name))
    if recorded:
        logger.warning("domain.paused", extra={"seq": recorded[0].seq})


def _judgement(core: Core, name: str, view: Snapshot) -> list[Event]:
    """None of a name that nobody has: it is judged when somebody enrols it."""
    domain = members.domain(view, name)
    return [] if domain is None else judge(view, core.config.reputation, domain, core.store.now_us())
