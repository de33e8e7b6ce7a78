"""The operator's commands that look at the queue: what waits, for whom, why, and what happened to one message."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from relay.data_directory import Readable, SiteStatus
from relay.operator.protocol import CommandAnswer
from relay.operator.queue_selection import (
    MESSAGES_PER_TURN,
    QueueSelection,
    message_id_in,
    next_turn,
    select,
)
from relay.presentation import message_detail, message_summary
from relay.principals import Operator
from relay.refusals import Refusal, invalid
from relay.registry import Arguments, decision
from relay.times import rfc3339, rfc3339_or_none
from relay.views import due, messages
from relay.views.due import WaitingMessage
from relay.views.messages import MessageState

ROWS_MAX = 1_000
#: Of one site.
LANES_SHOWN = 5


class QueueList(Arguments, frozen=True, kw_only=True):
    """Sites; each message of a selection, or of all, with `each`."""

    message: list[int] | None = None
    did: str | None = None
    site: str | None = None
    each: bool = False
    limit: int = 50


@decision(by=Operator, reads=True, remembered=True)
async def queue_list(core: Readable, asked: QueueList, by: Operator) -> CommandAnswer:
    """What waits: by site, the largest first, or each message, the soonest first.

    It is put together from several looks at a queue that goes on moving.
    """
    if not 1 <= asked.limit <= ROWS_MAX:
        raise invalid("limit", f"expected a number from 1 to {ROWS_MAX}")
    selection = select(core, asked.message, asked.did, asked.site, None)
    if asked.each or asked.message is not None or asked.did is not None or asked.site is not None:
        return await _list_messages(core, selection, asked.limit)
    return await _list_sites(core, selection, asked.limit)


# ------------------------------------------------------------------------------------------------ sites


class _WaitingForDomain:
    """What waits for one recipient domain."""

    def __init__(self, accepted_at: int) -> None:
        self.waiting = self.due = self.held = self.in_flight = 0
        self.oldest_accepted_at = accepted_at
        self.next_attempt_at: int | None = None
        #: By member and whether it is bulk mail: those are served in turns.
        self.lanes: Counter[tuple[str, bool]] = Counter()

    def add(self, waiting: WaitingMessage, did: str, in_flight: bool, now_us: int) -> None:
        self.waiting += 1
        self.lanes[did, waiting.lane.bulk] += 1
        if in_flight:
            self.in_flight += 1
        elif waiting.held_by is not None:
            self.held += 1
        else:
            self.due += waiting.next_attempt_at <= now_us
            self.next_attempt_at = min(
                self.next_attempt_at or waiting.next_attempt_at, waiting.next_attempt_at
            )

    def answer(self, domain: str, receivers: str | None, status: SiteStatus | None) -> dict[str, Any]:
        """What follows `receivers` is of all domains that share them. Null is what no running relay knows."""
        return {
            "site": domain,
            "waiting": self.waiting,
            "due": self.due,
            "held": self.held,
            "inFlight": self.in_flight,
            "oldestAcceptedAt": rfc3339(self.oldest_accepted_at),
            "nextAttemptAt": rfc3339_or_none(self.next_attempt_at),
            # The largest.
            "lanes": [
                {"did": did, "class": "bulk" if bulk else "transactional", "waiting": count}
                for (did, bulk), count in self.lanes.most_common(LANES_SHOWN)
            ],
            # Its MX hosts or route.
            "receivers": receivers,
            "connections": None if status is None else status.connections,
            "connectionsAtMost": None if status is None else status.window,
            "downUntil": None if status is None else rfc3339_or_none(status.down_until_us),
            "downBecause": None if status is None else status.down_because,
        }


async def _list_sites(core: Readable, selection: QueueSelection, limit: int) -> dict[str, Any]:
    domains: dict[str, _WaitingForDomain] = {}
    now_us = core.store.now_us()
    following: int | None = 0
    while following is not None:
        with core.store.read() as view:
            selected, following = next_turn(view, selection, following, MESSAGES_PER_TURN)
        for _, waiting, state in selected:
            assert waiting is not None
            assert state is not None
            # In the order of ids, so that the first one is the oldest.
            found = domains.setdefault(waiting.lane.domain, _WaitingForDomain(state.accepted_at))
            found.add(waiting, state.did, _in_flight(core, state), now_us)
        await core.pause()
    largest = heapq.nsmallest(limit, domains, key=lambda name: (-domains[name].waiting, name))
    statuses = core.site_statuses()
    rows = []
    for domain in largest:
        receivers = core.sites.get(domain)
        status = None if receivers is None else statuses.get(receivers)
        rows.append(domains[domain].answer(domain, receivers, status))
    return {"sites": rows, "total": len(domains)}


# ------------------------------------------------------------------------------------------------ messages


async def _list_messages(core: Readable, selection: QueueSelection, limit: int) -> dict[str, Any]:
    soonest: list[tuple[int, int, WaitingMessage, MessageState]] = []
    total = 0
    following: int | None = 0
    while following is not None:
        with core.store.read() as view:
            selected, following = next_turn(view, selection, following, MESSAGES_PER_TURN)
        rows = [
            (waiting.next_attempt_at, waiting.message_id, waiting, state)
            for _, waiting, state in selected
            if waiting is not None and state is not None
        ]
        total += len(rows)
        soonest = _soonest(limit, (*soonest, *rows))
        await core.pause()
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


# ------------------------------------------------------------------------------------------------ one message


class QueueShow(Arguments, frozen=True, kw_only=True):
    message: int


@decision(by=Operator, reads=True, remembered=True)
async def queue_show(core: Readable, asked: QueueShow, by: Operator) -> CommandAnswer:
    """One message, waiting or final: what its member sees of it, and what only the operator may."""
    message_id = message_id_in(asked.message)
    with core.store.read() as view:
        state = messages.message(view, message_id)
        if state is None:
            raise Refusal("NOT_FOUND", f"message: there is no message {message_id}")
        waiting = due.waiting(view, message_id)
        timeline = messages.timeline(view, message_id)
    detail: dict[str, Any] = msgspec.to_builtins(message_detail(state, timeline, core.store.get))
    for entry in detail["timeline"]:
        who = getattr(core.store.get(entry["seq"]).event, "by", None)
        if who is not None:
            entry["by"] = who
    return {
        **detail,
        "did": state.did,
        "site": None if waiting is None else waiting.lane.domain,
        "heldBy": None if waiting is None else waiting.held_by,
        "inFlight": _in_flight(core, state),
    }
