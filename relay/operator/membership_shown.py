"""The operator's commands that show members, their domains and keys, and the DNS records that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from relay.data_directory import Readable
from relay.decisions.members import known_member
from relay.domains.records import DnsRecord, dkim_name, key_records, member_records, operator_records
from relay.fields import domain_in
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.times import rfc3339, rfc3339_or_none
from relay.views import handles, members, signing_keys
from spool.views import Snapshot

#: Shown before others have their turn: some milliseconds.
KEYS_AT_A_TIME: Final = 200


class MemberList(Arguments, frozen=True, kw_only=True):
    """All members."""


@decision(by=Operator, reads=True)
async def member_list(core: Readable, asked: MemberList, by: Operator) -> CommandAnswer:
    with core.store.read() as view:
        dids = list(members.dids(view))
    return await _in_pieces(core, dids, _shown_member)


async def _in_pieces(
    core: Readable, keys: Sequence[str], show: Callable[[Snapshot, str], Iterable[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """What is shown for all keys, some at a time: there may be thousands, and a page of the console asks for them as
    often as somebody looks."""
    found: list[dict[str, Any]] = []
    for begin in range(0, len(keys), KEYS_AT_A_TIME):
        with core.store.read() as view:
            for key in keys[begin : begin + KEYS_AT_A_TIME]:
                found += show(view, key)
        await core.pause()
    return found


def _shown_member(view: Snapshot, did: str) -> Iterator[dict[str, Any]]:
    member = members.member(view, did)
    if member is not None:  # None: it was one
        yield {
            "did": member.did,
            **handle_answer(view, member.did),
            "status": member.status,
            "addedAt": rfc3339(member.added_at),
            "domains": [state.domain for state in members.domains_of(view, member.did)],
        }


def handle_answer(view: Snapshot, did: str) -> dict[str, Any]:
    """The member's handle, and whether it was seen to be the DID's."""
    state = handles.held_by(view, did)
    return {
        "handle": None if state is None else state.handle,
        "handleProved": state is not None and state.proved,
    }


class DomainList(Arguments, frozen=True, kw_only=True):
    """All sending domains."""


@decision(by=Operator, reads=True)
async def domain_list(core: Readable, asked: DomainList, by: Operator) -> CommandAnswer:
    with core.store.read() as view:
        names = list(members.names(view))
    return await _in_pieces(core, names, _shown_domains)


def _shown_domains(view: Snapshot, name: str) -> Iterator[dict[str, Any]]:
    """All enrolments of this name."""
    for state in members.enrolments(view, name):
        yield {
            "did": state.did,
            "domain": state.domain,
            "status": state.status,
            "selector": state.selector_stem,
            "addedAt": rfc3339(state.added_at),
            "verified": state.verified,
            "forwardTo": state.forward_to,
            "forwardConfirmed": state.forward_confirmed,
        }


class KeyList(Arguments, frozen=True, kw_only=True):
    """All keys, or those of one member."""

    did: str | None = None


@decision(by=Operator, reads=True)
async def key_list(core: Readable, asked: KeyList, by: Operator) -> CommandAnswer:
    with core.store.read() as view:
        if asked.did is not None:
            known_member(view, asked.did)
        dids = [asked.did] if asked.did is not None else [member.did for member in members.members(view)]
        return [
            {
                "did": owner,
                "keyId": state.key_id,
                "status": "active" if state.revoked_at is None else "revoked",
                "scope": state.scope,
                "category": state.category,
                "issuedBy": state.issued_by,
                "issuedAt": rfc3339(state.issued_at),
                "revokedAt": rfc3339_or_none(state.revoked_at),
            }
            for owner in dids
            for state in members.keys_of(view, owner)
        ]


class Dns(Arguments, frozen=True, kw_only=True):
    """The records of all, or of one sending domain."""

    domain: str | None = None


@decision(by=Operator, reads=True)
async def dns(core: Readable, asked: Dns, by: Operator) -> CommandAnswer:
    name = None if asked.domain is None else domain_in("domain", asked.domain)
    with core.store.read() as view:
        states = [state for state in members.domains(view) if name is None or state.domain == name]
    if asked.domain is not None and not states:
        raise Refusal("NOT_FOUND", f"domain: {asked.domain} is not enrolled")
    return {"operator": operator_answer(core), "domains": [domain_answer(core, state) for state in states]}


class OperatorKey(Arguments, frozen=True, kw_only=True):
    """The stems of the operator's own keys: of those in use, and of those that wait for the DNS."""


@decision(by=Operator, reads=True)
async def operator_key(core: Readable, asked: OperatorKey, by: Operator) -> CommandAnswer:
    with core.store.read() as view:
        key = signing_keys.operator_key(view, core.config.operator_domain)
    waiting = None if key is None else key.next_key
    return {
        "selector": core.operator_stem,
        "nextSelector": None if waiting is None else waiting.selector_stem,
    }


def domain_answer(core: Readable, state: members.DomainState) -> dict[str, Any]:
    """A sending domain with the DNS records that it needs."""
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
        **_with_keys(core, state.did, state.domain, records, state.next_key),
    }


def operator_answer(core: Readable) -> dict[str, Any]:
    domain, stem = core.config.operator_domain, core.operator_stem
    records = operator_records(domain, host=core.config.ehlo_name, signers=core.keyring.signers(domain, stem))
    with core.store.read() as view:
        key = signing_keys.operator_key(view, domain)
    next_key = None if key is None else key.next_key
    return {"domain": domain, "selector": stem, **_with_keys(core, "", domain, records, next_key)}


def _with_keys(
    core: Readable, did: str, domain: str, records: list[DnsRecord], next_key: members.NextKey | None
) -> dict[str, Any]:
    """What is to be published, with the keys that wait, and what of retired ones can go."""
    with core.store.read() as view:
        retired = [
            {
                "selector": key.selector_stem,
                "names": [dkim_name(domain, key.selector_stem + kind) for kind in "re"],
                "retiredAt": rfc3339(key.retired_at),
                "removable": not signing_keys.has_mail_waiting(view, key),
            }
            for key in signing_keys.retired_of(view, domain)
            if key.did == did
        ]
    coming = [] if next_key is None else key_records(domain, next_key)
    return {
        "records": [_record(record) for record in (*records, *coming)],
        "nextSelector": None if next_key is None else next_key.selector_stem,
        "retired": retired,
    }


def _record(record: DnsRecord) -> dict[str, str]:
    return {"type": record.type, "name": record.name, "value": record.value, "purpose": record.purpose}
