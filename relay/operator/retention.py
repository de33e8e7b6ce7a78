"""Retention: the personal data of messages that are over are removed, by time or by the operator's order (SPEC 8).

The invariant: **the views are the same, whether the log is folded before a strip or after it.** Some of their rows come
from payloads (the list by recipient, the lane in which a message waits), and a fold of the stripped log could not make
them. So that a payload goes is itself an event, `payload.erased`, which takes these rows away: after it the views hold
nothing that came from those payloads, and whether the log still holds them makes no difference to any fold.

The order, which is everything:

1. `payload.erased` is appended. From here on the data are gone for everybody who asks the relay.
2. The log erases the payloads (`spool.erasure`): each segment that holds some is rewritten without them, whole and
   durable, or not at all.
3. `log.stripped` is appended: nothing is owed any more.

A crash or a full disk in between leaves a `payload.erased` without its `log.stripped`, which the views know
(`relay.views.retention`). The next start, the next day or the next order does 2 and 3 again for all that is owed; where
a segment has been rewritten already, that changes nothing.

Which payloads. Those of a message that is final: its `message.queued`, `dsn.queued` or `forward.queued` and all that
followed, but for reports; its `send.accepted` when the last message of the send goes; and the `mail.received` that was
passed on. A message waits while something still needs its data: a notification of its bounce that is under way (it
quotes the message), or a call of the member's own unsubscribe URL that is still to be made. Suppressions keep their
address: they are in force. Of single records, those whose payload nobody needs any more: the reason of a removal, the
mailbox of a `domain.forward_set` once it is in force no more, and a report that came in so long ago, whenever the
message that it is about was final.

Copies of torn tails (`log/torn`) may hold addresses too: they go by the same age. What is removed by an order, before
its time, is `relay.operator.erasure`'s business.

Where several machines have the log, all of this is done by the one that leads, and step 2 by each of the others, too,
in its own files (`relay.own_stripping`): `log.stripped` says that the one that led has done it.

All of it runs beside a serving relay, and one such job runs at a time.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import trio

from relay.alarm import Alarm
from relay.core import Core
from relay.events import Event, LogStripped, PayloadErased, SendAccepted
from relay.operator.protocol import CommandAnswer
from relay.operator.rotation import delete_old_keys
from relay.principals import Operator
from relay.refusals import Refusal, invalid
from relay.registry import Arguments, decision
from relay.times import SECOND_US
from relay.views import calls, messages, retention
from spool.errors import SpoolError
from spool.interface import ErasedSegment
from spool.views import Snapshot

logger = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600
#: After a disk that was full, say.
RETRY_SECONDS = 3600
#: Messages that one turn looks at, and that one event names at most.
MESSAGES_PER_TURN = 50
#: `payload.erased` events that are settled together, so that what must be known of them fits into memory.
EVENTS_PER_ROUND = 1250
REASON_CHARACTERS_MAX = 500


class NotErasable(NamedTuple):
    """Why a message keeps its personal data for now."""

    message_id: int
    because: str


async def keep_retention(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Remove what is over, once a day, until cancelled. A failure of the disk is reported, and tried again."""
    alarm = Alarm(core.store.now_us)
    task_status.started()
    while True:
        seconds = DAY_SECONDS
        try:
            await strip(core, core.config.spool.retention_days)
            await delete_old_keys(core)
        except OSError as error:
            # The log itself is as it was, and the relay goes on: it is the log's writer that judges the disk.
            logger.error("retention.failed", extra={"because": error.strerror or type(error).__name__})
            seconds = RETRY_SECONDS
        except SpoolError as error:
            if core.store.poisoned:
                raise
            logger.error("retention.failed", extra={"because": str(error)})
        await alarm.wait(core.store.now_us() + seconds * SECOND_US)


# ------------------------------------------------------------------------------------------------ the order


class LogStrip(Arguments, frozen=True, kw_only=True):
    #: Days; None: those of the configuration.
    older_than: int | None = None
    dry_run: bool = False


@decision(by=Operator, unhurried=True)
async def log_strip(core: Core, order: LogStrip, by: Operator) -> CommandAnswer:
    """Remove what has been final for so many days: what the relay itself does once a day, now."""
    days = core.config.spool.retention_days if order.older_than is None else order.older_than
    if not 1 <= days <= 36500:
        raise invalid("older_than", "expected 1 to 36500 days")
    with told_what_is_left():
        return await strip(core, days, dry_run=order.dry_run)


