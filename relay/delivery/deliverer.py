"""The deliverer: takes what is due, tries it, and reports back with events.

It reads views and writes nothing but events. The story of one attempt:

    due → compose and sign → `attempt.started` (its fsync overlaps resolving, connecting and greeting)
        → MAIL, RCPT, DATA, body → wait until `attempt.started` is durable → the dot → the reply
        → `message.sent` | `message.deferred` | `message.bounced`, durable before the connection is used again

A crash between the dot and the outcome is the only window in which a mail can be delivered twice. It leaves a start
without an outcome, which the next start names (`attempt.interrupted`) and retries after that attempt's ordinary delay.

One worker is one connection to one site: it goes on with the next message for its site while there is one, then
says QUIT. Workers of different sites never wait for each other.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import trio

from relay.codec import Recorded
from relay.core import Core
from relay.delivery.connect import Connector
from relay.delivery.replies import Failure, FailureKind, Verdict
from relay.delivery.retry import is_given_up, next_attempt_at
from relay.delivery.session import Outcome, Peer, Session, SessionFailed
from relay.delivery.waiting import Waiting
from relay.events import (
    BULK_CATEGORIES,
    AttemptInterrupted,
    AttemptStarted,
    DomainResumed,
    Event,
    MemberResumed,
    MessageBounced,
    MessageDeferred,
    MessageHeld,
    MessageQueued,
    MessageSent,
    RecipientSuppressed,
    RemoteSide,
)
from relay.keys import KeyFileError
from relay.outgoing import Outgoing, is_smoke_sink
from relay.views import due, members, messages, suppressions
from spool.views import Snapshot

logger = logging.getLogger(__name__)

#: A connection carries at most so many messages, so that a receiver behind a balancer can spread its load.
TRANSACTIONS_PER_CONNECTION_MAX = 100


class _Claim(NamedTuple):
    """A message that a worker has taken: nobody else tries it until the worker lets go."""

    message_id: int
    domain: str


class _Tried(NamedTuple):
    """What a dialogue came to, and with whom it was."""

    session: Session | None
    outcome: Outcome
    peer: Peer | None


class Deliverer:
    """Made once; `run` it in the service's nursery. `stop` ends it in order."""

    def __init__(self, core: Core, connector: Connector) -> None:
        self._core = core
        self._store = core.store
        self._connector = connector
        self._dice = core.surroundings.dice
        self._waiting = Waiting()
        self._claimed = core.in_hand
        self._workers: Counter[str] = Counter()
        #: By site, the domains that have something due.
        #: They take turns; a dict, because it keeps their order.
        self._ready: dict[str, dict[str, None]] = {}
        self._news = trio.Event()
        #: (member, address) that were suppressed, and whose waiting messages have not been looked at.
        self._suppressed: list[tuple[str, str]] = []
        self._stopping = False
        self._sessions: set[Session] = set()
        self._scope = trio.CancelScope()
        core.metrics.connections.set_function(lambda: len(self._sessions))

    # ---------------------------------------------------------------- the loop

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver until `stop`. An unexpected exception ends it, and with it the process."""
        await self._name_interrupted()
        self._look_for_all()
        self._store.views.observers.append(self._observe)
        self._claimed.observers.append(self._look_again)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    task_status.started()
                    while not self._stopping:
                        await self._stop_suppressed()
                        self._start_workers(nursery)
                        await self._wait_for_news()
        finally:
            self._store.views.observers.remove(self._observe)
            self._claimed.observers.remove(self._look_again)

    def stop(self) -> None:
        """Begin nothing new. `run` returns when the attempts under way are over."""
        self._stopping = True
        self._news.set()

    async def abandon(self) -> None:
        """End the attempts under way: deferred where the receiver cannot have the message, else interrupted."""
        self.stop()
        self._scope.cancel()
        for session in list(self._sessions):
            await session.aclose()

    async def _name_interrupted(self) -> None:
        """An attempt that was started and has no outcome was interrupted: say so before anything is tried again."""
        with self._store.read() as view:
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
            await self._store.append([event])
        if events:
            logger.warning("delivery.interrupted", extra={"attempts": len(events)})

    def _look_for_all(self) -> None:
        with self._store.read() as view:
            for domain, at in due.due_domains(view):
                self._waiting.add(domain, at)

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        """Called with all new events as they become true."""
        for item in recorded:
            event = item.event
            match event:
                case MessageQueued() if event.personal is not None:
                    self._waiting.add(_domain_of(event.personal.address), event.next_attempt_at)
                    self._news.set()
                case DomainResumed() | MemberResumed():
                    self._look_for_all()
                    self._news.set()
                case RecipientSuppressed() if event.personal is not None:
                    self._suppressed.append((event.did, event.personal.address))
                    self._news.set()
                case _:
                    pass

    def _look_again(self, message_ids: Sequence[int]) -> None:
        """An operator's order had these in hand; some may be due, and were passed over here meanwhile."""
        with self._store.read() as view:
            for message_id in message_ids:
                waiting = due.waiting(view, message_id)
                if waiting is not None and waiting.held_by is None:
                    self._waiting.add(waiting.domain, waiting.next_attempt_at)
        self._news.set()

    def _stop_if_suppressed(self, did: str, queued: Recorded) -> None:
        """A suppression came while the attempt was under way: look at this recipient's messages once more."""
        assert isinstance(queued.event, MessageQueued)
        assert queued.event.personal is not None
        with self._store.read() as view:
            if suppressions.suppression(view, did, queued.event.personal.address) is not None:
                self._suppressed.append((did, queued.event.personal.address))

    async def _stop_suppressed(self) -> None:
        """Bounce what waits for recipients who have been suppressed. What is being tried at this moment comes back here
        when it is deferred."""
        while self._suppressed:
            did, address = self._suppressed.pop()
            with self._store.read() as view:
                waiting = [
                    state.message_id
                    for status in ("queued", "deferred")
                    for state in messages.messages_of(view, did, status=status, recipient=address)
                    if state.message_id not in self._claimed
                ]
            self._claimed.update(waiting)
            try:
                for message_id in waiting:
                    with self._store.read() as view:
                        state = messages.message(view, message_id)
                        assert state is not None
                        event = _prevented(view, state, self._store.get(message_id))
                    if isinstance(event, MessageBounced):
                        await self._store.append([event])
            finally:
                self._claimed.difference_update(waiting)
                # Whoever looked for work meanwhile passed over those of them that stay.
                self._waiting.add(_domain_of(address), self._store.now_us())

    async def _wait_for_news(self) -> None:
        next_at = self._waiting.next_at()
        seconds = float("inf") if next_at is None else max(0.0, (next_at - self._store.now_us()) / 1_000_000)
        with trio.move_on_after(seconds):
            await self._news.wait()
        self._news = trio.Event()

    def _start_workers(self, nursery: trio.Nursery) -> None:
        for domain in self._waiting.take(self._store.now_us()):
            self._ready.setdefault(self._connector.site(domain), {})[domain] = None
        for site in list(self._ready):
            while self._may_connect(site):
                claim = self._claim(site)
                if claim is None:
                    break
                self._workers[site] += 1
                nursery.start_soon(self._work, site, claim)

    def _may_connect(self, site: str) -> bool:
        limits = self._core.config.delivery
        return (
            self._workers[site] < limits.connections_per_site_max
            and self._workers.total() < limits.connections_max
        )

    def _claim(self, site: str) -> _Claim | None:
        """The next due message for a site, its domains in turn. What is not due yet waits for its time again."""
        domains = self._ready.get(site, {})
        now = self._store.now_us()
        with self._store.read() as view:
            while domains:
                domain = next(iter(domains))
                del domains[domain]
                for at, message_id in due.due(view, domain):
                    if message_id in self._claimed:
                        continue
                    if at > now:
                        self._waiting.add(domain, at)
                        break
                    domains[domain] = None
                    self._claimed.add(message_id)
                    return _Claim(message_id, domain)
        self._ready.pop(site, None)
        return None

    # ---------------------------------------------------------------- a worker

    async def _work(self, site: str, claim: _Claim | None) -> None:
        session: Session | None = None
        try:
            while claim is not None:
                try:
                    session = await self._attempt(claim, session)
                finally:
                    self._claimed.discard(claim.message_id)
                if session is not None and session.transactions >= TRANSACTIONS_PER_CONNECTION_MAX:
                    await self._part(session)
                    session = None
                claim = None if self._stopping else self._claim(site)
        finally:
            self._workers[site] -= 1
            if not self._workers[site]:
                del self._workers[site]
            self._news.set()
            if session is not None:
                await self._part(session)

    async def _part(self, session: Session) -> None:
        await session.quit()
        self._sessions.discard(session)

    async def _attempt(self, claim: _Claim, session: Session | None) -> Session | None:
        """Try one message; returns the session where it can carry another. Ends in exactly one outcome event."""
        with self._store.read() as view:
            state = messages.message(view, claim.message_id)
        assert state is not None
        accepted, queued = self._store.get(state.send_seq), self._store.get(state.message_id)
        story = _Story(self._core, state, self._dice.random())
        if is_smoke_sink(queued, self._core.config.operator_domain):
            await self._store.append([story.dropped()])
            return session
        if await self._prevent(state, queued):
            return session
        if self._store.now_us() > state.give_up_at:
            await self._store.append([story.expired()])
            return session
        try:
            outgoing = self._core.composer.compose(accepted, queued)
        except KeyFileError as error:
            # One member's lost key must not stop everybody's mail. It waits for the operator to restore the key.
            logger.error("delivery.key_missing", extra={"message_id": state.message_id}, exc_info=error)
            unsigned = story.unsigned()
            await self._store.append([unsigned])
            if isinstance(unsigned, MessageDeferred):
                self._waiting.add(claim.domain, unsigned.next_attempt_at)
            return session
        started = trio.Event()

        async def record_start() -> None:
            await self._store.append([story.started()])
            started.set()

        begun = trio.current_time()
        tried: _Tried | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(record_start)
                tried = await self._try(claim.domain, session, outgoing, started)
        finally:
            # Also when this attempt is being cancelled: what is known about it is written down.
            if started.is_set():
                stopped = Outcome.of(Failure(FailureKind.ABANDONED, "the relay was stopped"))
                tried = tried or _Tried(session, stopped, session.peer if session else None)
                event = story.ended(tried, outgoing, trio.current_time() - begun)
                with trio.CancelScope(shield=True):
                    await self._store.append([event])
                if isinstance(event, MessageDeferred | AttemptInterrupted):
                    self._waiting.add(claim.domain, event.next_attempt_at)
                    self._stop_if_suppressed(state.did, queued)
        session = tried.session
        if session is not None and not session.usable:
            self._sessions.discard(session)
            session = None
        return session

    async def _prevent(self, state: messages.MessageState, queued: Recorded) -> bool:
        """Whether there is an event in the place of the attempt."""
        with self._store.read() as view:
            if _prevented(view, state, queued) is None:
                return False

        def decision(view: Snapshot) -> list[Event]:
            # Once more, in turn with the operator's hand: what was just resumed must not be held for ever.
            event = _prevented(view, state, queued)
            return [] if event is None else [event]

        return bool(await self._store.decide(decision))

    async def _try(
        self, domain: str, session: Session | None, outgoing: Outgoing, started: trio.Event
    ) -> _Tried:
        """The dialogue itself. A connection that its server had given up is replaced at once: no new attempt."""
        while True:
            if session is None:
                try:
                    session = await self._connector.connect(domain)
                except SessionFailed as error:
                    return _Tried(None, error.outcome, error.peer)
                self._sessions.add(session)
            outcome = await session.deliver(
                outgoing.envelope, outgoing.message, before_final_dot=started.wait
            )
            if not outcome.judgement.reconnect:
                return _Tried(session, outcome, session.peer)
            await self._part(session)
            session = None


