"""A door that decides by magic words, and what a test says to the sessions that ask it.

The right password is `key`; `ann` is a member, `sue` one that is suspended, and whose user name is `broken` makes the
door raise. Recipients that begin with `refused`, `full`, `broken` and `stop` are what they say. It holds what it was
handed, and when asked to, waits before it answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import trio
from trio.testing import memory_stream_pair

from relay.lockout import Lockout
from relay.reception.buffers import Buffers
from relay.reception.certificates import Certificates
from relay.reception.interface import Admitted, Client, Message, Reply, Transaction, Visit
from relay.reception.places import Places
from relay.reception.rules import Rules
from relay.reception.session import Limits, Session, Surroundings

_LIMITS = Limits()
CLIENT = Client("192.0.2.1", "192.0.2.1", is_trusted=False)


class Handed(NamedTuple):
    """What was handed in, and accepted or not."""

    who: str | None
    protocol: str
    mail_from: str
    recipients: tuple[str, ...]
    message: Message


class MagicDoor:
    """See the module docstring."""

    def __init__(self) -> None:
        self.handed: list[Handed] = []
        self.asked: list[tuple[str, str]] = []
        self.let_go = trio.Event()
        self.let_go.set()

    async def authenticate(self, user: str, password: str, client: Client) -> Admitted[str] | Reply:
        self.asked.append((user, password))
        if user == "broken":
            raise ValueError("a defect")
        if user == "sue":
            return Reply(525, "5.7.13", "you are suspended")
        if password != "key":
            return Reply(535, "5.7.8", "this text is not shown")
        return Admitted(user, f"did:{user}")

    async def mail(self, visit: Visit[str], transaction: Transaction) -> Reply:
        return Reply(250, "2.1.0", "sender ok")

    async def recipient(self, visit: Visit[str], transaction: Transaction, recipient: str) -> Reply:
        match recipient.partition("@")[0]:
            case "refused":
                return Reply(550, "5.1.1", "no such mailbox")
            case "stop":
                return Reply(421, "4.3.2", "enough")
            case _:
                return Reply(250, "2.1.5", "recipient ok")

    async def data(self, visit: Visit[str], transaction: Transaction, message: Message) -> Reply:
        await self.let_go.wait()
        who = visit.admitted.who if visit.admitted else None
        names = tuple(transaction.recipients)
        self.handed.append(Handed(who, visit.protocol, transaction.mail_from, names, message))
        if names[0].startswith("full"):
            return Reply(452, "4.3.1", "full")
        if names[0].startswith("broken"):
            raise ValueError("a defect")
        return Reply(250, "2.0.0", f"accepted as {len(self.handed)}")


def around(
    door: MagicDoor,
    rules: Rules,
    *,
    limits: Limits = _LIMITS,
    connections_max: int = 200,
    per_address_max: int = 20,
    buffered_bytes_max: int = 64 * 1024 * 1024,
    places: Places | None = None,
    buffers: Buffers | None = None,
    lockout: Lockout | None = None,
    certificates: Certificates | None = None,
    is_tls_at_once: bool = False,
) -> Surroundings[str]:
    """What sessions share, with whatever a test is about."""
    return Surroundings(
        door=door,
        rules=rules,
        limits=limits,
        places=places or Places(lambda: connections_max, per_address_max=lambda: per_address_max),
        buffers=buffers or Buffers(lambda: buffered_bytes_max),
        lockout=lockout or Lockout(),
        certificates=certificates,
        is_tls_at_once=is_tls_at_once,
    )


class Talk:
    """The client's end of a session over memory."""

    def __init__(self, stream: trio.abc.Stream, session: Session[str]) -> None:
        self.stream = stream
        self.session = session
        self.ended = trio.Event()
        self._read = b""

    async def say(self, *lines: str) -> None:
        await self.send("".join(f"{line}\r\n" for line in lines).encode())

    async def send(self, octets: bytes) -> None:
        await self.stream.send_all(octets)

    async def hear(self) -> str:
        """One reply, its lines joined; "" is the end."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            while b"\r\n" not in self._read:
                more = bytes(await self.stream.receive_some(65536))
                if not more:
                    assert self._read == b""
                    return ""
                self._read += more
            line, _, self._read = self._read.partition(b"\r\n")
            lines.append(line.decode("ascii"))
        return " / ".join(lines)

    async def ask(self, *lines: str) -> str:
        """Say it, and hear one reply."""
        await self.say(*lines)
        return await self.hear()


@asynccontextmanager
async def talking(
    surroundings: Surroundings[str], *, client: Client = CLIENT, stream: trio.abc.Stream | None = None
) -> AsyncIterator[Talk]:
    """A session with its place; nothing has been said yet. `stream` is the client's end where it is a special one."""
    ours, theirs = memory_stream_pair()
    session = Session(theirs, client, surroundings)
    assert surroundings.places.take(session) is None
    talk = Talk(ours, session)

    async def serve() -> None:
        await session.serve()
        surroundings.places.leave(session)
        talk.ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield talk
        nursery.cancel_scope.cancel()


async def logged_in(talk: Talk) -> None:
    """From the greeting to AUTH, on a port that takes it in the clear."""
    assert (await talk.hear()).startswith("220 ")
    assert (await talk.ask("EHLO client.test")).startswith("250-")
    assert await talk.ask("AUTH PLAIN AGFubgBrZXk=") == "235 2.7.0 welcome"


async def begin_message(talk: Talk, *, size: int | None = None, recipient: str = "c@d.example") -> None:
    """Up to the 354."""
    parameter = "" if size is None else f" SIZE={size}"
    assert (await talk.ask(f"MAIL FROM:<a@b.example>{parameter}")).startswith("250 ")
    assert (await talk.ask(f"RCPT TO:<{recipient}>")).startswith("250 ")
    assert (await talk.ask("DATA")).startswith("354 ")


CLEAR = partial(Rules.submission, "relay.test", has_tls=False, auth_in_clear=True)
