"""`/v1/domains`: a member's domains, what to publish for them and what is wrong with it (SPEC 4). They want a key of
scope `full`.

The list says what was found when the DNS was looked at last, and asks it nothing: `verify` looks now, as the relay does
by itself once a day for a domain that was verified.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from relay.api.answers import Answer
from relay.api.credentials import reader_of, writer_of
from relay.api.operations import Described, Parameter, operation
from relay.api.request import Request
from relay.decisions.send import why_paused
from relay.edge import Edge
from relay.fields import domain_in
from relay.json_body import JsonBody
from relay.own_domains import EnrolOwnDomain, OwnDomain, OwnDomains, VerifyOwnDomain
from relay.stream_events import RateEvidence, rate_evidence
from relay.times import rfc3339, rfc3339_or_none
from relay.views.members import DomainState

BODY_BYTES_MAX = 16 * 1024


class DomainBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `POST /v1/domains`."""

    domain: Annotated[
        str,
        msgspec.Meta(description="Exactly this one: a subdomain is another.", examples=["yourdomain.com"]),
    ]


class PublishedRecord(msgspec.Struct, rename="camel", kw_only=True):
    """A DNS record that the domain must have, and what was found in its place."""

    type: str
    name: str
    #: One string, unquoted; a DNS provider divides it where it is long.
    value: str
    purpose: str
    #: Null: it was not looked at since the relay was started, or the DNS could not tell.
    ok: bool | None
    #: Null: it was not looked at since the relay was started.
    found: tuple[str, ...] | None
    #: What to do; advice where the record is right.
    fix: str | None


class DomainPause(msgspec.Struct, rename="camel", kw_only=True):
    """Why a domain may not send, or not all."""

    since: str
    #: `all`, or `bulk` where the transactional class goes on.
    stops: str
    #: A sentence.
    why: str
    #: The operator's own words, where the operator paused it.
    reason: str | None
    #: Of a pause for a rate: what was counted.
    evidence: RateEvidence | None


class SendingDomain(msgspec.Struct, rename="camel", kw_only=True):
    domain: str
    #: `active`, `paused`, `paused_bounce_rate` or `paused_complaint_rate`.
    status: str
    #: It may send as far as its DNS records are concerned.
    verified: bool
    selector: str
    added_at: str
    #: From then on its age counts.
    first_verified_at: str | None
    #: When its DNS was looked at last.
    checked_at: str | None
    #: Since when its DNS is wrong, and in what; 72 hours after that it is verified no more.
    failing_since: str | None
    failed: list[str]
    pause: DomainPause | None
    records: list[PublishedRecord]


class DomainList(msgspec.Struct):
    domains: list[SendingDomain]


_BODY = JsonBody(DomainBody)


@operation(
    "GET",
    "/v1/domains",
    "listDomains",
    "The member's domains: records, what the DNS said of them, and why one is paused",
    description="Wants a key of scope `full`. It does not ask the DNS: `found` is what was seen when it was last "
    "looked at.",
    answers={200: Described("The domains", DomainList)},
    errors=(400, 401, 403, 500, 503),
)
async def list_domains(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    domains: list[OwnDomain] = await edge.decide("own_domains", OwnDomains(), member)
    return Answer.of(DomainList([_shown(each) for each in domains]))


@operation(
    "POST",
    "/v1/domains",
    "enrolDomain",
    "Enrol another domain",
    description="Wants a key of scope `full`, and an operator who allows it.",
    body=DomainBody,
    answers={201: Described("Enrolled: publish the records, then verify it", SendingDomain)},
    errors=(400, 401, 403, 408, 409, 413, 415, 429, 500, 503),
)
async def enrol_domain(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    wanted = domain_in("domain", _BODY.decode(await request.json(BODY_BYTES_MAX)).domain)
    enrolled: OwnDomain = await edge.decide("enrol_own_domain", EnrolOwnDomain(domain=wanted), member)
    return Answer.of(_shown(enrolled), 201)


@operation(
    "POST",
    "/v1/domains/{domain}/verify",
    "verifyDomain",
    "Look at a domain's DNS records now",
    description="Wants a key of scope `full`. One at a time, and so many a minute, because it asks the DNS.",
    parameters=(Parameter("domain", {"type": "string"}, "One of the member's.", where="path"),),
    answers={200: Described("What was found, and whether the domain is verified now", SendingDomain)},
    errors=(400, 401, 403, 404, 429, 500, 503),
)
async def verify_domain(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    wanted = domain_in("domain", request.in_path["domain"])
    verified: OwnDomain = await edge.decide("verify_own_domain", VerifyOwnDomain(domain=wanted), member)
    return Answer.of(_shown(verified))


def _shown(own: OwnDomain) -> SendingDomain:
    state = own.state
    return SendingDomain(
        domain=state.domain,
        status=state.status,
        verified=state.verified,
        selector=state.selector_stem,
        added_at=rfc3339(state.added_at),
        first_verified_at=rfc3339_or_none(state.first_verified_at),
        checked_at=rfc3339_or_none(own.looked_at),
        failing_since=rfc3339_or_none(state.failing_since),
        failed=list(state.failed),
        pause=None if state.status == "active" else _pause(state),
        records=[PublishedRecord(**record._asdict()) for record in own.records],
    )


def _pause(state: DomainState) -> DomainPause:
    return DomainPause(
        since=rfc3339(state.paused_at),
        stops=state.stops,
        why=why_paused(state),
        reason=state.pause_reason,
        evidence=None if state.evidence is None else rate_evidence(state.evidence),
    )
