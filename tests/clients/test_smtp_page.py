"""docs/SMTP.md: each of its blocks is taken as it stands, with a test's relay in the place of the page's, and a mail is
sent by it: by the program itself where that can be run here, else by a client that is given the same values."""

from __future__ import annotations

import json
import os
import re
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest
import trio

from relay.reception.refused import TABLE
from tests.clients.test_postfix_relayhost import running_relayhost
from tests.world.arrived import assert_signed
from tests.world.daemon import require_daemon, require_file, require_program
from tests.world.pages import DOCS
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import DOMAIN
from tests.world.smtp_relay import FRIEND, SmtpRelay, mail, open_smtp_relay

PAGE = (DOCS / "SMTP.md").read_text()
BLOCKS: dict[str, str] = dict(re.findall(r"^```\w+ (\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
NODE = Path(__file__).parent / "node"
#: Apart from what we run on.
FRAMEWORKS = Path(sys.prefix) / "frameworks"

Send = Callable[[SmtpRelay, str, Path], None]


def filled(world: SmtpRelay, text: str) -> str:
    """What a member makes of a block."""
    for placeholder, value in (
        ("relay.example", "localhost"),
        ("example.com", DOMAIN),
        ("atmos_KEY", world.key),
        ("465", str(world.tls.number)),
        ("587", str(world.starttls.number)),
    ):
        text = text.replace(placeholder, value)
    return text


# ------------------------------------------------------------------------------------------------ the programs


def by_node(script: str, world: SmtpRelay, *arguments: str) -> None:
    require_file(NODE / "node_modules" / "nodemailer", "make tests/clients/node/node_modules/.ready")
    subprocess.run(
        [require_program("node", package="nodejs"), "-e", script, *arguments],
        cwd=NODE,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(world.certificate)},
        check=True,
        timeout=PATIENCE_SECONDS,
    )


def nodemailer6(world: SmtpRelay, transport: object, sender: str) -> None:
    """The one that PDSs pin, and that Ghost is built on."""
    by_node(
        "const [transport, from, to] = process.argv.slice(1);"
        "require('nodemailer6').createTransport(JSON.parse(transport))"
        ".sendMail({ from, to, subject: 'Hello', text: 'Hi' })"
        ".catch(error => { console.error(error); process.exitCode = 1; })",
        *(world, json.dumps(transport), sender, FRIEND),
    )


def by_pds(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    settings = dict(line.split("=", 1) for line in block.splitlines())
    nodemailer6(world, settings["PDS_EMAIL_SMTP_URL"], settings["PDS_EMAIL_FROM_ADDRESS"])


def by_ghost(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    settings = json.loads(block)["mail"]
    assert settings["transport"] == "SMTP"
    nodemailer6(world, settings["options"], settings["from"])


def by_nodemailer(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    by_node(
        block
        + f"transport.sendMail({{ from: 'you@{DOMAIN}', to: '{FRIEND}', subject: 'Hello', text: 'Hi' }})"
        ".catch(error => { console.error(error); process.exitCode = 1; });",
        world,
    )


def by_mastodon(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    of = dict(line.split("=", 1) for line in block.splitlines())
    assert (of["SMTP_ENABLE_STARTTLS"], of["SMTP_OPENSSL_VERIFY_MODE"]) == ("always", "peer")
    by_starttls(
        world,
        (of["SMTP_SERVER"], of["SMTP_PORT"]),
        (of["SMTP_LOGIN"], of["SMTP_PASSWORD"], of["SMTP_AUTH_METHOD"]),
        of["SMTP_FROM_ADDRESS"],
    )


def by_discourse(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    of = dict(line.removeprefix("DISCOURSE_").split(": ", 1) for line in block.splitlines())
    assert (of["SMTP_ENABLE_START_TLS"], of["SMTP_OPENSSL_VERIFY_MODE"]) == ("true", "peer")
    by_starttls(
        world,
        (of["SMTP_ADDRESS"], of["SMTP_PORT"]),
        (of["SMTP_USER_NAME"], of["SMTP_PASSWORD"], of["SMTP_AUTHENTICATION"]),
        of["NOTIFICATION_EMAIL"],
    )


def by_listmonk(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    of = json.loads(block)
    assert (of["tls_type"], of["tls_skip_verify"], of["auth_protocol"]) == ("TLS", False, "plain")
    with smtplib.SMTP_SSL(
        of["host"], of["port"], timeout=PATIENCE_SECONDS, context=world.tls_context()
    ) as client:
        log_in_and_send(client, of["username"], of["password"], f"list@{DOMAIN}")


def by_starttls(world: SmtpRelay, server: tuple[str, str], login: tuple[str, str, str], sender: str) -> None:
    user, password, method = login
    assert method == "plain"
    with smtplib.SMTP(server[0], int(server[1]), timeout=PATIENCE_SECONDS) as client:
        context: ssl.SSLContext = world.tls_context()
        client.starttls(context=context)
        log_in_and_send(client, user, password, sender)


def log_in_and_send(client: smtplib.SMTP, user: str, password: str, sender: str) -> None:
    client.ehlo()
    client.user, client.password = user, password
    client.auth("plain", client.auth_plain)
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, FRIEND, "Hello"
    message.set_content("Hi\n")
    assert client.send_message(message) == {}


def by_python(world: SmtpRelay, script: str) -> None:
    require_file(FRAMEWORKS, "make .venv/frameworks/.ready")
    subprocess.run(
        [sys.executable, "-c", script],
        # Their smtplib trusts what the system does, and this file.
        env={**os.environ, "PYTHONPATH": str(FRAMEWORKS), "SSL_CERT_FILE": str(world.certificate)},
        check=True,
        timeout=PATIENCE_SECONDS,
    )


def by_django(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    (tmp_path / "example_settings.py").write_text(block)
    by_python(
        world,
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'example_settings'\n"
        "import django; django.setup()\n"
        "from django.core.mail import send_mail\n"
        f"assert send_mail('Hello', 'Hi', None, [{FRIEND!r}]) == 1\n",
    )


def by_flask(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    by_python(
        world,
        "from flask import Flask\nfrom flask_mail import Mail, Message\n"
        f"app = Flask('example')\nsettings = {{}}\nexec({block!r}, settings)\napp.config.update(settings)\n"
        "with app.app_context():\n"
        f"    Mail(app).send(Message('Hello', recipients=[{FRIEND!r}], body='Hi'))\n",
    )


def by_postfix(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    require_daemon("postfix")
    passwords = filled(world, BLOCKS["relay_password"])
    with running_relayhost(world, settings=block, passwords=passwords) as relayhost:
        relayhost.hand_in(mail(), FRIEND)
        relayhost.wait_logged("status=sent")


def by_msmtp(world: SmtpRelay, block: str, tmp_path: Path) -> None:
    configuration = tmp_path / "msmtprc"
    configuration.touch(0o600)
    configuration.write_text(block.replace("tls on\n", f"tls on\ntls_trust_file {world.certificate}\n"))
    command = [require_program("msmtp"), f"--file={configuration}", "--read-recipients"]
    octets = mail().replace(b"\r\n", b"\n")
    subprocess.run(command, input=octets, check=True, timeout=PATIENCE_SECONDS)


PROGRAMS: dict[str, Send] = {
    "pds": by_pds,
    "ghost": by_ghost,
    "mastodon": by_mastodon,
    "discourse": by_discourse,
    "listmonk": by_listmonk,
    "django": by_django,
    "flask": by_flask,
    "nodemailer": by_nodemailer,
    "postfix": by_postfix,
    "msmtp": by_msmtp,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_block_of_the_page_sends_a_mail(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            await world.run(PROGRAMS[name], world, filled(world, BLOCKS[name]), tmp_path)
            (message,) = await world.mx.wait_messages(1)
            assert message.rcpt_to == (FRIEND,)
            await world.run(assert_signed, world.relay, [message])

    trio.run(main)


def test_the_page_s_other_urls_of_a_pds(tmp_path: Path) -> None:
    urls = re.findall(r"`(smtp://[^`]+)`", PAGE)
    assert len(urls) == 2

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            for count, url in enumerate(urls, 1):
                # The one of the same machine has no certificate: it is asked of nobody there.
                url = filled(world, url).replace("127.0.0.1", "localhost")
                await world.run(nodemailer6, world, url, f"pds@{DOMAIN}")
                await world.mx.wait_messages(count)

    trio.run(main)


def test_every_block_is_of_a_program() -> None:
    assert set(BLOCKS) == {*PROGRAMS, "relay_password"}
    assert PAGE.count("\n```") == 2 * len(BLOCKS)


def test_every_refusal_is_explained() -> None:
    """But those that the dialogue has for what no program says."""
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    for code, enhanced in TABLE.values():
        assert f"`{code} {enhanced}`" in rows, (code, enhanced)
