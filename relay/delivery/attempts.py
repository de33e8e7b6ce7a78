"""One attempt at one message: from what is due to the event that it ends in.

    due → compose and sign → `attempt.started` (its fsync overlaps resolving, connecting and greeting)
        → MAIL, RCPT, DATA, body → wait until `attempt.started` is durable → the dot → the reply
        → `message.sent` | `message.deferred` | `message.bounced`, durable before the connection is used again

The contract. `Attempts.make` ends in exactly one outcome event, or in an event that takes its place, and returns when
that is durable; or, where there is no memory for a large message now, in none, and nothing has been done. Cancelled, or
ended by a defect, it still records what is known of an attempt that was started.

A crash between the dot and the outcome is the only window in which a mail can be delivered twice. It leaves a start
without an outcome, which the next start names (`attempt.interrupted`) and retries after that attempt's ordinary delay.

Which message is due, on which connection it is tried, and when it is due again, is the caller's business.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import trio

from relay.buffers import Held
from relay.codec import Recorded
from relay.core import Core
from relay.decisions.attempt import prevented
from relay.decisions.suppression import hard_bounce
from relay.delivery.connect import Connector
from relay.delivery.outcomes import AttemptOutcome
from relay.delivery.replies import Failure, FailureKind
from relay.delivery.session import Session, SessionFailed
from relay.delivery.smtp import check_message
from relay.delivery.story import Story, Tried
from relay.events import Event, MessageBounced
from relay.heavy_work import ON_LOOP_OCTETS_MAX, Do
from relay.message.dsn import dsn_for, has_null_sender
from relay.message.keys import KeyFileError
from relay.message.outgoing import Gathered, Outgoing, PayloadGoneError, is_smoke_sink
from relay.views import messages
from relay.views.due import Lane
from spool.views import Snapshot

logger = logging.getLogger(__name__)

#: The message, and what is sent of it, with its dots doubled.
_HELD_FOR_EACH_OCTET = 2
#: A large message waits so long for room with a connection in hand; then others have the connection.
ROOM_SECONDS_MAX = 1.0


class Due(NamedTuple):
    """A message whose turn it is."""

    message_id: int
    lane: Lane
    #: It is not to be tried, and this is its outcome.
    instead: Failure | None


class Attempted(NamedTuple):
    """What came of it."""

    #: Where it can carry another message.
    session: Session | None
    #: Durable. None: it was not tried, because there was no room for it, and is due as before.
    event: Event | None
    #: What the dialogue came to, where there was one.
    outcome: AttemptOutcome | None = None


class Attempts:
    """Makes them, any number beside each other."""

    def __init__(self, core: Core, connector: Connector) -> None:
        self._core = core
        self._store = core.store
        self._dice = core.surroundings.dice
        self._connector = connector
        #: A dict for its order: in a simulation, who is hung up on first must not depend on addresses in memory.
        self._sessions: dict[Session, None] = {}
        core.metrics.connections.set_function(lambda: len(self._sessions))

    async def make(self, due: Due, session: Session | None) -> Attempted:
        """Try one message, on this session where there is one."""
        queued = self._store.get(due.message_id)
        with self._store.read() as view:
            state = messages.message(view, due.message_id)
            assert state is not None
            is_prevented = prevented(view, state, queued) is not None
        story = Story(self._core, state, self._dice.random())
        if is_smoke_sink(queued, self._core.config.operator_domain):
            return Attempted(session, await self._record(story.dropped()))
        if is_prevented and (event := await self._prevent(state, queued)) is not None:
            return Attempted(session, event)
        if self._store.now_us() > state.give_up_at:
            return Attempted(session, await self._record(story.expired()))
        if due.instead is not None:
            tried = Tried(None, AttemptOutcome.of(due.instead), None)
            return Attempted(session, await self._record(story.ended(tried, None, 0.0)))
        with self._core.sending.held(state.did) as held:
            return await self._make(story, state, queued, due, session, held)

    async def _make(
        self,
        story: Story,
        state: messages.MessageState,
        queued: Recorded,
        due: Due,
        session: Session | None,
        held: Held,
    ) -> Attempted:
        try:
            outgoing = await self._outgoing(state, queued, held)
        except PayloadGoneError as error:
            logger.warning("delivery.payload_gone", extra={"message_id": state.message_id}, exc_info=error)
            return Attempted(session, await self._record(story.erased()))
        except KeyFileError as error:
            # One member's lost key must not stop everybody's mail. It waits for the operator to restore the key.
            logger.error("delivery.key_missing", extra={"message_id": state.message_id}, exc_info=error)
            return Attempted(session, await self._record(story.unsigned()))
        if outgoing is None:
            return Attempted(session, None)
        return await self._carry_out(story, due.lane.domain, session, outgoing)

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

    async def part(self, session: Session) -> None:
        """Say goodbye on a connection that rests, and close it."""
        await session.quit()
        self._sessions.pop(session, None)

    async def hang_up(self) -> None:
        """Close all connections without a word. What is under way on them ends."""
        for session in list(self._sessions):
            await session.aclose()

    async def _outgoing(self, state: messages.MessageState, queued: Recorded, held: Held) -> Outgoing | None:
        """Compose and sign: a small one here, a large one beside the loop. None: there is no room for it now. Raises
        PayloadGoneError or KeyFileError."""
        composer, work = self._core.composer, self._core.heavy_work

        def get(seq: int) -> Recorded:
            # It has just been read.
            return queued if seq == queued.seq else self._store.get(seq)

        async with work.turn(state.did, 0) as do:
            gathered = composer.gather(state, get)
            octets = gathered.octets
            if octets <= ON_LOOP_OCTETS_MAX:
                return await self._composed(do, gathered, held)
        del gathered  # nobody holds anything large while it waits
        with trio.move_on_after(ROOM_SECONDS_MAX) as waiting:
            await held.take(octets * _HELD_FOR_EACH_OCTET)
        if waiting.cancelled_caught:
            return None
        async with work.turn(state.did, octets) as do:
            return await self._composed(do, composer.gather(state, self._store.get), held)

    async def _composed(self, do: Do, gathered: Gathered, held: Held) -> Outgoing:
        outgoing: Outgoing = await do(gathered.compose)
        self._core.composer.keep(gathered)
        held.resize(len(outgoing.message) * _HELD_FOR_EACH_OCTET)
        if _is_large(outgoing):
            await do(check_message, outgoing.message)
        return outgoing

    async def _carry_out(
        self, story: Story, domain: str, session: Session | None, outgoing: Outgoing
    ) -> Attempted:
        started = trio.Event()

        async def record_start() -> None:
            await self._store.append([story.started()])
            started.set()

        begun = trio.current_time()
        tried: Tried | None = None
        event: Event | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(record_start)
                tried = await self._try(domain, session, outgoing, started)
        finally:
            # Also when this attempt is being cancelled: what is known about it is written down.
            if started.is_set():
                stopped = AttemptOutcome.of(Failure(FailureKind.ABANDONED, "the relay was stopped"))
                tried = tried or Tried(session, stopped, session.peer if session else None)
                ended = story.ended(tried, outgoing, trio.current_time() - begun)
                with trio.CancelScope(shield=True):
                    event = await self._record(ended)
        assert event is not None
        session = tried.session
        if session is not None and not session.usable:
            self._sessions.pop(session, None)
            session = None
        return Attempted(session, event, tried.outcome)

    async def _try(
        self, domain: str, session: Session | None, outgoing: Outgoing, started: trio.Event
    ) -> Tried:
        """The dialogue itself. A connection that its server had given up is replaced at once: no new attempt.

        So is, once for each address, one whose server refused STARTTLS and hung up: by one in plain text.
        """
        in_plain_text: set[str] = set()
        while True:
            if session is None:
                try:
                    session = await self._connector.connect(domain, in_plain_text=in_plain_text)
                except SessionFailed as error:
                    return Tried(None, error.outcome, error.peer)
                self._sessions[session] = None
            outcome = await session.deliver(
                outgoing.envelope,
                outgoing.message,
                before_final_dot=started.wait,
                is_checked=_is_large(outgoing),
            )
            without_tls = outcome.judgement.in_plain_text and self._connector.plaintext_after_tls_failure
            if without_tls:
                in_plain_text.add(session.peer.address)
            if not (without_tls or outcome.judgement.reconnect):
                return Tried(session, outcome, session.peer)
            await self.part(session)
            session = None

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


def _is_large(outgoing: Outgoing) -> bool:
    """What takes long to check, too; it is done where it is composed."""
    return len(outgoing.message) > ON_LOOP_OCTETS_MAX
