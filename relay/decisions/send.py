"""Decisions: pure functions from (views, request, now) to events, or a Refusal.

Nothing here reads a clock, dice or a disk: `now` is given, and so is everything random. What is decided becomes true
only when the log has it; `relay.store.Store` sees to that.

A message's due time and the moment it is given up are decided here and stand in its event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from relay.config import Config
from relay.decisions.limits import check_bytes, check_limits
from relay.decisions.members import known_member
from relay.decisions.reputation import FOR_COMPLAINTS
from relay.decisions.scheduling import chosen_time
from relay.events import (
    BULK_CATEGORIES,
    Content,
    Event,
    Heading,
    MessageQueued,
    Recipient,
    SendAccepted,
)
from relay.message import COMPOSITION
from relay.message.headers import unsubscribe_https_url
from relay.principals import Principal
from relay.refusals import Refusal
from relay.requests import BySmtp, SendRequest
from relay.times import SECOND_US, rfc3339
from relay.views import members, suppressions, warming
from spool.views import Snapshot

#: The messages of a larger send say themselves what lists show of it.
HEADING_OCTETS = 64 * 1024


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
    reserved_at: Callable[[str], Mapping[int, int]],
    now_us: int,
) -> list[Event]:
    """One `send.accepted` and a `message.queued` for each recipient that is not suppressed.

    Where the answer cannot tell of some recipients only (`queues_suppressed`), the suppressed ones get a
    `message.queued` as well, which the deliverer bounces at once, so that they are seen. Over SMTP the send is refused
    where nobody else is left.

    `reserved` says how many recipients of a domain are accepted and not in the view yet; `reserved_at` how many are
    scheduled for which minutes, and not in the view yet. Raises Refusal(DOMAIN_MISMATCH, DOMAIN_UNVERIFIED,
    DOMAIN_PAUSED, RATE_LIMITED, or, over SMTP, INVALID_REQUEST or RECIPIENT_SUPPRESSED).
    """
    scheduled_at = chosen_time(request.scheduled_at, now_us)
    bulk = request.category in BULK_CATEGORIES
    domain = sending_domain(view, config, principal.did, request.sender.domain, bulk=bulk)
    member = known_member(view, principal.did)
    smtp = request.by_smtp
    if smtp is not None:
        _check_submission(view, principal.did, smtp, recipients=len(request.recipients), bulk=bulk)
    recipients, rejected, suppressed = [], [], 0
    for given, mailbox in request.recipients:
        reason = suppressions.blocking_reason(view, principal.did, mailbox.address, bulk=bulk)
        if reason is not None and not request.queues_suppressed:
            rejected.append((given, reason))
            continue
        suppressed += reason is not None
        recipients.append((given, mailbox))
    if smtp is not None and suppressed == len(recipients):
        raise Refusal(
            "RECIPIENT_SUPPRESSED", "every recipient is on your suppression list for mail of this class"
        )
    check_limits(
        view,
        config,
        member,
        domain,
        recipients=len(recipients) - suppressed,
        reserved=reserved(domain.domain),
        now_us=now_us,
        at_us=scheduled_at,
        changes=reserved_at(domain.domain),
    )
    # `metadata` stands with each recipient, so that a small body may ask for much to be written.
    size = origin.size + metadata_octets(request.metadata) * max(0, len(recipients) - 1)
    if recipients:
        check_bytes(view, config, principal.did, warming.octets_counted(size, suppressed), now_us)
        content = msgspec.structs.replace(
            request.content, client_address=origin.client_address, rejected=rejected
        )
    else:
        content = Content(rejected=rejected)  # nothing is kept of what goes to nobody
    if bulk and smtp is None:  # what comes in whole has been read so already
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
        size=size,
        scheduled_at=scheduled_at,
        via="http" if smtp is None else "smtp",
        suppressed=suppressed,
        conversation=request.conversation,
        tag=request.tag,
        mail_from_null=smtp is not None and smtp.mail_from_domain is None,
        normalised=smtp is not None and smtp.normalised,
        received_by=None if smtp is None else config.ehlo_name,
        received_with=None if smtp is None else smtp.received_with,
        personal=content,
    )
    heading = None
    if origin.size > HEADING_OCTETS:
        heading = Heading(
            from_name=content.from_name,
            from_address=content.from_address,
            subject=content.subject,
            via=accepted.via,
        )
    first_attempt_at = now_us if scheduled_at is None else scheduled_at
    give_up_at = first_attempt_at + config.give_up_seconds(request.category) * SECOND_US
    queued = [
        MessageQueued(
            did=principal.did,
            domain=domain.domain,
            category=request.category,
            index=index,
            next_attempt_at=first_attempt_at,
            give_up_at=give_up_at,
            scheduled=scheduled_at is not None,
            shown=mailbox.address not in request.hidden,
            tag=request.tag,
            personal=Recipient(
                given=given,
                name=mailbox.name,
                address=mailbox.address,
                metadata=request.metadata or {},
                heading=heading,
            ),
        )
        for index, (given, mailbox) in enumerate(recipients, 1)
    ]
    return [accepted, *queued]


def metadata_octets(metadata: Mapping[str, str] | None) -> int:
    """What they take with each recipient."""
    return sum(len(name.encode()) + len(value.encode()) for name, value in (metadata or {}).items())


def _check_submission(view: Snapshot, did: str, smtp: BySmtp, *, recipients: int, bulk: bool) -> None:
    """What else a message says of who sends it must be the member's, too."""
    if smtp.mail_from_domain is None:
        if bulk or recipients > 1:
            raise Refusal(
                "INVALID_REQUEST",
                "MAIL FROM:<> is for one recipient and the transactional class; write your address there",
            )
    else:
        check_own_domain(view, did, smtp.mail_from_domain, "MAIL FROM")
    if smtp.sent_by_domain is not None:
        check_own_domain(view, did, smtp.sent_by_domain, "Sender")


