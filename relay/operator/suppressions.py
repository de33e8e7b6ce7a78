"""The operator's commands that change members' suppression lists; `suppressions_shown` lists them.

They do for a member what it can do itself, where it asks the operator to, and no more: a complaint stays, whoever asks.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relay.core import Core
from relay.decisions import suppression as decisions
from relay.decisions.members import known_member
from relay.events import Event
from relay.fields import address_in, note_in
from relay.operator.protocol import CommandAnswer
from relay.presentation import suppressed_address
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.views import suppressions
from spool.views import Snapshot


class SuppressionAdd(Arguments, frozen=True, kw_only=True):
    did: str
    recipient: str
    note: str | None = None


@decision(by=Operator)
async def suppression_add(core: Core, order: SuppressionAdd, by: Operator) -> CommandAnswer:
    """The member's mail may not go there any more. Given again, it changes nothing."""
    address, note = address_in("recipient", order.recipient), note_in("note", order.note)

    def decide(view: Snapshot) -> list[Event]:
        known_member(view, order.did)
        return decisions.suppress(view, order.did, address, "manual", note=note, by=by)

    await core.store.decide(decide)
    return _as_it_is(core, order.did, address)


class SuppressionRemove(Arguments, frozen=True, kw_only=True):
    did: str
    recipient: str


@decision(by=Operator)
async def suppression_remove(core: Core, order: SuppressionRemove, by: Operator) -> CommandAnswer:
    """Raises Refusal(NOT_FOUND, or SUPPRESSION_LOCKED while a complaint holds)."""
    address = address_in("recipient", order.recipient)

    def decide(view: Snapshot) -> list[Event]:
        known_member(view, order.did)
        return decisions.unsuppress(view, order.did, address, by)

    await core.store.decide(decide)
    return {"did": order.did, "recipient": address, "reasons": []}


def _as_it_is(core: Core, did: str, address: str) -> dict[str, Any]:
    with core.store.read() as view:
        state = suppressions.suppression(view, did, address)
    assert state is not None
    return {"did": did, **msgspec.to_builtins(suppressed_address(state))}