class _Story:
    """The events of one attempt at one message."""

    def __init__(self, core: Core, state: messages.MessageState, dice: float) -> None:
        self._core = core
        self._state = state
        self._dice = dice
        self._attempt = state.attempts + 1

    def started(self) -> AttemptStarted:
        return AttemptStarted(
            did=self._state.did,
            message_id=self._state.message_id,
            attempt=self._attempt,
            next_attempt_at=self._next_attempt_at(),
        )

    def dropped(self) -> MessageSent:
        return MessageSent(
            did=self._state.did,
            message_id=self._state.message_id,
            attempt=0,
            personal=RemoteSide(text="accepted and dropped: this is the smoke sink"),
        )

    def expired(self) -> MessageBounced:
        return MessageBounced(
            did=self._state.did,
            message_id=self._state.message_id,
            attempt=0,
            reason="expired",
            enhanced="4.4.7",
            personal=RemoteSide(text="given up: its time was over before it could be tried again"),
        )

    def unsigned(self) -> MessageDeferred | MessageBounced:
        """It could not be signed, so it was not tried."""
        facts: dict[str, Any] = {
            "did": self._state.did,
            "message_id": self._state.message_id,
            "attempt": self._attempt,
            "enhanced": "4.3.0",
            "personal": RemoteSide(
                text="a signing key of this domain cannot be read; the operator has been told"
            ),
        }
        next_at = self._next_attempt_at()
        if is_given_up(next_at, self._state.give_up_at):
            return MessageBounced(**facts, reason="expired")
        return MessageDeferred(**facts, next_attempt_at=next_at)

    def ended(
        self, tried: _Tried, outgoing: Outgoing, seconds: float
    ) -> MessageSent | MessageDeferred | MessageBounced | AttemptInterrupted:
        outcome = tried.outcome
        failure = outcome.failure
        if outcome.started and failure is not None and failure.kind is FailureKind.ABANDONED:
            return AttemptInterrupted(
                did=self._state.did,
                message_id=self._state.message_id,
                attempt=self._attempt,
                next_attempt_at=self._next_attempt_at(),
            )
        facts = self._facts(tried, outgoing, seconds)
        if outcome.verdict is Verdict.SENT:
            return MessageSent(**facts)
        if outcome.verdict is Verdict.BOUNCED:
            return MessageBounced(**facts, reason="rejected" if outcome.reply else "undeliverable")
        next_at = self._next_attempt_at()
        if is_given_up(next_at, self._state.give_up_at):
            return MessageBounced(**facts, reason="expired")
        return MessageDeferred(**facts, next_attempt_at=next_at)

    def _facts(self, tried: _Tried, outgoing: Outgoing, seconds: float) -> dict[str, Any]:
        outcome, peer = tried.outcome, tried.peer
        reply, tls = outcome.reply, tried.session.tls if tried.session else None
        sent = outcome.body_begun
        return {
            "did": self._state.did,
            "message_id": self._state.message_id,
            "attempt": self._attempt,
            "command": outcome.command.value if outcome.command else None,
            "code": reply.code if reply else None,
            "enhanced": outcome.enhanced,
            "tls_version": tls.version if tls else None,
            "tls_cipher": tls.cipher if tls else None,
            "tls_certificate": tls.certificate if tls else None,
            "duration_us": round(seconds * 1_000_000),
            "sha256": outgoing.sha256 if sent else None,
            "size": len(outgoing.message) if sent else None,
            "personal": RemoteSide(
                mx=peer.host if peer else None,
                address=peer.address if peer else None,
                text=reply.text if reply else outcome.error,
            ),
        }

    def _next_attempt_at(self) -> int:
        delays = self._core.config.retry.delays_seconds
        return next_attempt_at(delays, self._attempt, self._core.store.now_us(), self._dice)


def _prevented(view: Snapshot, state: messages.MessageState, queued: Recorded) -> Event | None:
    """The event that takes the place of an attempt which must not be made; None: it may be made."""
    assert isinstance(queued.event, MessageQueued)
    assert queued.event.personal is not None
    if suppressions.blocking_reason(
        view, state.did, queued.event.personal.address, bulk=state.category in BULK_CATEGORIES
    ):
        return MessageBounced(
            did=state.did,
            message_id=state.message_id,
            attempt=0,
            reason="suppressed",
            enhanced="5.7.1",
            personal=RemoteSide(text="the recipient was suppressed before it could be delivered"),
        )
    domain, member = members.domain(view, state.domain), members.member(view, state.did)
    assert domain is not None
    assert member is not None
    if member.status == "suspended":
        return MessageHeld(did=state.did, message_id=state.message_id, because="member")
    if domain.status != "active":
        return MessageHeld(did=state.did, message_id=state.message_id, because="domain")
    return None


def _domain_of(address: str) -> str:
    return address.rpartition("@")[2]
