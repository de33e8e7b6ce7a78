"""`GET /member/status` and `GET /member/deliverability`: what a member's clients poll (SPEC 1.3).

A member with several domains: the limits are those of all its active domains together, since each has its own; it
counts as paused when all of them are.
"""

from __future__ import annotations

from quart import Blueprint, Response

from relay.api.answers import json_answer
from relay.api.authentication import authenticate
from relay.core import Core
from relay.limits import current_limits
from relay.presentation import Deliverability, MemberDomain, MemberStatus
from relay.views import members, reputation
from spool.views import Snapshot


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
                    domains=[MemberDomain(state.domain, state.status, state.verified) for state in domains],
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

    return blueprint


def _status(view: Snapshot, did: str, domains: list[members.DomainState]) -> str:
    member = members.member(view, did)
    assert member is not None
    if member.status == "suspended":
        return "suspended"
    if domains and all(state.status != "active" for state in domains):
        return domains[0].status
    return "active"
