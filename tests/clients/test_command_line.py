"""swaks, curl and msmtp, and nmap's scripts, as Debian has them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from tests.world.arrived import assert_arrived, assert_signed
from tests.world.daemon import require_program
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import DID, DOMAIN
from tests.world.smtp_relay import FRIEND, SENDER, SmtpRelay, accepted_ids, mail, open_smtp_relay


def shown(
    command: Sequence[str], *, octets: bytes | None = None, status: int = 0, tail: Sequence[str] = ()
) -> str:
    """What a program writes, which ends as expected."""
    done = subprocess.run(
        [*command, *tail],
        input=octets,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_SECONDS,
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == status, text
    return text


def swaks(world: SmtpRelay, *options: str, user: str = DOMAIN, key: str = "", status: int = 0) -> str:
    return shown(
        [
            *(require_program("swaks"), "--server", "localhost", "--from", SENDER, "--to", FRIEND),
            *("--auth-user", user, "--auth-password", key or world.key, *options),
        ],
        status=status,
    )


def test_swaks(tmp_path: Path) -> None:
    require_program("swaks")

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            starttls, tls = str(world.starttls.number), str(world.tls.number)
            trust = ("--tls-verify", "--tls-ca-path", str(world.certificate))
            file = tmp_path / "mail"
            handed_in: dict[int, bytes] = {}
            ways = {
                "plain": ("--port", starttls, "--tls", *trust, "--auth", "PLAIN"),
                "login": ("--port", starttls, "--tls", *trust, "--auth", "LOGIN"),
                "pipeline": ("--port", starttls, "--tls", *trust, "--auth", "PLAIN", "--pipeline"),
                "at once": ("--port", tls, "--tls-on-connect", *trust, "--auth", "PLAIN"),
                "sniffed": ("--port", starttls, "--tls-on-connect", *trust, "--auth", "LOGIN"),
                "in the clear": ("--port", starttls, "--auth", "PLAIN"),
            }
            for name, options in ways.items():
                file.write_bytes(mail(f"{name}\r\n.\r\n..x"))
                said = await world.run(swaks, world, *options, "--data", f"@{file}")
                (message_id,) = accepted_ids(said)
                handed_in[message_id] = file.read_bytes()
            messages = await world.mx.wait_messages(len(ways))
            for message, (message_id, octets) in zip(
                sorted(messages, key=lambda message: int(message.mail_from.split("-")[0][8:])),
                handed_in.items(),
                strict=True,
            ):
                # swaks ends what it sends with a line end of its own.
                assert_arrived(message, octets + b"\r\n", message_id)
            await world.run(assert_signed, world.relay, messages)

            # 28: no way to log in; 24: none of the recipients; 26: the message was refused.
            said = await world.run(swaks, world, *ways["plain"], key="wrong", status=28)
            assert "535 5.7.8 " in said
            said = await world.run(swaks, world, *ways["plain"], "--to", "x@y..example", status=24)
            assert "553 5.1.3 " in said
            said = await world.run(swaks, world, *ways["plain"], "--header", "X-Atmos-Category: x", status=26)
            assert "554 5.6.0 " in said

    trio.run(main)


@pytest.mark.parametrize("user", [DOMAIN, DID])
def test_curl(tmp_path: Path, user: str) -> None:
    require_program("curl")

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            file = tmp_path / "mail"
            urls = {
                "STARTTLS": (f"smtp://localhost:{world.starttls.number}/client.test", "--ssl-reqd"),
                "TLS": (f"smtps://localhost:{world.tls.number}/client.test",),
                "sniffed": (f"smtps://localhost:{world.starttls.number}/client.test",),
            }
            for index, (name, url) in enumerate(urls.items()):
                file.write_bytes(mail(name))
                # An option, for `--user` ends the name at the first colon.
                login = [
                    "--login-options",
                    "AUTH=PLAIN",
                    "--user",
                    f"{user}:{world.key}",
                ]
                command = [
                    *("curl", "--silent", "--verbose", "--cacert", str(world.certificate), *login),
                    *("--mail-from", SENDER, "--mail-rcpt", FRIEND, "--mail-rcpt", "b@example.org"),
                    *("--upload-file", str(file), *url),
                ]
                ids = accepted_ids(await world.run(shown, command))
                assert len(ids) == 2
                for message in (await world.mx.wait_messages(2 * index + 2))[-2:]:
                    assert_arrived(message, file.read_bytes(), ids[message.rcpt_to == ("b@example.org",)])

    trio.run(main)


def test_msmtp(tmp_path: Path) -> None:
    program = require_program("msmtp")

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            configuration = tmp_path / "msmtprc"

            def write(port: int, starttls: str, key: str) -> None:
                configuration.write_text(
                    f"account relay\nhost localhost\nport {port}\ntls on\ntls_starttls {starttls}\n"
                    f"tls_trust_file {world.certificate}\nauth on\nuser {DOMAIN}\npassword {key}\n"
                    f"from {SENDER}\naccount default : relay\n"
                )
                configuration.chmod(0o600)

            command = [program, "--debug", f"--file={configuration}", "--read-recipients"]
            handed_in = mail(".\r\nx", to=f"{FRIEND}", fields="Bcc: hidden@example.org\r\n")
            for count, (port, starttls) in enumerate(
                [(world.starttls, "on"), (world.tls, "off"), (world.starttls, "off")], 1
            ):
                write(port.number, starttls, world.key)
                # Each a mail of its own.
                octets = handed_in.replace(b"<1@", b"<%d@" % count)
                said = await world.run(shown, command, octets=octets.replace(b"\r\n", b"\n"))
                ids = accepted_ids(said)
                for message in (await world.mx.wait_messages(2 * count))[-2:]:
                    message_id = ids[message.rcpt_to == ("hidden@example.org",)]
                    assert_arrived(message, octets, message_id, removed=["Bcc"])
            write(world.tls.number, "off", "wrong")
            # EX_NOPERM
            assert "535 5.7.8 " in await world.run(shown, command, octets=handed_in, status=77)

    trio.run(main)


def test_nmap_finds_no_open_relay(tmp_path: Path) -> None:
    program = require_program("nmap")

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            said = await world.run(
                shown,
                [program, "-Pn", "-n", "-p", str(world.starttls.number), "-v"],
                tail=["--script", "+smtp-open-relay,+smtp-commands", "127.0.0.1"],
            )
            offered = "PIPELINING, SIZE 10485760, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES, STARTTLS"
            assert f"smtp-commands: relay.example, {offered}, AUTH PLAIN LOGIN" in said
            assert "smtp-open-relay: Server isn't an open relay, authentication needed" in said
            assert world.mx.messages == []

    trio.run(main)
