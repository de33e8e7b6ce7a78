"""Bugs that are planted in sending, delivery, the stream, verification and calls."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
import trio

import relay.acceptance
import relay.api.stream
import relay.decisions.reports
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
import relay.views.received
import relay.views.retention
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
)
from relay.store import Store
from relay.stream_events import Labels, stream_event
from relay.streams import Streams
from relay.views import messages
from relay.views.due import DueProjector
from relay.views.members import MembersProjector
from spool.views import Transaction
from tests.campaigns.planting import _replace


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
    async def deliver_at_once(session: Session, *arguments: Any, before_final_dot: Any, **more: Any) -> Any:
        return await deliver(session, *arguments, before_final_dot=trio.lowlevel.checkpoint, **more)

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
            stream_event(hoped, lambda number: Labels(None))
            for hoped in hopes.get(id(store), ())
            if hoped.event.STREAMED and hoped.event.did == did and hoped.seq > cursor
        ]

    begin = _replace(stack, Streams, "__init__", init)
    append = _replace(stack, Store, "append", tell_and_append)
    events_after = _replace(stack, relay.api.stream, "events_after", events_and_hopes)


def send_from_a_domain_that_is_not_verified(stack: ExitStack) -> None:
    """It is asked for, and not looked at."""

    def sending_domain_of_any(view: Any, config: Any, did: str, name: str, **more: Any) -> Any:
        return sending_domain(
            view, msgspec.structs.replace(config, require_verified_domains=False), did, name, **more
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


def report_recorded_again(stack: ExitStack) -> None:
    """Whoever hands in the same mail twice, because no answer came, has two reports."""
    _replace(stack, relay.decisions.reports, "_is_known", lambda story, came: False)


def bounce_counted_by_each_report(stack: ExitStack) -> None:
    def fails(state: Any, reading: Any) -> bool:
        return is_failure(msgspec.structs.replace(state, reported_seq=None), reading)

    is_failure = _replace(stack, relay.decisions.reports, "_is_failure", fails)


def mail_passed_on_again(stack: ExitStack) -> None:
    """A stranger that got no answer sends again, and it is another mail."""
    _replace(stack, relay.views.received, "is_repeat", lambda view, digest, now_us: False)


def call_of_a_private_address(stack: ExitStack) -> None:
    _replace(stack, relay.internet.https, "why_not_public", lambda address: None)
