"""Python's smtplib, as Django and Flask use it: from the submission to the mailbox, and every no on the way."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import trio

from relay.config import CONFIG_FILE
from tests.world.arrived import assert_arrived, assert_signed
from tests.world.process import configure
from tests.world.relay import DID, DOMAIN
from tests.world.smtp_relay import FRIEND, SENDER, SmtpRelay, accepted_ids, mail, open_smtp_relay


def hand_in(
    world: SmtpRelay,
    message: bytes | None = None,
    *,
    to: tuple[str, ...] = (FRIEND,),
    mail_from: str = SENDER,
    user: str = DOMAIN,
    key: str | None = None,
) -> str:
    """What was said to the first command that was refused, or to the end of data."""
    with world.connect(world.tls) as client:
        client.ehlo()
        if user:
            client.user, client.password = user, world.key if key is None else key
            code, text = client.auth("plain", client.auth_plain)
            if code != 235:
                return f"{code} {text.decode()}"
        code, text = client.mail(mail_from)
        for recipient in to:
            if code == 250:
                code, text = client.rcpt(recipient)
        if code == 250:
            code, text = client.data(mail() if message is None else message)
        return f"{code} {text.decode()}"


def answer(world: SmtpRelay, *arguments: Any, **named: Any) -> str:
    """As `hand_in`, where smtplib raises what it was told."""
    try:
        return hand_in(world, *arguments, **named)
    except smtplib.SMTPResponseException as error:
        return f"{error.smtp_code} {bytes(error.smtp_error).decode()}"


def test_what_is_handed_in_arrives(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            handed_in = mail(
                ".\r\n..\r\n.x\r\nFrom here\r\nGr\u00fc\u00dfe  \r\n\t",
                fields="X-One:  two\r\n\tthree \r\nBcc: secret@example.com,\r\n more@example.com\r\n"
                "X-Atmos-Category: login-link\r\nReceived: from a by b; Mon, 1 Sep 2026 09:00:00 +0000\r\n"
                "Return-Path: <x@example.com>\r\nContent-Transfer-Encoding: 8bit\r\n",
            )
            to = (FRIEND, "other@example.org")
            ids = accepted_ids(await world.run(hand_in, world, handed_in, to=to))
            assert len(ids) == 2
            assert ids[1] == ids[0] + 1
            messages = sorted(await world.mx.wait_messages(2), key=lambda message: message.mail_from)
            for message_id, message, recipient in zip(ids, messages, to, strict=True):
                assert message.rcpt_to == (recipient,)
                removed = ("Bcc", "X-Atmos-Category", "Return-Path")
                assert_arrived(message, handed_in, message_id, removed=removed)
            await world.run(assert_signed, world.relay, messages)

    trio.run(main)


def test_send_message_as_an_application_does(tmp_path: Path) -> None:
    """Without Date and Message-ID, with an attachment, with a key whose category is said at issue."""

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            key = await world.run(world.issue_key, "--category", "verification")
            message = EmailMessage()
            message["From"], message["To"], message["Subject"] = SENDER, FRIEND, "Gr\u00fc\u00dfe"
            message["Bcc"] = "secret@example.org"
            message.set_content("Your code is 123456\n")
            message.add_attachment(bytes(range(256)), maintype="application", subtype="octet-stream")

            def send() -> dict[str, Any]:
                with world.connect(world.starttls) as client:
                    client.login(DID, key)
                    return client.send_message(message)

            assert await world.run(send) == {}
            messages = await world.mx.wait_messages(2)
            assert {message.rcpt_to for message in messages} == {(FRIEND,), ("secret@example.org",)}
            for one in messages:
                assert b"secret@" not in one.data
                assert b"List-Unsubscribe" not in one.data
                assert one.data.count(b"\r\nDate: ") == one.data.count(b"\r\nMessage-ID: ") == 1
            await world.run(assert_signed, world.relay, messages)

    trio.run(main)


def test_a_client_that_lost_the_answer_gets_the_same_ids(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:

            def hang_up() -> None:
                client = world.connect(world.tls)
                client.login(DOMAIN, world.key)
                client.mail(SENDER)
                client.rcpt(FRIEND)
                client.docmd("DATA")
                client.send(mail() + b".\r\n")
                client.close()

            await world.run(hang_up)
            await world.mx.wait_messages(1)
            (first,) = accepted_ids(await world.run(hand_in, world))
            assert accepted_ids(await world.run(hand_in, world)) == [first]
            (second,) = accepted_ids(await world.run(hand_in, world, mail("Another")))
            assert second > first
            _, last = await world.mx.wait_messages(2)
            assert last.data.endswith(b"\r\nAnother\r\n")

    trio.run(main)


def test_every_no(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_smtp_relay(tmp_path, settings="message_bytes_max = 100000") as world:

            async def said(*arguments: Any, **named: Any) -> str:
                return str(await world.run(answer, world, *arguments, **named))

            async def order(*words: str) -> None:
                await world.run(world.relay.command, *words)

            def field(text: str) -> bytes:
                return mail(fields=f"{text}\r\n")

            (first,) = accepted_ids(await said())
            assert (await said(user="")).startswith("530 5.7.0 ")
            assert (await said(key="atmos_wrong")).startswith("535 5.7.8 ")
            assert (await said(user="unknown.example")).startswith("535 5.7.8 ")
            assert (await said(mail_from="you@other.example")).startswith("550 5.7.1 ")
            other = mail().replace(b"From: You <you@yourdomain.com>", b"From: you@other.example")
            assert (await said(other)).startswith("550 5.7.1 ")
            assert (await said(to=("friend@example..com",))).startswith("553 5.1.3 ")
            assert (await said(field("X-Atmos-Category: news"))).startswith("554 5.6.0 ")
            assert (await said(field("Subject: again"))).startswith("554 5.6.0 ")
            assert (await said(field("X-Nul: \0"))).startswith("554 5.6.0 ")
            assert (await said(mail("x" * 999))).startswith("554 5.6.0 ")
            assert (await said(mail("x\r\n" * 40000))).startswith("552 5.3.4 ")

            await order("complaint", "record", "--message", str(first))
            assert (await said(mail("2"))).startswith("550 5.7.1 ")
            # Not a matter of who wrote it: others go.
            assert len(accepted_ids(await said(mail("2"), to=(FRIEND, "other@example.org")))) == 2

            other_friend = ("other@example.org",)
            await order("member", "limits", "--did", DID, "--hour", "5", "--day", "9")
            many = tuple(f"friend{number}@example.org" for number in range(6))
            assert (await said(mail("3"), to=many)).startswith("452 4.5.3 ")
            assert (await said(mail("3"), to=many[:4])).startswith("451 4.7.1 ")
            assert "; come again in " in await said(mail("3"), to=many[:4])
            # A repeat is told what it was told, whatever has become of the limits or the recipient.
            assert accepted_ids(await said()) == [first]
            await order("member", "limits", "--did", DID)

            await order("domain", "pause", "--did", DID, "--domain", DOMAIN)
            assert (await said(mail("4"), to=other_friend)).startswith("450 4.7.1 ")
            await order("domain", "resume", "--did", DID, "--domain", DOMAIN)
            await order("member", "suspend", "--did", DID)
            assert (await said(mail("5"), to=other_friend)).startswith("525 5.7.13 ")
            await order("member", "resume", "--did", DID)

            configure(world.directory, spool=f"free_bytes_min = {2**52}")
            path = world.directory / CONFIG_FILE
            assert "free_bytes_min" in path.read_text()
            await world.restart()
            assert (await said(mail("6"), to=other_friend)).startswith("452 4.3.1 ")
            assert accepted_ids(await said()) == [first]

    trio.run(main)


def test_none_of_fifty_forms_of_an_address_opens_the_relay(tmp_path: Path) -> None:
    """Without a password nothing is taken, whatever it is called; with one, an address is one address."""
    forms: list[Callable[[str], str]] = [
        template.format
        for template in (
            "{0}",
            '"{0}"',
            "{0}@relay.example",
            "{0}@127.0.0.1",
            "{0}@[127.0.0.1]",
            "{0}@localhost",
            "@relay.example:{0}",
            "@localhost,@relay.example:{0}",
            "relay.example!{0}",
            "{0}%relay.example",
            '"{0}"@relay.example',
            '"{0}"@[127.0.0.1]',
            "{0}@",
            "@{0}",
            "{0} {0}",
            "{0},{0}",
        )
    ]
    addresses = ("friend@example.org", "friend%example.org", "example.org!friend", "friend@[192.0.2.1]")
    offered = [form(address) for form in forms for address in addresses]
    assert len(offered) >= 50

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:

            def offer(*, logged_in: bool) -> list[tuple[str, int]]:
                said = []
                client = world.connect(world.tls)
                for address in offered:
                    if client.sock is None or len(said) % 10 == 0:
                        client.close()
                        client = world.connect(world.tls)
                        client.ehlo()
                        if logged_in:
                            client.login(DOMAIN, world.key)
                    client.docmd("RSET")
                    client.docmd(f"MAIL FROM:<{SENDER}>")
                    code, _ = client.docmd(f"RCPT TO:<{address}>")
                    said.append((address, code))
                client.close()
                return said

            assert all(code in (503, 530) for _, code in await world.run(offer, logged_in=False))
            taken = [address for address, code in await world.run(offer, logged_in=True) if code == 250]
            # Where a member may write to: a local part means something to its own domain alone.
            assert sorted(taken) == [
                "example.org!friend@relay.example",
                "friend%example.org@relay.example",
                "friend@example.org",
                "relay.example!friend@example.org",
            ]
            assert world.mx.messages == []

    trio.run(main)
