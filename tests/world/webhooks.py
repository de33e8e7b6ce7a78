"""Endpoints of webhooks, whose every answer the test decides, and a relay in which nothing runs but who tells them.

    async with open_teller(tmp_path / "data") as teller:
        one = await teller.add(answer=...)
        seqs = await teller.happens(3)
        await teller.until_told(one, seqs)

Requests go over TLS in memory, on a clock that jumps; of allowed endpoints over HTTP. Each webhook has a path of its
own at the one host that there is, and a connection serves many requests, as servers' do.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from trio.testing import memory_stream_pair

from relay.codec import Recorded
from relay.core import Core, open_core
from relay.events import (
    Event,
    RecipientSuppressed,
    SuppressedRecipient,
    WebhookAdded,
    WebhookEvent,
    WebhookUrl,
)
from relay.surroundings import Surroundings
from relay.webhooks.deliver import Webhooks
from tests.world.dns import FakeDns
from tests.world.https import Authority, Stream
from tests.world.process import configure
from tests.world.relay import DID, call_here, make_directory, virtual_clock

AUTHORITY = Authority()
HOST = "hooks.example"
PUBLIC = "93.184.215.14"
SERVER = AUTHORITY.certificate(HOST)
_DIGITS = str.maketrans("0123456789", "abcdefghij")
#: What an endpoint hangs for, where nobody ends it.
FOR_EVER = b""


@dataclass
class Request:
    at: float
    target: str
    headers: dict[str, str]
    body: bytes
    #: What was answered; 0: nothing yet.
    status: int = 0

    @property
    def told(self) -> list[int]:
        """Sequence numbers of the events that it brings."""
        value = json.loads(self.body)
        events = value["data"]["events"] if value["type"] == "batch" else [value["data"]]
        return [event["seq"] for event in events]

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


#: What is answered: a status; a status and more lines of the head; or all octets (`FOR_EVER`: it hangs). It may take
#: its time.
Answering = Callable[[Request], int | tuple[int, str] | bytes | Awaitable[int | tuple[int, str] | bytes]]


def takes(request: Request) -> int:
    return 204


@dataclass
class Endpoint:
    """One webhook's, and what came to it."""

    webhook_id: str
    did: str
    answer: Answering = takes
    requests: list[Request] = field(default_factory=list)

    @property
    def taken(self) -> list[int]:
        return [seq for request in self.requests if 200 <= request.status < 300 for seq in request.told]

    @property
    def statuses(self) -> list[int]:
        return [request.status for request in self.requests]


def in_turn(*answers: int | tuple[int, str] | bytes) -> Answering:
    """These, one after the other, and then 204."""
    left = list(answers)
    return lambda request: left.pop(0) if left else 204


class Receiver:
    """All endpoints' server."""

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.connections = 0
        self.open = 0
        #: Requests under way: now, and at most, in all and by path.
        self.under_way: Counter[str] = Counter()
        self.most_under_way = 0

    async def serve(self, stream: Stream) -> None:
        self.connections += 1
        self.open += 1
        try:
            left = b""
            while True:
                request, left = await self._read(stream, left)
                await self._answer(stream, request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def _read(self, stream: Stream, left: bytes) -> tuple[Request, bytes]:
        while b"\r\n\r\n" not in left:
            left += await self._more(stream)
        head, _, body = left.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers["content-length"])
        while len(body) < length:
            body += await self._more(stream)
        method, target, version = first.split(" ")
        assert (method, version) == ("POST", "HTTP/1.1")
        return Request(trio.current_time(), target, headers, body[:length]), body[length:]

    async def _more(self, stream: Stream) -> bytes:
        received = bytes(await stream.receive_some())
        if not received:
            raise trio.BrokenResourceError
        return received

    async def _answer(self, stream: Stream, request: Request) -> None:
        endpoint = self.endpoints[request.target.partition("?")[0]]
        endpoint.requests.append(request)
        self.under_way[endpoint.webhook_id] += 1
        assert self.under_way[endpoint.webhook_id] == 1, "two requests to one endpoint at a time"
        self.most_under_way = max(self.most_under_way, self.under_way.total())
        try:
            said = endpoint.answer(request)
            answer = said if isinstance(said, int | tuple | bytes) else await said
            if answer == FOR_EVER:
                await self._more(stream)
            if not isinstance(answer, bytes):
                status, more = (answer, "") if isinstance(answer, int) else answer
                request.status = status
                answer = f"HTTP/1.1 {status} X\r\n{more}Content-Length: 2\r\n\r\nhi".encode()
                if status == 204:
                    answer = f"HTTP/1.1 204 X\r\n{more}\r\n".encode()
            await stream.send_all(answer)
        finally:
            self.under_way[endpoint.webhook_id] -= 1


