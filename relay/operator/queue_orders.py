"""The operator's hand on the queue: look at what waits, hurry it, hold it, let it go, cancel it.

An order is one event for each message, with who gave it and why. It is exact: a message that is being tried at this
moment is in the deliverer's hand (`relay.in_hand`), and the order passes over it and says so. It never answers
"cancelled" about mail that is then sent.

Queues can be large, so nothing here is done in one go. A *turn* looks at MESSAGES_PER_TURN messages, in the order of
their ids, and appends one batch; between turns the relay goes about its other work. An order ends after `limit`
messages and says where to go on (`next`), so that it is answered in bounded time; whoever gave it gives it again with
that place (`after`), and with the bound that the first answer named (`until`): mail that is accepted meanwhile is not
meant. Where it is broken off, a prefix is done, and giving the whole order again does the rest: what is in the wanted
state already is passed over.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import trio

from relay.addresses import FORBIDDEN, AddressError, parse_domain
from relay.core import Core
from relay.data_directory import Readable
from relay.events import (
    Event,
    MessageBounced,
    MessageHeld,
    MessageReleased,
    MessageRescheduled,
    OperatorsReason,
    RemoteSide,
)
from relay.presentation import message_detail, message_summary, rfc3339
from relay.refusals import Refusal, invalid
from relay.views import due, messages
from relay.views.due import WaitingMessage
from relay.views.messages import MessageState
from spool.views import Snapshot

MESSAGES_PER_TURN = 500
MESSAGES_PER_ORDER = 20_000
NAMED_MESSAGES_MAX = 1_000
ROWS_MAX = 1_000
REASON_CHARACTERS_MAX = 500
#: An answer names so many of the messages that it counts.
EXAMPLES_MAX = 10

#: Why an order passes over a message that was selected.
BEING_TRIED = "being tried"  # or another order has it in hand; giving the order again settles it
ALREADY = "already"  # in the state that the order would bring about
HELD = "held"  # by something that this order does not concern
UNKNOWN = "unknown"
# and `sent` or `bounced`: it is final


class Selection(NamedTuple):
    """Which waiting messages are meant: those for which all that is given holds."""

    #: In growing order; None: any.
    message_ids: list[int] | None
    did: str | None
    #: Recipient domains.
    domains: frozenset[str] | None
    #: The last message id that is meant.
    until: int


class _Selected(NamedTuple):
    message_id: int
    #: None where it is final, or there is no such message: only a message that was named can be that.
    waiting: WaitingMessage | None
    state: MessageState | None


def recipient_domains(core: Readable, site: str) -> frozenset[str]:
    """The recipient domains that are meant by a name: that domain itself, and those whose mail goes to an MX host (or
    route) of that name, as far as a running relay knows them."""
    served = {domain for domain, name in core.sites.items() if site in (name, *name.split(","))}
    try:
        return frozenset({parse_domain(site), *served})
    except AddressError as error:
        if served:
            return frozenset(served)
        raise invalid("site", str(error)) from error


def _select(
    core: Readable, message: list[int] | None, did: str | None, site: str | None, until: int | None
) -> Selection:
    if message is not None and not 1 <= len(message) <= NAMED_MESSAGES_MAX:
        raise invalid("message", f"name 1 to {NAMED_MESSAGES_MAX} messages")
    ids = None if message is None else sorted({_message_id(number) for number in message})
    if until is None:
        with core.store.read() as view:
            until = view.position
    return Selection(ids, did, None if site is None else recipient_domains(core, site), until)


def _message_id(number: int) -> int:
    if not 1 <= number < 2**53:
        raise invalid("message", f"{str(number)[:30]} is no message id")
    return number


def _turn(view: Snapshot, selection: Selection, after: int, count: int) -> tuple[list[_Selected], int | None]:
    """What is selected among the next `count` messages after this id, and the id to go on from; None: the end."""
    selected: list[_Selected] = []
    candidates = _candidates(view, selection, after)
    for message_id, waiting in candidates:
        if count == 0:
            return selected, after
        count -= 1
        after = message_id
        if (
            selection.domains is not None
            and waiting is not None
            and waiting.lane.domain not in selection.domains
        ):
            continue
        state = messages.message(view, message_id)
        if selection.did is not None and state is not None and state.did != selection.did:
            continue
        selected.append(_Selected(message_id, waiting, state))
    return selected, None


def _candidates(
    view: Snapshot, selection: Selection, after: int
) -> Iterator[tuple[int, WaitingMessage | None]]:
    if selection.message_ids is not None:
        for message_id in selection.message_ids:
            if message_id > after:
                yield message_id, due.waiting(view, message_id)
        return
    for waiting in due.waiting_after(view, after):
        if waiting.message_id > selection.until:
            return
        yield waiting.message_id, waiting


# ------------------------------------------------------------------------------------------------ orders


class _Order(NamedTuple):
    by: str
    reason: str | None
    now_us: int

    @property
    def personal(self) -> OperatorsReason | None:
        return None if self.reason is None else OperatorsReason(why=self.reason)


#: The event that carries the order out for a waiting message that nobody tries, or why it is passed over.
Judge = Callable[[MessageState, WaitingMessage, _Order], Event | str]


def _flush(state: MessageState, waiting: WaitingMessage, order: _Order) -> Event | str:
    if waiting.held_by is not None:
        return HELD
    if waiting.next_attempt_at <= order.now_us:
        return ALREADY
    return MessageRescheduled(
        did=state.did,
        message_id=state.message_id,
        next_attempt_at=order.now_us,
        by=order.by,
        personal=order.personal,
    )


def _hold(state: MessageState, waiting: WaitingMessage, order: _Order) -> Event | str:
    if waiting.held_by == "operator":
        return ALREADY
    return MessageHeld(
        did=state.did,
        message_id=state.message_id,
        because="operator",
        by=order.by,
        personal=order.personal,
    )


def _release(state: MessageState, waiting: WaitingMessage, order: _Order) -> Event | str:
    if waiting.held_by is None:
        return ALREADY
    if waiting.held_by != "operator":
        return HELD
    return MessageReleased(did=state.did, message_id=state.message_id, by=order.by, personal=order.personal)


def _cancel(state: MessageState, waiting: WaitingMessage, order: _Order) -> Event | str:
    return MessageBounced(
        did=state.did,
        message_id=state.message_id,
        attempt=0,
        reason="cancelled",
        # RFC 3463: a permanent failure that none of the subjects (mailbox, routing, content ...) describes.
        enhanced="5.0.0",
        by=order.by,
        personal=RemoteSide(text=f"cancelled by the operator: {order.reason}"),
    )


async def queue_flush(
    core: Core,
    by: str,
    *,
    message: list[int] | None = None,
    did: str | None = None,
    site: str | None = None,
    everything: bool = False,
    reason: str | None = None,
    after: int = 0,
    until: int | None = None,
    limit: int = MESSAGES_PER_ORDER,
) -> dict[str, Any]:
    """What waits for its next attempt is due now."""
    selection = _meant(core, message, did, site, until, everything)
    return await _carry_out(core, _flush, selection, by, reason, after, limit)


async def queue_hold(
    core: Core,
    by: str,
    *,
    reason: str,
    message: list[int] | None = None,
    did: str | None = None,
    site: str | None = None,
    everything: bool = False,
    after: int = 0,
    until: int | None = None,
    limit: int = MESSAGES_PER_ORDER,
) -> dict[str, Any]:
    """What waits is not tried any more, until it is released."""
    selection = _meant(core, message, did, site, until, everything)
    return await _carry_out(core, _hold, selection, by, reason, after, limit)


async def queue_release(
    core: Core,
    by: str,
    *,
    message: list[int] | None = None,
    did: str | None = None,
    site: str | None = None,
    everything: bool = False,
    reason: str | None = None,
    after: int = 0,
    until: int | None = None,
    limit: int = MESSAGES_PER_ORDER,
) -> dict[str, Any]:
    """What the operator held is due again, at its old time."""
    selection = _meant(core, message, did, site, until, everything)
    return await _carry_out(core, _release, selection, by, reason, after, limit)


async def queue_cancel(
    core: Core,
    by: str,
    *,
    reason: str,
    message: list[int] | None = None,
    did: str | None = None,
    site: str | None = None,
    everything: bool = False,
    after: int = 0,
    until: int | None = None,
    limit: int = MESSAGES_PER_ORDER,
) -> dict[str, Any]:
    """What waits bounces, for good."""
    selection = _meant(core, message, did, site, until, everything)
    return await _carry_out(core, _cancel, selection, by, reason, after, limit)


def _meant(
    core: Core,
    message: list[int] | None,
    did: str | None,
    site: str | None,
    until: int | None,
    everything: bool,
) -> Selection:
    """What an order is about: never all that waits by an oversight."""
    selected = message is not None or did is not None or site is not None
    if selected == everything:
        raise invalid(
            "selection", "say which messages are meant: by message, member and site, or else that all are"
        )
    return _select(core, message, did, site, until)


def _check_reason(reason: str | None) -> None:
    if reason is None:
        return
    if not reason.strip():
        raise invalid("reason", "is empty")
    if len(reason) > REASON_CHARACTERS_MAX:
        raise invalid("reason", f"is longer than {REASON_CHARACTERS_MAX} characters")
    if FORBIDDEN.search(reason):
        raise invalid("reason", "contains a line end or another control character; remove it")


class _Tally:
    """How many, and the first few of them."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[int] = []

    def add(self, message_id: int) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(message_id)

    def answer(self) -> dict[str, Any]:
        return {"count": self.count, "messages": self.examples}


