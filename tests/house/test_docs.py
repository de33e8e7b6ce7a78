"""docs/: every command is run, every code and setting is there, every link leads somewhere."""

from __future__ import annotations

import configparser
import contextlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import typing
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import pytest
import requests
import requests.adapters

from relay.config import CONFIG_FILE, Config, SiteConfig, WarmingTier
from relay.file_names import LOG_DIRECTORY
from relay.refusals import STATUS_OF_CODE
from spool.reader import LogReader
from tests.nodes.beside_a_leader import numbers_of_node
from tests.world.asked_about import asked
from tests.world.daemon import free_port, is_listening, open_daemon_directory, require_daemon, running
from tests.world.pages import DOCS, Example, examples, says
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, make_process_directory
from tests.world.relay import DID, DOMAIN
from tests.world.self_signed import self_signed_pem
from tools.cli import cli

PAGES = sorted(DOCS.glob("*.md"))
#: Pages whose examples have tests of their own, beside those of this module.
ELSEWHERE = {
    "AUDIT.md",
    "BACKUP.md",
    "INBOUND.md",
    "NODES.md",
    "PROVIDERS.md",
    "RETENTION.md",
    "SMTP.md",
    "STREAM.md",
}
HERE = {"SEND_API.md", "DOMAINS.md", "OPERATING.md", "CORRUPTION.md", "WEBHOOKS.md"}


#: Commands of the pages that are not run as they stand, each with the reason.
NOT_RUN = {
    "make demo": "serves until Ctrl-C; tests/tools/test_demo.py runs what it does with ONCE=1",
    "make test": "runs this",
    "make setup": "CI runs it before this",
    "make bench": "takes minutes; benchmarks are no tests",
    "make wheel": "test_wheel.py builds it, of a tag in a clone",
    "pipx install": "asks the package index; test_wheel.py installs the wheel beside what the lock names",
    "git tag": "test_wheel.py does it in a clone",
    "podman build": "test_containerfile.py builds it with buildah",
    "podman run": "test_containerfile.py runs what is built, without an engine",
    "podman exec": "test_containerfile.py runs what is built, without an engine",
    "git clone": "needs a repository's address",
    "adduser": "changes the machine; the unit names the same user",
    "systemctl": "needs systemd as the first process; the unit is verified",
    ".venv/bin/atmos-relay serve": "serves until it is stopped: every test with a process of the relay does that",
    ".venv/bin/atmos-relay member add": "asks the PLC directory; docs/DOMAINS.md runs it with --offline",
    "python -m benchmarks": "as make bench",
    "atmos-relay bounce": "wants a mail that came back: tests/tools/test_bounce.py types it",
    "atmos-relay console": "wants a relay that runs; tests/edges/test_one_console.py types it",
    "atmos-relay completion": "writes where shells look; tests/tools/test_completion.py types in them",
    "atmos-relay complaint": "wants a message: tests/api/test_suppressions.py records one",
}
#: Examples that are meant to find a problem: exit status 1.
PROBLEMS = {
    "atmos-relay log verify TORN",
    "atmos-relay log verify DAMAGED",
    "atmos-relay log repair DAMAGED",
}


def run(example: Example, environment: dict[str, str], *, replace: dict[str, Path] = {}) -> None:  # noqa: B006
    """As a reader would type it. Its exit status is good, and what it prints is what the page says."""
    command = example.command
    for name, directory in replace.items():
        command = re.sub(rf"\b{name}\b", str(directory), command)
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **environment},
    )
    # `log verify TORN` stands twice, before and after the repair.
    wanted = 1 if example.command in PROBLEMS and "nothing is damaged" not in example.output else 0
    assert done.returncode == wanted, (command, done.stdout)
    assert says(example.output, done.stdout), (command, done.stdout)


@pytest.fixture
def typed(tmp_path: Path) -> dict[str, str]:
    """An environment in which `atmos-relay` is this one's."""
    command = tmp_path / "bin" / "atmos-relay"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m relay "$@"\n')
    command.chmod(0o755)
    return {"PATH": f"{command.parent}:{os.environ['PATH']}", "CURL_HOME": str(tmp_path)}


def of(page: str) -> list[Example]:
    found = list(examples((DOCS / page).read_text()))
    assert found, page
    return found


def test_the_send_api(tmp_path: Path, typed: dict[str, str]) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    key = relay.enrol()["Authorization"].removeprefix("Bearer ")
    with relay.running():
        for example in of("SEND_API.md"):
            run(example, {**typed, "RELAY": f"http://{relay.address}", "DID": DID, "KEY": key})


