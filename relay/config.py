"""`DIR/relay.toml`: read at start-up and at SIGHUP (`relay.settings`), checked whole, nothing guessed.

An unknown key or a bad value is a `ConfigError` that names the key, its line, and what was expected. Defaults are
those of SPEC 10.
"""

from __future__ import annotations

import re
import stat
import tomllib
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from relay.addresses import AddressError, is_host_name, parse_domain
from relay.addresses import parse_address as parse_mailbox_address
from relay.events import BULK_CATEGORIES, TRANSACTIONAL_CATEGORIES
from relay.networks import LOOPBACK, is_within, parse_address, parse_network
from relay.toml_lines import BadValueError, KeyPath, convert, dotted, line_of

CONFIG_FILE = "relay.toml"

CONFIG_BYTES_MAX = 1024 * 1024

# Upper bounds, too: what follows from a number must fit where it is kept, so that no file ends a relay that runs.
_LARGEST = 2**62
Count = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]
#: 0 for none.
Bound = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
#: At most a hundred years.
Seconds = Annotated[int, msgspec.Meta(ge=0, le=100 * 365 * 86400)]
Delay = Annotated[int, msgspec.Meta(ge=1, le=100 * 365 * 86400)]
PROCESSES_MAX = 16
#: Of one role; "auto": what the machine has.
Processes = Annotated[int, msgspec.Meta(ge=0, le=PROCESSES_MAX)] | Literal["auto"]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1)]


class ConfigError(Exception):
    """The configuration cannot be used; the sentence says where and what to do."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class HttpConfig(_Section, frozen=True, kw_only=True):
    bind: str = "127.0.0.1:8025"
    #: Connections open at a time, status streams not counted: each may hold a request of 1 MiB.
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
MESSAGE_BYTES_LARGEST = 12 * 1024 * 1024


class SubmissionConfig(_Section, frozen=True, kw_only=True):
    """SMTP from members (RFC 6409). Ports of `bind` begin in the clear, with STARTTLS; those of `bind_tls` with TLS."""

    bind: tuple[str, ...] = ()
    bind_tls: tuple[str, ...] = ()
    message_bytes_max: Annotated[int, msgspec.Meta(ge=64 * 1024, le=MESSAGE_BYTES_LARGEST)] = 10 * 1024 * 1024
    #: RFC 5321 section 4.5.3.1.8 lets nobody take fewer than 100.
    recipients_max: Annotated[int, msgspec.Meta(ge=100, le=1000)] = 100
    connections_max: Count = 200
    #: Of one address; an IPv6 network of 64 bits counts as one. This machine has no limit.
    connections_per_address_max: Count = 20
    #: Of unfinished messages, all together; one member has a quarter at most.
    buffered_bytes_max: Annotated[int, msgspec.Meta(ge=1024 * 1024, le=_LARGEST)] = 64 * 1024 * 1024
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


class InboundConfig(_Section, frozen=True, kw_only=True):
    """Mail that comes in (port 25): reports, the operator's mail, replies to members."""

    bind: tuple[str, ...] = ()
    #: Where mail for postmaster@, abuse@ and the like of the operator's domain goes; it must be elsewhere.
    operator_mailbox: str = ""
    #: What of the mail for members' domains is passed on to their forward_to.
    forward: Literal["replies", "all", "off"] = "replies"
    #: Domains whose signed reports of complaints are believed; each stands for those below it, too.
    feedback_providers: tuple[str, ...] = FEEDBACK_PROVIDERS
    message_bytes_max: Annotated[int, msgspec.Meta(ge=64 * 1024, le=MESSAGE_BYTES_LARGEST)] = 11_534_336
    connections_max: Count = 100
    #: Of one address; an IPv6 network of 64 bits counts as one. This machine has no limit.
    connections_per_address_max: Count = 5
    #: Of one address, this machine's as well.
    messages_per_minute_per_address: Count = 30
    #: Of unfinished messages, all together; one address has a quarter at most.
    buffered_bytes_max: Annotated[int, msgspec.Meta(ge=1024 * 1024, le=_LARGEST)] = 64 * 1024 * 1024
    #: What strangers may have written of each kind, for each domain or mailbox.
    messages_per_hour: Count = 60
    bytes_per_day: Count = 100 * 1024 * 1024

    @property
    def is_served(self) -> bool:
        return bool(self.bind)


class TlsConfig(_Section, frozen=True, kw_only=True):
    """PEM files, read again when they change. A path that does not begin with `/` is below the data directory."""

    certificate: str = ""
    key: str = ""

    @property
    def is_there(self) -> bool:
        return bool(self.certificate)


class SiteConfig(_Section, frozen=True, kw_only=True):
    """Limits for one provider; what is left out is as for everybody."""

    connections_max: Count | None = None
    #: 0 for no limit.
    messages_per_minute_max: Bound = 0


