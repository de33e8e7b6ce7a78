"""The task that sees alarms begin (`relay.alarms`): a line in the log for each, and a mail.

It looks at this machine once a minute (room on the disk, the certificate, the clock), and at a domain or a list when
the log says something of it. Once an hour it looks at all again, for what could not be told then.

Mail. The invariant: **of one alarm about one thing, each who is told is told once a day at most**; the view that counts
it is folded from the mails themselves (`alarm.queued`), and looked at in the decision that makes the next. One goes out
when an alarm begins, and of those that get worse by themselves each day (`alarms.TOLD_DAILY`). A crash between the
beginning and its mail loses nothing: the start looks at all that is active. However many domains go wrong at the same
time, the operator gets MAILS_AN_HOUR_MAX of them; the others are told in later hours, if they are still so. What is
wrong with this machine is told at once: that is a handful a day, and no member may keep it from the operator.

An unexpected exception ends the task, and with it the process.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import trio

from relay import alarms
from relay.alarm import Alarm as Waiting
from relay.alarms import Alarm
from relay.codec import Recorded
from relay.config import Config
from relay.core import Core
from relay.events import (
    ALARM_CATEGORY,
    NOBODY,
    Addressee,
    AlarmQueued,
    DomainEvent,
    Event,
    SourceDelisted,
    SourceListed,
)
from relay.message import COMPOSITION
from relay.times import DAY_US, SECOND_US
from relay.views import members, suppressions
from relay.views.alarms import names_in_trouble, told_at
from spool.views import Snapshot

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
AGAIN_SECONDS = 3600.0
MAILS_AN_HOUR_MAX = 20
#: Looked at before others have their turn.
NAMES_AT_ONCE = 50
#: What the clocks of a machine drift apart in a minute is milliseconds.
JUMP_US = 10 * SECOND_US
#: So much of what may be used is used when the alarm begins; and it ends a little below, or it would begin again.
FREE_TIMES_RESERVE, FREE_TIMES_RESERVE_AGAIN = 2.0, 2.2
LOG_SHARE, LOG_SHARE_AGAIN = 0.9, 0.85

_LINES = {name: f"alarm.{name}" for name in alarms.NAMES}


class Expiry(NamedTuple):
    """Of the certificate that is shown."""

    path: str
    not_after_us: int


async def watch_alarms(
    core: Core,
    certificate: Callable[[], Expiry | None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Until cancelled. `certificate`: what is shown now, where there is one."""
    await _Watch(core, certificate).run(task_status)


