"""Which waiting messages are meant, and how they are gone through: a turn at a time.

Queues can be large, so nothing is done to them in one go. A *turn* looks at MESSAGES_PER_TURN messages, in the order of
their ids; between turns the relay goes about its other work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from relay.data_directory import Readable
from relay.fields import domain_in
from relay.refusals import Refusal, invalid
from relay.views import due, messages
from relay.views.due import WaitingMessage
from relay.views.messages import MessageState
from spool.views import Snapshot

MESSAGES_PER_TURN = 100
NAMED_MESSAGES_MAX = 1_000


class QueueSelection(NamedTuple):
    """Which waiting messages are meant: those for which all that is given holds."""

    #: In growing order; None: any.
    message_ids: list[int] | None
    did: str | None
    #: Recipient domains.
    domains: frozenset[str] | None
    #: The last message id that is meant.
    until: int


class Selected(NamedTuple):
    message_id: int
    #: None where it is final, or there is no such message: only a message that was named can be that.
    waiting: WaitingMessage | None
    state: MessageState | None


def recipient_domains(core: Readable, site: str) -> frozenset[str]:
    """The recipient domains that are meant by a name: that domain itself, and those whose mail goes to an MX host (or
    route) of that name, as far as a running relay knows them."""
    served = {domain for domain, name in core.sites.items() if site in (name, *name.split(","))}
    try:
        return frozenset({domain_in("site", site), *served})
    except Refusal:
        if served:
            return frozenset(served)  # a route is no domain
        raise


def select(
    core: Readable, message: list[int] | None, did: str | None, site: str | None, until: int | None
) -> QueueSelection:
    if message is not None and not 1 <= len(message) <= NAMED_MESSAGES_MAX:
        raise invalid("message", f"name 1 to {NAMED_MESSAGES_MAX} messages")
    ids = None if message is None else sorted({message_id_in(number) for number in message})
    if until is None:
        with core.store.read() as view:
            until = view.position
    return QueueSelection(ids, did, None if site is None else recipient_domains(core, site), until)


def message_id_in(number: int) -> int:
    if not 1 <= number < 2**53:
        raise invalid("message", f"{str(number)[:30]} is no message id")
    return number


def next_turn(
    view: Snapshot, selection: QueueSelection, after: int, count: int
) -> tuple[list[Selected], int | None]:
    """What is selected among the next `count` messages after this id, and the id to go on from; None: the end."""
    selected: list[Selected] = []
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
        selected.append(Selected(message_id, waiting, state))
    return selected, None


def _candidates(
    view: Snapshot, selection: QueueSelection, after: int
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
