"""A member's domain as it is shown: what to publish for it, what the DNS said of that, and why it is paused.

The API, the console and the operator's commands say the same of it. Nothing here takes long to import: a command that
only looks begins with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.data_directory import Readable
from relay.decisions.send import why_paused
from relay.domains.diagnosis import Finding
from relay.domains.records import DnsRecord, member_records
from relay.sending_domains import DomainPause, PublishedRecord, SendingDomain
from relay.stream_events import rate_evidence
from relay.times import rfc3339, rfc3339_or_none
from relay.views.members import DomainState


def as_last_seen(core: Readable, state: DomainState) -> SendingDomain:
    """With what was found when its DNS was looked at last."""
    last = core.dns_looks.of(state.did, state.domain)
    if last is None:
        return shown(core, state, (), state.checked_at)
    return shown(core, state, last.findings, last.at)


def shown(
    core: Readable, state: DomainState, findings: Iterable[Finding], looked_at: int | None
) -> SendingDomain:
    """`looked_at`: when its DNS was looked at last, whatever that said."""
    return SendingDomain(
        domain=state.domain,
        status=state.status,
        verified=state.verified,
        selector=state.selector_stem,
        added_at=rfc3339(state.added_at),
        first_verified_at=rfc3339_or_none(state.first_verified_at),
        checked_at=rfc3339_or_none(looked_at),
        failing_since=rfc3339_or_none(state.failing_since),
        failed=list(state.failed),
        pause=None if state.status == "active" else _pause(state),
        records=_records(core, state, findings),
    )


def records_of(core: Readable, state: DomainState) -> list[DnsRecord]:
    """What we would tell the member to publish, with the keys that we sign with."""
    return member_records(
        state.domain,
        did=state.did,
        operator_domain=core.config.operator_domain,
        signers=core.keyring.signers(state.domain, state.selector_stem),
    )


def _records(core: Readable, state: DomainState, findings: Iterable[Finding]) -> list[PublishedRecord]:
    """A finding about a record that the domain need not have any more says nothing of the one in its place."""
    found = {finding.record: finding for finding in findings}
    return [_record(record, found.get(record)) for record in records_of(core, state)]


def _record(record: DnsRecord, finding: Finding | None) -> PublishedRecord:
    seen = None if finding is None else finding.found
    return PublishedRecord(
        type=record.type,
        name=record.name,
        value=record.value,
        purpose=record.purpose,
        ok=None if finding is None else finding.ok,
        found=seen,
        fix=None if finding is None else finding.fix,
    )


def _pause(state: DomainState) -> DomainPause:
    return DomainPause(
        since=rfc3339(state.paused_at),
        stops=state.stops,
        why=why_paused(state),
        reason=state.pause_reason,
        evidence=None if state.evidence is None else rate_evidence(state.evidence),
    )
