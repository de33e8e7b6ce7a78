"""The operator's commands that change members and their domains. What shows them is `membership_shown`, and `api_keys`
has the commands about keys."""

from __future__ import annotations

from functools import partial

from relay.core import Core
from relay.decisions import members as decisions
from relay.decisions.forwarding import set_by_operator
from relay.domains.key_pairs import make_keys
from relay.domains.verification import verify_domain
from relay.enrolment import new_key
from relay.events import Event
from relay.fields import address_in, domain_in
from relay.handles import handle_in
from relay.message.keys import new_api_key
from relay.operator import handles
from relay.operator.membership_shown import domain_answer, handle_answer
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.views import members
from spool.views import Snapshot

# ------------------------------------------------------------------------------------------------ members


class MemberAdd(Arguments, frozen=True, kw_only=True):
    did: str
    domains: list[str]
    #: None: the one that the DID's document names, where it is right.
    handle: str | None = None
    #: Do not ask the network whether the DID exists, nor whose the handle is.
    offline: bool = False


@decision(by=Operator)
async def member_add(core: Core, order: MemberAdd, by: Operator) -> CommandAnswer:
    did, names = order.did, list(dict.fromkeys(domain_in("domain", name) for name in order.domains))
    handle = None if order.handle is None else handle_in("handle", order.handle)
    key = new_api_key(core.surroundings.dice)
    first_key = new_key(core, key)
    with core.store.read() as view:  # refuse before keys are made
        planned = [decisions.NewDomain(name, "", "", "") for name in names]
        decisions.add_member(view, core.config, did, planned, first_key, by)
    if order.offline:
        found = None if handle is None else handles.Found(handle)
    else:
        found = await handles.find(core, did, handle)
    with core.store.read() as view:
        handles.held_from_the_first(view, did, found, by.user)
    made = [await make_keys(core, name) for name in names]

    def decide(view: Snapshot) -> list[Event]:
        added = decisions.add_member(view, core.config, did, made, first_key, by)
        return [*added, *handles.held_from_the_first(view, did, found, by.user)]

    await core.store.decide(decide)
    with core.store.read() as view:
        enrolled = [domain_answer(core, state) for state in members.domains_of(view, did)]
        held = handle_answer(view, did)
    return {"did": did, **held, "apiKey": key, "keyId": first_key.key_id, "domains": enrolled}


class MemberSuspend(Arguments, frozen=True, kw_only=True):
    did: str
    reason: str | None = None


@decision(by=Operator)
async def member_suspend(core: Core, order: MemberSuspend, by: Operator) -> CommandAnswer:
    await core.store.decide(lambda view: decisions.suspend_member(view, order.did, order.reason, by))
    return {"did": order.did, "status": "suspended"}


class MemberResume(Arguments, frozen=True, kw_only=True):
    did: str
    reason: str | None = None


@decision(by=Operator)
async def member_resume(core: Core, order: MemberResume, by: Operator) -> CommandAnswer:
    await core.store.decide(lambda view: decisions.resume_member(view, order.did, order.reason, by))
    return {"did": order.did, "status": "active"}


class MemberLimits(Arguments, frozen=True, kw_only=True):
    """Both, or neither: then the warming tiers hold again."""

    did: str
    hour: int | None = None
    day: int | None = None


@decision(by=Operator)
async def member_limits(core: Core, order: MemberLimits, by: Operator) -> CommandAnswer:
    await core.store.decide(
        lambda view: decisions.set_member_limits(view, order.did, order.hour, order.day, by)
    )
    return {"did": order.did, "hour": order.hour, "day": order.day}


# ------------------------------------------------------------------------------------------------ domains


class DomainAdd(Arguments, frozen=True, kw_only=True):
    did: str
    domain: str


@decision(by=Operator)
async def domain_add(core: Core, order: DomainAdd, by: Operator) -> CommandAnswer:
    name = domain_in("domain", order.domain)
    with core.store.read() as view:
        decisions.add_domain(view, core.config, order.did, decisions.NewDomain(name, "", "", ""), by)
    made = await make_keys(core, name)
    await core.store.decide(lambda view: decisions.add_domain(view, core.config, order.did, made, by))
    with core.store.read() as view:
        state = decisions.known_domain(view, order.did, name)
    return domain_answer(core, state)


class DomainVerify(Arguments, frozen=True, kw_only=True):
    did: str
    domain: str


@decision(by=Operator)
async def domain_verify(core: Core, order: DomainVerify, by: Operator) -> CommandAnswer:
    return await verify_domain(core, order.did, domain_in("domain", order.domain))


class DomainPause(Arguments, frozen=True, kw_only=True):
    did: str
    domain: str
    reason: str | None = None


@decision(by=Operator)
async def domain_pause(core: Core, order: DomainPause, by: Operator) -> CommandAnswer:
    name = domain_in("domain", order.domain)
    await core.store.decide(lambda view: decisions.pause_domain(view, order.did, name, order.reason, by))
    return {"did": order.did, "domain": name, "status": "paused"}


class DomainResume(Arguments, frozen=True, kw_only=True):
    did: str
    domain: str
    reason: str | None = None


@decision(by=Operator)
async def domain_resume(core: Core, order: DomainResume, by: Operator) -> CommandAnswer:
    """What was held goes on step by step (`relay.delivery.releases`), when this has been answered."""
    name = domain_in("domain", order.domain)
    await core.store.decide(lambda view: decisions.resume_domain(view, order.did, name, order.reason, by))
    return {"did": order.did, "domain": name, "status": "active"}


class DomainResumeAll(Arguments, frozen=True, kw_only=True):
    """Every domain that is paused, for whatever; of one member, where it is named."""

    did: str | None = None
    reason: str | None = None


@decision(by=Operator)
async def domain_resume_all(core: Core, order: DomainResumeAll, by: Operator) -> CommandAnswer:
    """One after the other. Cancelled: those that were resumed by then are. None is paused: none is named."""
    with core.store.read() as view:
        if order.did is not None:
            decisions.known_member(view, order.did)
        paused = [state for state in members.domains(view) if state.status != "active"]
    resumed = []
    for state in paused:
        if order.did in (None, state.did):
            events = await core.store.decide(partial(_resume_if_paused, state, order.reason, by))
            resumed += [{"did": state.did, "domain": state.domain, "status": "active"} for _ in events]
    return {"domains": resumed}


def _resume_if_paused(
    before: members.DomainState, reason: str | None, by: Operator, view: Snapshot
) -> list[Event]:
    """Somebody else may have resumed it meanwhile."""
    if decisions.known_domain(view, before.did, before.domain).status == "active":
        return []
    return decisions.resume_domain(view, before.did, before.domain, reason, by)


class DomainSetForward(Arguments, frozen=True, kw_only=True):
    domain: str
    #: "": nobody is told any more.
    to: str
    #: Refuse where the domain is another's.
    did: str | None = None


@decision(by=Operator)
async def domain_set_forward(core: Core, order: DomainSetForward, by: Operator) -> CommandAnswer:
    name, address = domain_in("domain", order.domain), address_in("to", order.to) if order.to else None

    def decide(view: Snapshot) -> list[Event]:
        return set_by_operator(view, decisions.named_domain(view, order.did, name), address, by)

    await core.store.decide(decide)
    with core.store.read() as view:
        state = decisions.named_domain(view, order.did, name)
    return {
        "did": state.did,
        "domain": name,
        "forwardTo": state.forward_to,
        "forwardConfirmed": state.forward_confirmed,
    }