@contextmanager
def told_what_is_left() -> Iterator[None]:
    """An operator whose disk failed or is full must not believe that nothing has happened, nor that all is done."""
    try:
        yield
    except OSError as error:
        raise Refusal(
            "TEMPORARILY_UNAVAILABLE",
            f"{error}. What is to go is recorded, and the API shows it no more, but files may hold it still: "
            "`log strip` does the rest, and so does the relay when it starts, or within a day",
        ) from error


async def strip(core: Core, days: int, *, dry_run: bool = False) -> dict[str, Any]:
    """Remove the personal data of all that has been over for so many days, and what is still owed."""
    # More days than there have been since 1970 is for ever: nothing is as old as that.
    until_us = max(0, core.store.now_us() - days * DAY_SECONDS * 1_000_000)
    removed = Removed()
    async with core.erasing:
        await _erase_old(core, until_us, removed, dry_run=dry_run)
        if not dry_run:
            await settle(core, removed)
            with core.store.read() as view:
                stems = tuple(retention.torn_until(view, until_us))
            removed.torn_copies += await core.store.remove_torn_copies(
                lambda name, _data: name.startswith(stems)
            )
    if removed.messages or removed.reports or removed.singles or removed.segments or removed.torn_copies:
        logger.info("retention.stripped", extra={"messages": removed.messages, "dry_run": dry_run})
    return {"days": days, "dryRun": dry_run, **removed.answer()}


class Removed:
    """What a job has done so far."""

    def __init__(self) -> None:
        self.messages = 0
        self.sends = 0
        self.reports = 0
        self.singles = 0
        self.kept: list[NotErasable] = []
        self.kept_count = 0
        self.segments: list[ErasedSegment] = []
        self.torn_copies = 0
        #: The last record whose payload went, where several machines have the log.
        self.last_payload_seq = 0

    def keep(self, message_id: int, because: str) -> None:
        self.kept_count += 1
        if len(self.kept) < 100:
            self.kept.append(NotErasable(message_id, because))

    def answer(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "sendsWithoutMessages": self.sends,
            "reports": self.reports,
            "recordsOfNoMessage": self.singles,
            "keptCount": self.kept_count,
            "kept": [{"messageId": item.message_id, "because": item.because} for item in self.kept],
            "segments": [
                {
                    "file": item.file,
                    "payloads": item.payloads,
                    "bytesFreed": item.bytes_freed,
                }
                for item in self.segments
                if item.payloads
            ],
            "tornCopies": self.torn_copies,
        }


# ------------------------------------------------------------------------------------------------ step 1: the event


def still_needed(view: Snapshot, state: messages.MessageState) -> str | None:
    """Why the message must keep its personal data; None: nothing needs them any more."""
    if state.final_at is None:
        return "it is not final: wait, or cancel it with `queue cancel`"
    for dsn in messages.dsns_about(view, state):
        if dsn.final_at is None:
            return f"the notification of its bounce, message {dsn.message_id}, is under way"
    if calls.is_call_pending(view, state.message_id):
        return "the member's unsubscribe URL is still to be called"
    return None


async def _erase_old(core: Core, until_us: int, removed: Removed, *, dry_run: bool) -> None:
    place = (0, 0)
    while True:
        events: list[PayloadErased] = []
        looked = 0

        def decide(view: Snapshot) -> list[Event]:
            nonlocal place, looked, events
            by_member: dict[str, list[int]] = defaultdict(list)
            for place in islice(retention.final_until(view, until_us, after=place), MESSAGES_PER_TURN):  # noqa: B020
                looked += 1
                state = messages.message(view, place[1])
                assert state is not None
                because = still_needed(view, state)
                if because is None:
                    by_member[state.did].append(state.message_id)
                else:
                    removed.keep(state.message_id, because)
            events = [
                PayloadErased(did=did, because="retention", message_ids=ids) for did, ids in by_member.items()
            ]
            return [] if dry_run else list(events)

        await core.store.decide(decide)
        removed.messages += sum(len(event.message_ids) for event in events)
        if looked < MESSAGES_PER_TURN:
            break
        await trio.lowlevel.checkpoint()
    await _erase_old_sends(core, until_us, removed, dry_run=dry_run)
    await erase_singles(core, until_us, removed, dry_run=dry_run, because="retention")


