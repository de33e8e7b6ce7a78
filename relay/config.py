"""`DIR/relay.toml`: read at start-up and at SIGHUP (`relay.settings`), checked whole, nothing guessed.

Where it has `[nodes]`, this machine is one of several, and `DIR/node.toml` has what is its own (`relay.config_nodes`).
One without the other is refused: as one machine of its own, it would go on beside the others.

An unknown key or a bad value is a `ConfigError` that names the key, its line, and what was expected. Defaults are
those of SPEC 10.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from relay.addresses import AddressError, is_host_name, parse_domain
from relay.addresses import parse_address as parse_mailbox_address
from relay.config_doors import (
    LARGEST,
    Bound,
    ConsoleConfig,
    Count,
    HttpConfig,
    InboundConfig,
    Section,
    SubmissionConfig,
    TlsConfig,
)
from relay.config_nodes import (
    NODE_FILE,
    NodeConfig,
    NodesConfig,
    check_nodes,
    check_own,
    keeping_own,
    nested,
    with_own,
)
from relay.events import BULK_CATEGORIES, TRANSACTIONAL_CATEGORIES
from relay.networks import LOOPBACK, Family, is_within, parse_address, parse_network
from relay.routes import port_of
from relay.toml_lines import BadValueError, KeyPath, convert, dotted, line_of
from relay.webhook_targets import WebhooksConfig, bad_entries

T = TypeVar("T")

CONFIG_FILE = "relay.toml"

CONFIG_BYTES_MAX = 1024 * 1024

#: At most a hundred years.
Seconds = Annotated[int, msgspec.Meta(ge=0, le=100 * 365 * 86400)]
Delay = Annotated[int, msgspec.Meta(ge=1, le=100 * 365 * 86400)]
PROCESSES_MAX = 16
#: Of one role; "auto": what the machine has.
Processes = Annotated[int, msgspec.Meta(ge=0, le=PROCESSES_MAX)] | Literal["auto"]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1)]


class ConfigError(Exception):
    """The configuration cannot be used; the sentence says where and what to do."""


class SiteConfig(Section, frozen=True, kw_only=True):
    """Limits for one provider; what is left out is as for everybody."""

    connections_max: Count | None = None
    #: 0 for no limit.
    messages_per_minute_max: Bound = 0


class DeliveryConfig(Section, frozen=True, kw_only=True):
    #: Recipient domain, or "*" for all, -> `host:port`. Without a route the recipient's MX is asked.
    routes: dict[str, str] = msgspec.field(default_factory=dict)
    #: How we introduce ourselves (EHLO); the operator domain where empty.
    ehlo_name: str = ""
    #: By which kinds of addresses it goes to receivers, the first where both can be had.
    families: Annotated[tuple[Family, ...], msgspec.Meta(min_length=1, max_length=2)] = ("ipv4",)
    connections_max: Count = 500
    connections_per_site_max: Count = 20
    #: Less than `connections_max`, or one member can hold up all others.
    connections_per_member_max: Count = 250
    #: Of the whole relay; 0 for no limit.
    messages_per_minute_max: Bound = 0
    #: MX host, or a domain that has it below it, or a route's target -> limits of those sites. The longest name wins.
    sites: dict[str, SiteConfig] = msgspec.field(default_factory=dict)
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


class RetryConfig(Section, frozen=True, kw_only=True):
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
    give_up_seconds_by_category: dict[str, Delay] = msgspec.field(default_factory=dict)


class WarmingTier(Section, frozen=True, kw_only=True):
    #: The first day of the domain's life to which this tier no longer applies; the last tier has none.
    until_day: Count | None = None
    hour: Count
    day: Count


class WarmingConfig(Section, frozen=True, kw_only=True):
    tiers: Annotated[tuple[WarmingTier, ...], msgspec.Meta(min_length=1)] = (
        WarmingTier(until_day=7, hour=2, day=10),
        WarmingTier(until_day=14, hour=10, day=50),
        WarmingTier(hour=100, day=1000),
    )


class ReputationConfig(Section, frozen=True, kw_only=True):
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


class MonitoringConfig(Section, frozen=True, kw_only=True):
    """What the relay watches of the world, and tells the operator."""

    #: Zones of lists (DNSBL, RFC 5782) that are asked for the relay's own addresses; none: none is asked.
    dnsbl: tuple[str, ...] = ()
    #: The same for domains: the operator's and the members'.
    dnsbl_domains: tuple[str, ...] = ()
    #: Alarms by mail go to `[inbound] operator_mailbox` and to the members whom they concern.
    mail_alarms: bool = True


class SpoolConfig(Section, frozen=True, kw_only=True):
    segment_bytes: Annotated[int, msgspec.Meta(ge=4096, le=LARGEST)] = 64 * 1024 * 1024
    #: Below this much free space the relay accepts nothing more (and goes on delivering).
    free_bytes_min: Bound = 1024 * 1024 * 1024
    #: The log may not grow beyond this; 0 for no limit.
    bytes_max: Bound = 0
    retention_days: Count = 30


class ServiceConfig(Section, frozen=True, kw_only=True):
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


class MembersConfig(Section, frozen=True, kw_only=True):
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


class Config(Section, frozen=True, kw_only=True):
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
    monitoring: MonitoringConfig = MonitoringConfig()
    console: ConsoleConfig = ConsoleConfig()
    spool: SpoolConfig = SpoolConfig()
    service: ServiceConfig = ServiceConfig()
    members: MembersConfig = MembersConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    #: None: there is one machine.
    nodes: NodesConfig | None = None

    @property
    def ehlo_name(self) -> str:
        return self.delivery.ehlo_name or self.operator_domain

    def give_up_seconds(self, category: str) -> int:
        by_category = {**GIVE_UP_SECONDS_BY_CATEGORY, **self.retry.give_up_seconds_by_category}
        return by_category.get(category, self.retry.give_up_seconds)


def load_config(directory: Path, *, instead_of: Config | None = None) -> Config:
    """Read and check `directory/relay.toml`, which is to follow the other where one is in force, and where it has
    `[nodes]`, what this machine has for itself. Raises ConfigError."""
    path = directory / CONFIG_FILE
    text = _text_of(path)
    if text is None:
        if directory.is_dir() and any(directory.iterdir()):
            raise ConfigError(
                f"{path} does not exist, and {directory} is not empty: if `init`, `node join` or `log restore` was to "
                "make a data directory there and was broken off, give that command again"
            )
        raise ConfigError(f"{path} does not exist; `atmos-relay init {directory}` makes a data directory")
    config = parse_config(text, str(path), instead_of=instead_of)
    if config.nodes is not None:
        return _with_own(config, directory)
    if (directory / NODE_FILE).exists():
        raise ConfigError(
            f"{path} has no [nodes], and there is {NODE_FILE}: this is one of several machines, which would go on by "
            f"itself. Put [nodes] back, or go back to one machine by `atmos-relay node leave {directory} --alone`"
        )
    return config


def config_by_rules_of(settings: dict[str, Any], own: Config) -> Config:
    """The configuration of a node that has these `common_settings` of another one, and what is its own as in `own`.
    Raises ConfigError."""
    try:
        config = keeping_own(convert(nested(settings), Config), own)
        _check(config)
    except (BadValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"the rules of another node cannot be used here: {error}") from error
    if config.operator_domain != own.operator_domain:
        raise ConfigError(f"the operator_domain of another node is {config.operator_domain}")
    return config


def load_node(directory: Path) -> NodeConfig:
    """Read and check `directory/node.toml`, which is there where `relay.toml` has `[nodes]`. Raises ConfigError."""
    return _load_node(directory)[0]


def parse_node(text: str, name: str = NODE_FILE) -> NodeConfig:
    """As `load_node`, without what it says in place of `relay.toml`, which is checked with that."""
    return _parse(text, name, NodeConfig, check_own)


def _load_node(directory: Path) -> tuple[NodeConfig, str]:
    path = directory / NODE_FILE
    text = _text_of(path)
    if text is None:
        raise ConfigError(
            f"{path} does not exist, and {CONFIG_FILE} has [nodes]: write this machine's name, database, bind and "
            "address there (docs/NODES.md)"
        )
    return parse_node(text, str(path)), text


def _with_own(config: Config, directory: Path) -> Config:
    own, text = _load_node(directory)
    composed = with_own(config, own)
    try:
        _check(composed)
    except BadValueError as error:
        raise _named(error, text, str(directory / NODE_FILE)) from error
    return composed


def _text_of(path: Path) -> str | None:
    """None: there is no such file."""
    try:
        found = path.stat()
        # Who opens a pipe may wait for ever.
        if not stat.S_ISREG(found.st_mode) or found.st_size > CONFIG_BYTES_MAX:
            raise ConfigError(f"{path} cannot be read: it is no file of at most {CONFIG_BYTES_MAX} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def parse_config(text: str, name: str = CONFIG_FILE, *, instead_of: Config | None = None) -> Config:
    def check(config: Config) -> None:
        _check(config)
        if instead_of is not None and config.operator_domain != instead_of.operator_domain:
            sentence = f"is fixed once its keys exist; it was {instead_of.operator_domain}"
            raise _bad(("operator_domain",), sentence)

    return _parse(text, name, Config, check)


def _parse(text: str, name: str, type_: type[T], check: Callable[[T], None]) -> T:
    """As `type_`, checked; what is wrong is a ConfigError that names the line."""
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{name} is not TOML: too many brackets within each other") from None
    except ValueError as error:  # mostly TOMLDecodeError, whose message ends with line and column
        raise ConfigError(f"{name} is not TOML: {error}") from error
    try:
        config = convert(values, type_)
        check(config)
    except BadValueError as error:
        raise _named(error, text, name) from error
    return config


def _named(error: BadValueError, text: str, name: str) -> ConfigError:
    line = line_of(text, error.key)
    return ConfigError(f"{name} line {line}: {error}" if line else f"{name}: {error}")


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
    if port_of(config.http.bind) is None:
        raise _bad(("http", "bind"), "expected host:port or [v6]:port")
    if config.console.operator_bind and port_of(config.console.operator_bind) is None:
        raise _bad(("console", "operator_bind"), 'expected host:port or [v6]:port, or "" for no console')
    for setting in ("dnsbl", "dnsbl_domains"):
        for index, zone in enumerate(getattr(config.monitoring, setting)):
            if not (is_host_name(zone) and zone == zone.lower()):
                raise _bad(("monitoring", setting, index), "expected the zone of a list, in lower case")
    _check_submission(config.submission, config.tls)
    _check_inbound(config)
    if config.nodes is not None:
        check_nodes(config.nodes)
    for setting in ("trusted_proxies", "monitors"):
        for index, text in enumerate(getattr(config.http, setting)):
            _check_network(("http", setting, index), text)
    if config.delivery.ehlo_name and not is_host_name(config.delivery.ehlo_name):
        raise _bad(("delivery", "ehlo_name"), "expected a host name of two labels or more")
    for domain, target in config.delivery.routes.items():
        _check_route(domain, target)
    for name in config.delivery.sites:
        if not (port_of(name) or (is_host_name(name) and name == name.lower())):
            sentence = "expected an MX host or a domain above it, in lower case, or the host:port of a route"
            raise _bad(("delivery", "sites", name), sentence)
    for index, problem in bad_entries(config.webhooks.allow):
        raise _bad(("webhooks", "allow", index), problem)
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
            if port_of(text) is None:
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
        if port_of(text) is None:
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
    if not port_of(target):
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