async def _carry_out(
    core: Core,
    judge: Judge,
    selection: Selection,
    by: str,
    reason: str | None,
    after: int,
    limit: int,
) -> dict[str, Any]:
    """Cancelled: the turns that were over are done, and no other."""
    _check_reason(reason)
    if not 1 <= limit <= MESSAGES_PER_ORDER:
        raise invalid("limit", f"expected a number from 1 to {MESSAGES_PER_ORDER}")
    if not 0 <= after < 2**53:
        raise invalid("after", f"{str(after)[:30]} is no message id")
    done, passed = _Tally(), dict[str, _Tally]()
    following: int | None = after
    while following is not None and limit:
        count = min(limit, MESSAGES_PER_TURN)
        limit -= count
        following = await _take_turn(
            core, judge, selection, _Order(by, reason, core.store.now_us()), following, count, done, passed
        )
    return {
        "done": done.answer(),
        "passed": [{"because": because, **tally.answer()} for because, tally in passed.items()],
        "until": selection.until,
        "next": following,
    }


async def _take_turn(
    core: Core,
    judge: Judge,
    selection: Selection,
    order: _Order,
    after: int,
    count: int,
    done: _Tally,
    passed: dict[str, _Tally],
) -> int | None:
    taken: list[int] = []
    following: int | None = None

    def decision(view: Snapshot) -> list[Event]:
        nonlocal following
        selected, following = _turn(view, selection, after, count)
        events: list[Event] = []
        for message_id, waiting, state in selected:
            verdict = _verdict(core.in_hand, judge, order, message_id, waiting, state)
            if isinstance(verdict, str):
                passed.setdefault(verdict, _Tally()).add(message_id)
            else:
                events.append(verdict)
                taken.append(message_id)
                done.add(message_id)
        # From here until the views have the events nobody else may begin anything with these.
        core.in_hand.update(taken)
        return events

    try:
        await core.store.decide(decision)
    finally:
        core.in_hand.let_go(taken)
    return following


