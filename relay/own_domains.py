"""What members do with their own domains: see what to publish and what is wrong, have the DNS looked at, and enrol one
where the operator lets them (SPEC 4, "Members help themselves").

Each is a decision of `relay.registry`, the reading too: domains are for keys of scope `full`. Looking at the DNS asks
servers that strangers choose, and a new domain's keys take a tenth of a second of processor time: `Quota.dear_work`
bounds both, for each member and for all. Cancelled: what the DNS said is not recorded; a domain is enrolled or not.
"""

from __future__ import annotations

from relay.core import Core
from relay.data_directory import Readable
from relay.decisions.members import NewDomain, add_domain, known_domain
from relay.domains.key_pairs import make_keys
from relay.domains.shown import as_last_seen, shown
from relay.domains.verification import check_and_record
from relay.principals import Principal
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.sending_domains import SendingDomain
from relay.views import members

#: The files of a domain's two private keys, with their directory.
KEY_FILES_BYTES = 3 * 4096


class OwnDomains(Arguments, frozen=True, kw_only=True):
    """All of the member's."""


class VerifyOwnDomain(Arguments, frozen=True, kw_only=True):
    #: In normal form.
    domain: str


class EnrolOwnDomain(Arguments, frozen=True, kw_only=True):
    #: In normal form.
    domain: str


@decision(by=Principal, reads=True, remembered=True)
async def own_domains(core: Readable, asked: OwnDomains, member: Principal) -> list[SendingDomain]:
    """As they are, without asking the DNS."""
    with core.store.read() as view:
        states = members.domains_of(view, member.did)
    return [as_last_seen(core, state) for state in states]


@decision(by=Principal)
async def verify_own_domain(core: Core, wanted: VerifyOwnDomain, member: Principal) -> SendingDomain:
    """As it is once the DNS has been looked at. Raises Refusal(NOT_FOUND, RATE_LIMITED or TEMPORARILY_UNAVAILABLE)."""
    with core.store.read() as view:
        state = known_domain(view, member.did, wanted.domain)
    async with core.quota.dear_work(member.did):
        findings = await check_and_record(core, state, core.surroundings.dns(), by=member)
        looked_at = core.store.now_us()
    with core.store.read() as view:
        state = known_domain(view, member.did, wanted.domain)
    return shown(core, state, findings, looked_at)


@decision(by=Principal)
async def enrol_own_domain(core: Core, wanted: EnrolOwnDomain, member: Principal) -> SendingDomain:
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
            add_domain(view, config, member.did, NewDomain(name, "", "", ""), member)
        with core.space.held(member, KEY_FILES_BYTES):
            made = await make_keys(core, name)
            await core.writes.decide(member, lambda view: add_domain(view, config, member.did, made, member))
    with core.store.read() as view:
        return as_last_seen(core, known_domain(view, member.did, name))
