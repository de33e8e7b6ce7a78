"""The operator's command that lists a member's suppressions: to whom its mail may not go, and why."""

from __future__ import annotations

from itertools import islice

import msgspec

from relay.data_directory import Readable
from relay.decisions.members import known_member
from relay.fields import address_in
from relay.operator.protocol import CommandAnswer
from relay.presentation import suppressed_address
from relay.principals import Operator
from relay.refusals import invalid
from relay.registry import Arguments, decision
from relay.views import suppressions

#: Rows of one answer, and of one turn.
LIMIT_MAX = 1000
ROWS_PER_TURN = 200


class SuppressionList(Arguments, frozen=True, kw_only=True):
    """A member's list, the newest first; or one address of it."""

    did: str
    #: Only this address.
    recipient: str | None = None
    limit: int = 100
    #: Go on behind this one: the `next` of the answer before.
    after: int | None = None


@decision(by=Operator, reads=True)
async def suppression_list(core: Readable, asked: SuppressionList, by: Operator) -> CommandAnswer:
    """`next`: where the rest begins; null: this is all."""
    if not 1 <= asked.limit <= LIMIT_MAX:
        raise invalid("limit", f"expected a number from 1 to {LIMIT_MAX}")
    with core.store.read() as view:
        known_member(view, asked.did)
        count = suppressions.count_of(view, asked.did)
    if asked.recipient is not None:
        with core.store.read() as view:
            found = suppressions.suppression(view, asked.did, address_in("recipient", asked.recipient))
        rows, following = ([] if found is None else [found]), None
    else:
        rows = await _some(core, asked.did, asked.after, asked.limit + 1)
        following = rows[asked.limit - 1].seq if len(rows) > asked.limit else None
    return {
        "did": asked.did,
        "count": count,
        "suppressions": [msgspec.to_builtins(suppressed_address(row)) for row in rows[: asked.limit]],
        "next": following,
    }


async def _some(core: Readable, did: str, before: int | None, count: int) -> list[suppressions.Suppression]:
    """In turns, so that others are answered meanwhile."""
    rows: list[suppressions.Suppression] = []
    while len(rows) < count:
        with core.store.read() as view:
            some = list(
                islice(
                    suppressions.suppressions_of(view, did, before=before),
                    min(ROWS_PER_TURN, count - len(rows)),
                )
            )
        if not some:
            break
        rows += some
        before = some[-1].seq
        await core.pause()
    return rows
