"""The task that tells events to endpoints.

Contract. Each active webhook is told of its events in the order of the log, each at least once: one request is under
way at a time, and the next begins when the one before was answered 2xx. What an answer means is `endpoint`'s to say,
who may ask at a moment `places`', what is asked `reading`'s and `frames`'.

- How far each has got is in memory, and in the log as `webhook.progressed`: at most once in PROGRESS_SECONDS a webhook,
  and when the relay stops. A webhook that hears nothing writes nothing. What a killed relay had not written is told
  once more, with the same ids.
- That an event is skipped, or a webhook disabled, is in the log before it goes on.
- What is ordered meanwhile (removed, paused, disabled, rewound) holds from the moment that it is true. A request under
  way to an endpoint that was removed is ended. Any other goes on; if it is taken, that moves the place from which it
  began, if that is still the place, and nothing else.
- Who waits for news costs no task, no timer, and after a while no connection.

Stopped: no new request begins, those under way end (or are abandoned), and what is unwritten is written. Cancelled: as
if killed. An unexpected exception ends the process.

No URL stands in a line of the log: it may hold a secret.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Final

import trio

from relay.alarm import Alarm
from relay.codec import Recorded
from relay.core import Core
from relay.events import (
    NOBODY,
    Event,
    OwnedEvent,
    WebhookAdded,
    WebhookDisabled,
    WebhookEvent,
    WebhookRemoved,
    WebhookResumed,
)
from relay.refusals import Refusal
from relay.times import SECOND_US, time_in
from relay.turns import Turns
from relay.views.webhooks import WebhookState, all_webhooks, webhook
from relay.webhooks.asking import Asker
from relay.webhooks.attempts import WebhookAttempt
from relay.webhooks.endpoint import Answer, Brought, Endpoint, Wanted
from relay.webhooks.frames import Told
from relay.webhooks.notices import with_mails
from relay.webhooks.places import Places
from relay.webhooks.reading import Found, Latest, find_events
from relay.webhooks.recent import RecentAttempts
from spool.errors import CorruptionError
from spool.views import Snapshot

logger = logging.getLogger(__name__)

PROGRESS_SECONDS: Final = 60
#: Until what could not be read is read again.
UNREADABLE_SECONDS: Final = 600
#: In one batch of the log.
PROGRESSES_MAX: Final = 256
#: So many records lie between what was written of a webhook and where it is, and it was told of none: worth an event
#: when the relay stops.
PASSED_WORTH_WRITING: Final = 10_000
#: Tests at a time, beside the places of `relay.webhooks.places`: 64 requests in all.
TESTS_MAX: Final = 4
TEST_WAITS_SECONDS: Final = 5
_NO_TURN: Final = "other webhooks are being tested now; try again in a moment"


class _Known:
    """A webhook that is there, active or not."""

    def __init__(self, state: WebhookState) -> None:
        self.endpoint = Endpoint(state)
        self.types = frozenset(state.types)
        self.status: str = state.status
        self.is_removed = False
        #: It waits for a place, or its turn is under way. Else it rests, or waits for its time.
        self.is_in_turn = False
        #: When that comes; the entry in the heap that has another time is of before.
        self.due_at: int | None = None
        #: Something became true since its turn began.
        self.has_news = False
        #: It has been told everything.
        self.rests = False
        #: When the first event that it was not told yet became true; None: there is none, or none is known.
        self.behind_since: int | None = None
        #: The request that is under way.
        self.asking: trio.CancelScope | None = None
        #: Nothing follows from it any more.
        self.is_given_up = False
        #: What it has come to hangs on events that are not in the log yet.
        self.is_ahead = False
        self.written_cursor = state.cursor


class Webhooks:
    """Made once; `run` it in the service's nursery. `stop` ends it in order."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._known: dict[str, _Known] = {}
        self._of_member: dict[str, dict[str, _Known]] = {}
        self._places = Places()
        self._due: list[tuple[int, str]] = []
        self._turns = 0
        self._asker = Asker(core)
        self._connections = self._asker.connections
        self._latest = Latest(core.store.last_seq)
        self._alarm = Alarm(core.store.now_us)
        self._recent = RecentAttempts()
        self._tests = Turns(TESTS_MAX)
        #: Since when something of a webhook is unwritten, the earliest first.
        self._unwritten: dict[str, int] = {}
        self._progress_alarm = Alarm(core.store.now_us)
        self._stopping = False
        self.ended = trio.Event()
        self._statuses: Counter[str] = Counter()
        core.metrics.webhooks_are(self._statuses, self._behind_seconds)
        core.webhooks = self

    # ---------------------------------------------------------------- the loop

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `stop`."""
        # At one moment: what becomes true behind it is observed, and what did before is not taken for known.
        with self._store.read() as view:
            for state in all_webhooks(view):
                self._add(state)
        self._latest = Latest(self._store.last_seq)
        self._store.observers.append(self._observe)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_progress)
                task_status.started()
                while not self._stopping:
                    deadline = self._begin_what_may(nursery)
                    await self._connections.close_rested()
                    await self._alarm.wait(self._next_due(), deadline=deadline)
                while self._turns:
                    await self._alarm.wait()
                nursery.cancel_scope.cancel()
            await self._write_last()
            await self._connections.close_all()
        finally:
            self._store.observers.remove(self._observe)
            self._core.webhooks = None
        self.ended.set()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True
        self._alarm.ring()

    def abandon(self) -> None:
        """End what is under way: it is told once more after the next start."""
        self.stop()
        for known in self._known.values():
            self._give_up(known)

    def _begin_what_may(self, nursery: trio.Nursery) -> float | None:
        """Give places to those who wait. When to look again, where time alone may change something."""
        now_us, now = self._store.now_us(), trio.current_time()
        while self._due and self._due[0][0] <= now_us:
            at, webhook_id = heapq.heappop(self._due)
            known = self._known.get(webhook_id)
            if known is not None and known.due_at == at:
                known.due_at = None
                self._want(known)
        while True:
            while (who := self._places.next(now)) is not None:
                self._turns += 1
                nursery.start_soon(self._turn, self._known[who])
            hung = self._places.surplus(now)
            # One that was removed at this very moment has its place until its request has ended.
            losing = None if hung is None else self._known.get(hung)
            asking = None if losing is None else losing.asking
            if asking is None or asking.cancel_called:
                break
            asking.cancel()
        deadlines = self._connections.next_deadline(), self._places.look_again_at(now)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _next_due(self) -> int | None:
        return self._due[0][0] if self._due else None

    def _want(self, known: _Known) -> None:
        """It has, or may have, something to tell: in its turn, and not before its time."""
        endpoint = known.endpoint
        known.rests = False
        if known.is_in_turn or known.due_at is not None or not endpoint.is_active:
            return
        if endpoint.next_at > self._store.now_us():
            known.due_at = endpoint.next_at
            heapq.heappush(self._due, (known.due_at, endpoint.webhook_id))
        else:
            known.is_in_turn = True
            self._places.want(endpoint.webhook_id, endpoint.did, failed=endpoint.is_slow)
        self._alarm.ring()

    # ---------------------------------------------------------------- what happens

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        """Called with all new events as they become true."""
        if NOBODY in self._of_member:
            self._latest.observe(recorded)
        else:
            self._latest.skip(recorded)
        for item in recorded:
            event = item.event
            if event.STREAMED and self._known:
                assert isinstance(event, OwnedEvent)
                self._has_news(event.did, item)
                if event.did != NOBODY:
                    self._has_news(NOBODY, item)
            elif isinstance(event, WebhookEvent):
                self._heed(event)

    def _has_news(self, did: str, item: Recorded) -> None:
        for known in self._of_member.get(did, {}).values():
            if known.types and item.event.TYPE not in known.types:
                continue
            known.has_news = True
            if known.behind_since is None:
                known.behind_since = item.time_us
            self._want(known)

    def _heed(self, event: WebhookEvent) -> None:
        known = self._known.get(event.webhook_id)
        if isinstance(event, WebhookAdded):
            with self._store.read() as view:
                state = webhook(view, event.webhook_id)
            if state is not None and known is None:
                self._add(state)
            return
        if known is None:
            return
        known.endpoint.heed(event)
        if isinstance(event, WebhookRemoved):
            self._remove(known)
        elif known.endpoint.is_active:
            self._set_status(known, "active")
            if isinstance(event, WebhookResumed):
                known.due_at = None
            known.has_news = True
            self._want(known)
        else:
            self._set_status(known, "disabled" if isinstance(event, WebhookDisabled) else "paused")

    def _add(self, state: WebhookState) -> None:
        known = self._known[state.webhook_id] = _Known(state)
        self._of_member.setdefault(state.did, {})[state.webhook_id] = known
        self._statuses[state.status] += 1
        self._want(known)

    def _remove(self, known: _Known) -> None:
        endpoint = known.endpoint
        known.is_removed = True
        self._statuses[known.status] -= 1
        del self._known[endpoint.webhook_id]
        of_member = self._of_member[endpoint.did]
        del of_member[endpoint.webhook_id]
        if not of_member:
            del self._of_member[endpoint.did]
        self._places.forget(endpoint.webhook_id)
        self._unwritten.pop(endpoint.webhook_id, None)
        self._recent.forget(endpoint.webhook_id)
        self._give_up(known)

    def _set_status(self, known: _Known, status: str) -> None:
        self._statuses[known.status] -= 1
        self._statuses[status] += 1
        known.status = status

    def _give_up(self, known: _Known) -> None:
        known.is_given_up = True
        if known.asking is not None:
            known.asking.cancel()

    # ---------------------------------------------------------------- one turn

    async def _turn(self, known: _Known) -> None:
        """One request at most, of an endpoint that has a place."""
        endpoint = known.endpoint
        known.has_news = False
        try:
            goes_on = await self._tell(known)
        finally:
            self._places.give_back(endpoint.webhook_id)
            self._turns -= 1
            known.is_in_turn = False
            self._alarm.ring()
        if known.is_removed:
            await self._connections.close(endpoint.webhook_id)
        elif goes_on or known.has_news:
            self._want(known)
        else:
            known.rests, known.behind_since = True, None

    async def _tell(self, known: _Known) -> bool:
        """Whether there may be more to tell."""
        with self._store.read() as view:
            state = webhook(view, known.endpoint.webhook_id)
        if state is None or self._is_over(known):
            return True
        wanted = known.endpoint.wanted()
        try:
            found = await self._find(state, wanted)
        except CorruptionError as error:
            # Old events may be damaged, which must not end the relay. Nor are they left out.
            logger.error("webhook.unreadable", extra={"webhook": state.webhook_id, "because": str(error)})
            known.endpoint.next_at = self._store.now_us() + UNREADABLE_SECONDS * SECOND_US
            return True
        if self._is_over(known) or not known.endpoint.stands(wanted):
            return True
        if found.told and not wanted.is_replay:
            known.behind_since = time_in(found.told[0].time)
        if not found.told:
            known.endpoint.passed(wanted, found.passed)
            return not found.is_all or wanted.until is not None or wanted.beside is not None
        await self._bring(known, state, wanted, found.told)
        return True

    def _is_over(self, known: _Known) -> bool:
        return self._stopping or known.is_removed or not known.endpoint.is_active

    async def _find(self, state: WebhookState, wanted: Wanted) -> Found:
        find = partial(find_events, self._store, self._core.heavy_work, self._latest, state)
        found = await find(wanted)
        # What is behind a refused event is looked for to the end: it decides about a gap.
        while wanted.beside is not None and not found.told and not found.is_all:
            found = await find(wanted._replace(after=found.passed))
        return found

    async def _bring(self, known: _Known, state: WebhookState, wanted: Wanted, told: Sequence[Told]) -> None:
        endpoint, orders = known.endpoint, known.endpoint.orders
        began: float | None = None
        answer: Answer | None = None
        with trio.CancelScope() as known.asking:
            await self._core.before_acting()
            at_us, began = self._store.now_us(), trio.current_time()
            answer = await self._asker.bring(state, told, at_us, is_replay=wanted.is_replay)
        known.asking = None
        if known.is_given_up or began is None:
            return
        # Cancelled: it hung while others waited.
        answer = answer or Answer(None, "timeout")
        brought = Brought(told[0].seq, told[-1].seq, len(told))
        attempt = WebhookAttempt(
            at_us=at_us,
            first_seq=brought.first_seq,
            last_seq=brought.last_seq,
            events=brought.events,
            is_replay=wanted.is_replay,
            http_status=answer.status,
            error=answer.error,
            seconds=trio.current_time() - began,
        )
        self._count(state.webhook_id, attempt, answer)
        events: list[WebhookEvent] = []
        if answer.is_taken:
            events = endpoint.taken(wanted, brought)
        elif endpoint.orders == orders:
            # Else it is of a time before the order: of whoever was resumed meanwhile it says nothing.
            dice = self._core.surroundings.dice.random()
            events = endpoint.failed(wanted, brought, answer, self._store.now_us(), dice)
        if state.webhook_id not in self._unwritten:
            self._unwritten[state.webhook_id] = self._store.now_us()
            self._progress_alarm.ring()
        await self._make_true(known, events)

    def _count(self, webhook_id: str, attempt: WebhookAttempt, answer: Answer) -> None:
        self._recent.add(webhook_id, attempt)
        outcome = "unanswered" if answer.status is None else "failed"
        outcome = "taken" if answer.is_taken else "refused" if answer.is_refused else outcome
        self._core.metrics.webhook_requests.labels(outcome).inc()
        if not answer.is_taken:
            of = {"webhook": webhook_id, "seq": attempt.last_seq}
            logger.info("webhook.failed", extra={**of, "status": answer.status, "error": answer.error})

    async def _make_true(self, known: _Known, events: Sequence[WebhookEvent]) -> None:
        """What an answer has led to, if nothing was ordered meanwhile that stands against it."""
        if not events:
            return
        endpoint, orders = known.endpoint, known.endpoint.orders

        def decide(view: Snapshot) -> Sequence[Event]:
            if webhook(view, endpoint.webhook_id) is None:
                return []
            is_ours = endpoint.orders == orders
            holding = [event for event in events if is_ours or not isinstance(event, WebhookDisabled)]
            return with_mails(self._core, view, holding)

        known.is_ahead = True
        for item in await self._store.decide(decide):
            logger.warning(item.event.TYPE, extra={"webhook": endpoint.webhook_id, "seq": item.seq})
        known.is_ahead = False

    # ---------------------------------------------------------------- how far each has got

    async def _write_progress(self) -> None:
        """Of each webhook PROGRESS_SECONDS after the first thing that is unwritten."""
        while True:
            now = self._store.now_us()
            due = [
                webhook_id
                for webhook_id, since in islice(self._unwritten.items(), PROGRESSES_MAX)
                if since + PROGRESS_SECONDS * SECOND_US <= now
            ]
            if due:
                await self._write([self._known[webhook_id] for webhook_id in due])
                continue
            first = next(iter(self._unwritten.values()), None)
            await self._progress_alarm.wait(None if first is None else first + PROGRESS_SECONDS * SECOND_US)

    async def _write_last(self) -> None:
        for known in self._known.values():
            if known.rests and self._latest.last_seq - known.endpoint.cursor >= PASSED_WORTH_WRITING:
                known.endpoint.catch_up(self._latest.last_seq)
        unwritten = [known for known in self._known.values() if self._is_worth_writing(known)]
        for begin in range(0, len(unwritten), PROGRESSES_MAX):
            await self._write(unwritten[begin : begin + PROGRESSES_MAX])

    def _is_worth_writing(self, known: _Known) -> bool:
        passed = known.endpoint.cursor - known.written_cursor
        return known.endpoint.webhook_id in self._unwritten or passed >= PASSED_WORTH_WRITING

    async def _write(self, some: Sequence[_Known]) -> None:
        """What each has come to at the moment of the decision: an order that came before is in it. Of one that is ahead
        of the log, the next time: what it skips must be in the log before that it is past it."""
        for known in some:
            self._unwritten.pop(known.endpoint.webhook_id, None)

        def decide(view: Snapshot) -> Sequence[WebhookEvent]:
            there = [known for known in some if webhook(view, known.endpoint.webhook_id) is not None]
            for known in there:
                if known.is_ahead:
                    self._unwritten[known.endpoint.webhook_id] = self._store.now_us()
            there = [known for known in there if not known.is_ahead]
            for known in there:
                known.written_cursor = known.endpoint.cursor
            return [known.endpoint.progress() for known in there]

        await self._store.decide(decide)

    def _behind_seconds(self) -> float:
        """How long ago the oldest event became true that an active webhook was not told of yet."""
        since = [
            known.behind_since
            for known in self._known.values()
            if known.behind_since is not None and known.endpoint.is_active
        ]
        return max(0.0, (self._store.now_us() - min(since)) / SECOND_US) if since else 0.0

    # ---------------------------------------------------------------- for who asks

    def attempts(self, webhook_id: str) -> Sequence[WebhookAttempt]:
        return self._recent.of(webhook_id)

    def told_seq(self, webhook_id: str) -> int | None:
        known = self._known.get(webhook_id)
        return None if known is None else known.endpoint.cursor

    async def test(self, webhook_id: str) -> WebhookAttempt:
        with self._store.read() as view:
            state = webhook(view, webhook_id)
        if state is None:
            raise Refusal("NOT_FOUND", "there is no such webhook")
        # The request has its own time.
        with trio.move_on_after(TEST_WAITS_SECONDS) as waits:
            await self._tests.acquire(state.did)
            try:
                await self._core.before_acting()
            except BaseException:
                self._tests.release()
                raise
        if waits.cancelled_caught:
            raise Refusal("TEMPORARILY_UNAVAILABLE", _NO_TURN, retry_after_seconds=TEST_WAITS_SECONDS)
        at_us, began = self._store.now_us(), trio.current_time()
        try:
            answer = await self._asker.test(state, at_us)
        finally:
            self._tests.release()
        seconds = trio.current_time() - began
        attempt = WebhookAttempt(
            at_us=at_us, is_test=True, http_status=answer.status, error=answer.error, seconds=seconds
        )
        self._count(state.webhook_id, attempt, answer)
        return attempt