def test_webhooks(tmp_path: Path, typed: dict[str, str]) -> None:
    directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9")
    # Where nobody listens.
    nowhere = f"127.0.0.1:{free_port()}"
    configure(directory, webhooks=f'allow = ["{nowhere}", "{DID} {nowhere}"]')
    relay = RelayProcess(directory)
    key = relay.enrol()["Authorization"].removeprefix("Bearer ")
    with relay.running():
        told = {"RELAY": f"http://{relay.address}", "DID": DID, "KEY": key, "HOOK": f"https://{nowhere}/hook"}
        for example in of("WEBHOOKS.md"):
            run(example, {**typed, **told}, replace={"DIR": directory})


def test_domains(tmp_path: Path, typed: dict[str, str]) -> None:
    directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9")
    for example in of("DOMAINS.md"):
        run(example, typed, replace={"DIR": directory})


def test_operating(tmp_path: Path, typed: dict[str, str]) -> None:
    elsewhere = asked()  # tests/tools/test_five_questions.py
    for example in of("OPERATING.md"):
        if example not in elsewhere:
            run(example, typed, replace={"DIR": tmp_path / "data"})


def test_corruption(tmp_path: Path, typed: dict[str, str]) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    relay.enrol()
    for order in ("suspend", "resume"):  # two more batches
        relay.command("member", order, "--did", DID)
    torn, damaged = tmp_path / "torn", tmp_path / "damaged"
    shutil.copytree(relay.directory, torn)
    with last_segment(torn).open("ab") as file:
        file.write(b"half a record")
    shutil.copytree(relay.directory, damaged)
    with LogReader(damaged / LOG_DIRECTORY) as reader:
        fourth = reader.get(4)
    content = bytearray(last_segment(damaged).read_bytes())
    content[fourth.offset + 100] ^= 1
    last_segment(damaged).write_bytes(content)
    for example in of("CORRUPTION.md"):
        run(example, typed, replace={"DIR": relay.directory, "TORN": torn, "DAMAGED": damaged})


def last_segment(directory: Path) -> Path:
    return max((directory / LOG_DIRECTORY).glob("*.seg"))


def test_the_readme_begins_as_it_says(tmp_path: Path, typed: dict[str, str]) -> None:
    """The commands to run a relay, but for those that are in `NOT_RUN`."""
    commands = [
        line.strip().partition("#")[0].strip()
        for line in (DOCS.parent / "README.md").read_text().splitlines()
        if line.startswith("    .venv/bin/atmos-relay")
    ]
    wanted = [command for command in commands if not reason_not_to_run(command)]
    assert [command.split()[1] for command in wanted] == ["init", "dns"]
    for command in wanted:
        run(
            Example(command.removeprefix(".venv/bin/"), "..."),
            typed,
            replace={"DIR": tmp_path / "data"},
        )


def test_the_readme_names_every_command() -> None:
    rows = re.findall(r"^\| (`[a-z].*?) \| ", (DOCS.parent / "README.md").read_text(), re.MULTILINE)
    named = set()
    for words in re.findall(r"`([^`]*)`", " ".join(row.replace(r"\|", "/") for row in rows)):
        first, *rest = words.split()
        named |= {f"{first} {each}" for each in rest[0].split("/")} if rest else {first}
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        under = command.list_commands(context) if isinstance(command, click.Group) else []
        for words in [f"{name} {each}" for each in under] or [name]:
            assert words in named or (words == "watch" and "watch BASE_URL" in named), words


def reason_not_to_run(command: str) -> str | None:
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_every_command_is_run_or_named_here(page: Path) -> None:
    """Of every block that shows commands: those of `console` blocks are run by this module or the page's own test,
    those of `sh` and `bash` blocks by the page's own test."""
    text = page.read_text()
    if page.name not in ELSEWHERE:
        assert not re.search(r"^```(sh|bash)$", text, re.MULTILINE)
    if "```console" in text:
        assert page.name in HERE | ELSEWHERE
    indented = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for line in indented:
        first = line.split("&&")[0].strip()
        if re.match(
            r"(\.venv/bin/)?(atmos-relay|python -m)|make |curl |git |adduser|systemctl|apt-get|pipx |podman ",
            first,
        ):
            own_test = page.name == "README.md" and re.search(r"atmos-relay (init|dns) ", first)
            assert reason_not_to_run(first) or own_test, first


def test_every_code_is_explained() -> None:
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", (DOCS / "TROUBLESHOOTING.md").read_text(), re.MULTILINE)
    assert {code: int(status) for status, code in rows} == {**STATUS_OF_CODE, "RECIPIENT_SUPPRESSED": 200}


