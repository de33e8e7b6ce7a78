"""What is kept for good of mail that came in gives nobody away once its content was erased."""

from __future__ import annotations

import hashlib
from pathlib import Path

from relay.events import NOBODY, MailReceived
from relay.mail_reading import Reading
from relay.principals import Stranger
from relay.receiving import Mail, ToPassOn, take_mail
from tests.world.relay import OPERATOR_DOMAIN, World, run
from tests.world.strangers import open_inbound_world

LETTER = b"From: ann@example.com\r\nMessage-ID: <1@example.com>\r\n\r\nHello\r\n"


def letter(octets: bytes = LETTER, mail_from: str = "ann@example.com", sha256: str | None = None) -> ToPassOn:
    mail = Mail(
        octets=octets,
        sha256=sha256 or hashlib.sha256(octets).hexdigest(),
        mail_from=mail_from,
        rcpt_to=(f"postmaster@{OPERATOR_DOMAIN}",),
        client_address="192.0.2.9",
        ehlo_name="mx.example.com",
        received_with="ESMTP",
        reading=Reading(),
    )
    return ToPassOn(mail=mail, kind="operator", did=NOBODY, domain=OPERATOR_DOMAIN)


def taken(world: World) -> list[MailReceived]:
    return [event for event in world.events() if isinstance(event, MailReceived)]


def test_a_repeat_is_the_same_mail_in_the_same_envelope(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            for wanted in (
                letter(),
                letter(),
                letter(mail_from="bob@example.com"),
                letter(LETTER + b"!\r\n"),
            ):
                await take_mail(world.core, wanted, Stranger())
            assert len({mail.digest for mail in taken(world)}) == len(taken(world)) == 3

    run(main)


def test_the_digest_cannot_be_made_again_without_the_mail(tmp_path: Path) -> None:
    """Who guesses at the sender knows the mail's own SHA-256, which is kept, and has to know the mail as well."""

    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            await take_mail(world.core, letter(), Stranger())
            (mail,) = taken(world)
            await take_mail(world.core, letter(b"", sha256=mail.sha256), Stranger())
            assert len({mail.digest for mail in taken(world)}) == 2

    run(main)
