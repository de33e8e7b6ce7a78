"""Members, their API keys and their sending domains."""

from __future__ import annotations

import msgspec

from relay.events.base import Event, Personal


class MemberAdded(Event, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "member.added"
    did: str


class MemberSuspended(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The member may not send; what it has queued is held."""

    TYPE = "member.suspended"
    did: str
    reason: str | None = None


class MemberResumed(Event, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "member.resumed"
    did: str
    reason: str | None = None


class MemberLimitsSet(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of the member's domains instead of those of their age; None for both takes them back."""

    TYPE = "member.limits_set"
    did: str
    hour: int | None = None
    day: int | None = None


class KeyIssued(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An API key was made. Only its keyed hash (HMAC-SHA-256 under the pepper, hex) is kept anywhere."""

    TYPE = "key.issued"
    did: str
    key_id: str
    key_hash: str


class KeyRevoked(Event, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "key.revoked"
    did: str
    key_id: str


class DomainAdded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A sending domain was enrolled, with the public halves of its two keys (base64, as in DNS)."""

    TYPE = "domain.added"
    did: str
    domain: str
    #: DKIM selectors are `<stem>r` (RSA-2048) and `<stem>e` (Ed25519).
    selector_stem: str
    rsa_public: str
    ed25519_public: str


class DomainVerified(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The domain's DNS records were found to be right."""

    TYPE = "domain.verified"
    did: str
    domain: str


class DomainCheckFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A verified domain's DNS records were found to be wrong. It may send until the grace time is over."""

    TYPE = "domain.check_failed"
    did: str
    domain: str
    #: Which of the checks, as in `relay.domains.diagnosis.CHECKS`.
    failed: list[str]


class DomainUnverified(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The grace time after a failed check is over: the domain may not send until it is verified again."""

    TYPE = "domain.unverified"
    did: str
    domain: str
    failed: list[str]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a rate was computed from: the final messages of a domain in (window_start, window_end]."""

    window_start: int
    window_end: int
    #: First and last sequence number of what was counted.
    first_seq: int
    last_seq: int
    final: int
    bounced: int
    complaints: int


class DomainPaused(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing more is accepted from the domain, and what it has queued is held, until the operator resumes it.

    `status` is `paused_bounce_rate`, `paused_complaint_rate` (with the evidence) or `paused` (by the operator).
    """

    TYPE = "domain.paused"
    did: str
    domain: str
    status: str
    evidence: Evidence | None = None
    reason: str | None = None


class DomainResumed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The domain may send again; rates are counted anew from here."""

    TYPE = "domain.resumed"
    did: str
    domain: str
    reason: str | None = None


class ForwardAddress(Personal, frozen=True, kw_only=True, omit_defaults=True):
    #: Normal form, as `Recipient.address`.
    address: str


class DomainForwardSet(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Where the domain wants to hear of its bounces from now on (SPEC 6); without a payload: nowhere any more.

    The payload stays until a later one of the domain takes its place: stripped, it would read as taken back.
    """

    TYPE = "domain.forward_set"
    did: str
    domain: str
    #: The member's API key by which it was set; None: by the operator.
    key_id: str | None = None
    personal: ForwardAddress | None = None