def test_every_setting_is_named_with_its_table() -> None:
    page = (DOCS / "OPERATING.md").read_text()
    rows = dict(re.findall(r"^\| (?:`\[)?([a-z()]+)(?:\]`)? \| (.*) \|$", page, re.MULTILINE))
    tables = {
        field.name: {inner.name for inner in msgspec.structs.fields(type_)}
        for field in msgspec.structs.fields(Config)
        for type_ in typing.get_args(field.type) or [field.type]  # a table that may be left out is none, too
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct)
    }
    tables["(top)"] = {field.name for field in msgspec.structs.fields(Config)} - set(tables)
    tables["delivery"] |= {field.name for field in msgspec.structs.fields(SiteConfig)}
    tables["warming"] |= {field.name for field in msgspec.structs.fields(WarmingTier)}
    for table, settings in tables.items():
        assert set(re.findall(r"`([a-z_]+)`", rows[table])) == settings, table


def test_every_metric_exists(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    with relay.running():
        exposed = requests.get(f"http://{relay.address}/metrics", timeout=PATIENCE_SECONDS).text
    named = re.findall(r"`(atmos_[a-z_]+)`", (DOCS / "OPERATING.md").read_text())
    assert len(named) >= 7
    of_node = numbers_of_node(tmp_path)
    for name in named:
        page = of_node if name.startswith("atmos_node_") else exposed
        assert re.search(rf"^# TYPE {name} ", page, re.MULTILINE), name


def test_the_unit_starts_this_command_and_gives_it_time() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DOCS / "atmos-relay.service")
    service = unit["Service"]
    assert service["ExecStart"].split()[:2] == ["/usr/bin/env", "--ignore-signal=HUP"]
    assert service["ExecStart"].split()[2].endswith("/.venv/bin/atmos-relay")
    assert service["ExecStart"].split()[3] == "serve"
    assert service["ExecStart"].endswith(service["StateDirectory"])
    assert int(service["TimeoutStopSec"]) > 30 + 10
    assert service["Restart"] == "on-failure"
    # Else systemd stops the whole relay when one of its processes was too large.
    assert service["OOMPolicy"] == "continue"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (
        (DOCS / "atmos-relay.service")
        .read_text()
        .replace("/opt/atmos-relay/.venv/bin/atmos-relay", "/bin/true")
    )
    file = tmp_path / "atmos-relay.service"
    file.write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_nginx_in_front(tmp_path: Path, typed: dict[str, str]) -> None:
    nginx = require_daemon("nginx")
    server, behind = _proxy(tmp_path, "nginx")
    (upgrade,) = re.findall(r"`(map \$http_upgrade .*?\})`", (DOCS / "OPERATING.md").read_text())
    with behind.relay.running(), open_daemon_directory("nginx", owner="root") as directory:
        server = _replaced(
            server,
            ("443 ssl", f"127.0.0.1:{behind.port} ssl"),
            ("relay.example;", "localhost;"),
            ("/etc/letsencrypt/live/relay.example/fullchain.pem", str(behind.pem)),
            ("/etc/letsencrypt/live/relay.example/privkey.pem", str(behind.pem)),
            ("127.0.0.1:8025", behind.relay.address),
        )
        config = directory / "nginx.conf"
        config.write_text(
            f"daemon off; user root; pid {directory}/pid; error_log stderr;\n"
            f"events {{}}\nhttp {{ access_log off; {upgrade}\n{server} }}\n"
        )
        command = [nginx, "-p", str(directory), "-c", str(config)]
        with running(command, directory, ready=lambda: is_listening(behind.port)):
            behind.send_and_watch(typed)


def test_caddy_in_front(tmp_path: Path, typed: dict[str, str]) -> None:
    caddy = require_daemon("caddy")
    site, behind = _proxy(tmp_path, "caddyfile")
    with behind.relay.running(), open_daemon_directory("caddy", owner="root") as directory:
        site = _replaced(
            site,
            # Caddy would have its certificate from an authority that is not on loopback.
            (
                "relay.example {",
                f"localhost:{behind.port} {{\n    bind 127.0.0.1\n    tls {behind.pem} {behind.pem}",
            ),
            ("127.0.0.1:8025", behind.relay.address),
        )
        config = directory / "Caddyfile"
        config.write_text(
            f"{{\n    admin off\n    auto_https disable_redirects\n    storage file_system {directory}\n}}\n{site}"
        )
        # It keeps a copy of its configuration in a directory of the user's.
        ours = ["env", f"XDG_CONFIG_HOME={directory}"]
        command = [*ours, caddy, "run", "--config", str(config), "--adapter", "caddyfile"]
        with running(command, directory, ready=lambda: is_listening(behind.port)):
            behind.send_and_watch(typed)


class _FromElsewhere(requests.adapters.HTTPAdapter):
    """From an address of loopback that is not the proxy's."""

    ADDRESS = "127.0.0.2"

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more, source_address=(self.ADDRESS, 0))


