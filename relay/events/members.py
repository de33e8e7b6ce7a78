"""Members, their API keys and their sending domains."""

from __future__ import annotations

from typing import Literal

import msgspec

from relay.events.base import DomainEvent, KeyEvent, MemberEvent, Personal


class MemberAdded(MemberEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The DID is a member. Version 2 has `by`, as all that the operator orders here has in its last version."""

    TYPE = "member.added"
    VERSION = 2
    STREAMED = True
    #: Which of the operator's people gave the order: a Unix user, or a session of the console (`console:1a2b3c4d`). It
    #: stays for good, and no member sees it.
    by: str | None = None


class MemberSuspended(MemberEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The member may not send; what it has queued is held. Version 2 has `by`."""

    TYPE = "member.suspended"
    VERSION = 2
    STREAMED = True
    reason: str | None = None
    by: str | None = None


class MemberResumed(MemberEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The member may send again.

    Version 2 has `in_steps`: as in `DomainResumed`. Version 3 has `by`.
    """

    TYPE = "member.resumed"
    VERSION = 3
    STREAMED = True
    reason: str | None = None
    in_steps: bool = False
    by: str | None = None


class MemberLimitsSet(MemberEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of the member's domains instead of those of their age; None for both takes them back. Version 2 has
    `by`."""

    TYPE = "member.limits_set"
    VERSION = 2
    STREAMED = True
    hour: int | None = None
    day: int | None = None
    by: str | None = None


class KeyIssued(KeyEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An API key was made. Only its keyed hash (HMAC-SHA-256 under the pepper, hex) is kept anywhere.

    Version 2 has `scope`, `category` and `issued_by`; a key of before is good for everything. Version 3 has `by`.
    """

    TYPE = "key.issued"
    VERSION = 3
    STREAMED = False
    key_hash: str
    #: `send` or `full` (`relay.principals`).
    scope: Literal["send", "full"] = "full"
    #: The category of sends by it that name none; None: `bulk`.
    category: str | None = None
    #: The member's key that made it; None: the operator did.
    issued_by: str | None = None
    #: Which of the operator's people, then.
    by: str | None = None


class KeyRevoked(KeyEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The key is good for nothing any more, and what it had open ends.

    Version 2 has `revoked_by`, version 3 `by`.
    """

    TYPE = "key.revoked"
    VERSION = 3
    STREAMED = False
    #: The member's key by which it was revoked; None: by the operator.
    revoked_by: str | None = None
    #: By which of the operator's people, then.
    by: str | None = None


class DomainAdded(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A sending domain was enrolled, with the public halves of its two keys (base64, as in DNS).

    Version 2 has `key_id` and `by`.
    """

    TYPE = "domain.added"
    VERSION = 2
    STREAMED = True
    #: DKIM selectors are `<stem>r` (RSA-2048) and `<stem>e` (Ed25519).
    selector_stem: str
    rsa_public: str
    ed25519_public: str
    #: The member's key that enrolled it; None: the operator did.
    key_id: str | None = None
    by: str | None = None


class DomainVerified(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The domain's DNS records were found to be right."""

    TYPE = "domain.verified"
    STREAMED = True


class DomainCheckFailed(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A verified domain's DNS records were found to be wrong. It may send until the grace time is over."""

    TYPE = "domain.check_failed"
    STREAMED = True
    #: Which of the checks, as in `relay.domains.diagnosis.CHECKS`.
    failed: list[str]


class DomainUnverified(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The grace time after a failed check is over: the domain may not send until it is verified again."""

    TYPE = "domain.unverified"
    STREAMED = True
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


class DomainPaused(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The domain may not send, and what it has queued is held, until the operator resumes it.

    `status` is `paused_bounce_rate`, `paused_complaint_rate` (with the evidence) or `paused` (by the operator).

    Version 2 has `stops`: `all`, as every pause of version 1 did, or `bulk`: the transactional class goes on. Version 3
    has `by`.
    """

    TYPE = "domain.paused"
    VERSION = 3
    STREAMED = True
    status: str
    stops: str = "all"
    evidence: Evidence | None = None
    reason: str | None = None
    #: None: the relay paused it, for a rate.
    by: str | None = None


class DomainResumed(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The domain may send again; rates are counted anew from here.

    Version 2 has `in_steps`: what was held is released by the `held.released` events that follow, some hundred messages
    each. One of version 1 releases all of it by itself, in one fold, however long that takes. Version 3 has `by`.
    """

    TYPE = "domain.resumed"
    VERSION = 3
    STREAMED = True
    reason: str | None = None
    in_steps: bool = False
    by: str | None = None


class ForwardAddress(Personal, frozen=True, kw_only=True, omit_defaults=True):
    #: Normal form, as `Recipient.address`.
    address: str


class DomainForwardSet(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Where the domain wants to hear of its bounces from now on (SPEC 6); without a payload: nowhere any more.

    The payload stays while its mailbox is in use: stripped, it would read as taken back. Its time begins when a later
    one of the domain names another, or none, or the domain is removed (`relay.views.retention`).

    What a member sets is used once the mailbox's owner has confirmed it. Version 2 has `asks`, version 3 `by`.
    """

    TYPE = "domain.forward_set"
    VERSION = 3
    STREAMED = True
    #: The member's API key by which it was set; None: by the operator, whose word needs no other.
    key_id: str | None = None
    #: With it the mailbox's owner was asked, or would have been, had there been no reason not to write there. Before
    #: version 2 nobody was asked.
    asks: bool = False
    #: Which of the operator's people set it, where the operator did.
    by: str | None = None
    personal: ForwardAddress | None = None


class DomainForwardConfirmed(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The owner of the mailbox that the last `domain.forward_set` names wants to hear of the domain's bounces."""

    TYPE = "domain.forward_confirmed"
    STREAMED = True
    #: The message id of the mail whose link was followed.
    confirmation: int
