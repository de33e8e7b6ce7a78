"""A campaign that finds nothing proves nothing, unless it finds what is there: bugs, planted one at a time.

Each is what a careful person might write on a bad day, put into the running code; each must be caught by the same
simulation and the same checkers that find the real relay without fault, under kinds of trouble that bring it out, and
in the words of the judge that is meant to find it: a plant that no longer fits, and makes the relay fail, is none.
The first seed tried is one that has caught it, to be quick (others follow, because a seed's world changes with the
relay); `python -m tests.campaigns.test_planted_bugs 100 [NAME]` shows how many seeds of a hundred do.

Unsalted checksums are not here: a member who forges a record has to know where his mail will stand in the log, which is
no work for dice. `tests/spool/test_bytes.py` plants that bug, and forges.
"""

from __future__ import annotations

import importlib
import logging
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import pytest
import trio

import relay.acceptance
import relay.api.stream
import relay.decisions.send
import relay.decisions.suppression
import relay.delivery.attempts
import relay.delivery.deliverer
import relay.domains.verification
import relay.in_hand
import relay.internet.https
import relay.message.outgoing
import relay.operator.retention
import relay.reservations
import relay.stream_pages
import relay.unsubscribe_calls
import relay.views.calls
import relay.views.retention
import spool.backup.backup
import spool.erasure
import spool.open_segment
from relay.codec import Recorded
from relay.core import Core
from relay.delivery.session import Session
from relay.events import (
    AttemptStarted,
    DomainCheckFailed,
    DomainVerified,
    Event,
    MessageBounced,
    MessageSent,
    Outcome,
    PayloadErased,
)
from relay.store import Store
from relay.stream_events import stream_event
from relay.streams import Streams
from relay.views import messages
from relay.views.due import DueProjector
from relay.views.members import MembersProjector
from relay.views.warming import WarmingProjector
from spool.disk import Disk
from spool.open_segment import OpenSegment
from spool.record import Record
from spool.segment import segment_name
from spool.views import Transaction, Views
from tests.campaigns.story import Run, simulate
from tests.world.disk import FakeDisk

Plant = Callable[[ExitStack], None]


def _replace(stack: ExitStack, owner: Any, name: str, new: Any) -> Any:
    """Put `new` in the place of `owner.name` for as long as the stack is open; returns what was there."""
    before = getattr(owner, name)
    stack.enter_context(mock.patch.object(owner, name, new))
    return before


# ------------------------------------------------------------------------------------------------ the log


def acknowledged_before_the_sync(stack: ExitStack) -> None:
    def write(disk: Disk, handle: int, data: bytes, offset: int) -> float:
        disk.write(handle, data, offset)
        return 0.0

    _replace(stack, spool.open_segment, "_write_and_sync", write)


def sync_tried_again(stack: ExitStack) -> None:
    """After a failed fsync the second one succeeds, and means nothing."""

    def write_and_sync(disk: Disk, handle: int, data: bytes, offset: int) -> float:
        disk.write(handle, data, offset)
        try:
            disk.fdatasync(handle)
        except OSError:
            disk.fdatasync(handle)
        return 0.0

    _replace(stack, spool.open_segment, "_write_and_sync", write_and_sync)


def no_sync_of_the_directory(stack: ExitStack) -> None:
    _replace(stack, FakeDisk, "sync_directory", lambda disk, directory: None)


def batch_split_in_two(stack: ExitStack) -> None:
    """A send's events are appended one by one."""

    async def append_one_by_one(
        store: Store, events: Sequence[Event], *, patient: bool = True
    ) -> list[Recorded]:
        recorded: list[Recorded] = []
        for event in events:
            recorded += await append(store, [event], patient=patient)
        return recorded

    append = _replace(stack, Store, "append", append_one_by_one)


def recovered_tail_not_written_again(stack: ExitStack) -> None:
    """What a killed process has written is believed because it can be read."""
    # The package has a function of the module's name.
    repair = importlib.import_module("spool.repair")
    _replace(stack, repair, "_write_again", lambda disk, handle, start, end: 0)