def _verdict(
    in_hand: Container[int],
    judge: Judge,
    order: _Order,
    message_id: int,
    waiting: WaitingMessage | None,
    state: MessageState | None,
) -> Event | str:
    if state is None:
        return UNKNOWN
    if waiting is None:
        return state.status
    # `attempting` and in nobody's hand: the relay was stopped during the attempt. It says so when it starts again,
    # and only then is the message's story such that it can be ended.
    if message_id in in_hand or state.attempting:
        return BEING_TRIED
    return judge(state, waiting, order)


# ------------------------------------------------------------------------------------------------ looking


async def queue_list(
    core: Readable,
    *,
    message: list[int] | None = None,
    did: str | None = None,
    site: str | None = None,
    each: bool = False,
    limit: int = 50,
) -> dict[str, Any]:
    """What waits: by site, or each message of a selection (of all, with `each`), the soonest first.

    It is put together from several looks at a queue that goes on moving.
    """
    if not 1 <= limit <= ROWS_MAX:
        raise invalid("limit", f"expected a number from 1 to {ROWS_MAX}")
    selection = _select(core, message, did, site, None)
    if each or message is not None or did is not None or site is not None:
        return await _list_messages(core, selection, limit)
    return await _list_sites(core, selection, limit)


class _Site:
    """What waits for one recipient domain."""

    def __init__(self, accepted_at: int) -> None:
        self.waiting = self.due = self.held = self.in_flight = 0
        self.oldest_accepted_at = accepted_at
        self.next_attempt_at: int | None = None

    def add(self, waiting: WaitingMessage, in_flight: bool, now_us: int) -> None:
        self.waiting += 1
        if in_flight:
            self.in_flight += 1
        elif waiting.held_by is not None:
            self.held += 1
        else:
            self.due += waiting.next_attempt_at <= now_us
            self.next_attempt_at = min(
                self.next_attempt_at or waiting.next_attempt_at, waiting.next_attempt_at
            )

    def answer(self, name: str, receivers: str | None) -> dict[str, Any]:
        return {
            "site": name,
            "waiting": self.waiting,
            "due": self.due,
            "held": self.held,
            "inFlight": self.in_flight,
            "oldestAcceptedAt": rfc3339(self.oldest_accepted_at),
            "nextAttemptAt": None if self.next_attempt_at is None else rfc3339(self.next_attempt_at),
            # Its MX hosts or route; null where no running relay knows them.
            "receivers": receivers,
        }


