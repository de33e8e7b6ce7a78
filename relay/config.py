"""`DIR/relay.toml`: read once at start-up, checked whole, nothing guessed.

An unknown key or a bad value is a `ConfigError` that names the key, its line, and what was expected. Defaults are
those of SPEC 10.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from relay.addresses import AddressError, parse_domain
from relay.events import BULK_CATEGORIES, TRANSACTIONAL_CATEGORIES

CONFIG_FILE = "relay.toml"

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[int, msgspec.Meta(ge=0)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1)]


class ConfigError(Exception):
    """The configuration cannot be used; the sentence says where and what to do."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class HttpConfig(_Section, frozen=True, kw_only=True):
    bind: str = "127.0.0.1:8025"


class DeliveryConfig(_Section, frozen=True, kw_only=True):
    #: Recipient domain, or "*" for all, -> `host:port`. Without a route the recipient's MX is asked.
    routes: dict[str, str] = {}
    #: How we introduce ourselves (EHLO); the operator domain where empty.
    ehlo_name: str = ""
    connections_max: Count = 100
    connections_per_site_max: Count = 20
    #: Opportunistic TLS: where a handshake fails, deliver in the clear rather than not at all.
    plaintext_after_tls_failure: bool = True


def _default_give_up() -> dict[str, int]:
    return {"login-link": 3600, "mfa-otp": 3600, "password-reset": 86400, "verification": 86400}


class RetryConfig(_Section, frozen=True, kw_only=True):
    #: After attempt 1, 2, 3 ...; the last one repeats.
    delays_seconds: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)] = (
        60,
        300,
        900,
        1800,
        3600,
        7200,
        14400,
        28800,
    )
    give_up_seconds: Count = 432_000
    give_up_seconds_by_category: dict[str, Count] = msgspec.field(default_factory=_default_give_up)


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
    window_hours: Count = 24
    messages_min: Count = 10
    bounce_rate_max: Rate = 0.05
    complaint_rate_max: Rate = 0.0008


class SpoolConfig(_Section, frozen=True, kw_only=True):
    segment_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 64 * 1024 * 1024
    #: Below this much free space the relay accepts nothing more (and goes on delivering).
    free_bytes_min: Seconds = 1024 * 1024 * 1024
    #: The log may not grow beyond this; 0 for no limit.
    bytes_max: Seconds = 0
    retention_days: Count = 30


class ServiceConfig(_Section, frozen=True, kw_only=True):
    #: How long running deliveries may go on after SIGTERM.
    grace_seconds: Seconds = 30


class MembersConfig(_Section, frozen=True, kw_only=True):
    domains_max: Count = 2


class Config(_Section, frozen=True, kw_only=True):
    operator_domain: str
    public_url: str
    require_verified_domains: bool = True
    http: HttpConfig = HttpConfig()
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
        return self.retry.give_up_seconds_by_category.get(category, self.retry.give_up_seconds)


def load_config(directory: Path) -> Config:
    """Read and check `directory/relay.toml`. Raises ConfigError."""
    path = directory / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; `atmos-relay init {directory}` makes a data directory"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return parse_config(text, str(path))


def parse_config(text: str, name: str = CONFIG_FILE) -> Config:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its message ends with line and column
        raise ConfigError(f"{name} is not TOML: {error}") from error
    try:
        config = msgspec.convert(values, Config)
        _check(config)
    except msgspec.ValidationError as error:
        sentence, key = _explain(str(error))
        line = line_of(text, key)
        where = f"{name} line {line}" if line else name
        raise ConfigError(f"{where}: {sentence}") from error
    return config


def _explain(problem: str) -> tuple[str, tuple[str, ...]]:
    """A sentence for people, and the key path, from msgspec's message and its `$.http.bind` path."""
    what, _, path = problem.partition(" - at `$")
    key = tuple(part for part in re.split(r"[.\[\]`]+", path) if part and part != "...")
    unknown = re.search(r"unknown field `([^`]+)`", what)
    if unknown:
        key = (*key, unknown[1])
        return f"{'.'.join(key)} is not a setting that the relay knows", key
    missing = re.search(r"missing required field `([^`]+)`", what)
    if missing:
        return f"{'.'.join((*key, missing[1]))} is missing", key
    return f"{'.'.join(key) or 'the file'}: {what}", key


