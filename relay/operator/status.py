"""The operator's command that says how the relay stands, on one page: what waits, what is in the way, and what is left.

What waits is read from counts that the views keep, so it costs the same whatever that is; members and domains are gone
through, a piece at a time.
"""

from __future__ import annotations

from typing import Any

from relay.data_directory import Readable
from relay.operator.in_pieces import all_rows
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.times import rfc3339, rfc3339_or_none
from relay.views import due, members, messages
from spool.views import Snapshot


class Status(Arguments, frozen=True, kw_only=True):
    """There is nothing to say."""


@decision(by=Operator, reads=True)
async def status(core: Readable, asked: Status, by: Operator) -> CommandAnswer:
    """`machine` is null where no relay runs; so is what only a relay that runs knows, in it."""
    now_us = core.store.now_us()
    with core.store.read() as view:
        counts = messages.status_counts(view)
        earliest, oldest = due.earliest(view), _oldest_waiting(view)
        waits = {
            "queued": counts.get("queued", 0),
            "deferred": counts.get("deferred", 0),
            "held": due.held_count(view),
            "inFlight": len(due.in_flight(view)),
            "oldestAcceptedAt": rfc3339_or_none(oldest),
            # What is due and not tried yet waits for a place at its site, or for its site to answer.
            "overdueSeconds": 0 if earliest is None else max(0, (now_us - earliest) // 1_000_000),
        }
        last_seq = view.position
    enrolled = [
        member for member in await all_rows(core, members.members_after) if member.status != members.REMOVED
    ]
    states = await all_rows(core, members.by_name)
    return {
        "time": rfc3339(now_us),
        "lastSeq": last_seq,
        "waiting": waits,
        "messages": dict(counts),
        "members": len(enrolled),
        "suspendedMembers": sorted(member.did for member in enrolled if member.status != "active"),
        "domains": len(states),
        "pausedDomains": sorted(state.domain for state in states if state.status != "active"),
        "unverifiedDomains": sorted(
            state.domain for state in states if core.config.require_verified_domains and not state.verified
        ),
        "machine": await _machine(core),
    }


def _oldest_waiting(view: Snapshot) -> int | None:
    """When the oldest message that waits was accepted."""
    for waiting in due.waiting_after(view, 0):
        state = messages.message(view, waiting.message_id)
        return None if state is None else state.accepted_at
    return None


async def _machine(core: Readable) -> dict[str, Any] | None:
    from relay.core import Core  # trio and all, which no command needs beside a relay

    if not isinstance(core, Core) or not core.console_links.is_served:
        return None
    why = await core.why_not_accepting()
    expires = core.certificate_not_after
    return {
        "accepting": why is None,
        "because": None if why is None else why.message,
        "freeBytes": core.store.free_bytes(),
        "reserveBytes": core.config.spool.free_bytes_min,
        "logBytes": core.store.log_bytes(),
        "logBytesMax": core.config.spool.bytes_max or None,
        "certificateExpiresAt": None if expires is None else rfc3339(round(expires().timestamp() * 1e6)),
        "workers": {
            role: {"ready": ready, "begun": begun, "died": died}
            for role, statistics in core.metrics.workers.items()
            for ready, begun, died in (statistics(),)
        },
    }
