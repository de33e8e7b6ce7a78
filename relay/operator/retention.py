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

Which payloads. Those of a message that is final: its `message.queued` or `dsn.queued` and all that followed; and its
`send.accepted` when the last message of the send goes. A message waits while something still needs its data: a
notification of its bounce that is under way (it quotes the message), or a call of the member's own unsubscribe URL that
is still to be made. Suppressions keep their address: they are in force. Of records that belong to no message, those
whose payload nobody needs any more: the reason of a removal, and the mailbox of a `domain.forward_set` once it is in
force no more.

Copies of torn tails (`log/torn`) may hold addresses too: they go by the same age, and by an order if they hold the
address.

All of it runs beside a serving relay, and one such job runs at a time.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import trio

from relay.alarm import Alarm
from relay.codec import decode_raw
from relay.core import Core
from relay.events import Event, LogStripped, MessageQueued, Notice, PayloadErased, SendAccepted
from relay.fields import address_in
from relay.operator.protocol import CommandAnswer
from relay.operator.rotation import delete_old_keys
from relay.principals import Operator
from relay.refusals import Refusal, invalid
from relay.registry import Arguments, decision
from relay.times import SECOND_US
from relay.views import calls, members, messages, retention
from spool.errors import SpoolError
from spool.interface import ErasedSegment
from spool.record import Record
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


# ------------------------------------------------------------------------------------------------ the two commands


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
    with _told_what_is_left():
        return await strip(core, days, dry_run=order.dry_run)


class LogErase(Arguments, frozen=True, kw_only=True):
    """Either a message or a recipient; of all members, or of one."""

    reason: str
    message: int | None = None
    recipient: str | None = None
    did: str | None = None


@decision(by=Operator, unhurried=True)
async def log_erase(core: Core, order: LogErase, asker: Operator) -> CommandAnswer:
    """Remove the personal data of one message, or of all that went to an address, before their time.

    Refuses a message that is not over. Of an address, those that are not over are passed over and named in the answer.
    """
    by, reason, message = asker.user, order.reason, order.message
    recipient, did = order.recipient, order.did
    if (message is None) == (recipient is None):
        raise invalid("message", "say either a message or a recipient")
    if not reason.strip() or len(reason) > REASON_CHARACTERS_MAX or not reason.isprintable():
        raise invalid("reason", f"expected 1 to {REASON_CHARACTERS_MAX} printable characters")
    if "@" in reason:
        raise invalid(
            "reason", "it is kept for good, so it must not name an address; a ticket number will do"
        )
    address = None if recipient is None else address_in("recipient", recipient)
    removed, store = _Removed(), core.store
    with _told_what_is_left():
        async with core.erasing:
            if message is not None:
                await _erase_one(core, message, did, by, reason, removed)
                # The order is durable, the payload still there.
                address = _address_of(store.get(message).event)
            else:
                assert address is not None
                await _erase_recipient(core, address, did, by, reason, removed)
            await _settle(core, removed)
            answer = removed.answer()
            if recipient is not None:
                assert address is not None
                names = _naming(address)
                answer["tornCopies"] = await store.remove_torn_copies(lambda _name, data: names(data))
            # So that nobody believes that more is gone than is. Null where it had been removed before.
            answer["stillNamed"] = (
                None
                if address is None
                else await core.surroundings.offload(
                    _naming_records, store.records(1, store.last_seq), address
                )
            )
    return answer


def _address_of(event: Event) -> str | None:
    """To whom the message is, until its payload is gone."""
    assert isinstance(event, MessageQueued | Notice)
    return None if event.personal is None else event.personal.address


