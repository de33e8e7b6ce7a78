"""A member's sending domain as clients see it: the JSON shapes, and nothing else. `relay.domains.shown` fills them."""

from __future__ import annotations

import msgspec

from relay.stream_events import RateEvidence


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