def time_that_goes_back(stack: ExitStack) -> None:
    """Records are stamped as the clock says, even after it has been set back."""

    def encode_by_clock(segment: OpenSegment, appends: Any) -> Any:
        segment.end = segment.end._replace(time_us=0)
        return encode(segment, appends)

    encode = _replace(stack, OpenSegment, "encode", encode_by_clock)


# ------------------------------------------------------------------------------------------------ the views


def projector_that_reads_a_clock(stack: ExitStack) -> None:
    def apply_now(projector: WarmingProjector, tx: Transaction, recorded: Recorded) -> None:
        apply(projector, tx, recorded._replace(time_us=time.time_ns() // 1000))

    apply = _replace(stack, WarmingProjector, "apply", apply_now)


def jitter_that_is_not_in_the_event(stack: ExitStack) -> None:
    dice = random.Random(0)

    def enter(projector: DueProjector, tx: Transaction, message_id: int, lane: bytes, at: int) -> None:
        enter_at(projector, tx, message_id, lane, at + dice.randrange(60_000_000))

    enter_at = _replace(stack, DueProjector, "_enter", enter)


def answered_before_the_views_have_it(stack: ExitStack) -> None:
    """The views are one batch behind."""
    waiting: dict[int, Sequence[Record]] = {}

    def apply_later(views: Views[Recorded], records: Sequence[Record]) -> None:
        before, waiting[id(views)] = waiting.get(id(views)), records
        if before is not None and before[0].seq == views.position + 1:
            apply(views, before)

    apply = _replace(stack, Views, "apply", apply_later)


def hold_that_is_lost_on_restart(stack: ExitStack) -> None:
    """It is kept in memory beside the view, and rebuilding forgets it."""
    catching_up: list[bool] = []

    def catch_up_without(views: Views[Recorded], *arguments: Any, **more: Any) -> None:
        catching_up.append(True)
        catch_up(views, *arguments, **more)
        catching_up.pop()

    def hold_unless(projector: DueProjector, tx: Transaction, event: Any) -> None:
        if not catching_up:
            hold(projector, tx, event)

    catch_up = _replace(stack, Views, "catch_up", catch_up_without)
    hold = _replace(stack, DueProjector, "_hold", hold_unless)


def stream_with_a_gap(stack: ExitStack) -> None:
    """A page begins with the event after the next."""

    def numbers_beyond(view: Any, did: str, *, after: int, limit: int) -> list[int]:
        return numbers(view, did, after=after + 1 if after else 0, limit=limit)

    numbers = _replace(stack, relay.stream_pages, "sequence_numbers", numbers_beyond)


# ------------------------------------------------------------------------------------------------ sending


def limit_without_reservation(stack: ExitStack) -> None:
    _replace(stack, relay.reservations.Reservations, "recipients", lambda reservations, domain: 0)


def reservation_that_is_kept(stack: ExitStack) -> None:
    """What was on its way into the log counts there, and goes on counting as on its way."""

    def recipients_ever(reservations: Any, domain: str) -> int:
        highest[domain] = max(highest[domain], recipients(reservations, domain))
        return highest[domain]

    highest: Counter[str] = Counter()
    recipients = _replace(stack, relay.reservations.Reservations, "recipients", recipients_ever)


def idempotency_key_in_memory_only(stack: ExitStack) -> None:
    """A replay is known by the process that gave the first answer, and by no other."""
    known: set[tuple[int, str, str]] = set()

    def accept_and_know(core: Core, wanted: Any, member: Any) -> Any:
        if wanted.idempotency is not None:
            known.add((id(core.store), member.did, wanted.idempotency.key_sha256))
        return accept(core, wanted, member)

    def first_use_if_known(store: Any, member: Any, idempotency: Any) -> Any:
        is_known = (id(store), member.did, idempotency.key_sha256) in known
        return first_use(store, member, idempotency) if is_known else None

    accept = _replace(stack, relay.acceptance, "_accept", accept_and_know)
    first_use = _replace(stack, relay.acceptance, "first_use", first_use_if_known)


def idempotency_key_not_in_turn(stack: ExitStack) -> None:
    """Two requests with one key at the same instant are both decided."""

    def without_key(reservations: Any, did: str, key_sha256: str | None) -> Any:
        return in_turn(reservations, did, None)

    in_turn = _replace(stack, relay.reservations.Reservations, "key_in_turn", without_key)


# ------------------------------------------------------------------------------------------------ delivery


def outcome_recorded_before_the_dot(stack: ExitStack) -> None:
    """One fsync less: with the start goes the hope that the receiver will take it."""

    async def append_hopefully(
        store: Store, events: Sequence[Event], *, patient: bool = True
    ) -> list[Recorded]:
        (event, *more) = events
        if isinstance(event, AttemptStarted):
            hope = MessageSent(did=event.did, message_id=event.message_id, attempt=event.attempt)
            return await append(store, [event, hope], patient=patient)
        if isinstance(event, Outcome):
            with store.read() as view:
                state = messages.message(view, event.message_id)
            if state is not None and state.status == "sent":
                return []
        return await append(store, [event, *more], patient=patient)

    append = _replace(stack, Store, "append", append_hopefully)


def start_recorded_after_the_dot(stack: ExitStack) -> None:
    async def deliver_at_once(session: Session, *arguments: Any, before_final_dot: Any) -> Any:
        return await deliver(session, *arguments, before_final_dot=trio.lowlevel.checkpoint)

    deliver = _replace(stack, Session, "deliver", deliver_at_once)


def interrupted_attempts_not_named(stack: ExitStack) -> None:
    async def forget(store: Store) -> None:
        await trio.lowlevel.checkpoint()

    _replace(stack, relay.delivery.deliverer, "name_interrupted", forget)


def suppression_not_looked_at_again(stack: ExitStack) -> None:
    """It is looked at when a send is accepted, and no more when the mail is delivered."""

    def prevented_but_for(*arguments: Any) -> Event | None:
        event: Event | None = prevented(*arguments)
        return None if isinstance(event, MessageBounced) else event

    prevented = _replace(stack, relay.delivery.attempts, "prevented", prevented_but_for)


def pause_not_looked_at_by_the_deliverer(stack: ExitStack) -> None:
    def prevented_but_for(*arguments: Any) -> Event | None:
        event: Event | None = prevented(*arguments)
        return event if isinstance(event, MessageBounced) else None

    prevented = _replace(stack, relay.delivery.attempts, "prevented", prevented_but_for)


def orders_about_what_is_being_tried(stack: ExitStack) -> None:
    """The operator's orders do not ask in whose hand a message is."""
    _replace(stack, relay.in_hand.InHand, "__contains__", lambda hand, number: False)


def bytes_that_change(stack: ExitStack) -> None:
    dice = random.Random(0)

    def outgoing_with(outgoing: Any, envelope: Any, message: bytes) -> None:
        make(outgoing, envelope, message + b"-- \r\n" * dice.randint(0, 1))

    make = _replace(stack, relay.message.outgoing.Outgoing, "__init__", outgoing_with)


def retries_forgotten(stack: ExitStack) -> None:
    """What is deferred leaves the queue."""

    def move_or_forget(projector: DueProjector, tx: Transaction, message_id: int, at: int | None) -> None:
        move(projector, tx, message_id, None if dice.random() < 0.2 else at)

    dice = random.Random(0)
    move = _replace(stack, DueProjector, "_move", move_or_forget)


# ------------------------------------------------------------------------------------------------ the stream


def stream_that_resumes_elsewhere(stack: ExitStack, distance: int) -> None:
    async def write_from(core: Core, subscriber: Any, cursor: int, send: Any) -> Any:
        return await write(core, subscriber, max(0, cursor + distance) if cursor else 0, send)

    write = _replace(stack, relay.api.stream, "_write", write_from)


def stream_that_skips_after_a_reconnect(stack: ExitStack) -> None:
    """The cursor is taken for the first event that is wanted, and more."""
    stream_that_resumes_elsewhere(stack, +1)


def stream_that_repeats_after_a_reconnect(stack: ExitStack) -> None:
    stream_that_resumes_elsewhere(stack, -1)


def stream_of_another_member(stack: ExitStack) -> None:
    """Whoever is awake is told of what has just happened."""

    def events_of_the_latest(store: Store, did: str, cursor: int, *, limit: int) -> Any:
        latest = getattr(store.get(store.last_seq).event, "did", did)
        return events_after(store, latest, cursor, limit=limit)

    events_after = _replace(stack, relay.api.stream, "events_after", events_of_the_latest)


def stream_before_the_sync(stack: ExitStack) -> None:
    """What is about to be written is shown already."""
    hopes: dict[int, list[Recorded]] = {}
    opened: list[Streams] = []

    def init(streams: Streams, *arguments: Any) -> None:
        begin(streams, *arguments)
        opened.append(streams)

    async def tell_and_append(
        store: Store, events: Sequence[Event], *, patient: bool = True
    ) -> list[Recorded]:
        first = store.last_seq + 1
        hopes[id(store)] = [Recorded(seq, store.now_us(), event) for seq, event in enumerate(events, first)]
        for of_member in opened[-1]._open.values():
            for subscriber in of_member:
                subscriber.wake()
        return await append(store, events, patient=patient)

    def events_and_hopes(store: Store, did: str, cursor: int, *, limit: int) -> Any:
        return events_after(store, did, cursor, limit=limit) or [
            stream_event(hoped, lambda number: None)
            for hoped in hopes.get(id(store), ())
            if hoped.event.STREAMED and hoped.event.did == did and hoped.seq > cursor
        ]

    begin = _replace(stack, Streams, "__init__", init)
    append = _replace(stack, Store, "append", tell_and_append)
    events_after = _replace(stack, relay.api.stream, "events_after", events_and_hopes)


# ------------------------------------------------------------------------------------------------ retention


def payloads_gone_before_their_event(stack: ExitStack) -> None:
    """The strip comes first: what a crash leaves is a log without payloads, and nothing that says why."""

    async def strip_then_append(
        store: Store, events: Sequence[Event], *, patient: bool = True
    ) -> list[Recorded]:
        for event in events:
            if isinstance(event, PayloadErased):
                await store.erase_payloads({*event.message_ids})
                await trio.sleep(300)  # it is a long job
        return await append(store, events, patient=patient)

    append = _replace(stack, Store, "append", strip_then_append)


def payloads_of_mail_that_waits(stack: ExitStack) -> None:
    """A job goes by the age of messages, and does not ask whether they are over."""
    _replace(stack, relay.operator.retention, "_still_needed", lambda view, state: None)
    _replace(stack, relay.views.retention.RetentionProjector, "_erased", lambda projector, tx, event: None)


def notification_forgotten_by_retention(stack: ExitStack) -> None:
    """A bounced message goes while the notification that quotes it is under way."""

    def still_needed_by_itself(view: Any, state: Any) -> str | None:
        return "it is not final" if state.final_at is None else None

    _replace(stack, relay.operator.retention, "_still_needed", still_needed_by_itself)


def stripped_segment_not_renamed_for_good(stack: ExitStack) -> None:
    """`log.stripped` is there, and after a loss of power so are the payloads."""

    class Hasty:
        def __init__(self, disk: Disk) -> None:
            self._disk = disk

        def __getattr__(self, name: str) -> Any:
            return getattr(self._disk, name)

        def sync_directory(self, directory: Any) -> None:
            pass

    def strip_hastily(disk: Any, *arguments: Any, **more: Any) -> Any:
        return strip_segment(Hasty(disk), *arguments, **more)

    strip_segment = _replace(stack, spool.erasure, "strip_segment", strip_hastily)


def content_that_stays(stack: ExitStack) -> None:
    """The send's subject and body, which its messages share, are forgotten by the one who removes theirs."""

    def payloads_but_for_content(view: Any, seq: int, erased: PayloadErased) -> set[int]:
        return payloads_of(view, seq, erased) - {
            messages.message(view, message_id).send_seq  # type: ignore[union-attr]
            for message_id in erased.message_ids
        }

    payloads_of = _replace(stack, relay.views.retention, "payloads_of", payloads_but_for_content)


def index_that_is_not_corrected(stack: ExitStack) -> None:
    """Views that were brought back from before a strip go on as if there had been none."""
    _replace(stack, Views, "correct_index", lambda views, reader: None)


# ------------------------------------------------------------------------------------------------ verification


def send_from_a_domain_that_is_not_verified(stack: ExitStack) -> None:
    """It is asked for, and not looked at."""

    def sending_domain_of_any(view: Any, config: Any, did: str, name: str) -> Any:
        return sending_domain(
            view, msgspec.structs.replace(config, require_verified_domains=False), did, name
        )

    sending_domain = _replace(stack, relay.decisions.send, "sending_domain", sending_domain_of_any)


def dns_that_does_not_tell_is_taken_for_wrong(stack: ExitStack) -> None:
    def failed_checks(findings: Any) -> list[str]:
        return [finding.check for finding in findings if not finding.ok]

    _replace(stack, relay.domains.verification, "failed_checks", failed_checks)


def grace_that_begins_again(stack: ExitStack) -> None:
    """With each failed check, so that it never ends."""

    def changed(projector: MembersProjector, tx: Transaction, time_us: int, event: Any) -> None:
        if isinstance(event, DomainCheckFailed):
            change(projector, tx, time_us, DomainVerified(did=event.did, domain=event.domain))
        change(projector, tx, time_us, event)

    change = _replace(stack, MembersProjector, "_domain_changed", changed)


def grace_of_a_check(stack: ExitStack) -> None:
    """It is taken to end with the day of the check that failed."""
    _replace(stack, relay.domains.verification, "GRACE_SECONDS", relay.domains.verification.CHECK_SECONDS - 1)


def days_counted_from_the_start(stack: ExitStack) -> None:
    """When a domain was checked is known to the process that did it; every restart begins a new day."""

    def due_at(reverifier: Any, state: Any) -> int:
        return max(
            due(reverifier, state),
            begun[id(reverifier)] + relay.domains.verification.CHECK_SECONDS * 1_000_000,
        )

    def init(reverifier: Any, core: Core) -> None:
        begin(reverifier, core)
        begun[id(reverifier)] = core.store.now_us()

    begun: dict[int, int] = {}
    begin = _replace(stack, relay.domains.verification._Reverifier, "__init__", init)
    due = _replace(stack, relay.domains.verification._Reverifier, "_due_at", due_at)


# ------------------------------------------------------------------------------------------------ members' own URLs


def call_that_is_made_once(stack: ExitStack) -> None:
    """Whatever came of it."""

    def event_of_the_last(caller: Any, *arguments: Any) -> Any:
        return msgspec.structs.replace(event_of(caller, *arguments), next_attempt_at=None)

    event_of = _replace(stack, relay.unsubscribe_calls._Caller, "_event", event_of_the_last)


def calls_that_a_restart_forgets(stack: ExitStack) -> None:
    """They are known to the process that was there when the recipient clicked."""

    def init(caller: Any, core: Core, post: Any) -> None:
        begin(caller, core, post)
        for call in _calls(core):
            caller._under_way.add(call.suppressed_seq)

    def _calls(core: Core) -> list[Any]:
        with core.store.read() as view:
            return list(relay.views.calls.all_calls(view))

    begin = _replace(stack, relay.unsubscribe_calls._Caller, "__init__", init)


def call_of_a_private_address(stack: ExitStack) -> None:
    _replace(stack, relay.internet.https, "why_not_public", lambda address: None)


# ------------------------------------------------------------------------------------------------ backups


def backup_whose_manifest_is_not_durable(stack: ExitStack) -> None:
    def commit_hastily(run: Any, manifest: Any) -> None:
        with mock.patch.object(run._disk, "sync_directory"):
            commit(run, manifest)

    commit = _replace(stack, spool.backup.backup._Run, "_commit", commit_hastily)


def backup_put_in_place_before_its_manifest(stack: ExitStack) -> None:
    """The files that the old manifest speaks of are replaced first."""

    def put_in_place_and_commit(run: Any, manifest: Any) -> None:
        run._put_in_place(manifest, run._staged)
        run._staged = []
        commit(run, manifest)

    commit = _replace(stack, spool.backup.backup._Run, "_commit", put_in_place_and_commit)


def backup_that_keeps_what_is_sealed(stack: ExitStack) -> None:
    """A segment that has been copied is never looked at again; its payloads have been removed since."""

    def back_up_segment(run: Any, scan: Any, handle: int) -> Any:
        name = f"{run._log}/{segment_name(scan.first_seq)}"
        old = run._old.get(name)
        return old if getattr(old, "sealed", False) else copy(run, scan, handle)

    copy = _replace(stack, spool.backup.backup._Run, "_back_up_segment", back_up_segment)


class Bug(NamedTuple):
    plant: Plant
    #: Kinds of trouble that bring it out.
    faults: tuple[str, ...]
    #: What the judge that is meant to find it says, a regular expression. A bug that makes another judge speak, or the
    #: relay fail, is not caught.
    words: str
    #: A seed that does.
    seed: int


OTHER_SEEDS = 20
CROWD = ("crowd", "slow-disk")
#: The relay's own start, or the journal of what was shown before.
WITNESS = "a later batch proves it had been durable|events had been acknowledged; after a restart there are"
KEY = "its Idempotency-Key stands for another send"
HEARD = "did not hear exactly its events"
TOO_EARLY = r"is erased, and \d+ is not final"
STAYED = r"^the payload of \d+ is there, and log\.stripped says that it is not"
BUGS = (
    Bug(acknowledged_before_the_sync, ("power",), WITNESS, 1),
    Bug(sync_tried_again, ("failing-disk", "power"), WITNESS + "|is not the event that it was", 1),
    Bug(no_sync_of_the_directory, ("power",), WITNESS, 3),
    Bug(
        batch_split_in_two,
        ("kill", "crowd"),
        r"a crash could part it from its send|AssertionError\(\) in outgoing\.of$",
        1,
    ),
    Bug(recovered_tail_not_written_again, ("kill", "power", "failing-disk"), WITNESS, 2),
    Bug(time_that_goes_back, ("clock",), "its time is before the time of the record in front of it", 3),
    Bug(projector_that_reads_a_clock, (), "the view warming_sends is no fold", 1),
    Bug(jitter_that_is_not_in_the_event, ("moods", "stop"), "the view due is no fold", 1),
    Bug(answered_before_the_views_have_it, (), "was acknowledged and cannot be read", 1),
    Bug(
        hold_that_is_lost_on_restart,
        ("orders", "stop", "lost-views", "receivers"),
        "the view held is no fold|it is held",
        1,
    ),
    Bug(stream_with_a_gap, (), "was not shown exactly its events", 1),
    Bug(limit_without_reservation, (*CROWD, "limits"), "recipients within a (hour|day), where", 6),
    Bug(
        reservation_that_is_kept,
        ("crowd", "limits", "keys"),
        "refused for a limit that it would not have passed",
        4,
    ),
    Bug(idempotency_key_in_memory_only, ("keys", "stop", "kill"), KEY, 2),
    Bug(idempotency_key_not_in_turn, ("keys", *CROWD), KEY, 1),
    Bug(outcome_recorded_before_the_dot, ("moods",), "its outcome was in the log before", 1),
    Bug(start_recorded_after_the_dot, ("slow-disk",), "handed over before its attempt was durable", 1),
    Bug(interrupted_attempts_not_named, ("kill", "moods"), "has no outcome", 1),
    Bug(
        suppression_not_looked_at_again,
        ("suppressions", "moods", "receivers", "dns"),
        r"attempt\.started .*its recipient is suppressed",
        2,
    ),
    Bug(
        pause_not_looked_at_by_the_deliverer,
        ("pauses", "moods", "receivers", "crowd"),
        r"attempt\.started .* is paused",
        5,
    ),
    Bug(
        orders_about_what_is_being_tried,
        ("orders", "receivers", "moods"),
        "which is not under way|it had been (sent|bounced) already",
        1,
    ),
    Bug(bytes_that_change, ("moods",), "bytes that no attempt sent|it sent other bytes", 1),
    Bug(retries_forgotten, ("moods", "receivers"), r"^message \d+ is not final", 2),
    Bug(backup_whose_manifest_is_not_durable, ("backups",), "the backup cannot be restored", 1),
    Bug(
        backup_put_in_place_before_its_manifest,
        ("backups", "kill", "power"),
        "the backup cannot be restored",
        3,
    ),
    Bug(
        backup_that_keeps_what_is_sealed,
        ("backups", "erasures"),
        "a backup of .* is there, and log.stripped says that it is not",
        1,
    ),
    Bug(stream_that_skips_after_a_reconnect, ("streams",), HEARD, 3),
    Bug(stream_that_repeats_after_a_reconnect, ("streams",), HEARD, 1),
    Bug(stream_of_another_member, ("streams",), HEARD, 1),
    Bug(stream_before_the_sync, ("streams", "slow-disk", "kill", "power"), HEARD, 2),
    Bug(
        payloads_gone_before_their_event, ("erasures", "kill"), "is gone, and no payload.erased admits it", 2
    ),
    Bug(payloads_of_mail_that_waits, ("erasures", "moods", "receivers"), TOO_EARLY, 2),
    Bug(
        notification_forgotten_by_retention,
        ("erasures", "moods", "receivers", "notifications", "crowd"),
        TOO_EARLY,
        2,
    ),
    Bug(stripped_segment_not_renamed_for_good, ("erasures", "power"), STAYED, 1),
    Bug(content_that_stays, ("erasures",), STAYED, 1),
    Bug(
        send_from_a_domain_that_is_not_verified,
        ("verification",),
        r"send\.accepted: the domain \S+ is not verified",
        2,
    ),
    Bug(dns_that_does_not_tell_is_taken_for_wrong, ("verification",), "was not seen wrong", 1),
    Bug(grace_that_begins_again, ("verification",), "is over, and it may go on", 2),
    Bug(grace_of_a_check, ("verification",), "had no grace", 1),
    Bug(days_counted_from_the_start, ("verification", "stop"), "should have been looked at again", 1),
    Bug(call_that_is_made_once, ("calls",), "it was given up before its time", 1),
    Bug(calls_that_a_restart_forgets, ("calls", "stop"), r"the call for \d+ never ended", 1),
    Bug(call_of_a_private_address, ("calls",), "it is private, and was connected to", 1),
    Bug(
        index_that_is_not_corrected,
        ("erasures", "old-views", "lost-views", "stop", "kill"),
        "the view index is no fold",
        3,
    ),
)


def simulate_with(bug: Bug, seed: int) -> Run:
    with ExitStack() as stack:
        bug.plant(stack)
        return simulate(seed, faults=bug.faults)


def is_caught(bug: Bug, seed: int) -> bool:
    """By the judge that is meant to."""
    return any(re.search(bug.words, breach) for breach in simulate_with(bug, seed).breaches)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_it_is_caught(bug: Bug) -> None:
    assert simulate(bug.seed, faults=bug.faults).breaches == []
    assert any(is_caught(bug, seed) for seed in (bug.seed, *range(101, 101 + OTHER_SEEDS)))


def main() -> None:
    logging.disable(logging.CRITICAL)
    count, names = int(sys.argv[1]), sys.argv[2:]
    for bug in BUGS:
        if names and bug.plant.__name__ not in names:
            continue
        caught = [seed for seed in range(1, count + 1) if is_caught(bug, seed)]
        print(f"{bug.plant.__name__}: {len(caught)} of {count} seeds, the first are {caught[:3]}", flush=True)


if __name__ == "__main__":
    main()