async def _erase_old_sends(core: Core, until_us: int, removed: Removed, *, dry_run: bool) -> None:
    after = 0
    while True:
        with core.store.read() as view:
            seqs = list(
                islice(retention.sends_without_messages(view, until_us, after=after), MESSAGES_PER_TURN)
            )
        if not seqs:
            return
        after = seqs[-1]
        removed.sends += len(seqs)
        if not dry_run:
            await core.store.append(erased_sends(core, seqs, because="retention"))


async def erase_singles(
    core: Core,
    until_us: int,
    removed: Removed,
    *,
    dry_run: bool = False,
    is_meant: Callable[[int, str], bool] = lambda _seq, _owner: True,
    **how: Any,
) -> None:
    """Single records, the oldest first (`relay.views.retention` says why)."""
    after = 0
    while True:
        by_member: dict[str, list[int]] = defaultdict(list)
        reports = 0
        with core.store.read() as view:
            found = list(islice(retention.single_records(view, until_us, after=after), MESSAGES_PER_TURN))
            for seq, did in found:
                if not is_meant(seq, did):
                    continue
                if (dsn := _quoted_by(view, seq)) is not None:
                    assert dsn.about is not None
                    because = f"the notification of a report about it, message {dsn.message_id}, is under way"
                    removed.keep(dsn.about, because)
                    continue
                by_member[did].append(seq)
                reports += retention.is_report(view, seq)
        if not found:
            return
        after = found[-1][0]
        removed.reports += reports
        removed.singles += sum(map(len, by_member.values())) - reports
        if by_member and not dry_run:
            await core.store.append(
                [PayloadErased(did=did, seqs=seqs, **how) for did, seqs in by_member.items()]
            )
        await trio.lowlevel.checkpoint()


def _quoted_by(view: Snapshot, seq: int) -> messages.MessageState | None:
    """The notification of what this record reports, which stands right behind it, while that is under way."""
    dsn = messages.message(view, seq + 1) if retention.is_report(view, seq) else None
    return dsn if dsn is not None and dsn.about is not None and dsn.final_at is None else None


def erased_sends(core: Core, seqs: Iterable[int], **how: Any) -> list[Event]:
    by_member: dict[str, list[int]] = defaultdict(list)
    for seq in seqs:
        send = core.store.get(seq).event
        assert isinstance(send, SendAccepted)
        by_member[send.did].append(seq)
    return [PayloadErased(did=did, send_ids=ids, **how) for did, ids in by_member.items()]


# ------------------------------------------------------------------------------------------------ steps 2 and 3


async def settle(core: Core, removed: Removed) -> None:
    """Remove all payloads that are owed, in rounds of bounded size."""
    store = core.store
    while True:
        with store.read() as view:
            owed = list(islice(retention.owed(view), EVENTS_PER_ROUND))
        if not owed:
            return
        segments = await _erase(core, owed, removed)
        removed.segments += segments
        await store.append(
            [
                LogStripped(
                    until=owed[-1],
                    segments=sum(item.payloads > 0 for item in segments),
                    payloads=sum(item.payloads for item in segments),
                    bytes_freed=sum(item.bytes_freed for item in segments),
                )
            ]
        )


async def _erase(core: Core, owed: Iterable[int], removed: Removed) -> Sequence[ErasedSegment]:
    """From this machine's files."""
    if core.own_stripping is not None:
        # All that this machine owes, which may be more: another one may have led when it was ordered.
        done = await core.own_stripping.catch_up()
        removed.torn_copies += done.torn_copies
        removed.last_payload_seq = max(removed.last_payload_seq, done.last_payload_seq)
        return done.segments
    seqs: set[int] = set()
    for seq in owed:
        erased = core.store.get(seq).event
        assert isinstance(erased, PayloadErased)
        with core.store.read() as view:
            seqs |= retention.payloads_of(view, seq, erased)
        await trio.lowlevel.checkpoint()
    return await core.store.erase_payloads(seqs)
