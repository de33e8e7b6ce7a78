"""The deliverer: takes what is due, tries it, and reports back with events.

It reads views and writes nothing but events. The story of one attempt:

    due → compose and sign → `attempt.started` (its fsync overlaps resolving, connecting and greeting)
        → MAIL, RCPT, DATA, body → wait until `attempt.started` is durable → the dot → the reply
        → `message.sent` | `message.deferred` | `message.bounced`, durable before the connection is used again

A crash between the dot and the outcome is the only window in which a mail can be delivered twice. It leaves a start
without an outcome, which the next start names (`attempt.interrupted`) and retries after that attempt's ordinary delay.

What is tried next, and on which connection, `relay.delivery.scheduler` decides. One worker is one connection: it
tries what it is given, rests when there is nothing for its site, and says QUIT when it is told to. Workers of
different sites never wait for each other.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import trio

from relay.codec import Recorded
from relay.config import DeliveryConfig
from relay.core import Core
from relay.data_directory import SiteStatus
from relay.decisions.suppression import hard_bounce
from relay.delivery.connect import Connector, Site
from relay.delivery.interrupted import name_interrupted
from relay.delivery.replies import Failure, FailureKind
from relay.delivery.scheduler import Feedback, Limits, Scheduler, SiteLimits, Start
from relay.delivery.session import Outcome, Session, SessionFailed
from relay.delivery.smtp import Command
from relay.delivery.story import Story, Tried
from relay.delivery.waiting import Waiting
from relay.events import (
    BULK_CATEGORIES,
    AttemptInterrupted,
    DsnQueued,
    Event,
    HeldReleased,
    MessageBounced,
    MessageDeferred,
    MessageHeld,
    MessageQueued,
    MessageRescheduled,
    MessageSent,
    RecipientSuppressed,
    RemoteSide,
)
from relay.message.dsn import dsn_for
from relay.message.keys import KeyFileError
from relay.message.outgoing import Outgoing, PayloadGoneError, is_smoke_sink
from relay.times import SECOND_US
from relay.views import due, members, messages, suppressions
from relay.views.due import Lane
from spool.views import Snapshot

logger = logging.getLogger(__name__)

#: A connection carries at most so many messages and lives at most so long, so that a receiver behind a balancer can
#: spread its load.
MESSAGES_PER_CONNECTION_MAX = 100
CONNECTION_SECONDS_MAX = 300.0
#: How long a connection rests before it is closed.
IDLE_SECONDS_MAX = 5.0
#: How long a domain's site is believed, and for how many domains. A connection asks the DNS again in any case.
SITE_SECONDS = 60.0
SITES_KNOWN_MAX = 10_000
#: Domains that are looked up at the same time: a name server that does not answer holds up nobody else.
LOOKUPS_MAX = 200
#: How long the loop sleeps at most while something waits. Due times are wall-clock times, and that clock may be set, or
#: go on while the machine is suspended, which the one that sleeping is measured by does not notice.
ASLEEP_SECONDS_MAX = 60.0
#: Of what was wrong with a site, as it is told of the mail that is put off for it.
BECAUSE_CHARACTERS_MAX = 300


class _Task(NamedTuple):
    """A message that a worker has taken: nobody else tries it until the worker lets go."""

    message_id: int
    lane: Lane
    #: It is not to be tried, and this is its outcome.
    instead: Failure | None


class _Worker:
    """A connection's task, as the scheduler's orders reach it."""

    def __init__(self, number: int, task: _Task) -> None:
        self.number = number
        self.task: _Task | None = task
        self.is_to_close = False
        self.news = trio.Event()

    def wake(self) -> None:
        self.news.set()
        self.news = trio.Event()


class _Known(NamedTuple):
    site: Site
    until: float


class Deliverer:
    """Made once; `run` it in the service's nursery. `stop` ends it in order."""

    def __init__(self, core: Core, connector: Connector) -> None:
        self._core = core
        self._store = core.store
        self._connector = connector
        self._dice = core.surroundings.dice
        self._waiting = Waiting()
        self._scheduler = Scheduler(_limits(core.config.delivery))
        self._claimed = core.in_hand
        self._workers: dict[int, _Worker] = {}
        self._known: dict[str, _Known] = {}
        #: Lanes with something due, by domain, until its site is known.
        self._looked_up: dict[str, dict[Lane, None]] = {}
        #: Those of them that nobody has begun to look up. Not a task each: after an outage there may be any number.
        self._to_look_up: deque[str] = deque()
        self._lookups = 0
        self._nursery: trio.Nursery | None = None
        #: Of the look-ups: nothing depends on them when the relay stops.
        self._lookups_nursery: trio.Nursery | None = None
        self._news = trio.Event()
        #: When the loop looks again by itself (trio's seconds); while it is awake, nobody has to wake it.
        self._asleep_until = -math.inf
        #: (member, address) that were suppressed, and whose waiting messages have not been looked at.
        self._suppressed: list[tuple[str, str]] = []
        self._stopping = False
        #: A dict for its order: in a simulation, who is hung up on first must not depend on addresses in memory.
        self._sessions: dict[Session, None] = {}
        self._scope = trio.CancelScope()
        core.metrics.connections.set_function(lambda: len(self._sessions))
        core.site_statuses = self._site_statuses

    # ---------------------------------------------------------------- the loop

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver until `stop`. An unexpected exception ends it, and with it the process."""
        await name_interrupted(self._store)
        self._store.views.observers.append(self._observe)
        self._claimed.observers.append(self._look_again)
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    task_status.started()
                    try:
                        async with trio.open_nursery() as self._lookups_nursery:
                            while not self._stopping:
                                await self._stop_suppressed()
                                self._take_due()
                                self._dispatch()
                                await self._wait_for_news()
                            self._lookups_nursery.cancel_scope.cancel()
                        while self._workers:
                            await self._news.wait()
                            self._news = trio.Event()
                    finally:
                        await self._hang_up()
        finally:
            self._store.views.observers.remove(self._observe)
            self._claimed.observers.remove(self._look_again)

    def stop(self) -> None:
        """Begin nothing new. `run` returns when the attempts under way are over."""
        self._stopping = True
        self._news.set()
        for worker in self._workers.values():
            worker.wake()

    def abandon(self) -> None:
        """End the attempts under way: deferred where the receiver cannot have the message, else interrupted."""
        self.stop()
        self._scope.cancel()

    async def _hang_up(self) -> None:
        """Where `run` was cut short, by `abandon` or by a defect, no attempt is waited for: the wait for the reply to
        a dot is shielded, and a receiver may make it last ten minutes."""
        with trio.CancelScope(shield=True):
            for session in list(self._sessions):
                await session.aclose()

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        """Called with all new events as they become true."""
        for item in recorded:
            event = item.event
            match event:
                case MessageQueued() | DsnQueued() if event.personal is not None:
                    self._wait_for(_lane_of(event), event.next_attempt_at)
                case MessageRescheduled():
                    self._forgive_site_of(event.message_id)
                case HeldReleased():
                    self._look_again(event.message_ids)
                case RecipientSuppressed() if event.personal is not None:
                    self._suppressed.append((event.did, event.personal.address))
                    self._news.set()
                case _:
                    pass

    def _site_statuses(self) -> dict[str, SiteStatus]:
        """What the scheduler knows of its sites, in times that people have."""
        now, now_us = trio.current_time(), self._store.now_us()
        statuses: dict[str, SiteStatus] = {}
        for state in self._scheduler.states():
            status = SiteStatus(state.connections, int(state.window))
            if state.down_until is not None and state.down_until > now:
                until_us = now_us + int((state.down_until - now) * SECOND_US)
                status = status._replace(down_until_us=until_us, down_because=state.down_because)
            statuses[state.name] = status
        return statuses

    def _forgive_site_of(self, message_id: int) -> None:
        """An operator wants this message tried now, and so that its site is asked although it was down."""
        with self._store.read() as view:
            waiting = due.waiting(view, message_id)
        known = None if waiting is None else self._known.get(waiting.lane.domain)
        if known is not None:
            self._scheduler.forgive(known.site.name)

    def _look_again(self, message_ids: Sequence[int]) -> None:
        """These were held, or an operator's order had them in hand, and they were passed over here meanwhile. Some may
        be due."""
        with self._store.read() as view:
            for message_id in message_ids:
                waiting = due.waiting(view, message_id)
                if waiting is not None and waiting.held_by is None:
                    self._wait_for(waiting.lane, waiting.next_attempt_at)

    def _stop_if_suppressed(self, did: str, queued: Recorded) -> None:
        """A suppression came while the attempt was under way: look at this recipient's messages once more."""
        if isinstance(queued.event, DsnQueued):
            return  # no suppression stops it
        assert isinstance(queued.event, MessageQueued)
        assert queued.event.personal is not None
        with self._store.read() as view:
            if suppressions.suppression(view, did, queued.event.personal.address) is not None:
                self._suppressed.append((did, queued.event.personal.address))
                self._news.set()

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
                        await self._record(event)
            finally:
                # Whoever looked for work meanwhile passed over those of them that stay.
                self._claimed.let_go(waiting)

    async def _wait_for_news(self) -> None:
        seconds = math.inf
        due_at = self._waiting.next_at()
        if due_at is not None:
            seconds = min(max(0.0, (due_at - self._store.now_us()) / SECOND_US), ASLEEP_SECONDS_MAX)
        wake_at = self._scheduler.wake_at()
        if wake_at is not None:
            seconds = min(seconds, max(0.0, wake_at - trio.current_time()))
        self._asleep_until = trio.current_time() + seconds
        with trio.move_on_after(seconds):
            await self._news.wait()
        self._asleep_until = -math.inf
        self._news = trio.Event()

    def _wait_for(self, lane: Lane, at_us: int) -> None:
        """Something in `lane` is due at that time."""
        self._waiting.add(lane, at_us)
        self._wake_at(trio.current_time() + (at_us - self._store.now_us()) / SECOND_US)

    def _wake_at(self, seconds: float) -> None:
        if seconds < self._asleep_until:
            self._news.set()

    # ---------------------------------------------------------------- from due lanes to workers

    def _take_due(self) -> None:
        """Hand the lanes with something due to the scheduler, as soon as their sites are known."""
        now = self._store.now_us()
        if self._waiting.is_to_look(now):
            with self._store.read() as view:
                self._waiting.look(view, now)
        for lane in self._waiting.take(now):
            site = self._site_of(lane)
            if site is None:
                self._find_site(lane)
            else:
                self._scheduler.add(site.name, lane, unroutable=site.unroutable)

    def _site_of(self, lane: Lane) -> Site | None:
        """None: not known, or not lately enough to be believed."""
        known = self._known.get(lane.domain)
        return known.site if known is not None and trio.current_time() < known.until else None

    def _find_site(self, lane: Lane) -> None:
        """Hand the lane to the scheduler when its domain has been looked up."""
        assert self._lookups_nursery is not None
        if lane.domain in self._looked_up:
            self._looked_up[lane.domain][lane] = None
        else:
            self._looked_up[lane.domain] = {lane: None}
            self._to_look_up.append(lane.domain)
            if self._lookups < LOOKUPS_MAX:
                self._lookups += 1
                self._lookups_nursery.start_soon(self._work_at_lookups)

    async def _work_at_lookups(self) -> None:
        while self._to_look_up:
            await self._look_up(self._to_look_up.popleft())
            await trio.lowlevel.checkpoint()  # a fixed route, or what is remembered, is found without waiting
        self._lookups -= 1

    async def _look_up(self, domain: str) -> None:
        site = await self._connector.site(domain)
        self._known.pop(domain, None)  # to the end: the oldest are forgotten first
        self._known[domain] = _Known(site, trio.current_time() + SITE_SECONDS)
        self._core.sites[domain] = site.name
        if len(self._known) > SITES_KNOWN_MAX:
            oldest = next(iter(self._known))
            del self._known[oldest], self._core.sites[oldest]
        for lane in self._looked_up.pop(domain):
            self._scheduler.add(site.name, lane, unroutable=site.unroutable)
        self._dispatch()

    def _dispatch(self) -> None:
        """Do what the scheduler says is to be done now."""
        assert self._nursery is not None
        now = trio.current_time()
        while not self._stopping and (start := self._scheduler.next_start(now)) is not None:
            task = self._claim(start)
            if task is None:
                self._scheduler.drop(start.lane)
                continue
            number = self._scheduler.begin(start, now)
            if self._site_of(start.lane) is None:
                # A long backlog may outlive its domain's MX records. It goes on meanwhile: no look-up holds it up.
                self._find_site(start.lane)
            if start.connection is None:
                worker = self._workers[number] = _Worker(number, task)
                self._nursery.start_soon(self._work, worker)
            else:
                worker = self._workers[number]
                worker.task = task
                worker.wake()
        for number in self._scheduler.to_close(now):
            worker = self._workers[number]
            worker.is_to_close = True
            worker.wake()
        wake_at = self._scheduler.wake_at()
        if wake_at is not None:
            self._wake_at(wake_at)

    def _claim(self, start: Start) -> _Task | None:
        """The lane's next message that is due. What is not due yet waits for its time again."""
        now = self._store.now_us()
        with self._store.read() as view:
            for at, message_id in due.due(view, start.lane):
                if message_id in self._claimed:
                    continue
                if at > now:
                    self._wait_for(start.lane, at)
                    return None
                self._claimed.add(message_id)
                return _Task(message_id, start.lane, start.instead)
        return None

    # ---------------------------------------------------------------- a worker

    async def _work(self, worker: _Worker) -> None:
        """An exception ends the process, and nothing is begun and no goodbye said any more."""
        session: Session | None = None
        while worker.task is not None:
            task, worker.task = worker.task, None
            session, outcome = await self._attempt(task, session)
            self._claimed.discard(task.message_id)
            if not self._scheduler.ended(
                worker.number, trio.current_time(), *_feedback(outcome), usable=session is not None
            ):
                break
            self._dispatch()
            while worker.task is None and not worker.is_to_close and not self._stopping:
                await worker.news.wait()
        if session is not None:
            await self._part(session)
        del self._workers[worker.number]
        self._scheduler.closed(worker.number)
        self._dispatch()
        if self._stopping:
            self._news.set()

    async def _part(self, session: Session) -> None:
        await session.quit()
        self._sessions.pop(session, None)

    async def _attempt(self, task: _Task, session: Session | None) -> tuple[Session | None, Outcome | None]:
        """Try one message. It ends in exactly one outcome event, or in an event that takes its place.

        Returns the session where it can carry another, and what came of the dialogue where there was one.
        """
        queued = self._store.get(task.message_id)
        with self._store.read() as view:
            state = messages.message(view, task.message_id)
            assert state is not None
            is_prevented = _prevented(view, state, queued) is not None
        story = Story(self._core, state, self._dice.random())
        if is_smoke_sink(queued, self._core.config.operator_domain):
            await self._record(story.dropped())
            return session, None
        if is_prevented and await self._prevent(state, queued):
            return session, None
        if self._store.now_us() > state.give_up_at:
            await self._record(story.expired())
            return session, None
        if task.instead is not None:
            await self._end(task.lane, story.ended(Tried(None, Outcome.of(task.instead), None), None, 0.0))
            return session, None
        try:
            outgoing = self._core.composer.outgoing_of(state, self._store.get)
        except PayloadGoneError as error:
            logger.warning("delivery.payload_gone", extra={"message_id": state.message_id}, exc_info=error)
            await self._record(story.erased())
            return session, None
        except KeyFileError as error:
            # One member's lost key must not stop everybody's mail. It waits for the operator to restore the key.
            logger.error("delivery.key_missing", extra={"message_id": state.message_id}, exc_info=error)
            await self._end(task.lane, story.unsigned())
            return session, None
        started = trio.Event()

        async def record_start() -> None:
            await self._store.append([story.started()])
            started.set()

        begun = trio.current_time()
        tried: Tried | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(record_start)
                tried = await self._try(task.lane.domain, session, outgoing, started)
        finally:
            # Also when this attempt is being cancelled: what is known about it is written down.
            if started.is_set():
                stopped = Outcome.of(Failure(FailureKind.ABANDONED, "the relay was stopped"))
                tried = tried or Tried(session, stopped, session.peer if session else None)
                ended = story.ended(tried, outgoing, trio.current_time() - begun)
                with trio.CancelScope(shield=True):
                    await self._end(task.lane, ended)
                if not isinstance(ended, MessageSent | MessageBounced):
                    self._stop_if_suppressed(state.did, queued)
        session = tried.session
        if session is not None and not session.usable:
            self._sessions.pop(session, None)
            session = None
        return session, tried.outcome

    async def _end(self, lane: Lane, event: Event) -> None:
        """Record what an attempt came to."""
        await self._record(event)
        if isinstance(event, MessageDeferred | AttemptInterrupted):
            self._wait_for(lane, event.next_attempt_at)

    async def _record(self, event: Event) -> None:
        """Append an outcome and, right behind a bounce, what it makes: a DSN, a suppression. All are recovered, or
        none is."""
        events: list[Event] = [event]
        if isinstance(event, MessageBounced):
            with self._store.read() as view:
                dsn = dsn_for(
                    view,
                    event,
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

    async def _prevent(self, state: messages.MessageState, queued: Recorded) -> bool:
        """Whether there is an event in the place of the attempt, decided in turn with the operator's hand: what was
        just resumed must not be held for ever."""

        def decision(view: Snapshot) -> list[Event]:
            event = _prevented(view, state, queued)
            return [] if event is None else [event]

        return bool(await self._store.decide(decision))

    async def _try(
        self, domain: str, session: Session | None, outgoing: Outgoing, started: trio.Event
    ) -> Tried:
        """The dialogue itself. A connection that its server had given up is replaced at once: no new attempt."""
        while True:
            if session is None:
                try:
                    session = await self._connector.connect(domain)
                except SessionFailed as error:
                    return Tried(None, error.outcome, error.peer)
                self._sessions[session] = None
            outcome = await session.deliver(
                outgoing.envelope, outgoing.message, before_final_dot=started.wait
            )
            if not outcome.judgement.reconnect:
                return Tried(session, outcome, session.peer)
            await self._part(session)
            session = None


def _prevented(view: Snapshot, state: messages.MessageState, queued: Recorded) -> Event | None:
    """The event that takes the place of an attempt which must not be made; None: it may be made.

    Nothing prevents a DSN: it is the relay's mail, not the member's, and tells of what was sent before.
    """
    if state.is_dsn:
        return None
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
    if domain.is_stopped(bulk=state.category in BULK_CATEGORIES):
        return MessageHeld(did=state.did, message_id=state.message_id, because="domain")
    return None


def _lane_of(queued: MessageQueued | DsnQueued) -> Lane:
    assert queued.personal is not None
    return due.lane_of(did=queued.did, category=queued.category, address=queued.personal.address)


def _feedback(outcome: Outcome | None) -> tuple[Feedback, str]:
    """What an attempt tells the scheduler of its site, and in which words."""
    if outcome is None:
        return Feedback.NOTHING, ""
    judgement, reply = outcome.judgement, outcome.reply
    if judgement.blame_site:
        said = f"{reply.code} {reply.text}" if reply else str(outcome.error)
        at_home = judgement.usable or _broke_off(outcome)
        return (Feedback.THROTTLED if at_home else Feedback.DOWN), said[:BECAUSE_CHARACTERS_MAX]
    return (Feedback.ANSWERED if reply else Feedback.NOTHING), ""


def _broke_off(outcome: Outcome) -> bool:
    """Whether a receiver that had greeted us stumbled, perhaps over this very message: the others get their own try.

    One that falls silent is another matter: to find that out message by message would take minutes for each.
    """
    failure = outcome.failure
    return (
        failure is not None
        and failure.kind in (FailureKind.CLOSED, FailureKind.NOT_SMTP)
        and failure.command in (Command.MAIL, Command.RCPT, Command.DATA, Command.END_OF_DATA)
    )


def _limits(config: DeliveryConfig) -> Limits:
    return Limits(
        connections_max=config.connections_max,
        member_connections_max=config.connections_per_member_max,
        messages_per_minute_max=config.messages_per_minute_max or None,
        messages_per_connection_max=MESSAGES_PER_CONNECTION_MAX,
        connection_seconds_max=CONNECTION_SECONDS_MAX,
        idle_seconds_max=IDLE_SECONDS_MAX,
        of_site=lambda name: SiteLimits(*config.limits_of(name)),
    )
