"""A load generator for HTTP: connections that send one prepared request after another and read each answer.

A process of its own (`run_load` starts it), so that it takes none of the server's core. It speaks just enough HTTP/1.1
for answers with a Content-Length, because a full client would be slower than the server. `benchmarks.dialogues` says
what it is made of.

Two kinds. In a *closed loop* (`run_load`) each connection sends as soon as it has been answered: how much can a server
do? In an *open loop* (`run_open_loop`) each request is due at its time, whatever became of those before: how long does
a client wait? There the wait is counted from when the request was due, and one that is due while all connections wait
for an answer is sent when one becomes free. So a server that stands still for a second is seen by all that would have
come in that second, and not by one for each connection.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.dialogues import READY, Dialogue, Supply, connect, hear, percentiles, play

if TYPE_CHECKING:  # not needed to make load, and the process that does is soon there
    import trio

OK = b"HTTP/1.1 200"
_SHOWN_BYTES = 1000
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length: "
_SILENT_SECONDS_MAX = 120.0


class Load(NamedTuple):
    requests: int
    #: From the first request, or the first connection where each request has its own, to the last answer.
    seconds: float
    #: Seconds, by request.
    p50: float
    p99: float
    p999: float
    #: Processor time of the load generator itself.
    cpu_seconds: float
    #: What was not answered 200, and how often.
    refused: dict[str, int]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def run_load(
    address: str,
    request: bytes,
    *,
    connections: int,
    seconds: float,
    requests: int | None = None,
    keeps: bool = True,
) -> Load:
    """Send `request` over `connections` connections for that long, or so often; blocks until it is over.

    Without `keeps` there are as many connections at a time, and each is closed when its request was answered: the time
    of a request is then from before its connection was opened.

    Every answer must be a 200: otherwise this raises, with the answers that were none: a rate with refusals in it is no
    rate.
    """
    load = _run("closed", request, address, connections, seconds, requests, keeps)
    if load.refused:
        raise RuntimeError(f"not all requests were answered 200, but so many with: {load.refused}")
    return load


def run_open_loop(
    address: str, request: bytes, *, connections: int, seconds: float, per_second: float
) -> Load:
    """Send `request` so often a second, at even distances, for that long; times are from when each was due. Refusals
    are no error here, for a server that has too much to do may say so: they are in what is returned."""
    return _run("open", request, address, connections, seconds, per_second)


def _run(kind: str, request: bytes, *arguments: object) -> Load:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps([kind, request.decode("latin-1"), *arguments]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Load(*json.loads(done.stdout))


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


def _missing(answer: bytes) -> bool:
    """Whether more of this answer has to come."""
    head = answer.find(_END_OF_HEAD)
    if head < 0:
        return True
    lowered = answer[: head + 2].lower()
    start = lowered.index(_LENGTH) + len(_LENGTH)
    length = int(lowered[start : lowered.index(b"\r", start)])
    return len(answer) < head + len(_END_OF_HEAD) + length


class _Answers:
    """What was not answered 200, and how often."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()

    def heard(self, answer: bytes) -> None:
        if not answer.startswith(OK):
            self.refused[answer[:_SHOWN_BYTES].decode("latin-1")] += 1


def _closed_loop(
    request: bytes, address: str, connections: int, seconds: float, requests: int | None, keeps: bool
) -> list[Any]:
    supply, answers = Supply(messages=requests, seconds=seconds), _Answers()

    def dialogue() -> Dialogue:
        if keeps:
            yield READY
        while supply.take():
            start = time.perf_counter()
            answer = yield request
            while _missing(answer):
                answer += yield b""
            supply.times.append(time.perf_counter() - start)
            answers.heard(answer)
            if not keeps:
                return

    elapsed, cpu = play(address, dialogue, supply, connections=connections, keeps=keeps)
    return [len(supply.times), elapsed, *percentiles(supply.times), cpu, answers.refused]


def _open_loop(
    request: bytes, address: str, connections: int, seconds: float, per_second: float
) -> list[Any]:
    answers, times = _Answers(), list[float]()
    epoll = select.epoll()
    #: Who was answered longest ago sends next, so that all are used.
    idle = deque(connect(address, request_bytes=len(request)) for _ in range(connections))
    by_number = {connection.fileno(): connection for connection in idle}
    for number in by_number:
        epoll.register(number, select.EPOLLIN)
    due_of: dict[int, float] = {}
    come: dict[int, bytes] = {}
    total, sent = max(1, round(seconds * per_second)), 0
    cpu, start = time.process_time(), time.perf_counter()
    while len(times) < total:
        due = start + sent / per_second
        if sent < total and idle:
            # Not the time of epoll, which counts milliseconds.
            ready, _, _ = select.select([epoll], [], [], max(0.0, due - time.perf_counter()))
        else:
            ready, _, _ = select.select([epoll], [], [], _SILENT_SECONDS_MAX)
            if not ready:
                raise ConnectionError(f"the server has said nothing for {_SILENT_SECONDS_MAX:g} s")
        for number, _ in epoll.poll(0) if ready else ():
            answer = come.pop(number, b"") + hear(by_number[number])
            if _missing(answer):
                come[number] = answer
                continue
            times.append(time.perf_counter() - due_of.pop(number))
            answers.heard(answer)
            idle.append(by_number[number])
        while sent < total and idle and (due := start + sent / per_second) <= time.perf_counter():
            connection = idle.popleft()
            due_of[connection.fileno()] = due
            connection.sendall(request)
            sent += 1
    elapsed = time.perf_counter() - start
    return [total, elapsed, *percentiles(times), time.process_time() - cpu, answers.refused]


async def read_answer(stream: trio.SocketStream) -> bytes:
    """The whole answer, head and body, for a client in trio's loop."""
    answer = b""
    while _missing(answer):
        part = await stream.receive_some(65536)
        if not part:
            raise ConnectionError("the server hung up")
        answer += part
    return answer


_KINDS: dict[str, Callable[..., list[Any]]] = {"closed": _closed_loop, "open": _open_loop}

if __name__ == "__main__":
    kind, request, *arguments = json.load(sys.stdin)
    print(json.dumps(_KINDS[kind](request.encode("latin-1"), *arguments)))
