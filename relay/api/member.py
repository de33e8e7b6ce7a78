"""`GET /member/status` and `GET /member/deliverability`: what a member's clients poll (SPEC 1.3); and
`PUT /member/forward-to`: who is told of a domain's bounces (SPEC 6).

A member with several domains: the limits are those of all its active domains together, since each has its own; it
counts as paused when all of them are.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from quart import Blueprint, Response

from relay.addresses import AddressError, parse_address, parse_domain
from relay.api.answers import json_answer
from relay.api.authentication import authenticate
from relay.api.bodies import read_json
from relay.core import Core
from relay.decisions.limits import current_limits
from relay.decisions.members import set_forward
from relay.events import Event
from relay.presentation import Deliverability, ForwardTo, MemberDomain, MemberStatus
from relay.refusals import Refusal, invalid
from relay.views import members, reputation
from spool.views import Snapshot

BODY_BYTES_MAX = 16 * 1024


class ForwardToBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `PUT /member/forward-to`."""

    domain: Annotated[
        str, msgspec.Meta(description="One of the member's domains.", examples=["yourdomain.com"])
    ]
    forward_to: Annotated[
        str | None,
        msgspec.Meta(
            description="The bare address that gets a notification (RFC 3464) of each bounce; null or empty: nobody.",
            examples=["bounces@yourdomain.com"],
        ),
    ]


_decode_body = msgspec.json.Decoder(ForwardToBody).decode


def routes(core: Core) -> Blueprint:
    blueprint = Blueprint("member", __name__)

    @blueprint.get("/member/status")
    async def status() -> Response:
        did = authenticate(core, suspended_may=True).did
        with core.store.read() as view:
            domains = members.domains_of(view, did)
            return json_answer(
                MemberStatus(
                    did=did,
                    status=_status(view, did, domains),
                    labels=[],
                    domains=[
                        MemberDomain(state.domain, state.status, state.verified, state.forward_to)
                        for state in domains
                    ],
                )
            )

    @blueprint.get("/member/deliverability")
    async def deliverability() -> Response:
        did = authenticate(core, suspended_may=True).did
        now_us = core.store.now_us()
        with core.store.read() as view:
            member, domains = members.member(view, did), members.domains_of(view, did)
            assert member is not None
            days = reputation.days(view, did, now_us)
            sent, bounced = sum(day.sent for day in days), sum(day.bounced for day in days)
            limits = [
                current_limits(core.config, member, state, now_us)
                for state in domains
                if state.status == "active"
            ]
            return json_answer(
                Deliverability(
                    did=did,
                    status=_status(view, did, domains),
                    sent_14d=sent,
                    bounced_14d=bounced,
                    complaints_14d=sum(day.complaints for day in days),
                    bounce_rate=bounced / (sent + bounced) if sent + bounced else 0.0,
                    daily_sends=[day.accepted for day in days],
                    hourly_limit=sum(limit.hour for limit in limits),
                    daily_limit=sum(limit.day for limit in limits),
                    labels=[],
                )
            )

    @blueprint.put("/member/forward-to")
    async def forward_to() -> Response:
        principal = authenticate(core)
        wanted = _checked(await read_json(_decode_body, BODY_BYTES_MAX))

        def decide(view: Snapshot) -> list[Event]:
            domain = members.domain(view, wanted.domain)
            if domain is None or domain.did != principal.did:
                raise Refusal("DOMAIN_MISMATCH", f"domain: {wanted.domain} is not enrolled under this DID")
            return set_forward(view, domain, wanted.forward_to, key_id=principal.key_id)

        await core.store.decide(decide, patient=False)
        return json_answer(wanted)

    return blueprint


def _checked(fields: ForwardToBody) -> ForwardTo:
    """In normal form. Raises Refusal(INVALID_REQUEST)."""
    try:
        domain = parse_domain(fields.domain)
    except AddressError as error:
        raise invalid("domain", str(error)) from error
    try:
        return ForwardTo(domain, parse_address(fields.forward_to) if fields.forward_to else None)
    except AddressError as error:
        raise invalid("forward_to", str(error)) from error


def _status(view: Snapshot, did: str, domains: list[members.DomainState]) -> str:
    member = members.member(view, did)
    assert member is not None
    if member.status == "suspended":
        return "suspended"
    if domains and all(state.status != "active" for state in domains):
        return domains[0].status
    return "active"
