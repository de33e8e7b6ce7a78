"""`relay.toml` is checked whole at start-up: what is wrong is named with its line, and nothing is guessed (SPEC 10)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config import (
    CONFIG_FILE,
    GIVE_UP_SECONDS_BY_CATEGORY,
    Config,
    ConfigError,
    DeliveryConfig,
    RetryConfig,
    ServiceConfig,
    WarmingConfig,
    WarmingTier,
    load_config,
    parse_config,
)
from relay.config_doors import FEEDBACK_PROVIDERS, ConsoleConfig, InboundConfig, SubmissionConfig
from relay.config_nodes import NodesConfig
from relay.config_template import config_template
from relay.core import open_core
from relay.events import BULK_CATEGORIES, TRANSACTIONAL_CATEGORIES
from relay.message.keys import KeyFileError
from relay.routes import Route
from tests.world.relay import OPERATOR_DOMAIN, make_directory

DEFAULTS = Config(operator_domain="relay.example", public_url="https://relay.example")

SPECIFIED = """\
operator_domain = "relay.example"        # DKIM d=, VERP, SPF include, Feedback-ID
public_url = "https://relay.example"     # unsubscribe links
require_verified_domains = true
[http]
bind = "127.0.0.1:8025"                  # port 0 = any free one; the chosen address is logged
[delivery]
routes = { "*" = "127.0.0.1:2526" }      # leave out for MX
[retry]
delays_seconds = [60, 300, 900, 1800, 3600, 7200, 14400, 28800]   # the last one repeats
give_up_seconds = 432000
[retry.give_up_seconds_by_category]
login-link = 3600
[warming]
tiers = [ { until_day = 7, hour = 2, day = 10 }, { until_day = 14, hour = 10, day = 50 }, { hour = 100, day = 1000 } ]
[reputation]
window_hours = 24
messages_min = 10
bounce_rate_max = 0.05
complaint_rate_max = 0.0008
[spool]
segment_bytes = 67108864
free_bytes_min = 1073741824
retention_days = 30
"""

#: Three lines, so that what a test adds begins with line 4.
HEAD = 'operator_domain = "relay.example"\npublic_url = "https://relay.example"\n\n'


# ------------------------------------------------------------------------------------------------ good files


def test_what_init_writes_is_every_default() -> None:
    written = parse_config(config_template("relay.example", "https://relay.example"))
    # But for what only a relay of its own has.
    assert written.console.operator_bind == "127.0.0.1:8026"
    assert "zen.spamhaus.org" in written.monitoring.dnsbl
    own = {"console": DEFAULTS.console, "monitoring": DEFAULTS.monitoring}
    assert msgspec.structs.replace(written, **own) == DEFAULTS


def test_what_init_writes_as_a_comment_is_the_default_too() -> None:
    template = config_template("relay.example", "https://relay.example")
    uncommented = re.sub(r"(?m)^# (?=[a-z_-]+ = |\[|\]|  \{)", "", template)
    shown = set(re.findall(r"(?m)^([a-z_-]+) = ", uncommented))
    assert {"routes", "delays_seconds", "grace_seconds", "domains_max", "mfa-otp"} <= shown
    config = parse_config(uncommented)
    # Three have a default that depends on something else; what is shown is what it comes to here. `sites`, the
    # addresses of SMTP, the operator's mailbox, providers and the files of the certificate are examples.
    assert config.delivery.routes == {"*": "127.0.0.1:2526"}
    assert config.delivery.ehlo_name == DEFAULTS.ehlo_name
    assert set(config.inbound.feedback_providers) <= set(FEEDBACK_PROVIDERS)
    assert config.retry.give_up_seconds_by_category == GIVE_UP_SECONDS_BY_CATEGORY
    assert config == Config(
        operator_domain=DEFAULTS.operator_domain,
        public_url=DEFAULTS.public_url,
        submission=SubmissionConfig(bind=config.submission.bind, bind_tls=config.submission.bind_tls),
        inbound=InboundConfig(
            bind=config.inbound.bind,
            operator_mailbox=config.inbound.operator_mailbox,
            feedback_providers=config.inbound.feedback_providers,
        ),
        tls=config.tls,
        delivery=DeliveryConfig(
            routes=config.delivery.routes,
            ehlo_name=config.delivery.ehlo_name,
            sites=config.delivery.sites,
        ),
        retry=RetryConfig(give_up_seconds_by_category=GIVE_UP_SECONDS_BY_CATEGORY),
        monitoring=config.monitoring,
        console=ConsoleConfig(operator_bind="127.0.0.1:8026"),
        nodes=NodesConfig(),
    )


def test_the_example_of_the_specification_is_the_defaults_and_a_route() -> None:
    config = parse_config(SPECIFIED)
    assert config == Config(
        operator_domain="relay.example",
        public_url="https://relay.example",
        delivery=DeliveryConfig(routes={"*": "127.0.0.1:2526"}),
        retry=RetryConfig(give_up_seconds_by_category={"login-link": 3600}),
    )


def test_give_up_times_are_those_of_the_specification() -> None:
    seconds = {name: DEFAULTS.give_up_seconds(name) for name in TRANSACTIONAL_CATEGORIES + BULK_CATEGORIES}
    assert seconds == {
        "transactional": 432_000,
        "login-link": 3_600,
        "password-reset": 86_400,
        "mfa-otp": 3_600,
        "verification": 86_400,
        "bulk": 432_000,
        "broadcast": 432_000,
    }


def test_naming_one_category_leaves_the_others_as_they_are() -> None:
    config = parse_config(HEAD + "[retry.give_up_seconds_by_category]\nlogin-link = 60\nbulk = 120\n")
    assert config.give_up_seconds("login-link") == 60
    assert config.give_up_seconds("bulk") == 120
    assert config.give_up_seconds("mfa-otp") == 3_600
    assert config.give_up_seconds("broadcast") == 432_000


@pytest.mark.parametrize(
    "settings",
    [
        'http.bind = "[::1]:0"',
        '[http]\nbind = "0.0.0.0:25"',
        '[delivery.routes]\n"example.com" = "mx.example.net:25"\n"*" = "[2001:db8::1]:2526"',
        "[[warming.tiers]]\nhour = 1\nday = 1",
        "[[warming.tiers]]\nuntil_day = 1\nhour = 1\nday = 1\n[[warming.tiers]]\nhour = 2\nday = 2",
        "reputation.bounce_rate_max = 1",
        "spool.free_bytes_min = 0",
        '[service]\nedges = "auto"\ncouriers = 16',
    ],
)
def test_what_is_legal_is_taken(settings: str) -> None:
    parse_config(HEAD + settings)


@settings(derandomize=True)
@given(st.from_regex(r"([a-z0-9._-]{1,9}|\[[0-9a-f:.%]{2,9}\]):[0-9]{1,5}", fullmatch=True))
def test_every_route_that_is_taken_can_be_used(target: str) -> None:
    try:
        config = parse_config(HEAD + f'[delivery.routes]\n"*" = "{target}"\n')
    except ConfigError:
        with pytest.raises(ValueError):
            Route.parse(target)
    else:
        assert Route.parse(config.delivery.routes["*"]).port > 0


@pytest.mark.parametrize(
    ("edges", "couriers", "cores", "processes"),
    [
        (0, 0, 64, (0, 0)),
        (2, 1, 1, (2, 1)),
        ("auto", "auto", 1, (0, 0)),
        ("auto", "auto", 2, (1, 1)),
        ("auto", "auto", 3, (1, 1)),
        ("auto", "auto", 8, (4, 4)),
        ("auto", "auto", 128, (16, 16)),
        ("auto", 0, 2, (1, 0)),
        (0, "auto", 8, (0, 4)),
        ("auto", 2, 2, (0, 2)),
        (7, "auto", 8, (7, 1)),
        (16, "auto", 8, (16, 0)),
    ],
)
def test_how_many_processes_there_are(
    edges: int | Literal["auto"],
    couriers: int | Literal["auto"],
    cores: int,
    processes: tuple[int, int],
) -> None:
    assert ServiceConfig(edges=edges, couriers=couriers).processes(cores) == processes


def test_one_tier_without_until_day_is_legal() -> None:
    config = parse_config(HEAD + "warming = { tiers = [ { hour = 5, day = 9 } ] }")
    assert config.warming == WarmingConfig(tiers=(WarmingTier(hour=5, day=9),))


# ------------------------------------------------------------------------------------------------ bad files

#: settings -> the line that is to be named, the key that is to be named
BAD = [
    # Unknown keys, at every depth and in every spelling.
    ("colour = 1", 4, "colour"),
    ("[htpp]\nbind = 1", 4, "htpp"),
    ("[http]\n\n# a comment\nbnid = 1", 7, "http.bnid"),
    ("http.bnid = 1", 4, "http.bnid"),
    ('http = { bind = "127.0.0.1:1", bnid = 1 }', 4, "http.bnid"),
    ("[retry]\ngive_up_seconds = 5\n[retry.nested]\nx = 1", 6, "retry.nested"),
    ("warming.tiers = [ { hour = 1, day = 1, week = 1 } ]", 4, "warming.tiers[0].week"),
    ("[[warming.tiers]]\nhour = 1\nday = 1\nweek = 1", 7, "warming.tiers[0].week"),
    (
        "[[warming.tiers]]\nuntil_day = 1\nhour = 1\nday = 1\n[[warming.tiers]]\nhour = 1\nday = 1\nweek = 1",
        11,
        "warming.tiers[1].week",
    ),
    # Missing ones.
    (
        "[[warming.tiers]]\nuntil_day = 1\nhour = 1\nday = 1\n[[warming.tiers]]\nhour = 1",
        8,
        "warming.tiers[1].day",
    ),
    # Wrong types.
    ("require_verified_domains = 1", 4, "require_verified_domains"),
    ("[http]\nbind = 8025", 5, "http.bind"),
    ("http = 8025", 4, "http"),
    ("[service]\ngrace_seconds = true", 5, "service.grace_seconds"),
    ("[service]\ngrace_seconds = 1.5", 5, "service.grace_seconds"),
    ('[service]\ngrace_seconds = "30"', 5, "service.grace_seconds"),
    ("[service]\nedges = 17", 5, "service.edges"),
    ("[service]\nedges = 1\ncouriers = -1", 6, "service.couriers"),
    ('[service]\ncouriers = "all"', 5, "service.couriers"),
    ("[service]\nedges = true", 5, "service.edges"),
    ("[retry]\ndelays_seconds = 60", 5, "retry.delays_seconds"),
    ('[retry]\ndelays_seconds = [60, "300"]', 5, "retry.delays_seconds[1]"),
    ("[retry]\ndelays_seconds = [\n  60,\n  0,\n]\ngive_up_seconds = 1", 5, "retry.delays_seconds[1]"),
    ('[delivery]\nroutes = "127.0.0.1:25"', 5, "delivery.routes"),
    ('[delivery.routes]\n"example.com" = "a:1"\n"example.org" = 25', 6, "delivery.routes.example.org"),
    ('[delivery]\nroutes = { "*" = 25 }', 5, "delivery.routes.*"),
    (
        '[retry.give_up_seconds_by_category]\nmfa-otp = 1\nlogin-link = "1 h"',
        6,
        "retry.give_up_seconds_by_category.login-link",
    ),
    # Bad values.
    ("[retry]\ndelays_seconds = []", 5, "retry.delays_seconds"),
    ("[retry]\ngive_up_seconds = 0", 5, "retry.give_up_seconds"),
    (
        "[retry.give_up_seconds_by_category]\nmfa-otp = 1\nnews = 1",
        6,
        "retry.give_up_seconds_by_category.news",
    ),
    ("[reputation]\nbounce_rate_max = 5", 5, "reputation.bounce_rate_max"),
    ("[reputation]\nbounce_rate_max = 0", 5, "reputation.bounce_rate_max"),
    ("[reputation]\nbounce_rate_max = nan", 5, "reputation.bounce_rate_max"),
    ("[spool]\nsegment_bytes = 100", 5, "spool.segment_bytes"),
    ("[spool]\nfree_bytes_min = -1", 5, "spool.free_bytes_min"),
    ("[members]\ndomains_max = 0", 5, "members.domains_max"),
    ('[http]\nbind = "8025"', 5, "http.bind"),
    ('[http]\nbind = "127.0.0.1:65536"', 5, "http.bind"),
    ('[http]\nbind = "127.0.0.1:٣"', 5, "http.bind"),
    ('[http]\nbind = "::1:8025"', 5, "http.bind"),
    ('[http]\nbind = "[1::2::3]:8025"', 5, "http.bind"),
    ('[http]\nbind = "a b:8025"', 5, "http.bind"),
    ('[delivery]\nehlo_name = "localhost"', 5, "delivery.ehlo_name"),
    ('[delivery]\nehlo_name = "a.example\\r\\nMAIL"', 5, "delivery.ehlo_name"),
    ('[delivery.routes]\n"a.example" = "b.example"', 5, "delivery.routes.a.example"),
    (
        '[delivery.routes]\n"a.example" = "b.example:1"\n"c.example" = "b.example:0"',
        6,
        "delivery.routes.c.example",
    ),
    # Names that neither the resolver nor TLS can be asked about without raising ValueError.
    ('[delivery.routes]\n"a.example" = "b..example:25"', 5, "delivery.routes.a.example"),
    ('[delivery.routes]\n"a.example" = ".b.example:25"', 5, "delivery.routes.a.example"),
    (f'[delivery.routes]\n"a.example" = "{"b" * 64}.example:25"', 5, "delivery.routes.a.example"),
    (f'[delivery.routes]\n"a.example" = "{"b." * 127}example:25"', 5, "delivery.routes.a.example"),
    ('[delivery.routes]\n"A.example" = "b.example:1"', 5, "delivery.routes.A.example"),
    ('[delivery.routes]\n"*.example" = "b.example:1"', 5, "delivery.routes.*.example"),
    ('[submission]\nbind = "127.0.0.1:587"', 5, "submission.bind"),
    ("[submission]\nbind = [\n'127.0.0.1:587',\n'127.0.0.1']", 5, "submission.bind[1]"),
    # Off this machine a password needs TLS; names may be anybody's.
    ("[submission]\nbind = ['0.0.0.0:587']", 5, "submission.bind[0]"),
    ("[submission]\nbind = ['[::]:587']", 5, "submission.bind[0]"),
    ("[submission]\nbind = ['[::ffff:0:0]:587']", 5, "submission.bind[0]"),
    ("[submission]\nbind = ['localhost.example:587']", 5, "submission.bind[0]"),
    ("[submission]\nbind_tls = ['127.0.0.1:465']", 5, "submission.bind_tls[0]"),
    ("[submission]\nmessage_bytes_max = 20000000", 5, "submission.message_bytes_max"),
    ("[submission]\nrecipients_max = 99", 5, "submission.recipients_max"),
    ("[submission]\nbuffered_bytes_max = 40000000", 5, "submission.buffered_bytes_max"),
    ("[submission]\nsniff_seconds = -1", 5, "submission.sniff_seconds"),
    ("[submission]\nsniff_seconds = nan", 5, "submission.sniff_seconds"),
    ("[inbound]\nbind = ['0.0.0.0:25']", 4, "inbound.operator_mailbox"),
    ("[inbound]\noperator_mailbox = 'a@b.example'\nbind = ['0.0.0.0']", 6, "inbound.bind[0]"),
    ("[inbound]\noperator_mailbox = 'you'", 5, "inbound.operator_mailbox"),
    ("[inbound]\noperator_mailbox = 'You <you@b.example>'", 5, "inbound.operator_mailbox"),
    ("[inbound]\noperator_mailbox = 'you@Relay.example'", 5, "inbound.operator_mailbox"),
    ("[inbound]\nforward = 'some'", 5, "inbound.forward"),
    ("[inbound]\nfeedback_providers = ['a.example', 'B.example']", 5, "inbound.feedback_providers[1]"),
    ("[inbound]\nfeedback_providers = ['.example']", 5, "inbound.feedback_providers[0]"),
    ("[inbound]\nfeedback_providers = ['com']", 5, "inbound.feedback_providers[0]"),
    ("[inbound]\nmessage_bytes_max = 20000000", 5, "inbound.message_bytes_max"),
    ("[inbound]\nmessage_bytes_max = 65535", 5, "inbound.message_bytes_max"),
    ("[inbound]\nbuffered_bytes_max = 40000000", 5, "inbound.buffered_bytes_max"),
    ("[inbound]\nmessages_per_hour = 0", 5, "inbound.messages_per_hour"),
    ("[warming]\ntiers = []", 5, "warming.tiers"),
    ("[warming]\ntiers = [ { until_day = 7, hour = 1, day = 1 } ]", 5, "warming.tiers"),
    ("[warming]\ntiers = [ { hour = 1, day = 1 }, { hour = 1, day = 1 } ]", 5, "warming.tiers"),
    (
        "[warming]\ntiers = [ { until_day = 7, hour = 1, day = 1 }, { until_day = 7, hour = 1, day = 1 }, "
        "{ hour = 1, day = 1 } ]",
        5,
        "warming.tiers",
    ),
]


@pytest.mark.parametrize(("settings", "line", "key"), BAD)
def test_what_is_wrong_is_named_with_its_line(settings: str, line: int, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(HEAD + settings + "\n", "relay.toml")
    where, _, sentence = str(raised.value).partition(": ")
    assert where == f"relay.toml line {line}"
    assert re.match(rf"{re.escape(key)}(:| is )", sentence)


@pytest.mark.parametrize(
    "line",
    [
        'operator_domain = "localhost"',
        'operator_domain = "Relay.example"',
        'operator_domain = "bücher.example"',
        'operator_domain = "relay.example."',
        "operator_domain = 1",
        'public_url = "relay.example"',
        'public_url = "https://relay.example/"',
        'public_url = "https://relay.example/mail"',
        'public_url = "https://relay.example?x"',
        'public_url = "https://user@relay.example"',
        'public_url = "https://relay.example>"',
        'public_url = "ftp://relay.example"',
        'public_url = "https://"',
    ],
)
def test_a_bad_operator_domain_or_public_url(line: str) -> None:
    key = line.partition(" ")[0]
    text = re.sub(rf"(?m)^{key} = .*$", lambda _: line, HEAD)
    number = 1 + text.split("\n").index(line)
    with pytest.raises(ConfigError, match=rf"^relay\.toml line {number}: {key}: "):
        parse_config(text)


@pytest.mark.parametrize("key", ["operator_domain", "public_url"])
def test_a_required_key_that_is_missing(key: str) -> None:
    text = "".join(line for line in HEAD.splitlines(keepends=True) if not line.startswith(key))
    with pytest.raises(ConfigError, match=rf"^relay\.toml: {key} is missing$"):
        parse_config(text)


def test_a_line_is_counted_past_strings_that_look_like_settings() -> None:
    text = 'public_url = """\n[http]\nbind = 1\n"""\noperator_domain = "relay.example"\n[http]\nbind = 2\n'
    with pytest.raises(ConfigError, match=r"^relay\.toml line 7: http\.bind: "):
        parse_config(text)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("operator_domain\n", "line 1"),
        (HEAD + "[http\n", "line 4"),
        (HEAD + "x = 1\nx = 2\n", "line 5"),
        (HEAD + '[http]\nbind = "', "end of document"),
    ],
)
def test_what_is_not_toml_is_named_with_its_line(text: str, where: str) -> None:
    with pytest.raises(ConfigError, match=rf"^relay\.toml is not TOML: .*{where}"):
        parse_config(text)


@pytest.mark.parametrize(("given", "missing"), [("certificate", "key"), ("key", "certificate")])
def test_half_a_certificate(given: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=rf"tls\.{missing}: is needed, too, where there is a {given}"):
        parse_config(HEAD + f'[tls]\n{given} = "x.pem"\n')


@pytest.mark.parametrize(
    "settings",
    [
        "[submission]\nbind = ['127.0.0.1:587', '[::1]:587', 'localhost:2525', '127.0.0.1:0']",
        "[submission]\nbind = ['0.0.0.0:587']\nbind_tls = ['[::]:465']\n[tls]\ncertificate = 'a'\nkey = 'b'",
    ],
)
def test_where_mail_may_be_submitted(settings: str) -> None:
    assert parse_config(HEAD + settings).submission.is_served


@pytest.mark.parametrize(
    "settings",
    [
        "bind = ['0.0.0.0:25', '[::]:25', '127.0.0.1:0']\noperator_mailbox = 'you@elsewhere.example'",
        "bind = ['0.0.0.0:25']\noperator_mailbox = 'you@mail.relay.example'\nforward = 'off'",
        "bind = ['0.0.0.0:25']\noperator_mailbox = 'you@elsewhere.example'\nfeedback_providers = []",
    ],
)
def test_where_mail_may_come_in(settings: str) -> None:
    """In the clear, too: no password is taken there."""
    assert parse_config(HEAD + f"[inbound]\n{settings}\n").inbound.is_served


# ------------------------------------------------------------------------------------------------ the file itself


def test_a_directory_without_a_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{re.escape(str(tmp_path))}.* does not exist; `atmos-relay init"):
        load_config(tmp_path)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(HEAD.encode() + b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"relay\.toml cannot be read: .*utf-8"):
        load_config(tmp_path)


def test_a_directory_in_the_file_s_place(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).mkdir()
    with pytest.raises(ConfigError, match=r"relay\.toml cannot be read"):
        load_config(tmp_path)


def test_an_error_names_the_file_by_its_path(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text(HEAD + "colour = 1\n")
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(tmp_path / CONFIG_FILE))} line 4: colour "):
        load_config(tmp_path)


def test_the_operator_domain_is_fixed_once_its_keys_exist(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")
    path = directory / CONFIG_FILE
    before = f'operator_domain = "{OPERATOR_DOMAIN}"'
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, 'operator_domain = "new.example"'))

    async def start() -> None:
        async with open_core(directory):
            raise AssertionError("it started")

    with pytest.raises(KeyFileError) as raised:
        trio.run(start)
    said = str(raised.value)
    assert "new.example" in said
    assert OPERATOR_DOMAIN in said
    assert "set operator_domain back" in said
    assert not (directory / "log").exists()
