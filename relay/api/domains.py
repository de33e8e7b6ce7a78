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
from relay.edge import Edge
from relay.fields import domain_in
from relay.json_body import JsonBody
from relay.own_domains import EnrolOwnDomain, OwnDomains, VerifyOwnDomain
from relay.sending_domains import SendingDomain

BODY_BYTES_MAX = 16 * 1024


class DomainBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `POST /v1/domains`."""

    domain: Annotated[
        str,
        msgspec.Meta(description="Exactly this one: a subdomain is another.", examples=["yourdomain.com"]),
    ]


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
    domains: list[SendingDomain] = await edge.decide("own_domains", OwnDomains(), member)
    return Answer.of(DomainList(domains))


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
    enrolled: SendingDomain = await edge.decide("enrol_own_domain", EnrolOwnDomain(domain=wanted), member)
    return Answer.of(enrolled, 201)


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
    verified: SendingDomain = await edge.decide("verify_own_domain", VerifyOwnDomain(domain=wanted), member)
    return Answer.of(verified)