class _Watch:
    def __init__(self, core: Core, certificate: Callable[[], Expiry | None]) -> None:
        self._core = core
        self._store = core.store
        self._certificate = certificate
        self._waiting = Waiting(core.store.now_us)
        #: Names of which the log has said something.
        self._names: dict[str, None] = {}
        self._is_list_news = False
        #: What it is about -> the alarms that the log has a line of, and since when they were so.
        self._said: dict[str, dict[tuple[str, str], int]] = {}
        #: When the last mails to the operator were made, in trio's seconds.
        self._mailed: deque[float] = deque(maxlen=MAILS_AN_HOUR_MAX)
        self._clocks = core.surroundings.clock(), trio.current_time()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        observers = self._store.observers
        observers.append(self._observe)
        try:
            task_status.started()
            again_at = trio.current_time()
            while True:
                is_again = trio.current_time() >= again_at
                if is_again:
                    again_at = trio.current_time() + AGAIN_SECONDS
                await self._look_at_machine(is_again)
                await self._look_at_lists(is_again)
                await self._look_at_names(is_again)
                # With all others that wake once a minute.
                now = trio.current_time()
                await self._waiting.wait(deadline=now + LOOK_SECONDS - now % LOOK_SECONDS)
        finally:
            observers.remove(self._observe)

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            match item.event:
                case DomainEvent():
                    self._names[item.event.domain] = None
                case SourceListed() | SourceDelisted():
                    self._is_list_news = True
                case _:
                    continue
            self._waiting.ring()

    # -------------------------------------------------------------------------------------------- domains and lists

    async def _look_at_names(self, is_again: bool) -> None:
        behind: str | None = "" if is_again else None
        while self._names or behind is not None:
            names = list(self._names)[:NAMES_AT_ONCE]
            for name in names:
                del self._names[name]
            with self._store.read() as view:
                if not names:
                    assert behind is not None
                    names = list(islice(names_in_trouble(view, behind=behind), NAMES_AT_ONCE))
                    behind = names[-1] if names else None
                found = {name: alarms.of_name(view, name) for name in names}
            for name, active in found.items():
                self._say(name, active)
            await self._tell([alarm for active in found.values() for alarm in active])
            await self._core.pause()

    async def _look_at_lists(self, is_again: bool) -> None:
        if not (is_again or self._is_list_news):
            return
        self._is_list_news = False
        with self._store.read() as view:
            active = list(alarms.of_listings(view))
        listed = {alarm.about for alarm in active}
        for about, said in list(self._said.items()):
            if (alarms.SOURCE_LISTED, NOBODY) in said and about not in listed:
                self._say(about, [])
        for alarm in active:
            self._say(alarm.about, [alarm])
        await self._tell(active)

    # -------------------------------------------------------------------------------------------- this machine

    async def _look_at_machine(self, is_again: bool) -> None:
        self._look_at_disk()
        self._look_at_certificate()
        self._look_at_clock()
        active = self._core.alarms.noted()
        found: dict[str, list[Alarm]] = {
            about: [] for about, said in self._said.items() if _is_of_machine(said)
        }
        for alarm in active:
            found.setdefault(alarm.about, []).append(alarm)
        is_new = False
        for about, of_it in found.items():
            is_new = self._say(about, of_it) or is_new
        if is_again or is_new:
            await self._tell(active)

    def _look_at_disk(self) -> None:
        spool, now, noted = self._core.config.spool, self._store.now_us(), self._core.alarms
        free, reserve = self._store.free_bytes(), spool.free_bytes_min
        if free < reserve * FREE_TIMES_RESERVE:
            noted.note(alarms.disk_near_reserve(now, free=free, reserve=reserve))
        elif free >= reserve * FREE_TIMES_RESERVE_AGAIN:
            noted.end(alarms.DISK_NEAR_RESERVE, "disk")
        size, bound = self._store.log_bytes(), spool.bytes_max
        if bound and size >= bound * LOG_SHARE:
            noted.note(alarms.log_near_bound(now, size=size, bound=bound))
        elif not bound or size < bound * LOG_SHARE_AGAIN:
            noted.end(alarms.DISK_NEAR_RESERVE, "log")

    def _look_at_certificate(self) -> None:
        shown, now, noted = self._certificate(), self._store.now_us(), self._core.alarms
        for alarm in noted.noted():
            if alarm.name == alarms.CERTIFICATE_EXPIRES and (shown is None or alarm.about != shown.path):
                noted.end(alarm.name, alarm.about)
        if shown is None:
            return
        if shown.not_after_us - now < alarms.CERTIFICATE_DAYS * DAY_US:
            noted.note(alarms.certificate_expires(now, path=shown.path, not_after_us=shown.not_after_us))
        else:
            noted.end(alarms.CERTIFICATE_EXPIRES, shown.path)

    def _look_at_clock(self) -> None:
        """A clock of the wall against one that only goes forward, and against the last event of the log."""
        noted = self._core.alarms
        before, (wall, steady) = self._clocks, (self._core.surroundings.clock(), trio.current_time())
        self._clocks = wall, steady
        jumped_us = wall - before[0] - round((steady - before[1]) * SECOND_US)
        now = self._store.now_us()
        if abs(jumped_us) > JUMP_US:
            noted.end(alarms.CLOCK_JUMPED, "clock")
            noted.note(alarms.clock_jumped(now, by_us=jumped_us))
        for alarm in noted.noted():
            # It is over at once: for a day it is said that it was so.
            if alarm.name == alarms.CLOCK_JUMPED and now >= alarm.since_us + DAY_US:
                noted.end(alarm.name, alarm.about)
        if now - wall > JUMP_US:
            noted.note(alarms.clock_behind_log(now, by_us=now - wall))
        else:
            noted.end(alarms.CLOCK_JUMPED, "clock of the log")

    # -------------------------------------------------------------------------------------------- a line, and a mail

    def _say(self, about: str, active: Sequence[Alarm]) -> bool:
        """A line for each that has begun. `active`: all that is so of this thing now. Gives whether there was one."""
        before, now = self._said.get(about, {}), {(alarm.name, alarm.did): alarm for alarm in active}
        begun = [alarm for key, alarm in now.items() if before.get(key) != alarm.since_us]
        for alarm in begun:
            logger.warning(
                _LINES[alarm.name], extra={"about": alarm.about, "did": alarm.did, "says": alarm.says[0]}
            )
        for name, did in before.keys() - now.keys():
            logger.info("alarm.over", extra={"alarm": name, "about": about, "did": did})
        if now:
            self._said[about] = {key: alarm.since_us for key, alarm in now.items()}
        else:
            self._said.pop(about, None)
        return bool(begun)

    async def _tell(self, active: Sequence[Alarm]) -> None:
        """By mail, who is to be told of these and was not."""
        if not active or not self._core.config.monitoring.mail_alarms:
            return
        with self._store.read() as view:
            if not self._mails(active, view):
                return
        # Once more, in turn with whoever else decides.
        recorded = await self._store.decide(partial(self._mails, active))
        now = trio.current_time()
        self._mailed.extend(
            now
            for item in recorded
            if isinstance(item.event, AlarmQueued) and item.event.did == NOBODY
            if item.event.alarm not in alarms.OF_MACHINE
        )

    def _mails(self, active: Sequence[Alarm], view: Snapshot) -> list[Event]:
        core, now = self._core, self._store.now_us()
        room = self._room_for_the_operator()
        found: list[Event] = []
        for alarm in active:
            for told in _who_is_told(view, core.config, alarm):
                if not _is_due(alarm, told_at(view, told.did, alarm.name, alarm.about), now):
                    continue
                if told.did == NOBODY and alarm.name not in alarms.OF_MACHINE:
                    if not room:
                        continue
                    room -= 1
                found.append(
                    AlarmQueued(
                        composition=COMPOSITION,
                        did=told.did,
                        domain=told.domain,
                        next_attempt_at=now,
                        give_up_at=now + core.config.give_up_seconds(ALARM_CATEGORY) * SECOND_US,
                        operator_domain=core.config.operator_domain,
                        operator_stem=core.operator_stem_in(view),
                        message_id_entropy=f"{core.surroundings.dice.getrandbits(64):016x}",
                        alarm=alarm.name,
                        about=alarm.about,
                        says=told.says,
                        personal=Addressee(given=told.address, address=told.address),
                    )
                )
        return found

    def _room_for_the_operator(self) -> int:
        since = trio.current_time() - AGAIN_SECONDS
        return MAILS_AN_HOUR_MAX - sum(at > since for at in self._mailed)


