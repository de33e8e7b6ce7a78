"""Sections of the configuration for the doors: where the relay listens, and what those who come may take.

`relay.config` reads and checks them with all others.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

# Upper bounds, too: what follows from a number must fit where it is kept, so that no file ends a relay that runs.
LARGEST = 2**62
Count = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
#: 0 for none.
Bound = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of `relay.toml`."""


class HttpConfig(Section, frozen=True, kw_only=True):
    bind: str = "127.0.0.1:8025"
    #: Of a send's body.
    send_bytes_max: Annotated[int, msgspec.Meta(ge=64 * 1024, le=16 * 1024 * 1024)] = 1024 * 1024
    #: Connections open at a time, status streams not counted.
    connections_max: Count = 1_000
    #: Of one address; an IPv6 network of 64 bits counts as one.
    connections_per_address_max: Count = 100
    #: Addresses and networks of proxies: their X-Forwarded-For says whose request it is. They have no limit.
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1")
    #: Addresses and networks that may ask for /metrics and /readyz, beside this machine.
    monitors: tuple[str, ...] = ()
    #: Status streams open at a time.
    streams_max: Count = 10_000
    streams_per_member_max: Count = 100


#: One message, the events of its recipients and what else comes at the same time must fit into one batch of the log,
#: which has 16 MiB.
MESSAGE_BYTESLARGEST = 12 * 1024 * 1024


class SubmissionConfig(Section, frozen=True, kw_only=True):
    """SMTP from members (RFC 6409). Ports of `bind` begin in the clear, with STARTTLS; those of `bind_tls` with TLS."""

    bind: tuple[str, ...] = ()
    bind_tls: tuple[str, ...] = ()
    message_bytes_max: Annotated[int, msgspec.Meta(ge=64 * 1024, le=MESSAGE_BYTESLARGEST)] = 10 * 1024 * 1024
    #: RFC 5321 section 4.5.3.1.8 lets nobody take fewer than 100.
    recipients_max: Annotated[int, msgspec.Meta(ge=100, le=1000)] = 100
    connections_max: Count = 200
    #: Of one address; an IPv6 network of 64 bits counts as one. This machine has no limit.
    connections_per_address_max: Count = 20
    #: Of unfinished messages, all together; one member has a quarter at most.
    buffered_bytes_max: Annotated[int, msgspec.Meta(ge=1024 * 1024, le=LARGEST)] = 64 * 1024 * 1024
    #: So long a client of `bind` may begin with TLS before it is greeted; 0: it may not.
    sniff_seconds: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.2

    @property
    def is_served(self) -> bool:
        return bool(self.bind or self.bind_tls)


#: Who signs what it reports of its users' complaints. Best by a name that signs nothing else: of one that signs its
#: users' own mail, too, each user can write a report himself.
FEEDBACK_PROVIDERS = (
    "arf.mail.yahoo.com",
    "yahooinc.com",
    "yahoo-inc.com",
    "outlook.com",
    "hotmail.com",
    "microsoft.com",
    "comcast.net",
    "fastmail.com",
    "fbl.proton.me",
    "validity.com",
    "zoho.com",
    "mail.ru",
    "laposte.net",
    "synacor.com",
)


class InboundConfig(Section, frozen=True, kw_only=True):
    """Mail that comes in (port 25): reports, the operator's mail, replies to members."""

    bind: tuple[str, ...] = ()
    #: Where mail for postmaster@, abuse@ and the like of the operator's domain goes; it must be elsewhere.
    operator_mailbox: str = ""
    #: What of the mail for members' domains is passed on to their forward_to.
    forward: Literal["replies", "all", "off"] = "replies"
    #: Domains whose signed reports of complaints are believed; each stands for those below it, too.
    feedback_providers: tuple[str, ...] = FEEDBACK_PROVIDERS
    message_bytes_max: Annotated[int, msgspec.Meta(ge=64 * 1024, le=MESSAGE_BYTESLARGEST)] = 11_534_336
    connections_max: Count = 100
    #: Of one address; an IPv6 network of 64 bits counts as one. This machine has no limit.
    connections_per_address_max: Count = 5
    #: Of one address, this machine's as well.
    messages_per_minute_per_address: Count = 30
    #: Of unfinished messages, all together; one address has a quarter at most.
    buffered_bytes_max: Annotated[int, msgspec.Meta(ge=1024 * 1024, le=LARGEST)] = 64 * 1024 * 1024
    #: What strangers may have written of each kind, for each domain or mailbox.
    messages_per_hour: Count = 60
    bytes_per_day: Count = 100 * 1024 * 1024

    @property
    def is_served(self) -> bool:
        return bool(self.bind)


class TlsConfig(Section, frozen=True, kw_only=True):
    """PEM files, read again when they change. A path that does not begin with `/` is below the data directory."""

    certificate: str = ""
    key: str = ""

    @property
    def is_there(self) -> bool:
        return bool(self.certificate)


class ConsoleConfig(Section, frozen=True, kw_only=True):
    """The console in the browser."""

    #: Where the operator's is served, `host:port`; empty: nowhere.
    operator_bind: str = ""
    #: Whether members have theirs, at `<public_url>/console/`.
    members: bool = True
