"""What another policy would have done: a log replayed against other tiers and thresholds (SPEC 4). Pure.

`simulate` takes the events of a log, oldest first, and says which of the sends that were really accepted would have
been refused, and which domains would have been paused, and when. It decides with the code that a running relay decides
with (`sending_domain`, `check_limits`, `judge`), on tables that the same projectors fill; what is left out of them is
what would not have happened:

- A send that is refused here counts in no window: later ones find the room that it leaves. Its messages do not exist,
  so their outcomes, and what is reported of them later, count in no rate.
- A scheduled message counts at its time. Where its member has moved it, it counts there, and is not asked about again.
- The log's own pauses for bounces or complaints are left out: this policy finds its own. A domain that it pauses stays
  so until the log's next `domain.resumed`. The operator's own pauses, and all else that the operator did (limits of a
  member, verification), are as in the log.

What no replay can know: the log has only what was accepted, so it says nothing of sends that the real policy refused
and this one would not; nor what a member would have tried again, or whom a refused mail would have made unsubscribe.

A domain is judged when all events of one time have been folded: a batch of the log has one time, and a running relay
judges after a batch. That relay's pause becomes durable a moment after its cause, and here it comes with it; a send
that was accepted in that moment counts as refused, even by the policy that accepted it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from relay.codec import Recorded
from relay.config import Config
from relay.decisions.limits import check_limits
from relay.decisions.members import known_member
from relay.decisions.reputation import judge
from relay.decisions.send import sending_domain
from relay.events import (
    BULK_CATEGORIES,
    DomainPaused,
    DomainResumed,
    DsnQueued,
    Evidence,
    MessageQueued,
    SendAccepted,
)
from relay.refusals import Refusal
from relay.views import members, messages
from relay.views.members import MembersProjector
from relay.views.messages import MessagesProjector
from relay.views.reputation import RATED, ReputationProjector
from relay.views.warming import WarmingProjector
from spool.views import Projector
from spool.views.scratch import Scratch

#: What the policy looks at. The tables that `simulate` is given are of these.
POLICY_PROJECTORS: tuple[Projector[Recorded], ...] = (
    MembersProjector(),
    MessagesProjector(),
    WarmingProjector(),
    ReputationProjector(),
)


class RefusedSend(NamedTuple):
    """A send that was accepted, and why this policy would not have."""

    seq: int
    time_us: int
    did: str
    domain: str
    recipients: int
    code: str
    because: str
    #: From the send's time; None where no waiting helps.
    retry_after_seconds: int | None


class Pause(NamedTuple):
    """`seq` is the last event that had happened when the domain was judged."""

    seq: int
    time_us: int
    domain: str
    status: str
    evidence: Evidence


@dataclass
class Simulation:
    #: Sends in the log, and their recipients.
    sends: int = 0
    recipients: int = 0
    #: Both in log order.
    refused: list[RefusedSend] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)

    @property
    def refused_recipients(self) -> int:
        return sum(send.recipients for send in self.refused)


def simulate(events: Iterable[Recorded], config: Config, tables: Scratch[Recorded]) -> Simulation:
    """Replay a log from its first event. `tables`: empty ones of `POLICY_PROJECTORS`."""
    replay = _Replay(config, tables)
    for _, moment in groupby(events, key=lambda recorded: recorded.time_us):
        replay.happen(moment)
    return replay.found


class _Replay:
    def __init__(self, config: Config, tables: Scratch[Recorded]) -> None:
        self.found = Simulation()
        self._config = config
        self._tables = tables
        #: The last send that was refused: its messages follow it.
        self._refused_seq = 0

    def happen(self, moment: Iterable[Recorded]) -> None:
        """What the log has of one time, then the judgement of the domains whose rates it changed."""
        to_judge: dict[str, None] = {}
        for last in moment:
            if not self._happens(last):
                continue
            self._tables.fold(last)
            if isinstance(last.event, RATED):
                state = messages.message(self._tables.view, last.event.message_id)
                assert state is not None
                to_judge[state.domain] = None
        for name in to_judge:
            self._judge(name, last)

    def _happens(self, recorded: Recorded) -> bool:
        """Whether the event would have come about under this policy."""
        event = recorded.event
        match event:
            case SendAccepted():
                return self._is_accepted(recorded, event)
            case MessageQueued():
                return recorded.seq - event.index != self._refused_seq
            case DsnQueued():
                return messages.message(self._tables.view, event.about) is not None
            # As the relay answers the operator: only what goes on is paused, only a paused domain is resumed.
            case DomainPaused():
                return event.status == "paused" and not self._domain(event.domain).is_stopped(bulk=False)
            case DomainResumed():
                return self._domain(event.domain).status != "active"
        message_id: int | None = getattr(event, "message_id", None)
        return message_id is None or messages.message(self._tables.view, message_id) is not None

    def _is_accepted(self, recorded: Recorded, send: SendAccepted) -> bool:
        self.found.sends += 1
        self.found.recipients += send.wanted
        view = self._tables.view
        try:
            check_limits(
                view,
                self._config,
                known_member(view, send.did),
                sending_domain(
                    view, self._config, send.did, send.domain, bulk=send.category in BULK_CATEGORIES
                ),
                recipients=send.wanted,
                reserved=0,
                now_us=recorded.time_us,
                at_us=send.scheduled_at,
            )
        except Refusal as refusal:
            self._refused_seq = recorded.seq
            self.found.refused.append(
                RefusedSend(
                    recorded.seq,
                    recorded.time_us,
                    send.did,
                    send.domain,
                    send.wanted,
                    refusal.code,
                    refusal.message,
                    refusal.retry_after_seconds,
                )
            )
            return False
        return True

    def _judge(self, name: str, last: Recorded) -> None:
        domain = members.domain(self._tables.view, name)
        if domain is None:  # an outcome of mail whose domain was removed meanwhile
            return
        for event in judge(self._tables.view, self._config.reputation, domain, last.time_us):
            assert isinstance(event, DomainPaused)
            assert event.evidence is not None
            self._tables.fold(Recorded(last.seq, last.time_us, event))
            self.found.pauses.append(Pause(last.seq, last.time_us, name, event.status, event.evidence))

    def _domain(self, name: str) -> members.DomainState:
        state = members.domain(self._tables.view, name)
        assert state is not None, f"{name} was never enrolled"
        return state
