"""`GET /member/status` and `GET /member/deliverability`: what a member's clients poll (SPEC 1.3); and
`PUT /member/forward-to`: who is told of a domain's bounces (SPEC 6).

A member with several domains: the limits are those of all its active domains together, since each has its own; it
counts as paused when all of them are. What each of them may do stands beside that. A suspended member may send nothing.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from relay.api.answers import Answer
from relay.api.credentials import reader_of, writer_of
from relay.api.operations import MEMBERS_ERRORS, Described, operation
from relay.api.request import Request
from relay.config import Config
from relay.data_directory import LogToRead
from relay.decisions.limits import current_limits
from relay.edge import Edge
from relay.fields import address_in, domain_in
from relay.json_body import JsonBody
from relay.presentation import Deliverability, DomainLimits, ForwardTo, MemberDomain, MemberStatus
from relay.self_service import SetForwardTo
from relay.views import handles, members, reputation
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
            description="The bare address that gets a notification (RFC 3464) of each bounce, once its "
            "owner has used the link in a mail that asks; null or empty: nobody.",
            examples=["bounces@yourdomain.com"],
        ),
    ]


_BODY = JsonBody(ForwardToBody)


@operation(
    "GET",
    "/member/status",
    "memberStatus",
    "The member and its domains",
    answers={200: Described("The member and its domains", MemberStatus)},
    errors=MEMBERS_ERRORS,
)
async def member_status(edge: Edge, request: Request) -> Answer:
    return Answer.of(status_of(edge.store, (await reader_of(edge, request)).did))


def status_of(store: LogToRead, did: str) -> MemberStatus:
    """A member and its domains."""
    with store.read() as view:
        domains, held = members.domains_of(view, did), handles.held_by(view, did)
        return MemberStatus(
            did=did,
            status=_status(view, did, domains),
            labels=[],
            domains=[
                MemberDomain(
                    state.domain,
                    state.status,
                    state.verified,
                    state.forward_to,
                    state.forward_confirmed,
                )
                for state in domains
            ],
            handle=None if held is None else held.handle,
            handle_proved=held is not None and held.proved,
        )


@operation(
    "GET",
    "/member/deliverability",
    "memberDeliverability",
    "How the member's mail fared, and its limits",
    answers={200: Described("How the member's mail fared, and its limits", Deliverability)},
    errors=MEMBERS_ERRORS,
)
async def member_deliverability(edge: Edge, request: Request) -> Answer:
    did = (await reader_of(edge, request)).did
    return Answer.of(deliverability_of(edge.config, edge.store, did))


def deliverability_of(config: Config, store: LogToRead, did: str) -> Deliverability:
    """How a member's mail fared, and its limits."""
    now_us = store.now_us()
    with store.read() as view:
        member, domains = members.member(view, did), members.domains_of(view, did)
        assert member is not None
        days = reputation.days(view, did, now_us)
        sent, bounced = sum(day.sent for day in days), sum(day.bounced for day in days)
        # What is reported later was sent; perhaps before these days.
        final = max(bounced, sent + bounced - sum(day.reported for day in days))
        limits = [_limits_of(config, member, state, now_us) for state in domains]
        active = [limit for limit in limits if limit.status == "active"]
        return Deliverability(
            did=did,
            status=_status(view, did, domains),
            sent_14d=sent,
            bounced_14d=bounced,
            complaints_14d=sum(day.complaints for day in days),
            bounce_rate=bounced / final if final else 0.0,
            daily_sends=[day.accepted for day in days],
            hourly_limit=sum(limit.hourly_limit for limit in active),
            daily_limit=sum(limit.daily_limit for limit in active),
            labels=[],
            domains=limits,
        )


def _limits_of(
    config: Config, member: members.MemberState, domain: members.DomainState, now_us: int
) -> DomainLimits:
    hour, day = current_limits(config, member, domain, now_us)
    if member.status == "suspended" or domain.is_stopped(bulk=False):
        hour = day = 0
    elif domain.is_stopped(bulk=True):
        hour = min(hour, config.reputation.transactional_per_hour_while_paused)
        day = min(day, hour * 24)
    stops = None if domain.status == "active" else domain.stops
    return DomainLimits(domain.domain, domain.status, domain.verified, stops, hour, day)


@operation(
    "PUT",
    "/member/forward-to",
    "setForwardTo",
    "Set who is told of a domain's bounces",
    description="Wants a key of scope `full`.",
    body=ForwardToBody,
    answers={200: Described("Set: durable on the relay's disk", ForwardTo)},
    errors=(400, 401, 403, 408, 413, 415, 429, 500, 503),
)
async def set_forward_to(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    wanted = _checked(_BODY.decode(await request.json(BODY_BYTES_MAX)))
    confirmed = await edge.decide("set_forward_to", wanted, member)
    return Answer.of(ForwardTo(wanted.domain, wanted.address, confirmed))


def _checked(fields: ForwardToBody) -> SetForwardTo:
    """In normal form. Raises Refusal(INVALID_REQUEST)."""
    domain = domain_in("domain", fields.domain)
    address = address_in("forward_to", fields.forward_to) if fields.forward_to else None
    return SetForwardTo(domain=domain, address=address)


def _status(view: Snapshot, did: str, domains: list[members.DomainState]) -> str:
    member = members.member(view, did)
    assert member is not None
    if member.status == "suspended":
        return "suspended"
    if domains and all(state.status != "active" for state in domains):
        return domains[0].status
    return "active"
