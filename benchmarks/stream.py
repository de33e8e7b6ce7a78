"""What do status streams cost, idle and busy?

    python -m benchmarks.stream

One relay process, one member, a thousand websockets on it. Idle: the memory of each; and the relay's
processor time over two periods of its pings, which every subscriber answers, with nothing else going on. Busy: how fast
events reach all of them, one send of ten recipients at a time, until every subscriber has its frames. The ceiling,
round by round in turn, is bare hypercorn on trio that sends as many frames, as large, to as many websockets, and knows
of no log, cursor or member.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator

import trio

from benchmarks.accept import Bare, bare_server
from benchmarks.command import Effort, run
from benchmarks.report import Comparison, Row
from benchmarks.world import DOMAIN, BenchedRelay, relay_process, silent_receiver
from relay.api.server import PING_SECONDS
from tests.world.http import open_http

QUESTION = "stream"
SUBSCRIBERS = 1000
EVENTS = 50
RECIPIENTS = 10
_OPENING_AT_A_TIME = 50
#: Once in each frame.
_MARK = b'{"seq":'
_PING = b"\x89"
#: Masked by zeros, as a client's frame must be masked by something.
_PONG = b"\x8a\x80\0\0\0\0"
_MAIL = json.dumps(
    {"from": f"you@{DOMAIN}", "subject": "x", "text": "x", "category": "transactional"}
    | {"to": [f"friend{number}@example.com" for number in range(RECIPIENTS)]}
).encode()


class Subscribers:
    """Websockets that count frames and do nothing else, so that what is measured is the server."""

    def __init__(self, address: str, credentials: dict[str, str], nursery: trio.Nursery) -> None:
        self._address = address
        self._credentials = credentials
        self._nursery = nursery
        self._seen = 0
        self.pings = 0
        self._news = trio.Event()

    async def open(self, count: int) -> None:
        limit = trio.CapacityLimiter(_OPENING_AT_A_TIME)
        async with trio.open_nursery() as opening:
            for _ in range(count):
                opening.start_soon(self._open_one, limit)

    async def _open_one(self, limit: trio.CapacityLimiter) -> None:
        head = f"GET /v1/stream HTTP/1.1\r\nHost: {self._address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self._credentials.items())
        host, _, port = self._address.rpartition(":")
        async with limit:
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.send_all(head.encode() + b"\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer:
                part = await stream.receive_some(65536)
                answer += part
                if not part or not answer.startswith(b"HTTP/1.1 101"):
                    raise RuntimeError(f"no stream: {answer.decode()}")
        self._nursery.start_soon(self._count, stream)

    async def _count(self, stream: trio.SocketStream) -> None:
        async with stream:
            rest = b""
            while part := await stream.receive_some(65536):
                data = rest + part
                self._seen += data.count(_MARK)
                if part.startswith(_PING):  # it comes alone, where nothing else comes
                    await stream.send_all(_PONG)
                    self.pings += 1
                rest = data[-(len(_MARK) - 1) :]  # the mark may be cut in two
                self._news.set()
                self._news = trio.Event()

    async def fan_out(self, count: int, events: int) -> float:
        """Have so many events sent to so many subscribers; frames a second."""
        start, seen_before = time.perf_counter(), self._seen
        expected = seen_before
        async with open_http(self._address) as http:
            for _ in range(events // RECIPIENTS):
                headers = {**self._credentials, "Content-Type": "application/json"}
                answer = await http.request("POST", "/v1/send", headers, _MAIL)
                assert answer.status == 200, answer
                expected += RECIPIENTS * count
                while self._seen < expected:
                    await self._news.wait()
        return (expected - seen_before) / (time.perf_counter() - start)


async def _measure(relay: BenchedRelay, bare: Bare, effort: Effort) -> list[Row]:
    count, events = effort.scaled(SUBSCRIBERS), effort.scaled(EVENTS) // RECIPIENTS * RECIPIENTS
    ours: list[float] = []
    ceiling: list[float] = []
    before = relay.memory().without_views
    async with trio.open_nursery() as nursery:
        relays = Subscribers(relay.address, relay.credentials, nursery)
        await relays.open(count)
        kib = (relay.memory().without_views - before) / count / 1024
        # Two periods with the usual effort, so that each subscriber is sent two.
        idle_seconds = 2 * PING_SECONDS * effort.seconds / Effort().seconds
        used = relay.cpu_seconds()
        await trio.sleep(idle_seconds)
        idle = (relay.cpu_seconds() - used) / idle_seconds
        if relays.pings < count * int(idle_seconds / PING_SECONDS):
            raise RuntimeError(f"{relays.pings} pings came: this is not what idle streams cost")
        bares = Subscribers(bare.address, {}, nursery)
        await bares.open(count)
        turns = [(bares, ceiling), (relays, ours)]
        for _ in range(effort.rounds):
            for subscribers, rates in turns:
                rates.append(await subscribers.fan_out(count, events))
            turns.reverse()
        nursery.cancel_scope.cancel()
    case = f"{count:,} subscribers"
    return [
        Row(
            question=QUESTION,
            case=case,
            what="frames/s, all of them together",
            values=ours,
            against=Comparison("frames/s, bare hypercorn", ceiling),
            is_headline=True,
        ),
        Row(question=QUESTION, case=case, what="KiB of memory of each", values=[kib], lower_is_better=True),
        Row(
            question=QUESTION,
            case=case,
            what=f"idle but for pings, {idle_seconds:g} s, % of a core",
            values=[idle * 100],
            lower_is_better=True,
        ),
    ]


def measure(effort: Effort) -> Iterator[Row]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    settings = "streams_max = 1000000\nstreams_per_member_max = 1000000\n"
    with (
        silent_receiver() as nobody,
        relay_process(route=nobody, http=settings) as relay,
        bare_server("fan-out") as bare,
    ):
        yield from trio.run(_measure, relay, bare, effort)


if __name__ == "__main__":
    run({QUESTION: measure})
