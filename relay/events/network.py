"""What the world says of the relay's own addresses and mail: lists, and what providers tell the operator.

Nothing here is personal: an address here is one of the relay's own, a domain one that it sends from.
"""

from __future__ import annotations

import msgspec

from relay.events.base import RelayEvent


class SourceListed(RelayEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A list of senders to refuse (DNSBL, RFC 5782) names an address or a domain of the relay's. Written when that
    changes, in what it answers as well."""

    TYPE = "source.listed"
    STREAMED = False
    #: The address, in its one spelling, or the domain.
    source: str
    #: The list's zone.
    dnsbl: str
    #: Its A records, sorted; what they mean, the list's own page says.
    codes: list[str]
    #: What its TXT record says, at most 500 characters.
    text: str | None = None


class SourceDelisted(RelayEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The list names it no more, or is asked no more."""

    TYPE = "source.delisted"
    STREAMED = False
    source: str
    dnsbl: str


class ProviderReported(RelayEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What only a mailbox provider knows of a domain's mail on one day, as the operator read it there (Google's
    Postmaster Tools, say). The last one of a provider, domain and date counts."""

    TYPE = "provider.reported"
    STREAMED = False
    #: A word of `relay.providers`.
    provider: str
    domain: str
    #: The day, `2026-11-30`.
    date: str
    #: Share of delivered mail that users reported as spam, 0 to 1.
    spam_rate: float | None = None
    #: The provider's requirements, and what it says of each: `met`, `not_met`, or its own word.
    compliance: dict[str, str] = msgspec.field(default_factory=dict)
    #: The Unix user, or the session of the console, who recorded it.
    by: str