class Teller:
    """A relay that does nothing else, and its endpoints."""

    def __init__(self, core: Core, receiver: Receiver, webhooks: Webhooks) -> None:
        self.core = core
        self.receiver = receiver
        self.webhooks = webhooks
        self._made = 0

    async def add(
        self,
        answer: Answering = takes,
        *,
        did: str = DID,
        scheme: str = "https",
        path: str | None = None,
        cursor: int | None = None,
        **options: Any,
    ) -> Endpoint:
        self._made += 1
        # Of the form that ids have.
        webhook_id = "wh" + f"{self._made:022d}".translate(_DIGITS)
        endpoint = Endpoint(webhook_id, did, answer)
        path = path or f"/{webhook_id}"
        self.receiver.endpoints[path] = endpoint
        await self.core.store.append(
            [
                WebhookAdded(
                    did=did,
                    webhook_id=webhook_id,
                    cursor=self.core.store.last_seq if cursor is None else cursor,
                    pepper=1,
                    personal=WebhookUrl(url=f"{scheme}://{HOST}{path}?token=secret"),
                    **options,
                )
            ]
        )
        return endpoint

    async def happens(self, count: int = 1, *, did: str = DID) -> list[int]:
        """So many events of a member; their sequence numbers."""
        seqs: list[int] = []
        while len(seqs) < count:
            some = min(count - len(seqs), 500)
            seqs += [item.seq for item in await self.core.store.append([something(did) for _ in range(some)])]
        return seqs

    async def order(self, event: WebhookEvent) -> int:
        (recorded,) = await self.core.store.decide(lambda view: [event])
        return recorded.seq

    async def until(self, is_so: Callable[[], bool], seconds: float = 60.0) -> None:
        """On the clock that jumps. It looks a thousand times in that time."""
        for _ in range(1000):
            if is_so():
                return
            await trio.sleep(seconds / 1000)
        raise AssertionError(f"not in {seconds} seconds")

    async def until_told(self, endpoint: Endpoint, seqs: Sequence[int], seconds: float = 60.0) -> None:
        await self.until(lambda: endpoint.taken[-len(seqs) :] == list(seqs), seconds)

    def logged(self, *types: type[Event]) -> list[Recorded]:
        every = [self.core.store.get(seq) for seq in range(1, self.core.store.last_seq + 1)]
        return [recorded for recorded in every if isinstance(recorded.event, types)]


def something(did: str = DID) -> Event:
    """An event that its member is told of."""
    return RecipientSuppressed(
        did=did, reason="manual", personal=SuppressedRecipient(address="friend@example.com", note="x")
    )


@asynccontextmanager
async def open_teller(
    directory: Path,
    receiver: Receiver | None = None,
    *,
    addresses: tuple[str, ...] = (PUBLIC,),
    allow: Sequence[str] = (),
    seed: int = 0,
    in_order: bool = True,
    meanwhile: int = 0,
) -> AsyncIterator[Teller]:
    """`in_order`: it is stopped at the end; else cut short, as by a kill. `meanwhile`: so much happens after who tells
    them was made, and before it begins."""
    if not directory.exists():
        make_directory(directory)
        configure(directory, webhooks=f"allow = {json.dumps(allow)}")
    receiver = receiver or Receiver()
    async with trio.open_nursery() as connections:

        async def open_stream(address: str, port: int) -> Stream:
            ours, theirs = memory_stream_pair()
            if port == 443:
                served = trio.SSLStream(theirs, SERVER, server_side=True, https_compatible=True)
                connections.start_soon(receiver.serve, served)
            else:
                connections.start_soon(receiver.serve, theirs)
            return ours

        world = Surroundings(
            clock=virtual_clock,
            offload=call_here,
            open_stream=open_stream,
            resolver=FakeDns(addresses={HOST: list(addresses)}),
            tls=AUTHORITY.trust,
            dice=random.Random(seed),
        )
        async with open_core(directory, world) as core, trio.open_nursery() as nursery:
            webhooks = Webhooks(core)
            for _ in range(meanwhile):
                await core.store.append([something()])
            await nursery.start(webhooks.run)
            yield Teller(core, receiver, webhooks)
            if in_order:
                webhooks.stop()
                await webhooks.ended.wait()
            nursery.cancel_scope.cancel()
        connections.cancel_scope.cancel()


def members(count: int) -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return [
        f"did:plc:{letters[i % 32]}{letters[i // 32 % 32]}{letters[i // 1024]}{'a' * 21}"
        for i in range(count)
    ]