@contextmanager
def _told_what_is_left() -> Iterator[None]:
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
    removed = _Removed()
    async with core.erasing:
        await _erase_old(core, until_us, removed, dry_run=dry_run)
        if not dry_run:
            await _settle(core, removed)
            with core.store.read() as view:
                stems = tuple(retention.torn_until(view, until_us))
            removed.torn_copies = await core.store.remove_torn_copies(
                lambda name, _data: name.startswith(stems)
            )
    if removed.messages or removed.singles or removed.segments or removed.torn_copies:
        logger.info("retention.stripped", extra={"messages": removed.messages, "dry_run": dry_run})
    return {"days": days, "dryRun": dry_run, **removed.answer()}


class _Removed:
    """What a job has done so far."""

    def __init__(self) -> None:
        self.messages = 0
        self.sends = 0
        self.singles = 0
        self.kept: list[NotErasable] = []
        self.kept_count = 0
        self.segments: list[ErasedSegment] = []
        self.torn_copies = 0

    def keep(self, message_id: int, because: str) -> None:
        self.kept_count += 1
        if len(self.kept) < 100:
            self.kept.append(NotErasable(message_id, because))

    def answer(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "sendsWithoutMessages": self.sends,
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


def _still_needed(view: Snapshot, state: messages.MessageState) -> str | None:
    """Why the message must keep its personal data; None: nothing needs them any more."""
    if state.final_at is None:
        return "it is not final: wait, or cancel it with `queue cancel`"
    dsn = messages.dsn_about(view, state)
    if dsn is not None and dsn.final_at is None:
        return f"the notification of its bounce, message {dsn.message_id}, is under way"
    if calls.is_call_pending(view, state.message_id):
        return "the member's unsubscribe URL is still to be called"
    return None


async def _erase_old(core: Core, until_us: int, removed: _Removed, *, dry_run: bool) -> None:
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
                because = _still_needed(view, state)
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
    await _erase_singles(core, until_us, removed, dry_run=dry_run, because="retention")


async def _erase_old_sends(core: Core, until_us: int, removed: _Removed, *, dry_run: bool) -> None:
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
            await core.store.append(_erased_sends(core, seqs, because="retention"))


async def _erase_singles(
    core: Core,
    until_us: int,
    removed: _Removed,
    *,
    dry_run: bool = False,
    is_meant: Callable[[int, str], bool] = lambda _seq, _owner: True,
    **how: Any,
) -> None:
    """Records of no message, the oldest first (`relay.views.retention` says why)."""
    after = 0
    while True:
        with core.store.read() as view:
            found = list(islice(retention.single_records(view, until_us, after=after), MESSAGES_PER_TURN))
        if not found:
            return
        after = found[-1][0]
        by_member: dict[str, list[int]] = defaultdict(list)
        for seq, did in found:
            if is_meant(seq, did):
                by_member[did].append(seq)
        removed.singles += sum(map(len, by_member.values()))
        if by_member and not dry_run:
            await core.store.append(
                [PayloadErased(did=did, seqs=seqs, **how) for did, seqs in by_member.items()]
            )
        await trio.lowlevel.checkpoint()


def _erased_sends(core: Core, seqs: Iterable[int], **how: Any) -> list[Event]:
    by_member: dict[str, list[int]] = defaultdict(list)
    for seq in seqs:
        send = core.store.get(seq).event
        assert isinstance(send, SendAccepted)
        by_member[send.did].append(seq)
    return [PayloadErased(did=did, send_ids=ids, **how) for did, ids in by_member.items()]


async def _erase_one(
    core: Core, message_id: int, did: str | None, by: str, reason: str, removed: _Removed
) -> None:
    def decide(view: Snapshot) -> list[Event]:
        state = messages.message(view, message_id)
        if state is None or did not in (None, state.did):
            whose = "" if did is None else f" of {did}"
            raise Refusal("NOT_FOUND", f"message: there is no message {message_id}{whose}")
        because = _still_needed(view, state)
        if because is not None:
            raise Refusal("CONFLICT", f"message {message_id} cannot be erased now: {because}")
        if not messages.has_personal_data(view, message_id):
            return []
        return [_erased_by_order(state.did, [message_id], by, reason)]

    removed.messages += len(await core.store.decide(decide))


async def _erase_recipient(
    core: Core, address: str, did: str | None, by: str, reason: str, removed: _Removed
) -> None:
    with core.store.read() as view:
        dids = [did] if did is not None else list(members.dids(view))
    for owner in dids:
        before: int | None = None
        while True:
            looked = 0
            ids: list[int] = []

            def decide(
                view: Snapshot, owner: str = owner, before: int | None = before, ids: list[int] = ids
            ) -> list[Event]:
                nonlocal looked
                found = messages.messages_of(view, owner, recipient=address, before=before)
                for state in islice(found, MESSAGES_PER_TURN):
                    looked = state.message_id
                    because = _still_needed(view, state)
                    if because is None:
                        ids.append(state.message_id)
                    else:
                        removed.keep(state.message_id, because)
                return [_erased_by_order(owner, ids, by, reason)] if ids else []

            await core.store.decide(decide)
            removed.messages += len(ids)
            if not looked:
                break
            before = looked
    await _erase_rejected(core, address, did, by, reason, removed)
    names = _naming(address)

    def is_meant(seq: int, owner: str) -> bool:
        payload = core.store.record(seq).payload if did in (None, owner) else None
        return payload is not None and names(payload)

    await _erase_singles(
        core,
        core.store.now_us(),
        removed,
        is_meant=is_meant,
        because="operator",
        by=by,
        reason=reason,
    )


async def _erase_rejected(
    core: Core, address: str, did: str | None, by: str, reason: str, removed: _Removed
) -> None:
    """Sends that had no message name their recipients as well: in the list of those that were rejected."""
    after = 0
    names = _naming(address)
    while True:
        with core.store.read() as view:
            seqs = list(
                islice(
                    retention.sends_without_messages(view, core.store.now_us(), after=after),
                    MESSAGES_PER_TURN,
                )
            )
        if not seqs:
            return
        after = seqs[-1]
        records = [core.store.record(seq) for seq in seqs]
        naming = [record.seq for record in records if record.payload and names(record.payload)]
        events = [
            event
            for event in _erased_sends(core, naming, because="operator", by=by, reason=reason)
            if isinstance(event, PayloadErased) and did in (None, event.did)
        ]
        if events:
            await core.store.append(events)
            removed.sends += sum(len(event.send_ids) for event in events)


def _erased_by_order(did: str, message_ids: list[int], by: str, reason: str) -> PayloadErased:
    return PayloadErased(did=did, because="operator", message_ids=message_ids, by=by, reason=reason)


# ------------------------------------------------------------------------------------------------ steps 2 and 3


async def _settle(core: Core, removed: _Removed) -> None:
    """Remove all payloads that are owed, in rounds of bounded size."""
    store = core.store
    while True:
        with store.read() as view:
            owed = list(islice(retention.owed(view), EVENTS_PER_ROUND))
        if not owed:
            return
        seqs: set[int] = set()
        for seq in owed:
            erased = store.get(seq).event
            assert isinstance(erased, PayloadErased)
            with store.read() as view:
                seqs |= retention.payloads_of(view, seq, erased)
            await trio.lowlevel.checkpoint()
        segments = await store.erase_payloads(seqs)
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


# ------------------------------------------------------------------------------------------------ what names an address


def _naming(address: str) -> Callable[[bytes], bool]:
    """Whether bytes hold the address, in any case of its ASCII letters."""
    wanted = address.encode().lower()
    return lambda data: wanted in data.lower()


def _naming_records(records: Iterable[Record], address: str) -> dict[str, int]:
    """How many records of each type still hold the address."""
    names = _naming(address)
    found: Counter[str] = Counter()
    for record in records:
        if record.payload is not None and names(record.payload):
            found[str(decode_raw(record)["type"])] += 1
    return dict(sorted(found.items()))
