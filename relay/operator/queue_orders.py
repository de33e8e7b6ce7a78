"""The operator's hand on the queue: hurry what waits, hold it, let it go, cancel it.

An order is one event for each message, with who gave it and why. It is exact: a message that is being tried at this
moment is in the deliverer's hand (`relay.in_hand`), and the order passes over it and says so. It never answers
"cancelled" about mail that is then sent.

A turn (`queue_selection`) is one batch of the log. An order ends after `limit` messages and says where to go on
(`next`), so that it is answered in bounded time; whoever gave it gives it again with that place (`after`), and with the
bound that the first answer named (`until`): mail that is accepted meanwhile is not meant. Where it is broken off, a
prefix is done, and giving the whole order again does the rest: what is in the wanted state already is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

from relay.characters import FORBIDDEN
from relay.core import Core
from relay.decisions.scheduling import give_up_at, is_untried
from relay.events import (
    Event,
    MessageBounced,
    MessageHeld,
    MessageReleased,
    MessageRescheduled,
    OperatorsReason,
    RemoteSide,
)
from relay.operator.protocol import ALREADY, BEING_TRIED, HELD, SCHEDULED, UNKNOWN, CommandAnswer
from relay.operator.queue_selection import MESSAGES_PER_TURN, QueueSelection, next_turn, select
from relay.principals import Operator
from relay.refusals import invalid
from relay.registry import Arguments, decision
from relay.views.due import WaitingMessage
from relay.views.messages import MessageState
from spool.views import Snapshot

MESSAGES_PER_ORDER = 20_000
REASON_CHARACTERS_MAX = 500
#: An answer names so many of the messages that it counts.
EXAMPLES_MAX = 10


class QueueOrder(Arguments, frozen=True, kw_only=True):
    """Which messages an order is about: a selection, or everything."""

    message: list[int] | None = None
    did: str | None = None
    site: str | None = None
    everything: bool = False
    #: Where to go on, and how far: as the answer before said.
    after: int = 0
    until: int | None = None
    limit: int = MESSAGES_PER_ORDER


class QueueFlush(QueueOrder, frozen=True, kw_only=True):
    reason: str | None = None


@decision(by=Operator)
async def queue_flush(core: Core, order: QueueFlush, by: Operator) -> CommandAnswer:
    """What waits for its next attempt is due now.

    What its member has scheduled for later, and was never tried, has to be named: whoever hurries the queue after an
    outage does not want next month's mail to go out. Its time is the order's then, and so are its Date and its end.
    """
    return await _in_turns(core, _flush, order, by, order.reason)


class QueueHold(QueueOrder, frozen=True, kw_only=True):
    reason: str


@decision(by=Operator)
async def queue_hold(core: Core, order: QueueHold, by: Operator) -> CommandAnswer:
    """What waits is not tried any more, until it is released."""
    return await _in_turns(core, _hold, order, by, order.reason)


class QueueRelease(QueueOrder, frozen=True, kw_only=True):
    reason: str | None = None


@decision(by=Operator)
async def queue_release(core: Core, order: QueueRelease, by: Operator) -> CommandAnswer:
    """What the operator held is due again, at its old time."""
    return await _in_turns(core, _release, order, by, order.reason)


class QueueCancel(QueueOrder, frozen=True, kw_only=True):
    reason: str


@decision(by=Operator)
async def queue_cancel(core: Core, order: QueueCancel, by: Operator) -> CommandAnswer:
    """What waits bounces, for good."""
    return await _in_turns(core, _cancel, order, by, order.reason)


# ------------------------------------------------------------------------------------------------ what becomes of one


class _Given(NamedTuple):
    """By whom an order was given, why, and when; and whether it names its messages one by one."""

    by: str
    reason: str | None
    now_us: int
    names_them: bool

    @property
    def personal(self) -> OperatorsReason | None:
        return None if self.reason is None else OperatorsReason(why=self.reason)


#: The event that carries the order out for a waiting message that nobody tries, or why it is passed over.
Judge = Callable[[MessageState, WaitingMessage, _Given], Event | str]


def _flush(state: MessageState, waiting: WaitingMessage, given: _Given) -> Event | str:
    if waiting.held_by is not None:
        return HELD
    if waiting.next_attempt_at <= given.now_us:
        return ALREADY
    is_planned = state.scheduled_at is not None and is_untried(state)
    if is_planned and not given.names_them:
        return SCHEDULED
    return MessageRescheduled(
        did=state.did,
        message_id=state.message_id,
        next_attempt_at=given.now_us,
        give_up_at=give_up_at(state, given.now_us) if is_planned else None,
        by=given.by,
        personal=given.personal,
    )


def _hold(state: MessageState, waiting: WaitingMessage, given: _Given) -> Event | str:
    if waiting.held_by == "operator":
        return ALREADY
    return MessageHeld(
        did=state.did,
        message_id=state.message_id,
        because="operator",
        by=given.by,
        personal=given.personal,
    )


def _release(state: MessageState, waiting: WaitingMessage, given: _Given) -> Event | str:
    if waiting.held_by is None:
        return ALREADY
    if waiting.held_by != "operator":
        return HELD
    return MessageReleased(did=state.did, message_id=state.message_id, by=given.by, personal=given.personal)


def _cancel(state: MessageState, waiting: WaitingMessage, given: _Given) -> Event | str:
    return MessageBounced(
        did=state.did,
        message_id=state.message_id,
        attempt=0,
        reason="cancelled",
        # RFC 3463: a permanent failure that none of the subjects (mailbox, routing, content ...) describes.
        enhanced="5.0.0",
        by=given.by,
        personal=RemoteSide(text=f"cancelled by the operator: {given.reason}"),
    )


# ------------------------------------------------------------------------------------------------ turn by turn


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


async def _in_turns(
    core: Core, judge: Judge, order: QueueOrder, by: Operator, reason: str | None
) -> dict[str, Any]:
    """Cancelled: the turns that were over are done, and no other."""
    selection = _meant(core, order)
    check_reason(reason)
    limit, after = order.limit, order.after
    if not 1 <= limit <= MESSAGES_PER_ORDER:
        raise invalid("limit", f"expected a number from 1 to {MESSAGES_PER_ORDER}")
    if not 0 <= after < 2**53:
        raise invalid("after", f"{str(after)[:30]} is no message id")
    done, passed = _Tally(), dict[str, _Tally]()
    following: int | None = after
    while following is not None and limit:
        count = min(limit, MESSAGES_PER_TURN)
        limit -= count
        given = _Given(by.user, reason, core.store.now_us(), selection.message_ids is not None)
        following = await _take_turn(core, judge, selection, given, following, count, done, passed)
    return {
        "done": done.answer(),
        "passed": [{"because": because, **tally.answer()} for because, tally in passed.items()],
        "until": selection.until,
        "next": following,
    }


def _meant(core: Core, order: QueueOrder) -> QueueSelection:
    """What an order is about: never all that waits by an oversight."""
    selected = order.message is not None or order.did is not None or order.site is not None
    if selected == order.everything:
        raise invalid(
            "selection", "say which messages are meant: by message, member and site, or else that all are"
        )
    return select(core, order.message, order.did, order.site, order.until)


def check_reason(reason: str | None) -> None:
    """That it is one, where one is given. Raises Refusal(INVALID_REQUEST)."""
    if reason is None:
        return
    if not reason.strip():
        raise invalid("reason", "is empty")
    if len(reason) > REASON_CHARACTERS_MAX:
        raise invalid("reason", f"is longer than {REASON_CHARACTERS_MAX} characters")
    if FORBIDDEN.search(reason):
        raise invalid("reason", "contains a line end or another control character; remove it")


async def _take_turn(
    core: Core,
    judge: Judge,
    selection: QueueSelection,
    given: _Given,
    after: int,
    count: int,
    done: _Tally,
    passed: dict[str, _Tally],
) -> int | None:
    taken: list[int] = []
    following: int | None = None

    def decide(view: Snapshot) -> list[Event]:
        nonlocal following
        selected, following = next_turn(view, selection, after, count)
        events: list[Event] = []
        for message_id, waiting, state in selected:
            judged = _judged(core.in_hand, judge, given, message_id, waiting, state)
            if isinstance(judged, str):
                passed.setdefault(judged, _Tally()).add(message_id)
            else:
                events.append(judged)
                taken.append(message_id)
                done.add(message_id)
        # From here until the views have the events nobody else may begin anything with these.
        core.in_hand.update(taken)
        return events

    try:
        await core.store.decide(decide)
    finally:
        core.in_hand.let_go(taken)
    return following


def _judged(
    in_hand: Container[int],
    judge: Judge,
    given: _Given,
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
    return judge(state, waiting, given)
