"""Whether a domain's DNS is right: looked at when the operator or the member asks, and every day once it was.

Contract. `check_domain` asks the DNS and has `relay.domains.diagnosis` judge; `outcome` is the decision that follows:

    every record is right                               domain.verified
    one is wrong, and the domain was verified           domain.check_failed: it may send, but not for ever
    one is wrong, GRACE_SECONDS after the first time    domain.unverified: it may not send until it is verified again
    one is wrong, and the domain was not verified       nothing: nothing changes for it
    every record is right, for the first time           and domain.removed for all others who enrolled the name
    none is wrong, but the DNS could not tell of one    nothing

So **trouble in the DNS never takes from a domain the right to send**: only a record that was seen to be wrong does.

`reverify_domains` looks again at each verified domain CHECK_SECONDS after its last check, and at the end of its grace
time. When that is stands in the views, so a restart changes nothing. What the DNS could not tell is asked again after
RETRY_SECONDS. A domain that is not verified is left alone: it waits for somebody to ask.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import trio

from relay.core import Core
from relay.decisions.members import known_domain
from relay.decisions.removal import lost_to
from relay.domains.asking import ask
from relay.domains.diagnosis import (
    Finding,
    diagnose,
    failed_checks,
    wrong_places,
)
from relay.domains.rotation import Waiting, look_for
from relay.domains.rounds import Rounds
from relay.domains.shown import records_of
from relay.events import DomainCheckFailed, DomainUnverified, DomainVerified, Event
from relay.internet.resolver import Resolver
from relay.last_looks import Look
from relay.principals import Principal
from relay.times import SECOND_US
from relay.views import members
from spool.views import Snapshot

logger = logging.getLogger(__name__)

CHECK_SECONDS = 24 * 3600
GRACE_SECONDS = 72 * 3600
RETRY_SECONDS = 3600
#: Of what was found at a name, so much is kept in memory.
KEPT_VALUES_MAX = 3
KEPT_CHARACTERS_MAX = 300


# ------------------------------------------------------------------------------------------------ one check


async def check_domain(core: Core, state: members.DomainState, resolver: Resolver) -> list[Finding]:
    """What the DNS says now of each record that the domain should have. Changes nothing."""
    records = records_of(core, state)
    facts = await ask(resolver, [record.name for record in records])
    findings = diagnose(state.domain, records, facts)
    if failed_checks(findings):  # only then is it of interest where a record may have gone
        elsewhere = await ask(resolver, wrong_places(state.domain, records))
        findings = diagnose(state.domain, records, {**elsewhere, **facts})
    return findings


def is_verified(findings: Iterable[Finding]) -> bool:
    return all(finding.ok for finding in findings)


def outcome(
    view: Snapshot, before: members.DomainState, findings: Sequence[Finding], now_us: int
) -> list[Event]:
    """What a check makes true; see the module. Nothing where the enrolment has ended meanwhile."""
    domain = before.domain
    state = members.enrolment(view, before.did, domain)
    if state is None or state.added_seq != before.added_seq:
        return []
    failed = failed_checks(findings)
    if is_verified(findings):
        return [DomainVerified(did=state.did, domain=domain), *lost_to(view, state)]
    if not failed or not state.verified:
        return []
    if state.failing_since is not None and now_us >= state.failing_since + GRACE_SECONDS * SECOND_US:
        return [DomainUnverified(did=state.did, domain=domain, failed=failed)]
    return [DomainCheckFailed(did=state.did, domain=domain, failed=failed)]


async def check_and_record(
    core: Core, state: members.DomainState, resolver: Resolver, *, by: Principal | None = None
) -> list[Finding]:
    """`by`: the member that asks for it, where one does. Raises Refusal, then."""
    if state.next_key is not None:
        # First: where it is published, it is what has to be right.
        await look_for(core, Waiting(state.did, state.domain, state.next_key), resolver)
        with core.store.read() as view:
            state = members.enrolment(view, state.did, state.domain) or state
    findings = await check_domain(core, state, resolver)
    core.dns_looks.put(state.did, state.domain, Look(core.store.now_us(), list(map(_short, findings))))

    def decide(view: Snapshot) -> list[Event]:
        return outcome(view, state, findings, core.store.now_us())

    recorded = await (core.store.decide(decide) if by is None else core.writes.decide(by, decide))
    logger.info(
        "domain.checked",
        extra={
            "domain": state.domain,
            "failed": failed_checks(findings),
            "recorded": [item.event.TYPE for item in recorded],
        },
    )
    return findings


def _short(finding: Finding) -> Finding:
    """What is kept of it. A remedy may be for pasting, and stays whole."""
    found = tuple(value[:KEPT_CHARACTERS_MAX] for value in finding.found[:KEPT_VALUES_MAX])
    return finding._replace(found=found)


async def verify_domain(core: Core, did: str, domain: str) -> dict[str, Any]:
    """The operator's `domain verify`: the check, and what it makes true. Raises Refusal(NOT_FOUND), also where another
    member proved the name meanwhile."""
    with core.store.read() as view:
        state = known_domain(view, did, domain)
    findings = await check_and_record(core, state, core.surroundings.dns())
    with core.store.read() as view:
        known_domain(view, did, domain)
    return {
        "did": did,
        "domain": domain,
        "verified": is_verified(findings),
        "checks": [
            {
                "name": finding.record.name,
                "type": finding.record.type,
                "purpose": finding.record.purpose,
                "expected": finding.record.value,
                "found": list(finding.found),
                "ok": finding.ok,
                "fix": finding.fix,
            }
            for finding in findings
        ],
    }


# ------------------------------------------------------------------------------------------------ every day


async def reverify_domains(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Check every verified domain when its time has come, until cancelled.

    An unexpected exception ends it, and with it the process.
    """
    await _Reverifier(core).run(task_status)


class _Reverifier(Rounds[members.DomainState]):
    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._resolver = core.surroundings.dns()
        #: By member and domain, not before when to ask a DNS again that could not tell.
        #: In memory only: a new start may well ask at once.
        self._retry_at: dict[tuple[str, str], int] = {}

    def _is_news(self, event: Event) -> bool:
        return isinstance(event, DomainVerified | DomainCheckFailed | DomainUnverified)

    async def _check(self, state: members.DomainState) -> None:
        findings = await check_and_record(self._core, state, self._resolver)
        if is_verified(findings) or failed_checks(findings):
            self._retry_at.pop((state.did, state.domain), None)
        else:
            self._retry_at[state.did, state.domain] = self._store.now_us() + RETRY_SECONDS * SECOND_US

    def _held(self) -> list[members.DomainState]:
        with self._store.read() as view:
            return [state for state in members.domains(view) if state.verified]

    def _due_at(self, state: members.DomainState) -> int:
        assert state.checked_at is not None, "it was verified by a check"
        at = state.checked_at + CHECK_SECONDS * SECOND_US
        if state.failing_since is not None:
            at = min(at, state.failing_since + GRACE_SECONDS * SECOND_US)
        return max(at, self._retry_at.get((state.did, state.domain), 0))
