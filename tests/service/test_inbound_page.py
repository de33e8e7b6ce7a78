"""docs/INBOUND.md: each of its blocks is taken as it stands, with a test's names in the place of the page's."""

from __future__ import annotations

import json
import re
import shlex
import smtplib
import ssl
import tomllib
from pathlib import Path

import dns.zone
import pytest
import trio

from relay.config import load_config
from relay.config_doors import FEEDBACK_PROVIDERS
from tests.world.inbound_relay import InboundRelay, make_inbound_directory, running_inbound_relay
from tests.world.mx import Mx, open_mx
from tests.world.pages import DOCS, examples, says
from tests.world.process import PATIENCE_SECONDS, configure
from tests.world.relay import OPERATOR_DOMAIN
from tests.world.self_signed import self_signed_pem

PAGE = (DOCS / "INBOUND.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
REAL = Path(__file__).parents[1] / "reports" / "real"


def of(kind: str) -> list[str]:
    return [text for name, text in BLOCKS if name == kind]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {kind for kind, _ in BLOCKS} == {"zone", "toml", "json", "console"}
    assert PAGE.count("\n```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("block", of("toml"))
def test_settings_are_taken(tmp_path: Path, block: str) -> None:
    directory = make_inbound_directory(tmp_path / "data", route="127.0.0.1:9")
    for table, settings in tomllib.loads(block).items():
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
        configure(directory, **{table: lines})
        taken = getattr(load_config(directory), table)
        for name, value in settings.items():
            assert getattr(taken, name) == (tuple(value) if isinstance(value, list) else value)


def test_the_records_are_those_that_the_relay_prints(tmp_path: Path) -> None:
    directory = make_inbound_directory(tmp_path / "data", route="127.0.0.1:9")
    printed = InboundRelay(directory).run_command("dns", str(directory)).stdout.splitlines()
    operators, members = of("zone")
    assert operators.strip() in printed
    for zone in (operators, members):
        name = zone.split()[0]
        assert dns.zone.from_text(zone, origin=name, check_origin=False)


def test_a_relay_with_the_page_s_settings_offers_starttls(tmp_path: Path) -> None:
    settings, tls = (tomllib.loads(block) for block in of("toml")[:2])
    directory = make_inbound_directory(tmp_path / "data", route="127.0.0.1:9")
    pem = directory / "tls.pem"
    pem.touch(0o600)
    pem.write_bytes(self_signed_pem("localhost", days=60))
    assert set(tls["tls"]) == {"certificate", "key"}
    configure(
        directory,
        inbound=f'operator_mailbox = "{settings["inbound"]["operator_mailbox"]}"',
        tls='certificate = "tls.pem"\nkey = "tls.pem"',
    )
    relay = InboundRelay(directory)
    with relay.running(), smtplib.SMTP("localhost", relay.port, timeout=PATIENCE_SECONDS) as client:
        ca = tmp_path / "ca.pem"
        ca.write_bytes(pem.read_bytes()[pem.read_bytes().index(b"-----BEGIN CERTIFICATE") :])
        client.starttls(context=ssl.create_default_context(cafile=str(ca)))
        client.ehlo("stranger.test")
        # Each of the addresses that the page names is there, and no other.
        client.mail("")
        for local in re.findall(
            r"`(\w+)@", PAGE.partition("`operator_mailbox` is where")[2].partition(" of the")[0]
        ):
            assert client.rcpt(f"{local}@{OPERATOR_DOMAIN}")[0] == 250, local
        assert client.rcpt(f"hostmaster@{OPERATOR_DOMAIN}")[0] == 550
        client.docmd("RSET")


def test_the_commands_say_what_the_page_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            await trio.to_thread.run_sync(run_commands, tmp_path, mx)

    trio.run(main)


def run_commands(tmp_path: Path, mx: Mx) -> None:
    with running_inbound_relay(tmp_path / "data", route=mx.address) as relay:
        message_id = relay.send("friend@example.com")
        relay.wait_sent(message_id)
        # What OpenSMTPD said of another mail, with the token of this one.
        token = relay.bounce_address(message_id).partition("@")[0].partition("+")[2]
        mail = (REAL / "opensmtpd-unknown.eml").read_bytes()
        mail = re.sub(rb"[0-9]+-[a-z2-7]{16}", token.encode(), mail)
        file = tmp_path / "bounce.eml"
        file.write_bytes(mail)
        said = [
            (example, relay.run_command(*words_of(example.command, relay.directory, file)))
            for example in examples(PAGE)
        ]
        assert [example.command.split()[2] for example, _ in said] == ["paste", "record", "record"]
        for example, done in said:
            assert says(example.output, done.stdout), done.stdout
            assert done.returncode == 0, done
        (report,) = relay.message(message_id)["reports"]
        (shown,) = json.loads(of("json")[0])
        assert {name: type(value) for name, value in shown.items()} == {
            name: type(value) if name != "remoteMta" else str for name, value in report.items()
        }
        assert (report["reportedAction"], report["advice"]) == ("failed", shown["advice"])
        assert relay.stop() == 0


def words_of(command: str, directory: Path, file: Path) -> list[str]:
    """The arguments of `atmos-relay`."""
    named = {"DIR": str(directory), "bounce.eml": str(file)}
    program, *words = shlex.split(command)
    assert program == "atmos-relay"
    return [named.get(word, word) for word in words]


def test_what_the_page_says_of_the_bounds_is_so(tmp_path: Path) -> None:
    inbound = load_config(make_inbound_directory(tmp_path / "data", route="127.0.0.1:9")).inbound
    for setting, shown in re.findall(r"`([a-z_]+)` \((\d+)(?: MiB)?\)", PAGE):
        value = getattr(inbound, setting)
        assert value in (int(shown), int(shown) * 1024 * 1024), setting
    assert "arf.mail.yahoo.com" in FEEDBACK_PROVIDERS
