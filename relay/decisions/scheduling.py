"""When a send goes out, where its member names a time, and what the member may still do until then. Pure.

The invariant: **nothing is cancelled or moved that anybody may have received.** Only a message that waits, was never
tried and is in nobody's hand can be (`relay.in_hand`). Of a send all messages are, or none is; those whose recipient
was suppressed are over already, and in nobody's way.

What is so already is decided by no event: cancelled twice is cancelled, and moved to where it is it has not been moved.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

from relay.codec import Recorded
from relay.config import Config
from relay.decisions.limits import check_limits
from relay.decisions.members import known_member
from relay.events import MessageBounced, MessageRescheduled, RemoteSide
from relay.principals import Principal
from relay.refusals import Refusal, invalid
from relay.times import DAY_US, SECOND_US, rfc3339
from relay.views import members
from relay.views.messages import MessageState
from relay.views.warming import minute_of
from spool.views import Snapshot

AHEAD_DAYS_MAX = 30
#: A time that is past by no more than this means now: a request is on its way for a while, and clocks differ.
PAST_SECONDS_MAX = 60

Get = Callable[[int], Recorded]


def chosen_time(scheduled_at: int | None, now_us: int) -> int | None:
    """When it goes out, where that is not at once. Raises Refusal(INVALID_REQUEST)."""
    if scheduled_at is None:
        return None
    if scheduled_at < now_us - PAST_SECONDS_MAX * SECOND_US:
        raise invalid("scheduledAt", f"is past: it is {rfc3339(now_us)} now")
    if scheduled_at > now_us + AHEAD_DAYS_MAX * DAY_US:
        raise invalid("scheduledAt", f"is more than {AHEAD_DAYS_MAX} days ahead: it is {rfc3339(now_us)} now")
    return scheduled_at if scheduled_at > now_us else None


def cancelled_by_member(
    states: Sequence[MessageState], principal: Principal, in_hand: Container[int], get: Get
) -> list[MessageBounced]:
    """What ends these messages, which are one, or all of a send. Raises Refusal(NOT_CANCELLABLE)."""
    wanted = [state for state in _concerned(states, get) if not _is_cancelled(state, get)]
    for state in wanted:
        _check_untried(state, in_hand)
    return [
        MessageBounced(
            did=state.did,
            message_id=state.message_id,
            attempt=0,
            reason="cancelled",
            enhanced="5.0.0",
            key_id=principal.key_id,
            personal=RemoteSide(text="cancelled by its sender"),
        )
        for state in wanted
    ]


def moved_by_member(
    view: Snapshot,
    config: Config,
    states: Sequence[MessageState],
    scheduled_at: int,
    principal: Principal,
    in_hand: Container[int],
    get: Get,
    *,
    reserved: int,
    reserved_at: Mapping[int, int],
    now_us: int,
) -> list[MessageRescheduled]:
    """What gives these messages, which are one, or all of a send, another time. They count around that one then, and
    must fit there (`reserved`, `reserved_at`: as `changes` of `check_limits`).

    Raises Refusal(INVALID_REQUEST, NOT_CANCELLABLE or RATE_LIMITED).
    """
    at_us = chosen_time(scheduled_at, now_us) or now_us
    for state in _concerned(states, get):
        if _is_cancelled(state, get):
            raise _not_any_more(state, "was cancelled already")
        _check_untried(state, in_hand)
        if state.scheduled_at is None:
            raise _not_any_more(state, "was not scheduled, and is due; it can be cancelled")
    moving = [
        state
        for state in _concerned(states, get)
        if state.scheduled_at is not None and state.scheduled_at != at_us
    ]
    if not moving:
        return []
    _check_room(view, config, moving, at_us, reserved=reserved, reserved_at=reserved_at, now_us=now_us)
    return [
        MessageRescheduled(
            did=state.did,
            message_id=state.message_id,
            next_attempt_at=at_us,
            give_up_at=give_up_at(state, at_us),
            key_id=principal.key_id,
        )
        for state in moving
    ]


def give_up_at(state: MessageState, at_us: int) -> int:
    """When a scheduled message is given up, if it is tried first at that time: it has as long as it would have had."""
    assert state.scheduled_at is not None
    return at_us + state.give_up_at - state.scheduled_at


def is_untried(state: MessageState) -> bool:
    """No attempt was begun, and none took its place."""
    return state.status == "queued" and not state.attempts


def _check_room(
    view: Snapshot,
    config: Config,
    moving: Sequence[MessageState],
    at_us: int,
    *,
    reserved: int,
    reserved_at: Mapping[int, int],
    now_us: int,
) -> None:
    first = moving[0]
    domain = members.enrolment(view, first.did, first.domain)
    if domain is None:
        raise _not_any_more(
            first, f"is of the domain {first.domain}, which was removed, and is being cancelled"
        )
    changes = dict(reserved_at)
    for state in moving:
        assert state.scheduled_at is not None
        leaves = minute_of(state.scheduled_at)
        changes[leaves] = changes.get(leaves, 0) - 1
    check_limits(
        view,
        config,
        known_member(view, first.did),
        domain,
        recipients=len(moving),
        reserved=reserved,
        now_us=now_us,
        at_us=at_us,
        changes=changes,
    )


def _concerned(states: Sequence[MessageState], get: Get) -> list[MessageState]:
    """Without those whose recipient was suppressed, as long as there are others."""
    return [state for state in states if _ended_untried(state, get) != "suppressed"] or list(states)


def _is_cancelled(state: MessageState, get: Get) -> bool:
    return _ended_untried(state, get) == "cancelled"


def _ended_untried(state: MessageState, get: Get) -> str | None:
    """The reason for which it bounced without having been tried; None: it did not."""
    if state.status != "bounced" or state.attempts or state.outcome_seq is None:
        return None
    outcome = get(state.outcome_seq).event
    return outcome.reason if isinstance(outcome, MessageBounced) else None


def _check_untried(state: MessageState, in_hand: Container[int]) -> None:
    if state.is_notice:
        raise _not_any_more(state, "is a mail of the relay's own")
    if state.status in ("sent", "bounced"):
        raise _not_any_more(state, "was sent already" if state.status == "sent" else "has bounced already")
    if not is_untried(state):
        raise _not_any_more(state, "was tried already, and may have been delivered")
    if state.message_id in in_hand:
        raise _not_any_more(state, "is being tried at this moment")


def _not_any_more(state: MessageState, why: str) -> Refusal:
    return Refusal("NOT_CANCELLABLE", f"message {state.message_id} {why}")
