"""A receiver that nobody here wrote: aiosmtpd, in a thread of its own, gets every message byte for byte."""

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import trio
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Envelope as Received
from aiosmtpd.smtp import Session as ReceiverSession

from relay.delivery.replies import DeliveryVerdict
from relay.delivery.session import open_session
from relay.message.envelope import Envelope
from tests.world.daemon import free_port
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory, wait_until
from tests.world.relay import DOMAIN
from tests.world.self_signed import self_signed_context

MESSAGES = {
    "plain": b"Subject: hello\r\n\r\nHello.\r\n",
    "dots": b".\r\n..\r\n...\r\n\r\n.a\r\n.\r\n.\r\na.\r\n",
    "no body": b"Subject: hello\r\n",
    "empty line": b"\r\n",
    "long lines": b"Subject: long\r\n\r\n" + (b"." + b"x" * 997 + b"\r\n") * 3,
    "8-bit": "Subject: Grüße\r\n\r\nÄÖÜ €\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
    "big": b"Subject: big\r\n\r\n" + b".0123456789\r\n" * 50_000,
}


class Handler:
    """Keeps what it is given; one recipient is refused."""

    def __init__(self) -> None:
        self.received: list[tuple[str | None, list[str], bytes, bool]] = []

    async def handle_RCPT(
        self, server: SMTP, session: ReceiverSession, envelope: Received, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: ReceiverSession, envelope: Received) -> str:
        assert isinstance(envelope.content, bytes)
        self.received.append(
            (envelope.mail_from, envelope.rcpt_tos, envelope.content, session.ssl is not None)
        )
        return "250 2.0.0 Queued"


@contextmanager
def running_aiosmtpd(tls: ssl.SSLContext | None) -> Iterator[tuple[Handler, int]]:
    """An aiosmtpd on loopback: what it has received, and its port."""
    port = free_port()  # its controller must know it beforehand
    handler = Handler()
    controller = Controller(
        handler, hostname="127.0.0.1", port=port, tls_context=tls, enable_SMTPUTF8=True, ident="aiosmtpd"
    )
    controller.start()
    try:
        yield handler, port
    finally:
        controller.stop()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_every_byte_arrives(tls: bool) -> None:
    async def main(port: int) -> None:
        session = await open_session("mx.test", "127.0.0.1", port, ehlo_name="relay.test")
        assert (session.tls is not None) == tls
        assert session.capabilities.smtputf8
        for name, message in MESSAGES.items():
            envelope = Envelope("ann@relay.test", f"{name.replace(' ', '-')}@mx.test")
            outcome = await session.deliver(envelope, message, before_final_dot=trio.lowlevel.checkpoint)
            assert outcome.verdict is DeliveryVerdict.SENT, outcome
            assert outcome.enhanced == "2.0.0"
        await session.quit()

    with running_aiosmtpd(self_signed_context() if tls else None) as (handler, port):
        trio.run(main, port)
        assert [content for _, _, content, _ in handler.received] == list(MESSAGES.values())
        assert {encrypted for *_, encrypted in handler.received} == {tls}


def test_refusals_utf8_and_the_null_sender() -> None:
    async def main(port: int) -> None:
        session = await open_session("mx.test", "127.0.0.1", port, ehlo_name="relay.test")

        async def deliver(mail_from: str, rcpt_to: str) -> DeliveryVerdict:
            envelope = Envelope(mail_from, rcpt_to, smtputf8=not rcpt_to.isascii())
            hook = trio.lowlevel.checkpoint
            return (await session.deliver(envelope, MESSAGES["plain"], before_final_dot=hook)).verdict

        assert await deliver("ann@relay.test", "nobody@mx.test") is DeliveryVerdict.BOUNCED
        assert await deliver("ann@relay.test", "jürgen@mx.test") is DeliveryVerdict.SENT
        assert await deliver("", "bob@mx.test") is DeliveryVerdict.SENT
        assert session.usable
        await session.quit()

    with running_aiosmtpd(None) as (handler, port):
        trio.run(main, port)
        assert [(sender, recipients) for sender, recipients, *_ in handler.received] == [
            ("ann@relay.test", ["jürgen@mx.test"]),
            ("<>", ["bob@mx.test"]),  # aiosmtpd's way to write the null sender
        ]


def test_a_relay_says_how_it_was_protected(tmp_path: Path) -> None:
    with running_aiosmtpd(self_signed_context()) as (handler, port):
        relay = RelayProcess(make_process_directory(tmp_path / "data", route=f"127.0.0.1:{port}"))
        credentials = relay.enrol()
        with relay.running():
            mail = {"from": f"you@{DOMAIN}", "to": "jürgen@mx.test", "subject": "Grüße", "text": "Hi\n"}
            url = f"http://{relay.address}/v1"
            answer = requests.post(
                f"{url}/send", json=mail, headers=credentials, timeout=PATIENCE_SECONDS
            ).json()
            (accepted,) = answer["accepted"]

            def message() -> Any:
                path = f"{url}/messages/{accepted['messageId']}"
                return requests.get(path, headers=credentials, timeout=PATIENCE_SECONDS).json()

            wait_until(lambda: message()["status"] == "sent", lambda: f"{message()} is sent")
            outcome = message()["timeline"][-1]
            assert relay.stop() == 0
    assert outcome["tls"]["version"] == "TLSv1.3"
    assert outcome["tls"]["cipher"].startswith("TLS_")
    assert outcome["tls"]["certificate"].startswith("unverified: ")
    ((_, recipients, content, encrypted),) = handler.received
    assert (recipients, encrypted) == (["jürgen@mx.test"], True)
    assert hashlib.sha256(content).hexdigest() == outcome["sha256"]
