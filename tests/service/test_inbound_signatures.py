"""A reply is passed on as it came: its author's DKIM signatures verify at the other end, by two verifiers that share no
code with each other."""

from __future__ import annotations

import base64
import re
from email import policy
from email.message import EmailMessage
from pathlib import Path

import dkim
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.message.signing import verify
from tests.mailauth import verify_all
from tests.world.inbound_relay import running_inbound_relay
from tests.world.mx import Mx, open_mx
from tests.world.relay import DOMAIN

AUTHOR = "friend@third.example"
MAILBOX = "member@mailbox.example"
SELECTOR = "s1"


def reply_to(message_id: bytes) -> bytes:
    """With all that changes easily on the way: lines as long as they may be, folds of all kinds, eight bits, dots."""
    mail = EmailMessage(policy=policy.SMTP.clone(cte_type="8bit"))
    mail["From"] = f"J\u00f6rg Friend <{AUTHOR}>"
    mail["To"] = f"you@{DOMAIN}"
    mail["Subject"] = "Re: " + "a subject that is so long that it has to be folded, " * 4
    mail["Date"] = "Mon, 1 Sep 2026 10:00:00 +0000"
    mail["Message-ID"] = "<1@third.example>"
    mail["In-Reply-To"] = message_id.decode()
    mail.set_content("Gr\u00fc\u00dfe!\n.\n..\n.x\nFrom here \t\n\n" + "x" * 900 + "\n\n\n", cte="8bit")
    mail.add_alternative(f"<p>Gr\u00fc\u00dfe {'<b>x</b>' * 100}</p>\n", subtype="html", cte="8bit")
    mail.add_attachment(bytes(range(256)) * 50, maintype="image", subtype="png", filename="\u00fc.png")
    # Folds that no library writes any more.
    return b"X-Odd:  \r\n\t two\t\r\n three  \r\nsubject-of:\tit\r\n" + bytes(mail)


def signed(mail: bytes) -> tuple[bytes, dict[str, str]]:
    """By a domain that the relay does not know, in the strictest form and in the usual one; and its record."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    for canonical in (b"simple", b"relaxed"):
        mail = (
            dkim.sign(mail, SELECTOR.encode(), b"third.example", pem, canonicalize=(canonical, canonical))
            + mail
        )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return mail, {
        f"{SELECTOR}._domainkey.third.example": f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
    }


def test_the_author_s_signatures_verify_at_the_other_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            await trio.to_thread.run_sync(reply_and_look, tmp_path, mx)
        assert mx.violations == []

    trio.run(main)


def reply_and_look(tmp_path: Path, mx: Mx) -> None:
    with running_inbound_relay(tmp_path / "data", route=mx.address, forward_to=MAILBOX) as relay:
        relay.wait_sent(relay.send(AUTHOR))
        message_id = re.search(rb"^Message-ID: (<.*>)\r$", mx.messages[0].data, re.MULTILINE | re.IGNORECASE)
        assert message_id is not None
        mail, records = signed(reply_to(message_id[1]))
        assert verdicts(mail, records) == [True, True]
        assert verdicts(mail.replace(b"\xc3\xbc", b"ue"), records) == [False, False]

        said = relay.hand_in(AUTHOR, f"you@{DOMAIN}", mail)
        assert said.code == 250, said
        relay.wait_until(lambda: len(mx.messages) == 2, "the reply is passed on")
        arrived = mx.messages[1]
        assert arrived.rcpt_to == (MAILBOX,)
        assert re.fullmatch(r"forward\+\d+-[a-z2-7]{16}@relay\.example", arrived.mail_from)
        assert arrived.data.endswith(mail)
        above = arrived.data[: -len(mail)]
        assert re.findall(rb"^([\w-]+):", above, re.MULTILINE) in (
            [b"Received", b"X-Atmos-Forwarded"],
            [b"X-Atmos-Forwarded", b"Received"],
        )
        assert verdicts(arrived.data, records) == [True, True]
        assert relay.stop() == 0


def verdicts(mail: bytes, records: dict[str, str]) -> list[bool]:
    """Of mailauth on each signature; dkimpy must say the same."""
    (found,) = verify_all([mail], records)
    assert {verdict.d for verdict in found} == {"third.example"}
    assert verify(mail, records.get) == found
    return [verdict.valid for verdict in found]