def check_own_domain(view: Snapshot, did: str, name: str, field: str) -> members.DomainState:
    """Raises Refusal(DOMAIN_MISMATCH) where the domain is not enrolled under this DID. `field` is where it stands."""
    domain = members.enrolment(view, did, name)
    if domain is None:
        raise Refusal(
            "DOMAIN_MISMATCH",
            f"{field}: the domain {name} is not enrolled under this DID{_related(view, did, name)}",
        )
    return domain


def _related(view: Snapshot, did: str, name: str) -> str:
    """Which of the member's domains was perhaps thought to cover this one."""
    for state in members.domains_of(view, did):
        if name.endswith(f".{state.domain}") or state.domain.endswith(f".{name}"):
            return f"; {state.domain} is, and one below it or above it is another domain"
    return ""


def sending_domain(view: Snapshot, config: Config, did: str, name: str, *, bulk: bool) -> members.DomainState:
    """The domain's state, if this member may send mail of this class from it now."""
    domain = check_own_domain(view, did, name, "from")
    if config.require_verified_domains and not domain.verified:
        raise Refusal("DOMAIN_UNVERIFIED", _why_unverified(domain))
    if not config.require_verified_domains and not _has_the_name(view, domain):
        raise Refusal(
            "DOMAIN_UNVERIFIED",
            f"from: another member enrolled the domain {name} before; it is yours once you prove it, first by "
            f"TXT _atmos-verify.{name}",
        )
    if domain.is_stopped(bulk=bulk):
        raise Refusal("DOMAIN_PAUSED", f"from: {why_paused(domain)}")
    return domain


def _has_the_name(view: Snapshot, domain: members.DomainState) -> bool:
    """Where nobody has to prove a name, who enrolled it first may send, until another proves it."""
    holder = members.domain(view, domain.domain)
    return holder is not None and holder.did == domain.did


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


def why_paused(domain: members.DomainState) -> str:
    """Of a domain that is paused: a sentence."""
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
        f"the domain {domain.domain} is {domain.status}{rest} since {since}{counts}; "
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
