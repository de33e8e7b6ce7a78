"""What do status streams cost, idle and busy?

    python -m benchmarks.stream [--subscribers 1000] [--events 200]

One relay process, one member, N websockets on it that wait. Measured: the resident memory of each, what the relay's
processor does meanwhile (nothing but pings), and how fast events reach all of them: one send at a time, until every
subscriber has its frame.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

import trio

from benchmarks.world import DOMAIN, RelayProcess, relay_process, silent_receiver
from tests.world.http import open_http

IDLE_SECONDS = 5
_OPENING_AT_A_TIME = 50


def memory_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Subscriber:
    """Counts frames, and does nothing else, so that what is measured is the relay."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.frames = 0

    async def run(self, counted: trio.MemorySendChannel[int]) -> None:
        while data := await self._stream.receive_some(65536):
            frames = data.count(b'{"seq":')
            self.frames += frames
            if frames:
                await counted.send(frames)


async def subscribe(relay: RelayProcess, limit: trio.CapacityLimiter, into: list[trio.SocketStream]) -> None:
    head = (
        f"GET /v1/stream HTTP/1.1\r\nHost: {relay.address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    )
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in relay.credentials.items())
    host, _, port = relay.address.rpartition(":")
    async with limit:
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(head.encode() + b"\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = await stream.receive_some(65536)
            answer += part
            if not part or not answer.startswith(b"HTTP/1.1 101"):
                raise SystemExit(f"no stream: {answer.decode()}")
        into.append(stream)


async def measure(relay: RelayProcess, subscribers: int, events: int) -> None:
    before = memory_bytes(relay.pid)
    streams: list[trio.SocketStream] = []
    limit = trio.CapacityLimiter(_OPENING_AT_A_TIME)
    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(subscribers):
            nursery.start_soon(subscribe, relay, limit, streams)
    opened = time.perf_counter() - start
    idle_bytes = (memory_bytes(relay.pid) - before) / subscribers
    used = processor_seconds(relay.pid)
    await trio.sleep(IDLE_SECONDS)
    idle_share = (processor_seconds(relay.pid) - used) / IDLE_SECONDS

    mail = {"from": f"you@{DOMAIN}", "subject": "x", "text": "x", "category": "transactional"}
    mail |= {"to": [f"friend{number}@example.com" for number in range(10)]}
    counted, counts = trio.open_memory_channel[int](subscribers)
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(Subscriber(stream).run, counted)
        start = time.perf_counter()
        seen = sent = 0
        async with open_http(relay.address) as http:
            while sent < events:
                headers = {**relay.credentials, "Content-Type": "application/json"}
                answer = await http.request("POST", "/v1/send", headers, json.dumps(mail).encode())
                assert answer.status == 200, answer
                sent += 10
                while seen < sent * subscribers:
                    seen += await counts.receive()
        took = time.perf_counter() - start
        nursery.cancel_scope.cancel()
    for stream in streams:
        await stream.aclose()
    print(f"subscribers                 {subscribers:8,}")
    print(f"opened/s                    {subscribers / opened:8,.0f}")
    print(f"resident bytes of each      {idle_bytes:8,.0f}")
    print(f"processor while idle        {idle_share:8.1%}")
    print(f"events/s to all of them     {sent / took:8.1f}")
    print(f"frames/s                    {seen / took:8,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--events", type=int, default=200)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    settings = "streams_max = 1000000\nstreams_per_member_max = 1000000\n"
    with silent_receiver() as receiver, relay_process(route=receiver, http=settings) as relay:
        trio.run(measure, relay, options.subscribers, options.events)


if __name__ == "__main__":
    main()