class DeliveryConfig(_Section, frozen=True, kw_only=True):
    #: Recipient domain, or "*" for all, -> `host:port`. Without a route the recipient's MX is asked.
    routes: dict[str, str] = {}
    #: How we introduce ourselves (EHLO); the operator domain where empty.
    ehlo_name: str = ""
    connections_max: Count = 500
    connections_per_site_max: Count = 20
    #: Less than `connections_max`, or one member can hold up all others.
    connections_per_member_max: Count = 250
    #: Of the whole relay; 0 for no limit.
    messages_per_minute_max: Bound = 0
    #: MX host, or a domain that has it below it, or a route's target -> limits of those sites. The longest name wins.
    sites: dict[str, SiteConfig] = {}
    #: Opportunistic TLS: where a handshake fails, deliver in the clear rather than not at all.
    plaintext_after_tls_failure: bool = True

    def limits_of(self, site: str) -> tuple[int, int | None]:
        """Connections and messages a minute (None: no limit) of a site, which is named by its MX hosts."""
        hosts = site.replace(",", " ").split()
        named = [
            name for name in self.sites if any(host == name or host.endswith("." + name) for host in hosts)
        ]
        closest = self.sites[max(named, key=len)] if named else SiteConfig()
        return (
            closest.connections_max or self.connections_per_site_max,
            closest.messages_per_minute_max or None,
        )


#: A late one-time code is worse than a bounce. Naming one category in the file leaves the others as they are.
GIVE_UP_SECONDS_BY_CATEGORY = {
    "login-link": 3600,
    "mfa-otp": 3600,
    "password-reset": 86400,
    "verification": 86400,
}


class RetryConfig(_Section, frozen=True, kw_only=True):
    #: After attempt 1, 2, 3 ...; the last one repeats.
    delays_seconds: Annotated[tuple[Delay, ...], msgspec.Meta(min_length=1)] = (
        60,
        300,
        900,
        1800,
        3600,
        7200,
        14400,
        28800,
    )
    give_up_seconds: Delay = 432_000
    give_up_seconds_by_category: dict[str, Delay] = {}


class WarmingTier(_Section, frozen=True, kw_only=True):
    #: The first day of the domain's life to which this tier no longer applies; the last tier has none.
    until_day: Count | None = None
    hour: Count
    day: Count


class WarmingConfig(_Section, frozen=True, kw_only=True):
    tiers: Annotated[tuple[WarmingTier, ...], msgspec.Meta(min_length=1)] = (
        WarmingTier(until_day=7, hour=2, day=10),
        WarmingTier(until_day=14, hour=10, day=50),
        WarmingTier(hour=100, day=1000),
    )


class ReputationConfig(_Section, frozen=True, kw_only=True):
    #: The views keep 14 days.
    window_hours: Annotated[int, msgspec.Meta(ge=1, le=14 * 24)] = 24
    messages_min: Count = 10
    #: A rate alone pauses nobody: so many bounces to different recipients, so many complaints are needed as well.
    bounces_min: Count = 3
    complaints_min: Count = 2
    bounce_rate_max: Rate = 0.05
    complaint_rate_max: Rate = 0.0008
    #: What a domain may still send of the transactional class while it is paused for its bounces.
    transactional_per_hour_while_paused: Count = 20


class SpoolConfig(_Section, frozen=True, kw_only=True):
    segment_bytes: Annotated[int, msgspec.Meta(ge=4096, le=_LARGEST)] = 64 * 1024 * 1024
    #: Below this much free space the relay accepts nothing more (and goes on delivering).
    free_bytes_min: Bound = 1024 * 1024 * 1024
    #: The log may not grow beyond this; 0 for no limit.
    bytes_max: Bound = 0
    retention_days: Count = 30


class ServiceConfig(_Section, frozen=True, kw_only=True):
    #: How long running deliveries may go on after SIGTERM.
    grace_seconds: Seconds = 30
    #: Processes that take requests, and processes that deliver; 0: the relay's own does it.
    edges: Processes = 0
    couriers: Processes = 0

    def processes(self, cores: int) -> tuple[int, int]:
        """How many edges and how many couriers there are on so many cores (`len(os.sched_getaffinity(0))`).

        "auto" is half of the cores each, and none where there is one core only. It never makes more processes than
        there are cores.
        """
        if self.edges == "auto" and self.couriers == "auto":
            return _half(cores), _half(cores)
        if self.edges == "auto":
            return min(_half(cores), max(cores - int(self.couriers), 0)), int(self.couriers)
        if self.couriers == "auto":
            return self.edges, min(_half(cores), max(cores - self.edges, 0))
        return self.edges, self.couriers


