"""A load generator: keep-alive connections that send one prepared request after another and read each answer.

A process of its own (`run_load` starts it), so that it takes none of the server's core. It speaks just enough HTTP/1.1
for answers with a Content-Length, because a full client would be slower than the server.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections import Counter
from typing import NamedTuple

import trio

OK = b"HTTP/1.1 200"
_SHOWN_BYTES = 1000


class Load(NamedTuple):
    requests: int
    seconds: float
    #: Seconds, by request.
    p50: float
    p99: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def run_load(
    address: str, request: bytes, *, connections: int, seconds: float, requests: int | None = None
) -> Load:
    """Send `request` over `connections` connections for that long, or so often; blocks until it is over.

    Every answer must be a 200: otherwise this raises, with the answers that were none: a rate with refusals in it is no
    rate.
    """
    order = {
        "address": address,
        "request": request.decode("latin-1"),
        "connections": connections,
        "seconds": seconds,
        "requests": requests,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(order),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *load, refused = json.loads(done.stdout)
    if refused:
        raise RuntimeError(f"not all requests were answered 200, but so many with: {refused}")
    return Load(*load)


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of a POST with a JSON body."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: relay",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _drive(
    address: str, request: bytes, connections: int, seconds: float, requests: int | None
) -> tuple[int, float, float, float, dict[str, int]]:
    host, _, port = address.rpartition(":")
    times: list[float] = []
    refused: Counter[str] = Counter()
    left = math.inf if requests is None else requests
    start = time.perf_counter()
    end = start + seconds

    async def connection() -> None:
        nonlocal left
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            while left > 0:
                left -= 1
                sent_at = time.perf_counter()
                await stream.send_all(request)
                answer = await read_answer(stream)
                if not answer.startswith(OK):
                    refused[answer[:_SHOWN_BYTES].decode("latin-1")] += 1
                times.append(time.perf_counter() - sent_at)
                if time.perf_counter() >= end:
                    break

    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(connection)
    elapsed = time.perf_counter() - start
    times.sort()
    return len(times), elapsed, times[len(times) // 2], times[int(len(times) * 0.99)], refused


async def read_answer(stream: trio.SocketStream) -> bytes:
    """The whole answer, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = await stream.receive_some(65536)
        if not part:
            raise ConnectionError("the server hung up")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += await stream.receive_some(65536)
    return head + b"\r\n\r\n" + body


if __name__ == "__main__":
    order = json.load(sys.stdin)
    result = trio.run(
        _drive,
        order["address"],
        order["request"].encode("latin-1"),
        order["connections"],
        order["seconds"],
        order["requests"],
    )
    print(json.dumps(result))