class _Behind(NamedTuple):
    """A relay that a proxy is to stand before."""

    relay: RelayProcess
    key: str
    #: Certificate and key of the proxy, and where it is to listen.
    pem: Path
    port: int

    def send_and_watch(self, typed: dict[str, str]) -> None:
        """A big send goes through the proxy, and so does the stream, over TLS. The relay knows whose it is, and how the
        relay fares is nobody's business."""
        base = f"https://localhost:{self.port}"
        session = requests.Session()
        session.mount("https://", _FromElsewhere())
        for path in ("/metrics", "/readyz", "/%6detrics", "//metrics"):
            answer = session.get(f"{base}{path}", verify=self.pem, timeout=PATIENCE_SECONDS)
            assert (path, answer.status_code) == (path, 404)
        answer = session.get(f"{base}/healthz", verify=self.pem, timeout=PATIENCE_SECONDS)
        assert answer.json() == {"status": "live"}
        answer = session.post(
            f"{base}/v1/send",
            headers={
                "X-Atmos-DID": DID,
                "Authorization": f"Bearer {self.key}",
                "X-Forwarded-For": "203.0.113.7",  # nobody believes it
            },
            json={"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "", "text": "x" * 900_000},
            verify=self.pem,
            timeout=PATIENCE_SECONDS,
        )
        assert answer.status_code == 200, answer.text
        (accepted,) = (
            event
            for event in map(json.loads, self.relay.command("log", "cat", "--json").splitlines())
            if event["type"] == "send.accepted"
        )
        assert _FromElsewhere.ADDRESS in json.dumps(accepted)
        assert "203.0.113.7" not in json.dumps(accepted)
        variables = {"ATMOS_DID": DID, "ATMOS_KEY": self.key, "SSL_CERT_FILE": str(self.pem)}
        with subprocess.Popen(
            ["atmos-relay", "watch", base, "--cursor", "0", "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **typed, **variables},
        ) as process:
            try:
                assert process.stdout is not None
                assert '"member.added"' in process.stdout.readline()
            finally:
                process.kill()


def _proxy(tmp_path: Path, language: str) -> tuple[str, _Behind]:
    """The page's configuration of a proxy, and the relay that is to be behind it."""
    page = (DOCS / "OPERATING.md").read_text()
    (config,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    pem = tmp_path / "pem"
    pem.write_bytes(self_signed_pem("localhost"))
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    key = relay.enrol()["Authorization"].removeprefix("Bearer ")
    return config, _Behind(relay, key, pem, free_port())


def _replaced(config: str, *replacements: tuple[str, str]) -> str:
    """The names, ports and files of the page by those that are here; all else stays."""
    for before, after in replacements:
        assert before in config
        config = config.replace(before, after)
    return config


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in [
        *re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text),
        *re.findall(r'src(?:set)?="([^"]+)"', text),
    ]:
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
    headings = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_every_page_is_listed() -> None:
    listed = re.findall(r"\]\((\w+\.md)\)", (DOCS / "README.md").read_text())
    assert sorted([*listed, "README.md"]) == [page.name for page in PAGES]


def test_the_floors_of_the_page_are_those_that_are_checked() -> None:
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    (contract,) = (
        each for each in project["tool"]["importlinter"]["contracts"] if each.get("containers") == ["relay"]
    )
    floor_of = {
        name: floor for floor, names in enumerate(contract["layers"]) for name in re.findall(r"\w+", names)
    }
    (table,) = re.findall(
        r"^\| room or file \|.*?\n\n", (DOCS / "ARCHITECTURE.md").read_text(), re.MULTILINE | re.DOTALL
    )
    named = [
        name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"\w+", row)
    ]
    assert sorted(named) == sorted(floor_of)
    assert named == sorted(named, key=lambda name: floor_of[name])


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_what_a_page_names_of_the_source_is_there(page: Path) -> None:
    """Files, and modules with what is in them. Modules move; pages that name them must follow."""
    root = DOCS.parent
    for name in re.findall(
        r"`((?:benchmarks|docs|locks|relay|spool|tests|tools)(?:/[\w.-]+)*/?)`", page.read_text()
    ):
        assert (root / name).exists(), name
    for name in re.findall(r"`((?:relay|spool|tools)(?:\.\w+)+)`", page.read_text()):
        assert name == CONFIG_FILE or _is_there(name), name


def _is_there(name: str) -> bool:
    """Whether there is such a module, or such a thing in one."""
    module, _, inside = name.rpartition(".")
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(name)
        return True
    with contextlib.suppress(ModuleNotFoundError):
        return hasattr(importlib.import_module(module), inside)
    return False


def test_the_consoles_pictures_are_small_and_shown() -> None:
    """What `make screenshots` takes, of each page one."""
    page = (DOCS / "CONSOLE.md").read_text()
    pictures = sorted((DOCS / "console").glob("*.png"))
    assert {f"console/{each.name}" for each in pictures} == set(re.findall(r"console/[\w-]+\.png", page))
    assert all(each.stat().st_size <= 100_000 for each in pictures)
