"""The operator's commands that remove domains and members, and the end of what waits of them.

The invariant: **what a removed domain left behind is cancelled, whatever is killed when, and none of it is sent.** The
removal is one batch of the log. From then on nothing of it is tried (`relay.decisions.attempt`): a message that comes
up is cancelled in the place of its attempt. What would not come up soon, or never, because something holds it, is
cancelled here, some hundred messages a turn; by the command itself, and by `cancel_what_is_left` at every start, for a
command may have been broken off, or given where no relay runs. What is being tried at that moment is passed over, and
comes up again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import trio

from relay.codec import Recorded
from relay.core import Core
from relay.decisions.attempt import is_of_before, withdrawn
from relay.decisions.members import known_domain, known_member
from relay.decisions.removal import remove_domain, remove_member
from relay.domains.records import dkim_name
from relay.events import DomainRemoved, Event
from relay.fields import domain_in
from relay.operator.protocol import CommandAnswer
from relay.operator.queue_orders import check_reason
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.views import members, messages, signing_keys
from relay.views.signing_keys import RetiredKey
from spool.views import Snapshot

#: Some milliseconds of fold.
TURN_MESSAGES_MAX = 250

# ------------------------------------------------------------------------------------------------ the two commands


class DomainRemove(Arguments, frozen=True, kw_only=True):
    domain: str
    #: Needed where several members have the name enrolled.
    did: str
    reason: str | None = None


@decision(by=Operator, unhurried=True)
async def domain_remove(core: Core, order: DomainRemove, by: Operator) -> CommandAnswer:
    """End an enrolment. Broken off after its batch: the domain is removed, and the next start cancels the rest."""
    name = domain_in("domain", order.domain)
    check_reason(order.reason)
    with core.store.read() as view:
        known_domain(view, order.did, name)
    recorded = await core.store.decide(
        lambda view: remove_domain(view, order.did, name, by.user, order.reason)
    )
    return {"did": order.did, **(await _ended(core, recorded))[0]}


class MemberRemove(Arguments, frozen=True, kw_only=True):
    did: str
    reason: str | None = None


@decision(by=Operator, unhurried=True)
async def member_remove(core: Core, order: MemberRemove, by: Operator) -> CommandAnswer:
    """End a membership, with its keys and its domains. Broken off: as `domain_remove`."""
    check_reason(order.reason)
    with core.store.read() as view:
        known_member(view, order.did)
    recorded = await core.store.decide(lambda view: remove_member(view, order.did, by.user, order.reason))
    core.console_links.end_of(order.did)
    return {"did": order.did, "status": "removed", "domains": await _ended(core, recorded)}


async def _ended(core: Core, recorded: Sequence[Recorded]) -> list[dict[str, Any]]:
    """Each domain of these events, once nothing of it waits, with the names in DNS that it needs no more."""
    ended = []
    for item in recorded:
        event = item.event
        if isinstance(event, DomainRemoved):
            with core.store.read() as view:
                keys = [key for key in _keys_of_removed(view) if (key.did, key.domain) == _whose(event)]
            cancelled = 0
            for key in keys:
                cancelled += await _cancel(core, key)
            ended.append(
                {
                    "domain": event.domain,
                    "status": "removed",
                    "cancelled": cancelled,
                    "removableRecords": [
                        f"_atmos-verify.{event.domain}",
                        *(
                            dkim_name(event.domain, stem + kind)
                            for stem in event.selector_stems
                            for kind in "re"
                        ),
                    ],
                }
            )
    return ended


def _whose(event: DomainRemoved) -> tuple[str, str]:
    return event.did, event.domain


# ------------------------------------------------------------------------------------------------ what waits


async def cancel_what_is_left(
    core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Cancel what waits of domains that were removed: at the start, and whenever a member loses a name to another. Runs
    until cancelled; an unexpected exception ends it, and with it the process."""
    news = trio.Event()

    def observe(recorded: Sequence[Recorded]) -> None:
        if any(isinstance(item.event, DomainRemoved) and item.event.because == "proved" for item in recorded):
            news.set()

    core.store.observers.append(observe)
    try:
        task_status.started()
        while True:
            with core.store.read() as view:
                keys = list(_keys_of_removed(view))
            for key in keys:
                await _cancel(core, key)
            await news.wait()
            news = trio.Event()
    finally:
        core.store.observers.remove(observe)


def _keys_of_removed(view: Snapshot) -> Iterator[RetiredKey]:
    """They know which mail may be left: their files stay for as long as it does."""
    return (key for key in signing_keys.retired(view) if key.removed)


async def _cancel(core: Core, key: RetiredKey) -> int:
    """Turn by turn; others work in between. How many there were. Cancelled: the turns that were over are done."""
    count = 0
    # One that goes from the first to the second meanwhile has been tried, and what comes up again is cancelled there.
    for status in messages.WAITING:
        following: int | None = 0
        while following is not None:
            cancelled, following = await _take_turn(core, key, status, following)
            count += cancelled
    return count


async def _take_turn(core: Core, key: RetiredKey, status: str, after: int) -> tuple[int, int | None]:
    """How many were cancelled, and where the next turn begins; None: there is none."""
    taken: list[int] = []

    def look(view: Snapshot) -> list[messages.MessageState]:
        waiting = messages.waiting_of(view, key.did, status, after=after, until=key.until)
        return list(islice(waiting, TURN_MESSAGES_MAX))

    def decide(view: Snapshot) -> list[Event]:
        states = [state for state in look(view) if _is_left(core, view, key, state)]
        taken.extend(state.message_id for state in states)
        # From here until the views have the events nobody else may begin anything with these.
        core.in_hand.update(taken)
        return [withdrawn(state) for state in states]

    with core.store.read() as view:
        states = look(view)
        is_any_left = any(_is_left(core, view, key, state) for state in states)
    if is_any_left:
        try:
            await core.store.decide(decide)
        finally:
            core.in_hand.let_go(taken)
    else:
        await core.pause()
    return len(taken), states[-1].message_id if len(states) == TURN_MESSAGES_MAX else None


def _is_left(core: Core, view: Snapshot, key: RetiredKey, state: messages.MessageState) -> bool:
    """Whether it waits of the removed enrolment, and nobody tries it. A notice is the relay's own mail, and goes on."""
    if state.domain != key.domain or state.is_notice or state.attempting or state.message_id in core.in_hand:
        return False
    now = members.enrolment(view, key.did, key.domain)
    return now is None or is_of_before(state, now)
