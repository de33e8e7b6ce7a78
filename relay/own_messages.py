"""What members do with their own messages that wait: cancel them, and give them another time.

Each is a decision of `relay.registry`, about one message or all of a send; what may be, `relay.decisions.scheduling`
says. Returned, it is durable: what was cancelled is never sent. Refused, nothing was changed. Where it is not known
whether it will be true (LogStalledError), nobody tries the messages until it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from relay.core import Core
from relay.decisions.scheduling import cancelled_by_member, moved_by_member
from relay.events import MessageBounced, MessageRescheduled
from relay.presentation import MessageSummary, message_summary
from relay.principals import SEND, Principal
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.space import EVENT_BYTES
from relay.views import messages
from relay.views.messages import MessageState
from spool.errors import LogStalledError
from spool.views import Snapshot


class OwnMessages(Arguments, frozen=True, kw_only=True):
    """One message, or all of the send whose `send.accepted` has this number."""

    message_id: int | None = None
    send_seq: int | None = None


class RescheduleMessages(OwnMessages, frozen=True, kw_only=True):
    scheduled_at: int


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it, as whoever decided it sees it: another node may see it a little later."""

    #: Of all messages that were meant, in order.
    ids: list[int]
    #: As it is now, where one was meant.
    message: MessageSummary | None = None


@decision(by=Principal, scope=SEND)
async def cancel_messages(core: Core, wanted: OwnMessages, member: Principal) -> Ordered:
    """End what was not tried yet. Raises Refusal(NOT_FOUND or NOT_CANCELLABLE)."""

    def judge(view: Snapshot, states: Sequence[MessageState]) -> Sequence[MessageBounced]:
        return cancelled_by_member(states, member, core.in_hand, core.store.get)

    return await _ordered(core, wanted, member, judge)


@decision(by=Principal, scope=SEND)
async def reschedule_messages(core: Core, wanted: RescheduleMessages, member: Principal) -> Ordered:
    """Give what is scheduled another time.

    Raises Refusal(NOT_FOUND, INVALID_REQUEST, NOT_CANCELLABLE or RATE_LIMITED).
    """

    def judge(view: Snapshot, states: Sequence[MessageState]) -> Sequence[MessageRescheduled]:
        domain = states[0].domain
        events = moved_by_member(
            view,
            core.config,
            states,
            wanted.scheduled_at,
            member,
            core.in_hand,
            core.store.get,
            reserved=core.reservations.recipients(domain),
            reserved_at=core.reservations.scheduled(domain),
            now_us=core.store.now_us(),
        )
        core.reservations.move(domain, events)
        return events

    return await _ordered(core, wanted, member, judge)


async def _ordered(
    core: Core,
    wanted: OwnMessages,
    member: Principal,
    judge: Callable[[Snapshot, Sequence[MessageState]], Sequence[MessageBounced | MessageRescheduled]],
) -> Ordered:
    found: list[int] = []
    taken: list[int] = []

    def decide(view: Snapshot) -> Sequence[MessageBounced | MessageRescheduled]:
        states = _meant(view, wanted, member)
        found.extend(state.message_id for state in states)
        events = judge(view, states)
        taken.extend(event.message_id for event in events)
        # From here until the views have the events nobody else may begin anything with these.
        core.in_hand.update(taken)
        return events

    try:
        await core.writes.decide(member, decide, size=EVENT_BYTES)
    except LogStalledError as stalled:
        if taken and core.store.is_in_doubt:
            core.in_hand.keep(taken)
            stalled.when_absent(partial(_let_go, core, taken))
            raise
        _let_go(core, taken)
        raise
    except BaseException:
        _let_go(core, taken)
        raise
    core.in_hand.let_go(taken)
    if wanted.message_id is None:
        return Ordered(ids=found)
    with core.store.read() as view:
        state = messages.message(view, wanted.message_id)
    assert state is not None
    return Ordered(ids=found, message=message_summary(state, core.store.get))


def _let_go(core: Core, taken: Sequence[int]) -> None:
    for message_id in taken:
        core.reservations.give_up_move(message_id)
    core.in_hand.let_go(taken)


def _meant(view: Snapshot, wanted: OwnMessages, member: Principal) -> list[MessageState]:
    if wanted.send_seq is not None:
        states = list(messages.messages_of_send(view, wanted.send_seq))
        name, kind = "id", "send"
    else:
        state = None if wanted.message_id is None else messages.message(view, wanted.message_id)
        states = [] if state is None else [state]
        name, kind = "messageId", "message"
    if not states or states[0].did != member.did:
        raise Refusal("NOT_FOUND", f"{name}: you have no {kind} with this id")
    return states
