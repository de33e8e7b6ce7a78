"""The operator's commands about members, their domains and keys, and the DNS records that they need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from relay.addresses import AddressError, parse_address, parse_domain
from relay.core import Core
from relay.data_directory import Readable
from relay.decisions import members as decisions
from relay.decisions import suppression
from relay.domains.records import DnsRecord, member_records, operator_records
from relay.domains.verification import verify_domain
from relay.events import Event
from relay.internet.https import HttpAnswer, fetch
from relay.message.keys import new_api_key
from relay.operator import did_exists
from relay.refusals import Refusal, invalid
from relay.surroundings import Surroundings
from relay.times import rfc3339
from relay.views import members, messages
from spool.views import Snapshot

Answer = dict[str, Any] | list[dict[str, Any]]
Command = Callable[..., Awaitable[Answer]]


async def member_add(core: Core, *, did: str, domains: list[str], offline: bool = False) -> Answer:
    names = list(dict.fromkeys(_domain(name) for name in domains))
    key = new_api_key(core.surroundings.dice)
    new_key = _new_key(core, key)
    with core.store.read() as view:  # refuse before keys are made
        planned = [decisions.NewDomain(name, "", "", "") for name in names]
        decisions.add_member(view, core.config, did, planned, new_key)
    if not offline:
        await did_exists.check_exists(
            did, plc_directory=core.config.members.plc_directory, get=partial(_get, core.surroundings)
        )
    made = [await _make_keys(core, name) for name in names]
    await core.store.decide(lambda view: decisions.add_member(view, core.config, did, made, new_key))
    with core.store.read() as view:
        enrolled = [_domain_answer(core, state) for state in members.domains_of(view, did)]
    return {"did": did, "apiKey": key, "keyId": new_key.key_id, "domains": enrolled}


async def member_list(core: Readable) -> Answer:
    with core.store.read() as view:
        return [
            {
                "did": member.did,
                "status": member.status,
                "addedAt": rfc3339(member.added_at),
                "domains": [state.domain for state in members.domains_of(view, member.did)],
            }
            for member in members.members(view)
        ]


async def member_suspend(core: Core, *, did: str, reason: str | None = None) -> Answer:
    await core.store.decide(lambda view: decisions.suspend_member(view, did, reason))
    return {"did": did, "status": "suspended"}


async def member_resume(core: Core, *, did: str, reason: str | None = None) -> Answer:
    await core.store.decide(lambda view: decisions.resume_member(view, did, reason))
    return {"did": did, "status": "active"}


async def member_limits(core: Core, *, did: str, hour: int | None = None, day: int | None = None) -> Answer:
    await core.store.decide(lambda view: decisions.set_member_limits(view, did, hour, day))
    return {"did": did, "hour": hour, "day": day}


async def domain_pause(core: Core, *, did: str, domain: str, reason: str | None = None) -> Answer:
    name = _domain(domain)
    await core.store.decide(lambda view: decisions.pause_domain(view, did, name, reason))
    return {"did": did, "domain": name, "status": "paused"}


async def domain_resume(core: Core, *, did: str, domain: str, reason: str | None = None) -> Answer:
    name = _domain(domain)
    await core.store.decide(lambda view: decisions.resume_domain(view, did, name, reason))
    return {"did": did, "domain": name, "status": "active"}


async def domain_set_forward(core: Core, *, domain: str, to: str, did: str | None = None) -> Answer:
    """`to` "": nobody is told any more. `did`: refuse where the domain is another's."""
    name, address = _domain(domain), _address(to) if to else None

    def decide(view: Snapshot) -> list[Event]:
        state = members.domain(view, name)
        if state is None:
            raise Refusal("NOT_FOUND", f"domain: {name} is not enrolled")
        return decisions.set_forward(view, decisions.known_domain(view, did or state.did, name), address)

    await core.store.decide(decide)
    with core.store.read() as view:
        state = members.domain(view, name)
    assert state is not None
    return {"did": state.did, "domain": name, "forwardTo": state.forward_to}


async def domain_add(core: Core, *, did: str, domain: str) -> Answer:
    name = _domain(domain)
    with core.store.read() as view:
        decisions.add_domain(view, core.config, did, decisions.NewDomain(name, "", "", ""))
    made = await _make_keys(core, name)
    await core.store.decide(lambda view: decisions.add_domain(view, core.config, did, made))
    with core.store.read() as view:
        state = members.domain(view, name)
    assert state is not None
    return _domain_answer(core, state)


async def domain_verify(core: Core, *, did: str, domain: str) -> Answer:
    return await verify_domain(core, did, _domain(domain))


