"""Bugs that are planted in the log, the views, retention and backups."""

from __future__ import annotations

import importlib
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

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
from relay.events import (
    Event,
    PayloadErased,
)
from relay.store import Store
from relay.views import messages
from relay.views.due import DueProjector
from relay.views.warming import WarmingProjector
from spool.disk import Disk
from spool.open_segment import OpenSegment
from spool.record import Record
from spool.segment import segment_name
from spool.views import Transaction, Views
from tests.campaigns.planting import _replace
from tests.world.disk import FakeDisk


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
    _replace(stack, relay.operator.retention, "still_needed", lambda view, state: None)
    _replace(stack, relay.views.retention.RetentionProjector, "_erased", lambda projector, tx, event: None)


def notification_forgotten_by_retention(stack: ExitStack) -> None:
    """A bounced message goes while the notification that quotes it is under way."""

    def still_needed_by_itself(view: Any, state: Any) -> str | None:
        return "it is not final" if state.final_at is None else None

    _replace(stack, relay.operator.retention, "still_needed", still_needed_by_itself)


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


def mail_that_stays(stack: ExitStack) -> None:
    """What a stranger wrote is in the record before the one that is its message's."""

    def payloads_but_for_mail(view: Any, seq: int, erased: PayloadErased) -> set[int]:
        forwards = {number for number in erased.message_ids if messages.message(view, number).is_forward}  # type: ignore[union-attr]
        return payloads_of(view, seq, erased) - {number - 1 for number in forwards}

    payloads_of = _replace(stack, relay.views.retention, "payloads_of", payloads_but_for_mail)


def index_that_is_not_corrected(stack: ExitStack) -> None:
    """Views that were brought back from before a strip go on as if there had been none."""
    _replace(stack, Views, "correct_index", lambda views, reader: None)


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
