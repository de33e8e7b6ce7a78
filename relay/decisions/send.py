"""Decisions: pure functions from (views, request, now) to events, or a Refusal.

Nothing here reads a clock, dice or a disk: `now` is given, and so is everything random. What is decided becomes true
only when the log has it; `relay.store.Store` sees to that.

A message's due time and the moment it is given up are decided here and stand in its event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from relay.config import Config
from relay.decisions.limits import check_bytes, check_limits
from relay.decisions.members import known_member
from relay.decisions.reputation import FOR_COMPLAINTS
from relay.events import (
    BULK_CATEGORIES,
    Content,
    Event,
    MessageQueued,
    Recipient,
    SendAccepted,
)
from relay.message import COMPOSITION
from relay.message.headers import unsubscribe_https_url
from relay.principals import Principal
from relay.refusals import Refusal
from relay.requests import SendRequest
from relay.times import SECOND_US, rfc3339
from relay.views import members, suppressions
from spool.views import Snapshot


class Origin(NamedTuple):
    """What a send needs besides the request: made by the edge, because it is not a function of anything."""

    client_address: str | None
    message_id_entropy: str
    operator_stem: str
    #: SHA-256, hex, of the Idempotency-Key; None where there was none.
    idempotency_key: str | None = None
    #: SHA-256, hex, of the request's body, and its octets.
    body_sha256: str | None = None
    size: int = 0


def accept_send(
    view: Snapshot,
    config: Config,
    principal: Principal,
    request: SendRequest,
    origin: Origin,
    *,
    reserved: Callable[[str], int],
    now_us: int,
) -> list[Event]:
    """One `send.accepted` and a `message.queued` for each recipient that is not suppressed.

    `reserved` says how many recipients of a domain are accepted and not in the view yet. Raises
    Refusal(DOMAIN_MISMATCH, DOMAIN_UNVERIFIED, DOMAIN_PAUSED or RATE_LIMITED).
    """
    bulk = request.category in BULK_CATEGORIES
    domain = sending_domain(view, config, principal.did, request.sender.domain, bulk=bulk)
    member = known_member(view, principal.did)
    recipients, rejected = [], []
    for given, mailbox in request.recipients:
        reason = suppressions.blocking_reason(view, principal.did, mailbox.address, bulk=bulk)
        if reason is None:
            recipients.append((given, mailbox))
        else:
            rejected.append((given, reason))
    check_limits(
        view,
        config,
        member,
        domain,
        recipients=len(recipients),
        reserved=reserved(domain.domain),
        now_us=now_us,
    )
    if recipients:
        check_bytes(view, config, principal.did, origin.size, now_us)
        content = msgspec.structs.replace(
            request.content, client_address=origin.client_address, rejected=rejected
        )
    else:
        content = Content(rejected=rejected)  # nothing is kept of what goes to nobody
    if bulk:
        content = _with_relays_unsubscribe(content)
    accepted = SendAccepted(
        did=principal.did,
        domain=domain.domain,
        category=request.category,
        recipients=len(recipients),
        key_id=principal.key_id,
        selector_stem=domain.selector_stem,
        operator_domain=config.operator_domain,
        operator_stem=origin.operator_stem,
        message_id_entropy=origin.message_id_entropy,
        unsubscribe_base=config.public_url if bulk else None,
        idempotency_key=origin.idempotency_key,
        body_sha256=origin.body_sha256 if origin.idempotency_key or not recipients else None,
        composition=COMPOSITION,
        size=origin.size,
        personal=content,
    )
    give_up_at = now_us + config.give_up_seconds(request.category) * SECOND_US
    queued = [
        MessageQueued(
            did=principal.did,
            domain=domain.domain,
            category=request.category,
            index=index,
            next_attempt_at=now_us,
            give_up_at=give_up_at,
            personal=Recipient(given=given, name=mailbox.name, address=mailbox.address),
        )
        for index, (given, mailbox) in enumerate(recipients, 1)
    ]
    return [accepted, *queued]


def _related(view: Snapshot, did: str, name: str) -> str:
    """Which of the member's domains was perhaps thought to cover this one."""
    for state in members.domains_of(view, did):
        if name.endswith(f".{state.domain}") or state.domain.endswith(f".{name}"):
            return f"; {state.domain} is, and one below it or above it is another domain"
    return ""


def sending_domain(view: Snapshot, config: Config, did: str, name: str, *, bulk: bool) -> members.DomainState:
    """The domain's state, if this member may send mail of this class from it now."""
    domain = members.domain(view, name)
    if domain is None or domain.did != did:
        related = _related(view, did, name)
        raise Refusal("DOMAIN_MISMATCH", f"from: the domain {name} is not enrolled under this DID{related}")
    if config.require_verified_domains and not domain.verified:
        raise Refusal("DOMAIN_UNVERIFIED", _why_unverified(domain))
    if domain.is_stopped(bulk=bulk):
        raise Refusal("DOMAIN_PAUSED", _why_paused(domain))
    return domain


def _why_unverified(domain: members.DomainState) -> str:
    name = domain.domain
    records = {
        "ownership": f"TXT _atmos-verify.{name}",
        "dkim-rsa": f"TXT {domain.selector_stem}r._domainkey.{name}",
        "dkim-ed25519": f"TXT {domain.selector_stem}e._domainkey.{name}",
        "spf": f"the SPF record, TXT {name}",
        "dmarc": f"TXT _dmarc.{name}",
    }
    if domain.failed:
        first = records.get(domain.failed[0], domain.failed[0])
        return f"from: the domain {name} is not verified any more; put its DNS right, first {first}"
    return (
        f"from: the domain {name} is not verified yet; publish its DNS records, first {records['ownership']}"
    )


def _why_paused(domain: members.DomainState) -> str:
    since, counts = rfc3339(domain.paused_at), ""
    if domain.evidence is not None:
        seen = domain.evidence
        bad = (
            f"{seen.complaints} complaints"
            if domain.status == FOR_COMPLAINTS.status
            else f"{seen.bounced} bounces"
        )
        counts = f": {bad} among {seen.final} final messages"
    rest = "" if domain.stops == "all" else " for bulk mail (the transactional class goes on)"
    return (
        f"from: the domain {domain.domain} is {domain.status}{rest} since {since}{counts}; "
        "the relay's operator resumes it"
    )


def _with_relays_unsubscribe(content: Content) -> Content:
    """Bulk mail carries exactly one List-Unsubscribe pair, the relay's (SPEC 3.3). A member's own pair leaves the
    header; its https URL is kept with the message."""
    own = {"list-unsubscribe", "list-unsubscribe-post"}
    if not any(name.lower() in own for name, _ in content.headers):
        return content
    urls = [
        unsubscribe_https_url(value) for name, value in content.headers if name.lower() == "list-unsubscribe"
    ]
    return msgspec.structs.replace(
        content,
        headers=[(name, value) for name, value in content.headers if name.lower() not in own],
        unsubscribe_url=next((url for url in urls if url is not None), None),
    )


# ------------------------------------------------------------------------------------------------ enrolment
