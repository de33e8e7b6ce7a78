"""nodemailer, which a PDS and a Ghost send with: the one that PDSs pin, and the newest, by every form of URL."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio

from tests.world.arrived import assert_arrived, assert_signed
from tests.world.daemon import require_file, require_program
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import DID, DOMAIN
from tests.world.smtp_relay import FRIEND, SENDER, SmtpRelay, accepted_ids, mail, open_smtp_relay

NODE = Path(__file__).parent / "node"
VERSIONS = ("nodemailer6", "nodemailer")
#: Scheme, the port's kind, and what may stand behind.
FORMS = {
    "smtp://…:587": ("smtp", "starttls", ""),
    "smtp://…:587 with TLS demanded": ("smtp", "starttls", "/?requireTLS=true"),
    "smtps://…:587": ("smtps", "starttls", ""),
    "smtps://…:465": ("smtps", "tls", ""),
}
#: A DID is written in a URL with its colons as they are, or as %3A.
USERS = (DOMAIN, quote(DID, safe=""), DID)


def nodemailer(world: SmtpRelay, version: str, url: str, *mails: dict[str, Any]) -> list[dict[str, Any]]:
    program = require_program("node", package="nodejs")
    done = subprocess.run(
        [program, str(NODE / "send.js"), version, url],
        input=json.dumps({"mails": mails}),
        stdout=subprocess.PIPE,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(world.certificate)},
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    outcomes: list[dict[str, Any]] = json.loads(done.stdout)
    return outcomes


def url(world: SmtpRelay, form: str, user: str, key: str = "") -> str:
    scheme, kind, rest = FORMS[form]
    return f"{scheme}://{user}:{key or world.key}@localhost:{getattr(world, kind).number}{rest}"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_form_of_url(tmp_path: Path, version: str) -> None:
    require_file(NODE / "node_modules" / version, "make tests/clients/node/node_modules/.ready")

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            handed_in: dict[int, bytes] = {}
            for form in FORMS:
                for user in USERS:
                    octets = mail(f"{form} {user}".encode("ascii", "replace").decode())
                    envelope = {"from": SENDER, "to": [FRIEND]}
                    raw = {"envelope": envelope, "raw": base64.b64encode(octets).decode()}
                    (outcome,) = await world.run(nodemailer, world, version, url(world, form, user), raw)
                    assert "error" not in outcome, (form, user, outcome)
                    (message_id,) = accepted_ids(outcome["response"])
                    handed_in[message_id] = octets
            messages = await world.mx.wait_messages(len(handed_in))
            for message in messages:
                message_id = int(message.mail_from.partition("+")[2].partition("-")[0])
                assert_arrived(message, handed_in[message_id], message_id)
            await world.run(assert_signed, world.relay, messages)

    trio.run(main)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_mail_as_an_application_makes_it(tmp_path: Path, version: str) -> None:
    require_file(NODE / "node_modules" / version, "make tests/clients/node/node_modules/.ready")

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            key = await world.run(world.issue_key, "--category", "password-reset")
            good = {
                "from": f'"You" <{SENDER}>',
                "to": FRIEND,
                "bcc": "hidden@example.org",
                "subject": "Gr\u00fc\u00dfe \U0001f44b",
                "text": "Code: 123456\n",
                "html": "<p>Code: <b>123456</b></p>",
                "attachments": [{"filename": "a.txt", "content": "x"}],
            }
            address = url(world, "smtps://…:587", DOMAIN, key)
            outcomes = await world.run(
                nodemailer,
                *(world, version, address, good),
                {**good, "from": "you@other.example"},
                {**good, "headers": {"X-Atmos-Category": "news"}},
            )
            assert [outcome.get("code") for outcome in outcomes] == [None, 550, 554]
            assert len(accepted_ids(outcomes[0]["response"])) == 2
            messages = await world.mx.wait_messages(2)
            for message in messages:
                assert b"hidden@" not in message.data
                assert b"List-Unsubscribe" not in message.data
            await world.run(assert_signed, world.relay, messages)
            (outcome,) = await world.run(nodemailer, world, version, address + "0", good)
            assert "error" in outcome
            (outcome,) = await world.run(
                nodemailer, world, version, url(world, "smtps://…:587", DOMAIN, "no"), good
            )
            assert outcome["code"] == 535

    trio.run(main)
