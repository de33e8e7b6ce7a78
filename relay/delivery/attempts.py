"""One attempt at one message: from what is due to the event that it ends in.

    due → compose and sign → `attempt.started` (its fsync overlaps resolving, connecting and greeting)
        → MAIL, RCPT, DATA, body → wait until `attempt.started` is durable → the dot → the reply
        → `message.sent` | `message.deferred` | `message.bounced`, durable before the connection is used again

Here it is decided whether the attempt may be made, and recorded that it is begun and what it came to. What lies
between is an errand: a carrier composes, signs and talks to the receiver, in this process or another
(`relay.delivery.carrier`).

The contract. `Attempts.make` ends in exactly one outcome event, or in an event that takes its place, and returns when
that is durable; or, where there is no memory for a large message now, or its courier was lost before it began, in
none, and nothing has been done. Cancelled, or ended by a defect, it still records what is known of an attempt that was
started.

A crash between the dot and the outcome is the only window in which a mail can be delivered twice. It leaves a start
without an outcome, which is named (`attempt.interrupted`) and retried after that attempt's ordinary delay: at once
where a courier was lost, by the next start where the relay was.

Which message is due, on which connection it is tried, and when it is due again, is the caller's business.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import trio

from relay.codec import Recorded
from relay.core import Core
from relay.decisions.attempt import prevented
from relay.decisions.suppression import hard_bounce
from relay.delivery.carrier import Carrier, CourierLost, Errand
from relay.delivery.families import refused_families
from relay.delivery.outcomes import AttemptOutcome, Carried, NotTried
from relay.delivery.replies import Failure
from relay.delivery.story import Story
from relay.events import Event, MessageBounced
from relay.message.dsn import dsn_for, has_null_sender
from relay.message.outgoing import is_smoke_sink
from relay.networks import Family
from relay.views import messages
from relay.views.due import Lane
from spool.views import Snapshot

#: Couriers that died, one after the other, with the same message in hand and no start of it: then it waits for its next
#: attempt. It may be what they died of, and must not have them all.
DEATHS_MAX = 2

#: Of a message's own. It has two for each attempt, which are some thirty in five days.
EVENTS_LOOKED_AT_MAX = 100

logger = logging.getLogger(__name__)


class Due(NamedTuple):
    """A message whose turn it is."""

    message_id: int
    lane: Lane
    #: It is not to be tried, and this is its outcome.
    instead: Failure | None


class Attempted(NamedTuple):
    """What came of it."""

    #: The connection is open, and can carry another message.
    usable: bool
    #: Durable. None: it was not tried, because there was no room for it, or who carried it was lost before anything was
    #: begun; it is due as before.
    event: Event | None
    #: What the dialogue came to, where there was one.
    outcome: AttemptOutcome | None = None


class Attempts:
    """Makes them, any number beside each other."""

    def __init__(self, core: Core, carrier: Carrier) -> None:
        self._core = core
        self._store = core.store
        self._dice = core.surroundings.dice
        self._carrier = carrier
        #: By message, for as long as one that has seen a courier die has not been tried.
        self._deaths: Counter[int] = Counter()
        core.metrics.connections.set_function(lambda: carrier.connections)

    async def make(self, due: Due, connection: int, *, is_open: bool) -> Attempted:
        """Try one message on this connection, which is open already or is to be opened."""
        queued = self._store.get(due.message_id)
        with self._store.read() as view:
            state = messages.message(view, due.message_id)
            assert state is not None
            is_prevented = prevented(view, state, queued) is not None
        story = Story(self._core, state, self._dice.random(), self._core.sites.get(due.lane.domain))
        if is_smoke_sink(queued, self._core.config.operator_domain):
            return Attempted(is_open, await self._record(story.dropped()))
        if is_prevented and (event := await self._prevent(state, queued)) is not None:
            return Attempted(is_open, event)
        if self._store.now_us() > state.give_up_at:
            return Attempted(is_open, await self._record(story.expired()))
        if due.instead is not None:
            put_off = Carried(is_open, outcome=AttemptOutcome.of(due.instead))
            return Attempted(is_open, await self._record(story.ended(put_off)))
        errand = Errand(state, due.lane.domain, queued, self._refused(state))
        return await self._carried(story, connection, errand)

    def _refused(self, state: messages.MessageState) -> tuple[Family, ...]:
        """By which families its receiver has refused us; looked for only where there is another."""
        if not state.attempts or len(self._core.config.delivery.families) < 2:
            return ()
        with self._store.read() as view:
            seqs = messages.timeline(view, state.message_id)[-EVENTS_LOOKED_AT_MAX:]
        return refused_families(self._store.get(seq).event for seq in seqs)

    async def _carried(self, story: Story, connection: int, errand: Errand) -> Attempted:
        is_started = False

        async def start() -> None:
            nonlocal is_started
            await self._store.append([story.started()])
            is_started = True

        try:
            carried = await self._carrier.carry(connection, errand, start)
        except CourierLost:
            if not is_started:
                return Attempted(usable=False, event=await self._seen_a_death(story, errand))
            self._deaths.pop(errand.state.message_id, None)
            with trio.CancelScope(shield=True):
                return Attempted(usable=False, event=await self._record(story.interrupted()))
        except BaseException:
            # A defect is about to end the relay.
            if is_started:
                with trio.CancelScope(shield=True):
                    await self._record(story.broken_off())
            raise
        self._deaths.pop(errand.state.message_id, None)
        match carried.not_tried:
            case None:
                event = story.ended(carried)
            case NotTried.NO_ROOM:
                return Attempted(carried.usable, None)
            case NotTried.PAYLOAD_GONE:
                return Attempted(carried.usable, await self._record(story.erased()))
            case NotTried.KEY_MISSING:
                return Attempted(carried.usable, await self._record(story.unsigned()))
        # Also when this attempt is being cancelled: what is known about it is written down.
        with trio.CancelScope(shield=True):
            await self._record(event)
        return Attempted(carried.usable, event, carried.outcome)

    async def _seen_a_death(self, story: Story, errand: Errand) -> Event | None:
        """A courier died before it began with the message. None: it is due as before."""
        message_id = errand.state.message_id
        self._deaths[message_id] += 1
        if self._deaths[message_id] < DEATHS_MAX:
            return None
        del self._deaths[message_id]
        logger.error("delivery.couriers_died", extra={"message_id": message_id, "deaths": DEATHS_MAX})
        return await self._record(story.unprepared())

    async def bounce_suppressed(self, message_ids: Sequence[int]) -> None:
        """Messages that wait, and may not be sent any more because their recipient has been suppressed, are over.
        (Nobody is told by a DSN: their member wanted it.)"""
        events: list[Event] = []
        with self._store.read() as view:
            for message_id in message_ids:
                state = messages.message(view, message_id)
                assert state is not None
                event = prevented(view, state, self._store.get(message_id))
                if isinstance(event, MessageBounced):
                    events.append(event)
        if events:
            await self._store.append(events)

    async def part(self, connection: int) -> None:
        """Say goodbye on a connection that rests, and close it."""
        await self._carrier.part(connection)

    async def hang_up(self) -> None:
        """Close all connections without a word. What is under way on them ends."""
        await self._carrier.hang_up()

    async def _record(self, event: Event) -> Event:
        """Append an outcome and, right behind a bounce, what it makes: a DSN, a suppression. All are recovered, or none
        is."""
        events: list[Event] = [event]
        if isinstance(event, MessageBounced):
            with self._store.read() as view:
                dsn = dsn_for(
                    view,
                    event,
                    mail_from_null=has_null_sender(view, event.message_id, self._store.get),
                    config=self._core.config,
                    operator_stem=self._core.operator_stem,
                    message_id_entropy=f"{self._dice.getrandbits(64):016x}",
                    now_us=self._store.now_us(),
                )
                suppressed = hard_bounce(view, event, self._store.get(event.message_id))
            if dsn is not None:
                events.append(dsn)
            events += suppressed
        await self._store.append(events)
        return event

    async def _prevent(self, state: messages.MessageState, queued: Recorded) -> Event | None:
        """The event in the place of the attempt, if there is one, decided in turn with the operator's hand: what was
        just resumed must not be held for ever."""

        def decision(view: Snapshot) -> list[Event]:
            event = prevented(view, state, queued)
            return [] if event is None else [event]

        recorded = await self._store.decide(decision)
        return recorded[0].event if recorded else None
