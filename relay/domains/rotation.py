"""New DKIM keys come into use once the DNS shows them: of members' domains, and of the operator's own.

The invariant: **nothing is signed with a key that receivers cannot find.** A pair of keys that was made waits; when
both its records are seen to be right, one event brings it into use. Sends that were accepted before keep the key of
then (it stands in their event), and so every attempt sends the same bytes.

It is looked for when the operator asks (`domain rotate-key`, `domain verify`), with the daily check of a verified
domain, and every LOOK_SECONDS besides. What the DNS could not tell, or has wrong, is looked for again. Cancelled, or
killed: nothing is lost, what waits stands in the views.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import trio

from relay.alarm import Alarm
from relay.codec import Recorded
from relay.core import Core
from relay.decisions.rotation import switch_key, switch_operator_key
from relay.domains.asking import ask
from relay.domains.diagnosis import Finding, diagnose_keys
from relay.domains.records import key_records
from relay.events import DomainKeyCreated, OperatorKeyCreated
from relay.internet.resolver import Resolver
from relay.times import SECOND_US
from relay.views import members, signing_keys
from relay.views.members import NextKey
from spool.views import Snapshot

logger = logging.getLogger(__name__)

LOOK_SECONDS = 3600
LOOKS_AT_ONCE_MAX = 4


class Waiting(NamedTuple):
    """A pair of keys that waits for the DNS. No DID: the operator's."""

    did: str | None
    domain: str
    key: NextKey


def waiting(view: Snapshot, operator_domain: str) -> list[Waiting]:
    found = [
        Waiting(state.did, state.domain, state.next_key)
        for state in members.domains(view)
        if state.next_key is not None
    ]
    own = signing_keys.operator_key(view, operator_domain)
    if own is not None and own.next_key is not None:
        found.append(Waiting(None, operator_domain, own.next_key))
    return found


async def look_for(core: Core, one: Waiting, resolver: Resolver) -> list[Finding]:
    """What the DNS says of both records; where both are right, they are in use when this returns."""
    records = key_records(one.domain, one.key)
    findings = diagnose_keys(one.domain, records, await ask(resolver, [record.name for record in records]))
    if all(finding.ok for finding in findings):
        await bring_into_use(core, one)
    return findings


async def bring_into_use(core: Core, one: Waiting) -> None:
    stem = one.key.selector_stem
    if one.did is None:
        recorded = await core.store.decide(lambda view: switch_operator_key(view, one.domain, stem))
    else:
        recorded = await core.store.decide(partial(switch_key, did=one.did, domain=one.domain, stem=stem))
    if recorded:
        logger.info("domain.key_switched", extra={"domain": one.domain, "seq": recorded[0].seq})


async def switch_keys(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Look for all that waits, again and again, until cancelled. An unexpected exception ends it, and with it the
    process."""
    resolver, alarm = core.surroundings.dns(), Alarm(core.store.now_us)

    def observe(recorded: Sequence[Recorded]) -> None:
        if any(isinstance(item.event, DomainKeyCreated | OperatorKeyCreated) for item in recorded):
            alarm.ring()

    core.store.observers.append(observe)
    try:
        task_status.started()
        look_at = core.store.now_us()
        while True:
            with core.store.read() as view:
                found = waiting(view, core.config.operator_domain)
            if not found:
                await alarm.wait()
                # Not at once: whoever made it has looked, and has to publish it first.
                look_at = core.store.now_us() + LOOK_SECONDS * SECOND_US
                continue
            if core.store.now_us() >= look_at:
                await _look_for_all(core, found, resolver)
                look_at = core.store.now_us() + LOOK_SECONDS * SECOND_US
            await alarm.wait(look_at)
    finally:
        core.store.observers.remove(observe)


async def _look_for_all(core: Core, found: Sequence[Waiting], resolver: Resolver) -> None:
    each = iter(found)

    async def work() -> None:
        for one in each:
            await look_for(core, one, resolver)

    async with trio.open_nursery() as nursery:
        for _ in range(LOOKS_AT_ONCE_MAX):
            nursery.start_soon(work)
