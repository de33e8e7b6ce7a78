"""What members do with their own domains: see what to publish and what is wrong, have the DNS looked at, and enrol one
where the operator lets them (SPEC 4, "Members help themselves").

Each is a decision of `relay.registry`, the reading too: domains are for keys of scope `full`. Looking at the DNS asks
servers that strangers choose, and a new domain's keys take a tenth of a second of processor time: `Quota.dear_work`
bounds both, for each member and for all. Cancelled: what the DNS said is not recorded; a domain is enrolled or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from relay.core import Core
from relay.decisions.members import NewDomain, add_domain, known_domain
from relay.domains.diagnosis import Finding
from relay.domains.key_pairs import make_keys
from relay.domains.records import DnsRecord
from relay.domains.verification import check_and_record, records_of
from relay.principals import Principal
from relay.refusals import Refusal
from relay.registry import decision
from relay.views import members
from relay.views.members import DomainState

#: The files of a domain's two private keys, with their directory.
KEY_FILES_BYTES = 3 * 4096


class OwnDomains(msgspec.Struct, frozen=True, kw_only=True):
    """All of the member's."""


class VerifyOwnDomain(msgspec.Struct, frozen=True, kw_only=True):
    #: In normal form.
    domain: str


class EnrolOwnDomain(msgspec.Struct, frozen=True, kw_only=True):
    #: In normal form.
    domain: str


class OwnRecord(NamedTuple):
    """What a domain must publish, and what was found of it."""

    type: str
    name: str
    value: str
    purpose: str
    #: None: it was not looked at since the relay was started, or the DNS could not tell.
    ok: bool | None
    #: None: it was not looked at since the relay was started.
    found: tuple[str, ...] | None
    fix: str | None


class OwnDomain(NamedTuple):
    state: DomainState
    records: list[OwnRecord]
    #: When the DNS was looked at last, whatever it said.
    looked_at: int | None


@decision(by=Principal, reads=True)
async def own_domains(core: Core, asked: OwnDomains, member: Principal) -> list[OwnDomain]:
    """As they are, without asking the DNS."""
    with core.store.read() as view:
        states = members.domains_of(view, member.did)
    return [_as_last_seen(core, state) for state in states]


@decision(by=Principal)
async def verify_own_domain(core: Core, wanted: VerifyOwnDomain, member: Principal) -> OwnDomain:
    """As it is once the DNS has been looked at. Raises Refusal(NOT_FOUND, RATE_LIMITED or TEMPORARILY_UNAVAILABLE)."""
    with core.store.read() as view:
        state = known_domain(view, member.did, wanted.domain)
    async with core.quota.dear_work(member.did):
        findings = await check_and_record(core, state, core.surroundings.dns(), by=member)
        looked_at = core.store.now_us()
    with core.store.read() as view:
        state = known_domain(view, member.did, wanted.domain)
    return OwnDomain(state, _records(core, state, findings), looked_at)


@decision(by=Principal)
async def enrol_own_domain(core: Core, wanted: EnrolOwnDomain, member: Principal) -> OwnDomain:
    """Raises Refusal(SELF_SERVICE_OFF, CONFLICT, RATE_LIMITED or TEMPORARILY_UNAVAILABLE)."""
    config, name = core.config, wanted.domain
    if not config.members.self_service:
        raise Refusal(
            "SELF_SERVICE_OFF",
            "domain: on this relay the operator enrols domains ([members] self_service is off); ask for it",
        )
    # One at a time of a member's: else many would be found to fit at once, and keys made for all of them.
    async with core.quota.dear_work(member.did):
        with core.store.read() as view:
            add_domain(view, config, member.did, NewDomain(name, "", "", ""))
        with core.space.held(member, KEY_FILES_BYTES):
            made = await make_keys(core, name)
            await core.writes.decide(member, lambda view: add_domain(view, config, member.did, made))
    with core.store.read() as view:
        return _as_last_seen(core, known_domain(view, member.did, name))


def _as_last_seen(core: Core, state: DomainState) -> OwnDomain:
    last = core.dns_looks.of(state.did, state.domain)
    if last is None:
        return OwnDomain(state, _records(core, state, ()), state.checked_at)
    return OwnDomain(state, _records(core, state, last.findings), last.at)


def _records(core: Core, state: DomainState, findings: Iterable[Finding]) -> list[OwnRecord]:
    """A finding about a record that the domain need not have any more says nothing of the one in its place."""
    found = {finding.record: finding for finding in findings}
    return [_record(record, found.get(record)) for record in records_of(core, state)]


def _record(record: DnsRecord, finding: Finding | None) -> OwnRecord:
    if finding is None:
        return OwnRecord(*record, ok=None, found=None, fix=None)
    return OwnRecord(*record, ok=finding.ok, found=finding.found, fix=finding.fix)
