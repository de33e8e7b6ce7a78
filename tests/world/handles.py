"""A relay without its edges that looks after handles, in a small atproto: a directory, hosts, and a DNS.

    async with open_handles(directory) as atproto:
        atproto.publish(DID, HANDLE)
        await atproto.command("member_add", did=DID, domains=[DOMAIN])

Hosts speak real HTTPS through memory, on a clock that may jump. When the block ends, the views must be a fresh
fold of the log.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from trio.testing import memory_stream_pair

from relay.core import Core, open_core
from relay.events import HandleEvent
from relay.operator.handle_checks import reverify_handles
from relay.surroundings import Surroundings
from relay.views import handles
from tests.world.dns import FakeDns
from tests.world.https import Authority, Stream, serve_https
from tests.world.orders import order
from tests.world.relay import (
    DID,
    OTHER_DID,
    assert_views_are_the_log,
    call_here,
    make_directory,
    run,
    virtual_clock,
)

HANDLE, OTHER_HANDLE = "mira.yourdomain.com", "ada.yourdomain.com"
WEB_DID = "did:web:pds.yourdomain.com"
DIRECTORY = "plc.directory"
PUBLIC = "93.184.215.14"

AUTHORITY = Authority()
SERVER = AUTHORITY.certificate(DIRECTORY, HANDLE, OTHER_HANDLE, "pds.yourdomain.com")

#: What a host answers to a request for this path: status and body; or it does anything at all with the stream.
Answer = tuple[int, bytes] | Callable[[Stream], Awaitable[None]]


class Atproto:
    """What the network says, and what was asked of it."""

    def __init__(self) -> None:
        self.dns = FakeDns(addresses={DIRECTORY: [PUBLIC]})
        #: By host and path; what is not here is 404.
        self.pages: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.core: Core

    # ------------------------------------------------------------------------------------------------ the network

    def publish(self, did: str, handle: str) -> None:
        """Both directions, by a TXT record."""
        self.name(handle, did)
        self.document(did, [f"at://{handle}"])

    def name(self, handle: str, *dids: str) -> None:
        self.dns.txt[f"_atproto.{handle}"] = [(f"did={did}".encode(),) for did in dids]

    def document(self, did: str, names: Any) -> None:
        self.pages[document_page(did)] = 200, json.dumps({"id": did, "alsoKnownAs": names}).encode()

    def file(self, handle: str, answer: Answer, *addresses: str) -> None:
        self.dns.addresses[handle] = list(addresses or [PUBLIC])
        self.pages[f"{handle}/.well-known/atproto-did"] = answer

    async def serve(self, stream: Stream, request: bytes) -> None:
        head = request.decode()
        host = next(line[6:] for line in head.split("\r\n") if line.startswith("Host: "))
        page = f"{host}{head.split(' ')[1]}"
        self.requests.append(page)
        answer = self.pages.get(page, (404, b"no such page"))
        if callable(answer):
            await answer(stream)
        else:
            status, body = answer
            await stream.send_all(
                b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
            )

    # ------------------------------------------------------------------------------------------------ the relay

    async def command(self, name: str, **arguments: Any) -> Any:
        return await order(self.core, name, **arguments)

    def events(self) -> list[HandleEvent]:
        found = [self.core.store.get(seq).event for seq in range(1, self.core.store.last_seq + 1)]
        return [event for event in found if isinstance(event, HandleEvent)]

    def told(self) -> list[str]:
        return [event.TYPE.removeprefix("member.handle_") for event in self.events()]

    def held(self, did: str = DID) -> str | None:
        with self.core.store.read() as view:
            state = handles.held_by(view, did)
            if state is not None:
                assert handles.holder(view, state.handle) == did
            return None if state is None else state.handle

    def state(self, did: str = DID) -> handles.HandleState:
        with self.core.store.read() as view:
            state = handles.held_by(view, did)
        assert state is not None
        return state


def document_page(did: str) -> str:
    web = did.removeprefix("did:web:")
    return f"{DIRECTORY}/{did}" if web == did else f"{web}/.well-known/did.json"


@asynccontextmanager
async def open_handles(directory: Path, atproto: Atproto | None = None) -> AsyncIterator[Atproto]:
    """`atproto`: the network of an earlier start."""
    if not directory.exists():
        make_directory(directory)
    atproto = atproto or Atproto()
    async with trio.open_nursery() as nursery:

        async def open_stream(address: str, port: int) -> Stream:
            atproto.connected.append((address, port))
            ours, theirs = memory_stream_pair()
            nursery.start_soon(serve_https, theirs, SERVER, atproto.serve)
            return ours

        world = Surroundings(
            clock=virtual_clock,
            offload=call_here,
            open_stream=open_stream,
            resolver=atproto.dns,
            tls=AUTHORITY.trust,
            dice=random.Random(0),
        )
        async with open_core(directory, world) as core, trio.open_nursery() as running:
            atproto.core = core
            await running.start(reverify_handles, core)
            yield atproto
            running.cancel_scope.cancel()
            relay: Any = SimpleNamespace(core=core)
            assert_views_are_the_log(relay, directory)
        nursery.cancel_scope.cancel()


def with_handles(directory: Path, story: Callable[[Atproto], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_handles(directory / "data") as atproto:
            await story(atproto)

    run(main)


async def drip(stream: Stream) -> None:
    """An answer that takes longer than anybody waits."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        await trio.sleep(1)
        await stream.send_all(b" ")


__all__ = [
    "DID",
    "HANDLE",
    "OTHER_DID",
    "OTHER_HANDLE",
    "PUBLIC",
    "WEB_DID",
    "Atproto",
    "document_page",
    "drip",
    "open_handles",
    "with_handles",
]