async def domain_list(core: Readable) -> Answer:
    with core.store.read() as view:
        return [
            {
                "did": state.did,
                "domain": state.domain,
                "status": state.status,
                "selector": state.selector_stem,
                "addedAt": rfc3339(state.added_at),
                "verified": state.verified,
                "forwardTo": state.forward_to,
            }
            for state in members.domains(view)
        ]


async def key_issue(core: Core, *, did: str) -> Answer:
    key = new_api_key(core.surroundings.dice)
    new_key = _new_key(core, key)
    await core.store.decide(lambda view: decisions.issue_key(view, did, new_key))
    return {"did": did, "keyId": new_key.key_id, "apiKey": key}


async def key_list(core: Readable, *, did: str | None = None) -> Answer:
    with core.store.read() as view:
        if did is not None:
            decisions.known_member(view, did)
        dids = [did] if did is not None else [member.did for member in members.members(view)]
        return [
            {
                "did": owner,
                "keyId": state.key_id,
                "status": "active" if state.revoked_at is None else "revoked",
                "issuedAt": rfc3339(state.issued_at),
                "revokedAt": None if state.revoked_at is None else rfc3339(state.revoked_at),
            }
            for owner in dids
            for state in members.keys_of(view, owner)
        ]


async def key_revoke(core: Core, *, did: str, key_id: str) -> Answer:
    await core.store.decide(lambda view: decisions.revoke_key(view, did, key_id))
    return {"did": did, "keyId": key_id, "status": "revoked"}


async def complaint_record(core: Core, *, message: int) -> Answer:
    def decide(view: Snapshot) -> list[Event]:
        story = [core.store.get(seq) for seq in messages.timeline(view, message)]
        return suppression.complaint(view, message, story)

    recorded = await core.store.decide(decide)
    with core.store.read() as view:
        state = messages.message(view, message)
    assert state is not None
    return {
        "messageId": message,
        "did": state.did,
        "domain": state.domain,
        "recorded": [item.event.TYPE for item in recorded],
    }


async def dns(core: Readable, *, domain: str | None = None) -> Answer:
    name = None if domain is None else _domain(domain)
    with core.store.read() as view:
        states = [state for state in members.domains(view) if name is None or state.domain == name]
    if domain is not None and not states:
        raise Refusal("NOT_FOUND", f"domain: {domain} is not enrolled")
    return {"operator": _operator_answer(core), "domains": [_domain_answer(core, state) for state in states]}


def _domain(name: str) -> str:
    try:
        return parse_domain(name)
    except AddressError as error:
        raise invalid("domain", str(error)) from error


def _address(given: str) -> str:
    try:
        return parse_address(given)
    except AddressError as error:
        raise invalid("to", str(error)) from error


async def _get(surroundings: Surroundings, url: str) -> HttpAnswer:
    return await fetch(
        "GET",
        url,
        resolver=surroundings.dns(),
        open_stream=surroundings.open_stream,
        tls=surroundings.tls,
    )


def _new_key(core: Core, api_key: str) -> decisions.NewKey:
    """Its id is public, and says nothing of the key."""
    return decisions.NewKey(f"{core.surroundings.dice.getrandbits(48):012x}", core.pepper.key_hash(api_key))


async def _make_keys(core: Core, domain: str) -> decisions.NewDomain:
    today = datetime.fromtimestamp(core.store.now_us() / 1_000_000, UTC)
    stem = f"atmos{today:%Y%m%d}"
    rsa, ed25519 = await core.surroundings.offload(core.keyring.create, domain, stem)
    return decisions.NewDomain(domain, stem, rsa.public_key, ed25519.public_key)


def _domain_answer(core: Readable, state: members.DomainState) -> dict[str, Any]:
    records = member_records(
        state.domain,
        did=state.did,
        operator_domain=core.config.operator_domain,
        signers=core.keyring.signers(state.domain, state.selector_stem),
    )
    return {
        "domain": state.domain,
        "selector": state.selector_stem,
        "did": state.did,
        "status": state.status,
        "records": [_record(record) for record in records],
    }


def _operator_answer(core: Readable) -> dict[str, Any]:
    domain, stem = core.config.operator_domain, core.operator_stem
    records = operator_records(domain, host=core.config.ehlo_name, signers=core.keyring.signers(domain, stem))
    return {"domain": domain, "selector": stem, "records": [_record(record) for record in records]}


def _record(record: DnsRecord) -> dict[str, str]:
    return {"type": record.type, "name": record.name, "value": record.value, "purpose": record.purpose}
