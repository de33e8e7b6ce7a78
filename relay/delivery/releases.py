"""The task that lets go of what a paused domain or a suspended member held, once that may send again.

The invariant: **what nothing stops any more does not stay held**, whatever is killed when; and no step of this takes
longer than STEP_MESSAGES_MAX messages do.

`domain.resumed` says that the domain may send, and releases nothing by itself: with a hundred thousand held messages
that was one fold of two seconds, in which nobody else was answered. Here they are released in steps, each a
`held.released` that names its messages, decided in turn with the operator's hand. It could have been one of
`message.released` for each message: that would be a hundred thousand records, rows and frames that say what the
`domain.resumed` in the member's stream has said already. It is no part of the command, because the command may be given
where no relay runs, and whoever gave it may be killed.

Nothing is remembered. What is held, and whether it still must be, is in the views: after a crash, or where a resume was
ordered while no relay ran, all domains and members are looked through at the start. Cancelled: the steps that were over
are done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import trio

from relay.codec import Recorded
from relay.core import Core
from relay.events import BULK_CATEGORIES, DomainResumed, Event, HeldReleased, MemberResumed
from relay.views import due, members, messages
from spool.views import Snapshot

#: Some milliseconds of fold.
STEP_MESSAGES_MAX = 250


class Holder(NamedTuple):
    """`domain` and its name, or `member` and its DID, as `message.held` says."""

    because: str
    name: str


async def release_held(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Release what is held by whoever was resumed. Runs until cancelled; an unexpected exception ends it, and with it
    the process."""
    with core.store.read() as view:
        pending = dict.fromkeys(_holders(view))
    news = trio.Event()

    def observe(recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            match item.event:
                case DomainResumed():
                    pending[Holder("domain", item.event.domain)] = None
                case MemberResumed():
                    pending[Holder("member", item.event.did)] = None
                case _:
                    continue
            news.set()

    core.store.observers.append(observe)
    try:
        task_status.started()
        while True:
            while pending:
                holder = next(iter(pending))
                # Taken out first: where it is paused and resumed meanwhile, it is looked through once more.
                del pending[holder]
                await _release(core, holder)
            await news.wait()
            news = trio.Event()
    finally:
        core.store.observers.remove(observe)


def _holders(view: Snapshot) -> Iterator[Holder]:
    """Who holds anything."""
    everybody = [Holder("domain", state.domain) for state in members.domains(view)]
    everybody += [Holder("member", state.did) for state in members.members(view)]
    for holder in everybody:
        if next(due.held_from(view, *holder, 0), None) is not None:
            yield holder


async def _release(core: Core, holder: Holder) -> None:
    """Step by step; others work in between."""
    after: int | None = 0
    while after is not None:
        step = partial(_step, holder=holder, after=after)
        with core.store.read() as view:
            is_to_release, after = bool(step(view)), _following(view, holder, after)
        if is_to_release:
            await core.store.decide(step)
        else:
            await core.pause()


def _step(view: Snapshot, holder: Holder, after: int) -> list[Event]:
    """The release of those of the next messages that nothing of this holder stops any more."""
    ids = list(islice(due.held_from(view, *holder, after), STEP_MESSAGES_MAX))
    states = [state for message_id in ids if (state := messages.message(view, message_id)) is not None]
    free = [state for state in states if not _is_stopped(view, holder, state)]
    if not free:
        return []
    by_member: dict[str, list[int]] = {}  # a name may have gone from one member to another
    for state in free:
        by_member.setdefault(state.did, []).append(state.message_id)
    return [HeldReleased(did=did, because=holder.because, message_ids=ids) for did, ids in by_member.items()]


def _following(view: Snapshot, holder: Holder, after: int) -> int | None:
    """Where the step after the next one begins; None: there is none."""
    return next(islice(due.held_from(view, *holder, after), STEP_MESSAGES_MAX, None), None)


def _is_stopped(view: Snapshot, holder: Holder, state: messages.MessageState) -> bool:
    if holder.because == "member":
        member = members.member(view, holder.name)
        return member is not None and member.status == "suspended"
    domain = members.domain(view, holder.name)
    return domain is not None and domain.is_stopped(bulk=state.category in BULK_CATEGORIES)
