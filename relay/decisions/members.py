"""Members and their domains: who may be enrolled, paused, suspended. `relay.decisions.keys` has their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from relay.config import Config
from relay.dids import is_valid_did, why_no_did
from relay.events import (
    DomainAdded,
    DomainPaused,
    DomainResumed,
    Event,
    KeyIssued,
    MemberAdded,
    MemberLimitsSet,
    MemberResumed,
    MemberSuspended,
)
from relay.principals import FULL, Operator, Principal, Scope, recorded
from relay.refusals import Refusal, invalid
from relay.views import members
from spool.views import Snapshot


class NewDomain(NamedTuple):
    """A domain to be enrolled, with the public halves of keys that were just made for it."""

    domain: str
    selector_stem: str
    rsa_public: str
    ed25519_public: str


class NewKey(NamedTuple):
    key_id: str
    key_hash: str
    scope: Scope = FULL
    category: str | None = None


def add_member(
    view: Snapshot, config: Config, did: str, domains: Sequence[NewDomain], key: NewKey, by: Operator
) -> list[Event]:
    if not is_valid_did(did):
        raise Refusal("INVALID_DID", f"did: {did!r} {why_no_did(did)}")
    if members.member(view, did) is not None:
        raise Refusal("CONFLICT", f"did: {did} is a member already; `domain add` adds a domain to it")
    events: list[Event] = [MemberAdded(did=did, by=by.user)]
    _check_domain_count(config, len(domains))
    for new in domains:
        events.append(_domain_added(view, config, did, new, by))
    events.append(KeyIssued(did=did, key_id=key.key_id, key_hash=key.key_hash, by=by.user))
    return events


def add_domain(
    view: Snapshot, config: Config, did: str, new: NewDomain, by: Principal | Operator
) -> list[Event]:
    known_member(view, did)
    _check_domain_count(config, len(members.domains_of(view, did)) + 1)
    return [_domain_added(view, config, did, new, by)]


def _check_domain_count(config: Config, count: int) -> None:
    if count > config.members.domains_max:
        raise Refusal(
            "CONFLICT",
            f"domain: a member may have {config.members.domains_max} domains ([members] domains_max)",
        )


def _domain_added(
    view: Snapshot, config: Config, did: str, new: NewDomain, by: Principal | Operator
) -> DomainAdded:
    if f".{new.domain}".endswith(f".{config.operator_domain}"):
        raise Refusal(
            "CONFLICT", f"domain: {new.domain} is the relay's own; a member would sign as the operator"
        )
    _check_nobody_has(view, did, new)
    return DomainAdded(
        did=did,
        domain=new.domain,
        selector_stem=new.selector_stem,
        rsa_public=new.rsa_public,
        ed25519_public=new.ed25519_public,
        **recorded(by),
    )


def _check_nobody_has(view: Snapshot, did: str, new: NewDomain) -> None:
    """A name that nobody has proved belongs to nobody: others may have enrolled it, too."""
    for other in members.enrolments(view, new.domain):
        if other.did == did or other.proved_at is not None:
            raise Refusal("CONFLICT", f"domain: {new.domain} is enrolled already")
    check_stem_is_new(view, new)


def check_stem_is_new(view: Snapshot, new: NewDomain) -> None:
    """Raises Refusal(CONFLICT) where keys under the same selector were made for somebody else at the same moment."""
    if any(new.selector_stem in other.selector_stems for other in members.enrolments(view, new.domain)):
        raise Refusal("CONFLICT", f"domain: {new.domain} is being enrolled for another; try again")


def suspend_member(view: Snapshot, did: str, reason: str | None, by: Operator) -> list[Event]:
    if known_member(view, did).status == "suspended":
        raise Refusal("CONFLICT", f"did: {did} is suspended already")
    return [MemberSuspended(did=did, reason=reason, by=by.user)]


def resume_member(view: Snapshot, did: str, reason: str | None, by: Operator) -> list[Event]:
    if known_member(view, did).status != "suspended":
        raise Refusal("CONFLICT", f"did: {did} is not suspended")
    return [MemberResumed(did=did, reason=reason, in_steps=True, by=by.user)]


def set_member_limits(
    view: Snapshot, did: str, hour: int | None, day: int | None, by: Operator
) -> list[Event]:
    """Limits in the place of the tiers; both None: the tiers again."""
    known_member(view, did)
    if (hour is None) != (day is None):
        raise invalid("hour, day", "give both, or neither to go back to the warming tiers")
    if hour is not None and day is not None and not 0 <= hour <= day:
        raise invalid("hour, day", "expected 0 <= hour <= day")
    return [MemberLimitsSet(did=did, hour=hour, day=day, by=by.user)]


def pause_domain(view: Snapshot, did: str, name: str, reason: str | None, by: Operator) -> list[Event]:
    """Everything of it stops, also where a pause for its bounces has stopped the bulk class."""
    if known_domain(view, did, name).is_stopped(bulk=False):
        raise Refusal("CONFLICT", f"domain: {name} is paused already")
    return [DomainPaused(did=did, domain=name, status="paused", reason=reason, by=by.user)]


def resume_domain(view: Snapshot, did: str, name: str, reason: str | None, by: Operator) -> list[Event]:
    if known_domain(view, did, name).status == "active":
        raise Refusal("CONFLICT", f"domain: {name} is not paused")
    return [DomainResumed(did=did, domain=name, reason=reason, in_steps=True, by=by.user)]


def known_domain(view: Snapshot, did: str, name: str) -> members.DomainState:
    state = members.enrolment(view, did, name)
    if state is None:
        raise Refusal("NOT_FOUND", f"domain: {name} is not enrolled under {did}")
    return state


def named_domain(view: Snapshot, did: str | None, name: str) -> members.DomainState:
    """As `known_domain`; without a DID the only enrolment that the name has. Raises Refusal(NOT_FOUND or CONFLICT)."""
    if did is not None:
        return known_domain(view, did, name)
    found = members.enrolments(view, name)
    if not found:
        raise Refusal("NOT_FOUND", f"domain: {name} is not enrolled")
    if len(found) > 1:
        dids = ", ".join(state.did for state in found[:5])
        raise Refusal("CONFLICT", f"domain: several members have enrolled {name}; name one: {dids}")
    return found[0]


def known_member(view: Snapshot, did: str) -> members.MemberState:
    state = members.member(view, did)
    if state is None:
        raise Refusal("NOT_FOUND", f"did: {did} is not a member")
    return state
