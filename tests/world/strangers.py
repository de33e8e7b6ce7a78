"""Mail that strangers bring to a relay in memory: the real dialogue, the real door, over a stream of memory.

async with stranger(world) as talk:
    assert (await bring(talk, report, world.bounce_address(448))).startswith("250 ")
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from relay.events import Event
from relay.networks import counted_as, parse_address
from relay.reception.certificates import Certificates
from relay.reception.inbound_ports import inbound_surroundings
from relay.reception.interface import Client
from relay.reception.session import Surroundings
from tests.world.doors import Talk, talking
from tests.world.process import configure
from tests.world.relay import World, make_directory, open_world

OPERATOR_MAILBOX = "operator@elsewhere.example"


@asynccontextmanager
async def open_inbound_world(directory: Path, settings: str = "", **options: Any) -> AsyncIterator[World]:
    """A world whose `[inbound]` has these lines. Its port is asked in memory (`stranger`), and bound nowhere."""
    make_directory(directory)
    configure(directory, inbound=f'operator_mailbox = "{OPERATOR_MAILBOX}"\n{settings}')
    async with open_world(directory, **options) as world:
        yield world


def port(world: World, certificates: Certificates | None = None) -> Surroundings[None]:
    """The port of strangers of this world: one, whoever asks for it how often."""
    if "_port_of_strangers" not in world.__dict__:
        world.__dict__["_port_of_strangers"] = inbound_surroundings(world.core.edge, certificates)
    return world.__dict__["_port_of_strangers"]()  # type: ignore[no-any-return]


def client(address: str) -> Client:
    parsed = parse_address(address)
    return Client(str(parsed), counted_as(parsed), is_trusted=parsed.is_loopback)


@asynccontextmanager
async def stranger(
    world: World, address: str = "192.0.2.9", *, certificates: Certificates | None = None
) -> AsyncIterator[Talk]:
    """Who has said EHLO."""
    surroundings: Any = port(world, certificates)
    async with talking(surroundings, client=client(address)) as talk:
        assert (await talk.hear()).startswith("220 ")
        assert (await talk.ask("EHLO mx.stranger.example")).startswith("250-")
        yield talk
        # It hangs up, and gives its place back.
        await talk.stream.aclose()
        await talk.ended.wait()


async def bring(talk: Talk, octets: bytes, *to: str, mail_from: str = "", options: str = "") -> str:
    """The first refusal, or what was said to the message. A transaction that was begun is ended."""
    commands = [f"MAIL FROM:<{mail_from}>{options}", *(f"RCPT TO:<{each}>" for each in to), "DATA"]
    for command in commands:
        said = await talk.ask(command)
        if said[0] not in "23":
            await talk.ask("RSET")
            return said
    stuffed = octets.replace(b"\r\n.", b"\r\n..")
    await talk.send(stuffed + b".\r\n")
    return await talk.hear()


def bounce_address(world: World, message_id: int) -> str:
    """The envelope sender of a message."""
    return str(world.core.composer.bounces.make(message_id))


def forward_address(world: World, message_id: int) -> str:
    """The envelope sender of what is passed on."""
    return str(world.core.composer.bounces.make_forward(message_id))


def token(world: World, message_id: int) -> str:
    return str(world.core.composer.bounces.token(message_id))


Kind = TypeVar("Kind", bound=Event)


def events(world: World, kind: type[Kind]) -> list[Kind]:
    """All of this kind in the log."""
    return [event for event in world.events() if isinstance(event, kind)]


def count(world: World, name: str) -> float:
    """A metric, with its labels as they are written; without them the sum of all."""
    lines = world.core.metrics_page.own_text().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


LETTER = (
    b"From: Ann <ann@example.com>\r\nTo: somebody@relay.example\r\nSubject: Hello\r\n"
    b"Message-ID: <1@example.com>\r\n\r\nHello, all.\r\n"
)
BOUNCE = b"""\
From: MAILER-DAEMON@mx.example.com\r
Subject: Undelivered Mail Returned to Sender\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary=b\r
\r
--b\r
\r
I am sorry.\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.com\r
\r
Final-Recipient: rfc822; friend@example.com\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 no such user\r
\r
--b--\r
"""
#: A complaint; TOKEN is the message's.
FEEDBACK = b"""\
From: feedback@arf.mail.yahoo.com\r
Subject: FW: Hello\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=feedback-report; boundary=b\r
\r
--b\r
\r
This is an email abuse report.\r
--b\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: abuse\r
User-Agent: Yahoo!-Mail-Feedback/2.0\r
Version: 0.1\r
\r
--b\r
Content-Type: message/rfc822\r
\r
From: you@yourdomain.com\r
Subject: Hello\r
X-Atmos-Message: TOKEN\r
\r
Hi\r
--b--\r
"""
