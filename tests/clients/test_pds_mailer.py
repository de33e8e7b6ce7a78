"""The mailer of a PDS, out of the `@atproto/pds` package: its code, its templates and its nodemailer, configured by
its own environment.

The whole PDS is not started. The package is large, so it is not among what the tests install: in any directory,
`npm install --ignore-scripts @atproto/pds`, and name that directory in `ATPROTO_PDS`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import trio

from tests.world.arrived import assert_signed
from tests.world.daemon import require_program
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import DID, DOMAIN
from tests.world.smtp_relay import FRIEND, SENDER, SmtpRelay, accepted_ids, open_smtp_relay

NODE = Path(__file__).parent / "node"


def send_all(world: SmtpRelay, installed: str, url: str) -> list[str]:
    done = subprocess.run(
        [require_program("node", package="nodejs"), str(NODE / "pds.js"), installed],
        input=FRIEND,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "NODE_EXTRA_CA_CERTS": str(world.certificate),
            "PDS_EMAIL_SMTP_URL": url,
            "PDS_EMAIL_FROM_ADDRESS": SENDER,
        },
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    responses: list[str] = json.loads(done.stdout)
    return responses


@pytest.mark.parametrize("user", [DOMAIN, DID])
@pytest.mark.parametrize("form", ["smtp://{}@localhost:{starttls}", "smtps://{}@localhost:{starttls}"])
def test_what_a_pds_sends(tmp_path: Path, form: str, user: str) -> None:
    installed = os.environ.get("ATPROTO_PDS")
    if not installed:
        pytest.skip("name in ATPROTO_PDS where @atproto/pds is installed")

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            key = await world.run(world.issue_key, "--category", "password-reset")
            url = form.format(f"{user}:{key}", starttls=world.starttls.number)
            responses = await world.run(send_all, world, installed, url)
            ids = [accepted_ids(response) for response in responses]
            messages = {message.mail_from: message for message in await world.mx.wait_messages(5)}
            codes = ["AAAAA-11111", "BBBBB-22222", "CCCCC-33333", "DDDDD-44444", "EEEEE-55555"]
            for (message_id,), code in zip(ids, codes, strict=True):
                (message,) = (
                    message
                    for mail_from, message in messages.items()
                    if mail_from.startswith(f"bounces+{message_id}-")
                )
                assert code.encode() in message.data
                assert b"List-Unsubscribe" not in message.data
            await world.run(assert_signed, world.relay, list(messages.values()))

    trio.run(main)
