"""New DKIM keys for a domain: when they are recorded, and when they come into use. Pure.

Asked twice, each is recorded once: nothing follows where it is so already.
"""

from __future__ import annotations

from relay.decisions.members import NewDomain, check_stem_is_new
from relay.events import DomainKeyCreated, DomainKeySwitched, Event, OperatorKeyCreated, OperatorKeySwitched
from relay.views import members, signing_keys
from spool.views import Snapshot


def create_key(view: Snapshot, did: str, made: NewDomain, by: str) -> list[Event]:
    """Raises Refusal(CONFLICT) where another got a key of the same name at the same moment."""
    state = members.enrolment(view, did, made.domain)
    if state is None or state.next_key is not None:
        return []
    check_stem_is_new(view, made)
    return [
        DomainKeyCreated(
            did=did,
            domain=made.domain,
            selector_stem=made.selector_stem,
            rsa_public=made.rsa_public,
            ed25519_public=made.ed25519_public,
            by=by,
        )
    ]


def switch_key(view: Snapshot, did: str, domain: str, stem: str) -> list[Event]:
    state = members.enrolment(view, did, domain)
    if state is None or state.next_key is None or state.next_key.selector_stem != stem:
        return []
    return [DomainKeySwitched(did=did, domain=domain, selector_stem=stem, retired_stem=state.selector_stem)]


def name_operator_key(view: Snapshot, domain: str, stem: str) -> list[Event]:
    """The pair that signs for the operator since `init`."""
    if signing_keys.operator_key(view, domain) is not None:
        return []
    return [OperatorKeySwitched(domain=domain, selector_stem=stem)]


def create_operator_key(view: Snapshot, made: NewDomain, by: str) -> list[Event]:
    key = signing_keys.operator_key(view, made.domain)
    assert key is not None, "the one in use is named first"
    if key.next_key is not None:
        return []
    return [
        OperatorKeyCreated(
            domain=made.domain,
            selector_stem=made.selector_stem,
            rsa_public=made.rsa_public,
            ed25519_public=made.ed25519_public,
            by=by,
        )
    ]


def switch_operator_key(view: Snapshot, domain: str, stem: str) -> list[Event]:
    key = signing_keys.operator_key(view, domain)
    if key is None or key.next_key is None or key.next_key.selector_stem != stem:
        return []
    return [OperatorKeySwitched(domain=domain, selector_stem=stem, retired_stem=key.selector_stem)]
