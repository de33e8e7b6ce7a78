"""The end of enrolments and memberships: what is recorded, and what stays. Pure.

What waits of a removed domain is not in these events: it may be a hundred thousand messages. Each is cancelled by an
event of its own (`relay.operator.removal`), and none is tried meanwhile (`relay.decisions.attempt`).
"""

from __future__ import annotations

from relay.decisions.members import known_domain, known_member
from relay.decisions.webhooks import end_with_member
from relay.events import DomainRemoved, Event, KeyRevoked, MemberRemoved, OperatorsReason
from relay.views import members
from spool.views import Snapshot


def remove_domain(view: Snapshot, did: str, name: str, by: str, reason: str | None) -> list[Event]:
    """Raises Refusal(NOT_FOUND)."""
    return [_removed(known_domain(view, did, name), because="operator", by=by, reason=reason)]


def remove_member(view: Snapshot, did: str, by: str, reason: str | None) -> list[Event]:
    """All in one batch: no crash leaves a key that works without its member. Raises Refusal(NOT_FOUND)."""
    known_member(view, did)
    return [
        *end_with_member(view, did, by),
        *(
            KeyRevoked(did=did, key_id=key.key_id, by=by)
            for key in members.keys_of(view, did)
            if key.revoked_at is None
        ),
        *(_removed(state, because="member", by=by, reason=reason) for state in members.domains_of(view, did)),
        MemberRemoved(did=did, by=by, personal=_personal(reason)),
    ]


def lost_to(view: Snapshot, prover: members.DomainState) -> list[Event]:
    """The end of all other enrolments of a name that is about to be proved. None was ever proved, else `prover` could
    not have been made."""
    others = [state for state in members.enrolments(view, prover.domain) if state.did != prover.did]
    return [_removed(state, because="proved") for state in others if state.proved_at is None]


def _removed(
    state: members.DomainState, *, because: str, by: str | None = None, reason: str | None = None
) -> DomainRemoved:
    return DomainRemoved(
        did=state.did,
        domain=state.domain,
        because=because,
        selector_stems=state.selector_stems,
        by=by,
        personal=_personal(reason),
    )


def _personal(reason: str | None) -> OperatorsReason | None:
    return None if reason is None else OperatorsReason(why=reason)