def line_of(text: str, key: tuple[str, ...]) -> int | None:
    """The line on which a key stands, as far as it can be told without a parser of our own: exact for one-line
    keys below their `[table]` header, the line of the nearest key above it for what is inside an array."""
    table: tuple[str, ...] = ()
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        header = re.match(r"\[+\s*([^\]]+?)\s*\]+", stripped)
        if header and "=" not in stripped.split("#")[0]:
            table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            here = table
        else:
            assigned = re.match(r"([A-Za-z0-9_\-.\"'*]+)\s*=", stripped)
            if not assigned:
                continue
            here = (*table, *(part.strip("\"'") for part in assigned[1].split(".")))
        if key[: len(here)] == here and (best is None or len(here) > best[0]):
            best = (len(here), number)
    return best[1] if best else None


def _check(config: Config) -> None:
    """What the types alone cannot say. Raises msgspec.ValidationError with the path, like the types do."""

    def refuse(path: str, sentence: str) -> None:
        raise msgspec.ValidationError(f"{sentence} - at `$.{path}`")

    try:
        if parse_domain(config.operator_domain) != config.operator_domain:
            refuse("operator_domain", "write the domain in lower case, as A-labels")
    except AddressError as error:
        refuse("operator_domain", str(error))
    if not re.fullmatch(r"https?://[^/\s?#]+", config.public_url):
        refuse("public_url", "expected https://HOST without a path or a final slash")
    _host_and_port(config.http.bind, "http.bind", refuse)
    for domain, target in config.delivery.routes.items():
        port = _host_and_port(target, f"delivery.routes.{domain}", refuse)
        if port == 0:
            refuse(f"delivery.routes.{domain}", "port 0 cannot be connected to")
    for category in config.retry.give_up_seconds_by_category:
        if category not in TRANSACTIONAL_CATEGORIES + BULK_CATEGORIES:
            refuse(f"retry.give_up_seconds_by_category.{category}", "is not a category")
    days = [tier.until_day for tier in config.warming.tiers]
    bounded = [day for day in days[:-1] if day is not None]
    if days[-1] is not None or len(bounded) != len(days) - 1 or bounded != sorted(set(bounded)):
        refuse("warming.tiers", "until_day must grow from tier to tier, and only the last tier has none")


def _host_and_port(value: str, path: str, refuse: Any) -> int:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+)):(\d{1,5})", value)
    if not found or int(found[3]) > 65535:
        refuse(path, "expected host:port or [v6]:port")
        return 0
    return int(found[3])


TEMPLATE = """\
# Atmosphere Mail relay. Checked at start-up: an unknown key or a bad value is named with its line.
# What is commented out shows the default.

# DKIM d=, VERP, SPF include, Feedback-ID. Fixed once the relay has made its keys.
operator_domain = "{operator_domain}"
# Where the world reaches this relay's HTTP side: unsubscribe links.
public_url = "{public_url}"
# Refuse to send from a domain before its DNS records were seen to be right.
require_verified_domains = true

[http]
# Port 0 takes any free one; the address is logged and written to http.address in this directory.
bind = "127.0.0.1:8025"

[delivery]
# A fixed route instead of the recipient's MX: per domain, or "*" for all. Tests and smart hosts.
# routes = {{ "*" = "127.0.0.1:2526" }}
# How the relay introduces itself (EHLO). The reverse DNS of its address should say the same.
# ehlo_name = "{operator_domain}"
# connections_max = 100
# connections_per_site_max = 20
# Opportunistic TLS: where a handshake fails, deliver in the clear rather than not at all.
# plaintext_after_tls_failure = true

[retry]
# After attempt 1, 2, 3 ...; the last one repeats.
# delays_seconds = [60, 300, 900, 1800, 3600, 7200, 14400, 28800]
# give_up_seconds = 432000

# A late one-time code is worse than a bounce.
# [retry.give_up_seconds_by_category]
# login-link = 3600
# mfa-otp = 3600
# password-reset = 86400
# verification = 86400

[spool]
# segment_bytes = 67108864
# Below this much free space nothing more is accepted; delivery goes on.
# free_bytes_min = 1073741824
# The log may not grow beyond this; 0 for no limit.
# bytes_max = 0

[service]
# How long running deliveries may go on after SIGTERM.
# grace_seconds = 30

[members]
# domains_max = 2
"""


def config_template(operator_domain: str, public_url: str) -> str:
    """The file that `init` writes. It parses to a Config with every default."""
    return TEMPLATE.format(operator_domain=operator_domain, public_url=public_url)
