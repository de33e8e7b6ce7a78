"""The deliverer: takes what is due, has it tried, and sees to it that it is tried again.

It reads views and writes nothing but events. What is tried next, and on which connection, `relay.delivery.scheduler`
decides; what one attempt is, `relay.delivery.attempts` says. One worker is one connection: it tries what it is given,
rests when there is nothing for its site, and says QUIT when it is told to. Workers of different sites never wait for
each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import trio

from relay.alarm import Alarm
from relay.codec import Recorded
from relay.config import Config, DeliveryConfig
from relay.core import Core
from relay.data_directory import SiteStatus
from relay.delivery.attempts import Attempted, Attempts, Due
from relay.delivery.carrier import Carrier
from relay.delivery.connect import Connector, Destination
from relay.delivery.interrupted import name_interrupted
from relay.delivery.scheduler import Scheduler, SchedulerLimits, Start
from relay.delivery.sites import SiteLimits, feedback_of
from relay.delivery.waiting import Waiting
from relay.events import (
    AttemptInterrupted,
    HeldReleased,
    MessageDeferred,
    MessageQueued,
    MessageRescheduled,
    Notice,
    RecipientSuppressed,
    SendAccepted,
)
from relay.times import SECOND_US
from relay.views import due, messages, suppressions
from relay.views.due import Lane

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
#: Messages of a suppressed recipient that are bounced by one append.
SUPPRESSED_AT_A_TIME = 50


class _Worker:
    """A connection's task, as the scheduler's orders reach it."""

    def __init__(self, number: int, task: Due) -> None:
        self.number = number
        self.task: Due | None = task
        self.is_to_close = False
        self.news = trio.Event()

    def wake(self) -> None:
        self.news.set()
        self.news = trio.Event()


class _Known(NamedTuple):
    site: Destination
    until: float


class Deliverer:
    """Made once; `run` it in the service's nursery. `stop` ends it in order."""

    def __init__(self, core: Core, connector: Connector, carrier: Carrier) -> None:
        self._core = core
        self._store = core.store
        self._connector = connector
        self._attempts = Attempts(core, carrier)
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
        self._alarm = Alarm(self._store.now_us)
        #: (member, address) that were suppressed, and whose waiting messages have not been looked at.
        self._suppressed: dict[tuple[str, str], None] = {}
        self._suppressed_news = trio.Event()
        self._stopping = False
        self._scope = trio.CancelScope()
        core.site_statuses = self._site_statuses

    # ---------------------------------------------------------------- the loop

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver until `stop`. An unexpected exception ends it, and with it the process."""
        await name_interrupted(self._store)
        self._store.observers.append(self._observe)
        self._claimed.observers.append(self._look_again)
        self._core.settings.observers.append(self._settings_changed)
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    task_status.started()
                    try:
                        async with trio.open_nursery() as self._lookups_nursery:
                            self._lookups_nursery.start_soon(self._stop_suppressed)
                            while not self._stopping:
                                self._take_due()
                                self._dispatch()
                                await self._wait_for_news()
                            self._lookups_nursery.cancel_scope.cancel()
                        while self._workers:
                            await self._alarm.wait()
                    finally:
                        await self._hang_up()
        finally:
            self._store.observers.remove(self._observe)
            self._claimed.observers.remove(self._look_again)
            self._core.settings.observers.remove(self._settings_changed)

    def stop(self) -> None:
        """Begin nothing new. `run` returns when the attempts under way are over."""
        self._stopping = True
        self._alarm.ring()
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
            await self._attempts.hang_up()

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        """Called with all new events as they become true."""
        #: Behind a send of whose recipients some were suppressed already.
        doubtful = range(0)
        for item in recorded:
            event = item.event
            match event:
                case SendAccepted() if event.suppressed:
                    doubtful = range(item.seq + 1, item.seq + 1 + event.recipients)
                case MessageQueued() if item.seq in doubtful:
                    self._wait_for(_lane_of(event), event.next_attempt_at)
                    self._stop_if_suppressed(item.seq)
                case MessageQueued() | Notice() if event.personal is not None:
                    self._wait_for(_lane_of(event), event.next_attempt_at)
                case MessageRescheduled() if event.by is not None:
                    self._forgive_site_of(event.message_id)
                case HeldReleased():
                    self._look_again(event.message_ids)
                case RecipientSuppressed() if event.personal is not None:
                    self._is_suppressed(event.did, event.personal.address)
                case _:
                    pass

    def _settings_changed(self, before: Config) -> None:
        delivery = self._core.config.delivery
        if self._stopping or delivery == before.delivery:
            return
        self._scheduler.change_limits(_limits(delivery))
        if delivery.routes != before.delivery.routes:
            # What waits may have another way now. It is not to go the old one on a connection that is there.
            self._known.clear()
            self._core.sites.clear()
            for lane in self._scheduler.lanes():
                self._scheduler.drop(lane)
                self._find_site(lane)
        self._alarm.ring()

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

    def _stop_if_suppressed(self, message_id: int) -> None:
        """A suppression came while the attempt was under way: look at this recipient's messages once more."""
        queued = self._store.get(message_id).event
        if isinstance(queued, Notice):
            return  # its next attempt looks: it minds the lists of all members
        assert isinstance(queued, MessageQueued)
        assert queued.personal is not None
        with self._store.read() as view:
            if suppressions.suppression(view, queued.did, queued.personal.address) is not None:
                self._is_suppressed(queued.did, queued.personal.address)

    def _is_suppressed(self, did: str, address: str) -> None:
        self._suppressed[did, address] = None
        self._suppressed_news.set()

    async def _stop_suppressed(self) -> None:
        """Bounce what waits for recipients who have been suppressed, as long as the relay runs. A task of its own:
        there may be a hundred thousand for one, and nobody else's mail waits for them. What is being tried at this
        moment comes back here when it is deferred; and before an attempt it is asked in any case."""
        while True:
            while self._suppressed:
                did, address = next(iter(self._suppressed))
                del self._suppressed[did, address]
                for status in ("queued", "deferred"):
                    await self._bounce_waiting(did, address, status)
            self._suppressed_news = trio.Event()
            await self._suppressed_news.wait()

    async def _bounce_waiting(self, did: str, address: str, status: str) -> None:
        before: int | None = None
        while True:
            with self._store.read() as view:
                found = messages.messages_of(view, did, status=status, recipient=address, before=before)
                looked_at = [state.message_id for state in islice(found, SUPPRESSED_AT_A_TIME)]
            if not looked_at:
                return
            before = looked_at[-1]
            waiting = [message_id for message_id in looked_at if message_id not in self._claimed]
            self._claimed.update(waiting)
            try:
                await self._attempts.bounce_suppressed(waiting)
            finally:
                # Whoever looked for work meanwhile passed over those of them that stay.
                self._claimed.let_go(waiting)
            await trio.lowlevel.checkpoint()

    async def _wait_for_news(self) -> None:
        await self._alarm.wait(self._waiting.next_at(), deadline=self._scheduler.wake_at())

    def _wait_for(self, lane: Lane, at_us: int) -> None:
        """Something in `lane` is due at that time."""
        self._waiting.add(lane, at_us)
        self._alarm.ring_by(at_us)

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

    def _site_of(self, lane: Lane) -> Destination | None:
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
        while True:
            routes = self._core.config.delivery.routes
            site = await self._connector.destination(domain)
            if routes == self._core.config.delivery.routes:
                break  # else they have changed meanwhile
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
        self._alarm.ring_by(deadline=self._scheduler.wake_at())

    def _claim(self, start: Start) -> Due | None:
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
                return Due(message_id, start.lane, start.instead)
        return None

    # ---------------------------------------------------------------- a worker

    async def _work(self, worker: _Worker) -> None:
        """An exception ends the process, and nothing is begun and no goodbye said any more."""
        is_open = False
        while worker.task is not None:
            task, worker.task = worker.task, None
            attempted = await self._attempts.make(task, worker.number, is_open=is_open)
            is_open = attempted.usable
            self._look_after(task, attempted)
            self._claimed.discard(task.message_id)
            if not self._scheduler.ended(
                worker.number,
                trio.current_time(),
                *feedback_of(attempted.outcome),
                usable=is_open,
            ):
                break
            self._dispatch()
            while worker.task is None and not worker.is_to_close and not self._stopping:
                await worker.news.wait()
        if is_open:
            await self._attempts.part(worker.number)
        del self._workers[worker.number]
        self._scheduler.closed(worker.number)
        self._dispatch()
        if self._stopping:
            self._alarm.ring()

    def _look_after(self, task: Due, attempted: Attempted) -> None:
        """What is not over is due again."""
        event = attempted.event
        if event is None:
            self._wait_for(task.lane, self._store.now_us())
        if isinstance(event, MessageDeferred | AttemptInterrupted):
            self._wait_for(task.lane, event.next_attempt_at)
            if attempted.outcome is not None or isinstance(event, AttemptInterrupted):
                self._stop_if_suppressed(task.message_id)


def _lane_of(queued: MessageQueued | Notice) -> Lane:
    assert queued.personal is not None
    return due.lane_of(did=queued.did, category=queued.category, address=queued.personal.address)


def _limits(config: DeliveryConfig) -> SchedulerLimits:
    return SchedulerLimits(
        connections_max=config.connections_max,
        member_connections_max=config.connections_per_member_max,
        messages_per_minute_max=config.messages_per_minute_max or None,
        messages_per_connection_max=MESSAGES_PER_CONNECTION_MAX,
        connection_seconds_max=CONNECTION_SECONDS_MAX,
        idle_seconds_max=IDLE_SECONDS_MAX,
        of_site=lambda name: SiteLimits(*config.limits_of(name)),
    )