class _Told(NamedTuple):
    #: NOBODY: the operator.
    did: str
    #: By which the mail is counted.
    domain: str
    address: str
    says: list[str]


def _who_is_told(view: Snapshot, config: Config, alarm: Alarm) -> Iterator[_Told]:
    if config.inbound.operator_mailbox:
        yield _Told(NOBODY, config.operator_domain, config.inbound.operator_mailbox, alarm.says)
    if alarm.did != NOBODY:
        address = _mailbox_of(view, alarm.did, alarm.about)
        if address is not None:
            yield _Told(alarm.did, alarm.about, address, alarm.says_member)


def _mailbox_of(view: Snapshot, did: str, domain: str) -> str | None:
    """Where the domain is told of its bounces, else another domain of that member's; None: nobody has confirmed one, or
    no mail may go there."""
    enrolled = members.domains_of(view, did)
    for state in sorted(enrolled, key=lambda state: state.domain != domain):
        if state.forward_to is not None and state.forward_confirmed:
            return None if suppressions.is_on_any_list(view, state.forward_to) else state.forward_to
    return None


def _is_due(alarm: Alarm, told: int | None, now_us: int) -> bool:
    if told is None:
        return True
    return now_us >= told + DAY_US and (told < alarm.since_us or alarm.name in alarms.TOLD_DAILY)


def _is_of_machine(said: dict[tuple[str, str], int]) -> bool:
    return any(name in alarms.OF_MACHINE for name, _ in said)
