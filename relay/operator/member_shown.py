"""The operator's command that shows one member: its limits, and its domains as the member sees them."""

from __future__ import annotations

import msgspec

from relay.data_directory import Readable
from relay.decisions.members import known_member
from relay.domains.shown import as_last_seen
from relay.operator.membership_shown import handle_answer
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.times import rfc3339
from relay.views import members, suppressions


class MemberShow(Arguments, frozen=True, kw_only=True):
    did: str


@decision(by=Operator, reads=True)
async def member_show(core: Readable, asked: MemberShow, by: Operator) -> CommandAnswer:
    """With each domain's records, what the DNS said of them when a running relay looked last, and why one is paused."""
    with core.store.read() as view:
        member = known_member(view, asked.did)
        states = members.domains_of(view, asked.did)
        held = handle_answer(view, asked.did)
        suppressed = suppressions.count_of(view, asked.did)
        active = sum(key.revoked_at is None for key in members.keys_of(view, asked.did))
    return {
        "did": member.did,
        **held,
        "status": member.status,
        "addedAt": rfc3339(member.added_at),
        "hourLimit": member.hour_limit,
        "dayLimit": member.day_limit,
        "activeKeys": active,
        "suppressed": suppressed,
        "domains": [
            {
                **msgspec.to_builtins(as_last_seen(core, state)),
                "forwardTo": state.forward_to,
                "forwardConfirmed": state.forward_confirmed,
            }
            for state in states
        ],
    }