async def _list_sites(core: Readable, selection: Selection, limit: int) -> dict[str, Any]:
    sites: dict[str, _Site] = {}
    now_us = core.store.now_us()
    following: int | None = 0
    while following is not None:
        with core.store.read() as view:
            selected, following = _turn(view, selection, following, MESSAGES_PER_TURN)
        for _, waiting, state in selected:
            assert waiting is not None
            assert state is not None
            # In the order of ids, so that the first one is the oldest.
            found = sites.setdefault(waiting.lane.domain, _Site(state.accepted_at))
            found.add(waiting, _in_flight(core, state), now_us)
        await trio.lowlevel.checkpoint()
    largest = heapq.nsmallest(limit, sites, key=lambda name: (-sites[name].waiting, name))
    return {
        "sites": [sites[name].answer(name, core.sites.get(name)) for name in largest],
        "total": len(sites),
    }


async def _list_messages(core: Readable, selection: Selection, limit: int) -> dict[str, Any]:
    soonest: list[tuple[int, int, WaitingMessage, MessageState]] = []
    total = 0
    following: int | None = 0
    while following is not None:
        with core.store.read() as view:
            selected, following = _turn(view, selection, following, MESSAGES_PER_TURN)
        rows = [
            (waiting.next_attempt_at, waiting.message_id, waiting, state)
            for _, waiting, state in selected
            if waiting is not None and state is not None
        ]
        total += len(rows)
        soonest = _soonest(limit, (*soonest, *rows))
        await trio.lowlevel.checkpoint()
    return {"messages": [_row(core, waiting, state) for _, _, waiting, state in soonest], "total": total}


def _soonest(
    limit: int, rows: Iterable[tuple[int, int, WaitingMessage, MessageState]]
) -> list[tuple[int, int, WaitingMessage, MessageState]]:
    """What is held has no next time, and comes last, the oldest first."""

    def place(row: tuple[int, int, WaitingMessage, MessageState]) -> tuple[bool, int, int]:
        at, message_id, waiting, _ = row
        return (True, 0, message_id) if waiting.held_by is not None else (False, at, message_id)

    return heapq.nsmallest(limit, rows, key=place)


def _row(core: Readable, waiting: WaitingMessage, state: MessageState) -> dict[str, Any]:
    summary: dict[str, Any] = msgspec.to_builtins(message_summary(state, core.store.get))
    return {
        **summary,
        "did": state.did,
        "site": waiting.lane.domain,
        "heldBy": waiting.held_by,
        "inFlight": _in_flight(core, state),
    }


def _in_flight(core: Readable, state: MessageState) -> bool:
    return state.attempting or state.message_id in core.in_hand


async def queue_show(core: Readable, *, message: int) -> dict[str, Any]:
    """One message, waiting or final: what its member sees of it, and what only the operator may."""
    with core.store.read() as view:
        state = messages.message(view, _message_id(message))
        if state is None:
            raise Refusal("NOT_FOUND", f"message: there is no message {message}")
        waiting = due.waiting(view, message)
        timeline = messages.timeline(view, message)
    detail: dict[str, Any] = msgspec.to_builtins(message_detail(state, timeline, core.store.get))
    for entry in detail["timeline"]:
        by = getattr(core.store.get(entry["seq"]).event, "by", None)
        if by is not None:
            entry["by"] = by
    return {
        **detail,
        "did": state.did,
        "site": None if waiting is None else waiting.lane.domain,
        "heldBy": None if waiting is None else waiting.held_by,
        "inFlight": _in_flight(core, state),
    }