def _half(cores: int) -> int:
    return min(cores // 2, PROCESSES_MAX)


class MembersConfig(_Section, frozen=True, kw_only=True):
    domains_max: Count = 2
    #: Who is asked whether a did:plc exists, at enrolment.
    plc_directory: str = "https://plc.directory"
    #: Of one member: sends, refused ones too, suppressions and all else that it changes.
    writes_per_minute: Count = 600
    suppressions_per_member_max: Count = 100_000
    #: Accepted from one member in 24 hours.
    bytes_per_day: Count = 1_000_000_000
    #: Members may enrol domains themselves, up to `domains_max`.
    self_service: bool = False


class Config(_Section, frozen=True, kw_only=True):
    operator_domain: str
    public_url: str
    require_verified_domains: bool = True
    http: HttpConfig = HttpConfig()
    submission: SubmissionConfig = SubmissionConfig()
    inbound: InboundConfig = InboundConfig()
    tls: TlsConfig = TlsConfig()
    delivery: DeliveryConfig = DeliveryConfig()
    retry: RetryConfig = RetryConfig()
    warming: WarmingConfig = WarmingConfig()
    reputation: ReputationConfig = ReputationConfig()
    spool: SpoolConfig = SpoolConfig()
    service: ServiceConfig = ServiceConfig()
    members: MembersConfig = MembersConfig()

    @property
    def ehlo_name(self) -> str:
        return self.delivery.ehlo_name or self.operator_domain

    def give_up_seconds(self, category: str) -> int:
        by_category = {**GIVE_UP_SECONDS_BY_CATEGORY, **self.retry.give_up_seconds_by_category}
        return by_category.get(category, self.retry.give_up_seconds)


def load_config(directory: Path, *, instead_of: Config | None = None) -> Config:
    """Read and check `directory/relay.toml`, which is to follow the other where one is in force. Raises ConfigError."""
    path = directory / CONFIG_FILE
    try:
        found = path.stat()
        # Who opens a pipe may wait for ever.
        if not stat.S_ISREG(found.st_mode) or found.st_size > CONFIG_BYTES_MAX:
            raise ConfigError(f"{path} cannot be read: it is no file of at most {CONFIG_BYTES_MAX} bytes")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; `atmos-relay init {directory}` makes a data directory"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return parse_config(text, str(path), instead_of=instead_of)


def parse_config(text: str, name: str = CONFIG_FILE, *, instead_of: Config | None = None) -> Config:
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{name} is not TOML: too many brackets within each other") from None
    except ValueError as error:  # mostly TOMLDecodeError, whose message ends with line and column
        raise ConfigError(f"{name} is not TOML: {error}") from error
    try:
        config = convert(values, Config)
        _check(config)
        if instead_of is not None and config.operator_domain != instead_of.operator_domain:
            sentence = f"is fixed once its keys exist; it was {instead_of.operator_domain}"
            raise _bad(("operator_domain",), sentence)
    except BadValueError as error:
        line = line_of(text, error.key)
        where = f"{name} line {line}" if line else name
        raise ConfigError(f"{where}: {error}") from error
    return config


def _check(config: Config) -> None:
    """What the types alone cannot say."""
    try:
        if parse_domain(config.operator_domain) != config.operator_domain:
            raise _bad(("operator_domain",), "write the domain in lower case, as A-labels")
    except AddressError as error:
        raise _bad(("operator_domain",), str(error)) from error
    if not _is_base_url(config.public_url):
        raise _bad(("public_url",), "expected https://HOST without a path or a final slash")
    directory = config.members.plc_directory
    if not (_is_base_url(directory) and directory.startswith("https://")):
        raise _bad(("members", "plc_directory"), "expected https://HOST without a path or a final slash")
    if _port(config.http.bind) is None:
        raise _bad(("http", "bind"), "expected host:port or [v6]:port")
    _check_submission(config.submission, config.tls)
    _check_inbound(config)
    for setting in ("trusted_proxies", "monitors"):
        for index, text in enumerate(getattr(config.http, setting)):
            _check_network(("http", setting, index), text)
    if config.delivery.ehlo_name and not is_host_name(config.delivery.ehlo_name):
        raise _bad(("delivery", "ehlo_name"), "expected a host name of two labels or more")
    for domain, target in config.delivery.routes.items():
        _check_route(domain, target)
    for name in config.delivery.sites:
        if not (_port(name) or (is_host_name(name) and name == name.lower())):
            sentence = "expected an MX host or a domain above it, in lower case, or the host:port of a route"
            raise _bad(("delivery", "sites", name), sentence)
    for category in config.retry.give_up_seconds_by_category:
        if category not in TRANSACTIONAL_CATEGORIES + BULK_CATEGORIES:
            raise _bad(("retry", "give_up_seconds_by_category", category), "is not a category")
    days = [tier.until_day for tier in config.warming.tiers]
    bounded = [day for day in days[:-1] if day is not None]
    if days[-1] is not None or len(bounded) != len(days) - 1 or bounded != sorted(set(bounded)):
        raise _bad(
            ("warming", "tiers"), "until_day must grow from tier to tier, and only the last tier has none"
        )


def _check_submission(submission: SubmissionConfig, tls: TlsConfig) -> None:
    for name, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(tls, name) and not getattr(tls, other):
            raise _bad(("tls", other), f"is needed, too, where there is a {name}; both are PEM files")
    for setting in ("bind", "bind_tls"):
        for index, text in enumerate(getattr(submission, setting)):
            key: KeyPath = ("submission", setting, index)
            if _port(text) is None:
                raise _bad(key, "expected host:port or [v6]:port")
            if not tls.is_there and setting == "bind_tls":
                raise _bad(key, "TLS needs a certificate: set certificate and key in [tls]")
            if not tls.is_there and not is_loopback(text):
                raise _bad(
                    key,
                    "passwords would cross the network in the clear: set certificate and key in [tls], "
                    "or bind to 127.0.0.1 or [::1]",
                )
    _check_buffered("submission", submission, "one member")


def _check_buffered(section: str, ports: SubmissionConfig | InboundConfig, party: str) -> None:
    """A quarter must hold one message and what is read at once, or a large one waits until it is refused."""
    needed = buffered_bytes_least(ports.message_bytes_max)
    if ports.buffered_bytes_max < needed:
        raise _bad((section, "buffered_bytes_max"), f"{party} has a quarter of it: {needed} at least")


def buffered_bytes_least(message_bytes_max: int) -> int:
    """What `buffered_bytes_max` has to be for such messages."""
    return 4 * (message_bytes_max + 64 * 1024)


def _check_inbound(config: Config) -> None:
    inbound = config.inbound
    for index, text in enumerate(inbound.bind):
        if _port(text) is None:
            raise _bad(("inbound", "bind", index), "expected host:port or [v6]:port")
    mailbox = inbound.operator_mailbox
    if mailbox:
        try:
            domain = parse_mailbox_address(mailbox).rpartition("@")[2]
        except AddressError as error:
            raise _bad(("inbound", "operator_mailbox"), str(error)) from error
        if domain == config.operator_domain:
            raise _bad(
                ("inbound", "operator_mailbox"), "mail for it would come back here; name one elsewhere"
            )
    elif inbound.bind:
        sentence = "is needed where [inbound] bind is set: who reads mail to postmaster@ and abuse@?"
        raise _bad(("inbound", "operator_mailbox"), sentence)
    for index, name in enumerate(inbound.feedback_providers):
        if not (is_host_name(name) and name == name.lower()):
            raise _bad(
                ("inbound", "feedback_providers", index), "expected a domain in lower case, as A-labels"
            )
    _check_buffered("inbound", inbound, "one address")


def is_loopback(bind: str) -> bool:
    """Whether a `host:port` that is listened on can be reached from this machine alone."""
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return is_within(parse_address(host), LOOPBACK)
    except ValueError:  # a name
        return host == "localhost"


def _check_route(domain: str, target: str) -> None:
    key = ("delivery", "routes", domain)
    # A route whose name never equals a recipient's domain would be passed over in silence.
    if domain != "*" and not (is_host_name(domain) and domain == domain.lower()):
        raise _bad(key, 'a route is for "*" or a domain in lower case, as A-labels')
    if not _port(target):
        raise _bad(key, "expected host:port or [v6]:port, and a port that can be connected to")


def _check_network(key: KeyPath, text: str) -> None:
    try:
        network = parse_network(text)
    except ValueError as error:
        raise _bad(key, str(error)) from error
    if "trusted_proxies" in key and not network.prefixlen:
        raise _bad(key, "this would believe what anybody says of his own address; name the proxies")


def _bad(key: KeyPath, sentence: str) -> BadValueError:
    return BadValueError(key, f"{dotted(key)}: {sentence}")


_is_base_url = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?").fullmatch
# As `relay.routes.Route` reads it, which has the last word on what it connects to.
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_is_host_and_port = re.compile(
    rf"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?=[^:]{{1,253}}:){_LABEL}(?:\.{_LABEL})*):(?P<port>[0-9]{{1,5}})"
).fullmatch


def _port(value: str) -> int | None:
    """The port of `host:port` or `[v6]:port`; None where it is neither."""
    found = _is_host_and_port(value)
    if found is None or int(found["port"]) > 65535 or (found["v6"] and not _is_v6(found["v6"])):
        return None
    return int(found["port"])


def _is_v6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
