"""Members and strangers who do all that chapter 13 of the specification is about, at once, until they are ended.

    with attacked("127.0.0.1:8025", [credentials of A1, ...]):
        ...

It is a process of its own, so that what it costs is not the relay's, nor that of whoever measures. What it is answered
is of no interest, and a connection that is closed on it is opened again. Members come from 127.0.0.2, strangers from
addresses of their own: the relay must not look through loopback (`trusted_proxies = []`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

import trio

STRANGERS = 1_000
#: Of each member, for each kind of request.
CONNECTIONS = 3
KINDS = ("suppressions", "a megabyte", "spaces", "header values", "header names", "events", "messages")
_MEMBERS_ADDRESS = "127.0.0.2"
_PAUSE_SECONDS = 0.05


class Member(NamedTuple):
    domain: str
    headers: dict[str, str]


@contextmanager
def attacked(
    address: str,
    members: Sequence[Member],
    *,
    strangers: int = STRANGERS,
    kinds: Sequence[str] = KINDS,
) -> Iterator[None]:
    """Under attack while the block runs. `kinds`: what members do of it."""
    order = {
        "address": address,
        "members": [list(member) for member in members],
        "strangers": strangers,
        "kinds": list(kinds),
    }
    command = [sys.executable, "-m", "tests.world.attack"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order))
            process.stdin.close()
            if process.stdout.readline() != "attacking\n":
                raise RuntimeError("the attack has not begun")
            yield
            if process.poll() is not None:
                raise RuntimeError(f"the attack ended by itself, with {process.returncode}")
        finally:
            process.kill()


def requests_of(member: Member) -> dict[str, Iterator[bytes]]:
    """What it sends, by kind, for ever."""
    mail = {"from": f"you@{member.domain}", "to": f"quiet@{member.domain}", "subject": "s", "text": "t"}

    def sends(**fields: object) -> Iterator[bytes]:
        body = json.dumps({**mail, **fields}).encode()
        while True:
            yield _post(member, "/v1/send", body)

    def suppressions() -> Iterator[bytes]:
        for number in count():
            body = {"recipient": f"r{number}@example.com", "reason": "😀" * 256}
            yield _post(member, "/v1/suppressions", json.dumps(body).encode())

    def reads(path: str) -> Iterator[bytes]:
        while True:
            yield _request(member, "GET", path)

    names = ",".join(f'"X-{number}":"a"' for number in range(70_000))
    flood = json.dumps(mail).removesuffix("}") + f',"headers":{{{names}}}}}'

    def floods() -> Iterator[bytes]:
        while True:
            yield _post(member, "/v1/send", flood.encode())

    fifty = [f"r{number}@{member.domain}" for number in range(50)]
    spaces = {f"X-{number}": " " * 990 + "a" for number in range(50)}
    return {
        "suppressions": suppressions(),
        "a megabyte": sends(text="x" * 1_000_000),
        "spaces": sends(text=(" " * 990 + "a\r\n") * 1_040),
        "header values": sends(to=fifty, headers=spaces, subject="é" * 4_000),
        "header names": floods(),
        "events": reads("/v1/events?limit=1000"),
        "messages": reads(f"/v1/messages?limit=200&status=bounced&recipient=quiet@{member.domain}"),
    }


def _post(member: Member, path: str, body: bytes) -> bytes:
    return _request(member, "POST", path, f"Content-Length: {len(body)}") + body


def _request(member: Member, method: str, path: str, *fields: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: relay", *fields]
    lines += [f"{name}: {value}" for name, value in member.headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


CLICK = b"List-Unsubscribe=One-Click"
#: What strangers do: nothing, half a head, what never ends, and clicks on links that nobody was given.
STRANGERS_SAY = (
    b"",
    b"GET / HTTP/1.1\r\nHost: relay\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n",
    b"POST /u/" + b"A" * 110 + b" HTTP/1.1\r\nHost: relay\r\nContent-Length: %d\r\n\r\n" % len(CLICK) + CLICK,
)


async def _connections(address: str, source: str) -> AsyncIterator[trio.SocketStream]:
    """One after the other, whatever becomes of each."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            stream = await trio.open_tcp_stream(host, int(port), local_address=source)
        except OSError:
            await trio.sleep(_PAUSE_SECONDS)
            continue
        async with stream:
            yield stream
        await trio.sleep(_PAUSE_SECONDS)


async def _attack_as_member(address: str, requests: Iterator[bytes]) -> None:
    async for stream in _connections(address, _MEMBERS_ADDRESS):
        try:
            while True:
                await stream.send_all(next(requests))
                if not await stream.receive_some(1 << 20):
                    break
        except trio.BrokenResourceError:
            continue


async def _attack_as_stranger(address: str, number: int) -> None:
    said = STRANGERS_SAY[number % len(STRANGERS_SAY)]
    async for stream in _connections(address, f"127.1.{number >> 8}.{number & 0xFF}"):
        try:
            while True:
                await stream.send_all(said)
                # Whoever has asked asks again when it is answered; the others wait until they are hung up on.
                if not await stream.receive_some(1 << 16):
                    break
                await trio.sleep(1)
        except trio.BrokenResourceError:
            continue


async def _main(address: str, members: Sequence[Member], strangers: int, kinds: Sequence[str]) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(strangers):
            nursery.start_soon(_attack_as_stranger, address, number)
        for member in members:
            requests = requests_of(member)
            for kind in kinds:
                for _ in range(CONNECTIONS):
                    nursery.start_soon(_attack_as_member, address, requests[kind])
        print("attacking", flush=True)


if __name__ == "__main__":
    order = json.load(sys.stdin)
    trio.run(
        _main,
        order["address"],
        [Member(*each) for each in order["members"]],
        order["strangers"],
        order["kinds"],
    )
