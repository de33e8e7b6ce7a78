"""A relay in a process of its own that takes mail over SMTP on loopback, and a receiver behind it.

    async with open_smtp_relay(tmp_path) as world:
        await world.run(send, world.starttls)      # a client that blocks, in a thread
        (received,) = await world.mx.wait_messages(1)

It has three ports: one with STARTTLS, one that begins with TLS, and one more with STARTTLS that a test may use for
itself. All are of loopback, so they take passwords in the clear, too. The certificate is for `localhost`, and clients
are to trust it by the file `certificate`.
"""

from __future__ import annotations

import json
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import trio

from relay.config import CONFIG_FILE
from relay.file_names import SUBMISSION_ADDRESS_FILE
from tests.world.mx import Mx, open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, make_process_directory
from tests.world.relay import DID
from tests.world.self_signed import self_signed_pem

SENDER = "you@yourdomain.com"
FRIEND = "friend@example.com"


class SmtpPort(NamedTuple):
    number: int
    is_tls_at_once: bool

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.number}"


class SmtpRelay:
    def __init__(self, relay: RelayProcess, mx: Mx, certificate: Path) -> None:
        self.relay = relay
        self.mx = mx
        #: PEM.
        self.certificate = certificate
        #: Of the member with `DID` and `DOMAIN`.
        self.key = ""
        self.credentials: dict[str, str] = {}

    @property
    def directory(self) -> Path:
        return self.relay.directory

    @property
    def addresses(self) -> list[str]:
        return (self.directory / SUBMISSION_ADDRESS_FILE).read_text().split()

    def _port(self, index: int) -> SmtpPort:
        return SmtpPort(int(self.addresses[index].rpartition(":")[2]), is_tls_at_once=index == 2)

    @property
    def starttls(self) -> SmtpPort:
        return self._port(0)

    @property
    def second(self) -> SmtpPort:
        return self._port(1)

    @property
    def tls(self) -> SmtpPort:
        return self._port(2)

    def tls_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def connect(self, port: SmtpPort) -> smtplib.SMTP:
        """A client that has begun TLS, and has said nothing else."""
        if port.is_tls_at_once:
            return smtplib.SMTP_SSL(
                "localhost", port.number, timeout=PATIENCE_SECONDS, context=self.tls_context()
            )
        client = smtplib.SMTP("localhost", port.number, timeout=PATIENCE_SECONDS)
        client.starttls(context=self.tls_context())
        return client

    def issue_key(self, *options: str) -> str:
        answer = self.relay.command("key", "issue", "--did", DID, *options, "--json")
        key: str = json.loads(answer)["apiKey"]
        return key

    async def run(self, client: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What a client that blocks returns."""
        return await trio.to_thread.run_sync(partial(client, *arguments, **named))

    async def restart(self) -> None:
        assert await self.run(self.relay.stop) == 0
        await self.run(self.relay.start)


def make_smtp_directory(
    directory: Path, *, route: str, settings: str = "", tls: bool = True, port: int = 0
) -> Path:
    """A data directory whose relay listens on the three ports, of which the first is `port`. `settings` are lines of
    `[submission]`."""
    make_process_directory(directory, route=route)
    binds = f'bind = ["127.0.0.1:{port}", "127.0.0.1:0"]\n' + ('bind_tls = ["127.0.0.1:0"]\n' if tls else "")
    configure(directory, submission=binds + settings)
    if tls:
        pem = directory / "tls.pem"
        pem.touch(0o600)
        pem.write_bytes(self_signed_pem("localhost", days=60))
        configure(directory, tls='certificate = "tls.pem"\nkey = "tls.pem"')
    return directory


@asynccontextmanager
async def open_smtp_relay(
    tmp_path: Path, *, settings: str = "", tls: bool = True, port: int = 0, more: str = ""
) -> AsyncIterator[SmtpRelay]:
    """Running, with a member. `settings` are lines of `[submission]`, `more` is put at the end of `relay.toml`."""
    async with open_mx() as mx:
        directory = make_smtp_directory(
            tmp_path / "data", route=mx.address, settings=settings, tls=tls, port=port
        )
        path = directory / CONFIG_FILE
        path.write_text(path.read_text() + more)
        relay = RelayProcess(directory)
        world = SmtpRelay(relay, mx, tmp_path / "ca.pem")
        if tls:
            pem = (directory / "tls.pem").read_bytes()
            world.certificate.write_bytes(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
        world.credentials = relay.enrol()
        world.key = world.credentials["Authorization"].removeprefix("Bearer ")
        with trio.fail_after(PATIENCE_SECONDS):
            await world.run(relay.start)
            try:
                yield world
            finally:
                with trio.CancelScope(shield=True):
                    await world.run(relay.kill)
    assert mx.violations == []


def mail(text: str = "Hi", *, to: str = FRIEND, fields: str = "") -> bytes:
    """What a client hands in, with all fields that make it a message of its own; `fields` are lines with their ends."""
    return (
        f"From: You <{SENDER}>\r\nTo: {to}\r\nSubject: Hello\r\n{fields}"
        f"Date: Mon, 1 Sep 2026 10:00:00 +0000\r\nMessage-ID: <1@yourdomain.com>\r\n\r\n{text}\r\n"
    ).encode()


def accepted_ids(text: str) -> list[int]:
    """Of `accepted as 448-450` somewhere in what a program shows."""
    first, _, last = text.partition("accepted as ")[2].split()[0].rstrip("'\".)").partition("-")
    return list(range(int(first), int(last or first) + 1))
