"""Mail handed in at the submission door of a relay in memory, question by question, as a session asks them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from relay.principals import Principal
from relay.reception.interface import Admitted, Client, Message, Transaction, Visit
from relay.reception.replies import Reply
from relay.reception.submission import Submission
from tests.world.relay import DOMAIN, World

CLIENT = Client("192.0.2.9", "192.0.2.9", is_trusted=False)
FRIEND = "friend@example.com"
HEADER = (
    b"From: You <you@yourdomain.com>\r\nTo: friend@example.com\r\nSubject: Hello\r\n"
    b"Date: Mon, 1 Sep 2026 10:00:00 +0000\r\nMessage-ID: <own.1@yourdomain.com>\r\n"
)
MAIL = HEADER + b"\r\nHi\r\n"


class Heard(NamedTuple):
    """What was said, and to what."""

    at: str
    reply: Reply

    @property
    def ids(self) -> list[int]:
        """Of an acceptance."""
        assert self.reply.code == 250, self.reply
        first, _, last = self.reply.text.removeprefix("accepted as ").partition("-")
        return list(range(int(first), int(last or first) + 1))

    @property
    def said(self) -> str:
        return f"{self.reply.code} {self.reply.enhanced}"


class Submitter:
    """A client that is authenticated."""

    def __init__(self, world: World, admitted: Admitted[Principal]) -> None:
        self.door = Submission(world.core.edge)
        self.visit = Visit(CLIENT, "client.test", is_extended=True, tls="TLSv1.3", admitted=admitted)

    async def hand_in(
        self,
        octets: bytes = MAIL,
        to: Sequence[str] = (FRIEND,),
        *,
        mail_from: str = f"you@{DOMAIN}",
        smtputf8: bool = False,
        before_data: Callable[[], Awaitable[Any]] | None = None,
    ) -> Heard:
        """Up to the first refusal. `before_data`: what happens while the message comes."""
        transaction = Transaction(mail_from, smtputf8=smtputf8)
        reply = await self.door.mail(self.visit, transaction)
        if not reply.accepts:
            return Heard("MAIL", reply)
        for recipient in to:
            reply = await self.door.recipient(self.visit, transaction, recipient)
            if not reply.accepts:
                return Heard("RCPT", reply)
            transaction.recipients.append(recipient)
        if before_data is not None:
            await before_data()
        message = Message(octets, normalised=False, sha256=hashlib.sha256(octets).digest())
        return Heard("DATA", await self.door.data(self.visit, transaction, message))


async def submitter(world: World, user: str = DOMAIN) -> Submitter:
    """Of the member that the world enrolled."""
    key = world.credentials["Authorization"].removeprefix("Bearer ")
    admitted = await Submission(world.core.edge).authenticate(user, key, CLIENT)
    assert isinstance(admitted, Admitted)
    return Submitter(world, admitted)
