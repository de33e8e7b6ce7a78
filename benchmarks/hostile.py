"""What does a hostile destination cost everybody else's mail, and what does it cost in memory?

    python -m benchmarks.hostile

Real sockets. Mail to a good destination goes out at a steady pace; its delay runs from the POST to the final dot at the
receiver. Three phases take turns: nothing else is sent; as much mail goes to another destination that behaves as well;
as much goes to a hostile one. The first two are of a relay process of their own, to which nobody is hostile, because
connections that hang go on hanging.

Neither comparison is of the hostility alone. Against *alone*, what is added has the work of accepting that other mail
in it, so it is more than what the kind costs: the demand is made of this one. Against *where it behaves*, the mail is
the same, but there it is signed and delivered, and mail to most hostile destinations hardly is: a ratio above 1 says
that this work costs more than the kind does.

Memory is the relay's own (RssAnon), against its size before the first mail to the kind. What a single connection can
make the relay hold is bounded by `tests/delivery/test_session_memory.py`.
"""

from __future__ import annotations

import json
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import trio

from benchmarks.command import Effort, run
from benchmarks.load import OK, post, read_answer
from benchmarks.receiver import serve_smtp
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import DOMAIN, BenchedRelay, relay_process

QUESTION = "hostile"
GOOD_PER_SECOND = 20
OTHERS_PER_SECOND = 20
REPLY_LINE_BYTES = 100 << 20
LATE_SECONDS_MAX = 30.0
_MIB = 1 << 20

Hostile = Callable[[trio.SocketStream], Awaitable[None]]


# ------------------------------------------------------------------------------------------------ the hostile


async def hang(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def hang_after_the_dot(stream: trio.SocketStream) -> None:
    for answer in (b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n", b"250 a\r\n250 b\r\n354 c\r\n"):
        await stream.send_all(answer)
        await stream.receive_some(4096)
    await trio.sleep_forever()


async def drip(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 ")
    while True:
        await stream.send_all(b"x")
        await trio.sleep(1)


async def send_away(stream: trio.SocketStream) -> None:
    await stream.send_all(b"421 4.3.2 not now\r\n")


async def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def flood(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 mx\r\n")
    await stream.receive_some(4096)
    block = b"x" * 65536
    await stream.send_all(b"250-")
    for _ in range(REPLY_LINE_BYTES // len(block)):
        await stream.send_all(block)


#: By name, which is in the domain: what it does, and how the table says it.
KINDS: dict[str, tuple[Hostile, str]] = {
    "hang": (hang, "never says a word"),
    "hang-dot": (hang_after_the_dot, "never answers the final dot"),
    "drip": (drip, "a byte a second"),
    "421": (send_away, "421"),
    "reset": (reset, "reset"),
    "100-mb-line": (flood, "a reply line of 100 MB"),
}
#: Goes where everything goes that is no hostile destination.
CALM = "calm.example"


async def serve_hostile() -> None:
    """Serve a destination of each kind, and print their addresses by domain, as JSON."""
    routes: dict[str, str] = {}

    async def handler(kind: Hostile, stream: trio.SocketStream) -> None:
        try:
            await kind(stream)
        except trio.BrokenResourceError:
            pass  # the relay would not have it, and hung up
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        for name, (kind, _) in KINDS.items():
            serve = partial(trio.serve_tcp, partial(handler, kind), 0, host="127.0.0.1", backlog=1024)
            (listener,) = await nursery.start(serve)
            routes[f"{name}.example"] = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        print(json.dumps(routes), flush=True)


@contextmanager
def hostile_destinations() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "benchmarks.hostile", "serve"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


# ------------------------------------------------------------------------------------------------ the mail


class Delays(NamedTuple):
    """Of the mail to the good destination, in seconds."""

    median: float
    largest: float


class Mail:
    """Posts mail, and sees it arrive at the good destination."""

    def __init__(self, relay: BenchedRelay, name: str) -> None:
        self._relay = relay
        self._name = name
        self._posted = 0
        self._sent_at: dict[bytes, float] = {}
        self._delays: list[float] = []
        self._arrival = trio.Event()

    def taken(self, recipient: bytes) -> None:
        local_part = recipient.partition(b"<")[2].partition(b"@")[0]
        sent_at = self._sent_at.pop(local_part, None)
        if sent_at is not None:
            self._delays.append(time.perf_counter() - sent_at)
            self._arrival.set()
            self._arrival = trio.Event()

    async def phase(self, seconds: float, others: list[str]) -> Delays:
        """Mail to the good destination and to the others for so long; returns when the last good one has arrived."""
        self._delays = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._post_at_pace, ["good.example"], GOOD_PER_SECOND, seconds, True)
            if others:
                nursery.start_soon(self._post_at_pace, others, OTHERS_PER_SECOND, seconds, False)
        with trio.fail_after(LATE_SECONDS_MAX):
            while self._sent_at:
                await self._arrival.wait()
        return Delays(statistics.median(self._delays), max(self._delays))

    async def _post_at_pace(self, domains: list[str], per_second: float, seconds: float, timed: bool) -> None:
        host, _, port = self._relay.address.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        start = trio.current_time()
        async with stream:
            for number in range(int(per_second * seconds)):
                await trio.sleep_until(start + number / per_second)
                self._posted += 1
                local_part = f"{self._name}{self._posted}"
                request = self._request(f"{local_part}@{domains[number % len(domains)]}")
                if timed:
                    self._sent_at[local_part.encode()] = time.perf_counter()
                await stream.send_all(request)
                if not (await read_answer(stream)).startswith(OK):
                    raise RuntimeError("a send was not answered 200")

    def _request(self, to: str) -> bytes:
        mail = {"from": f"you@{DOMAIN}", "to": to, "subject": "Hello", "text": "Hello.\n" * 200}
        return post("/v1/send", json.dumps(mail).encode(), self._relay.credentials)


async def _measure(relay: BenchedRelay, spared: BenchedRelay, good: int, effort: Effort) -> list[Row]:
    mail, spared_mail = Mail(relay, "beset"), Mail(spared, "spared")
    rows: list[Row] = []

    def taken(recipient: bytes) -> None:
        mail.taken(recipient)
        spared_mail.taken(recipient)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, partial(serve_smtp, taken=taken), good, host="127.0.0.1")
        await nursery.start(serve)
        for each in (mail, spared_mail):
            await each.phase(effort.seconds, [CALM])  # warm
        for kind, (_, said) in KINDS.items():
            before = relay.memory().anonymous
            alone: list[Delays] = []
            calm: list[Delays] = []
            hostile: list[Delays] = []
            turns: list[tuple[Mail, list[str], list[Delays]]] = [
                (spared_mail, [], alone),
                (spared_mail, [CALM], calm),
                (mail, [f"{kind}.example"], hostile),
            ]
            for _ in range(effort.rounds):
                for sender, others, delays in turns:
                    delays.append(await sender.phase(effort.seconds, others))
                turns.reverse()
            rows += _rows(said, alone, calm, hostile, relay.memory().anonymous - before)
        nursery.cancel_scope.cancel()
    return rows


def _rows(
    case: str, alone: list[Delays], calm: list[Delays], hostile: list[Delays], grown: int
) -> Iterator[Row]:
    """What is more than alone in the largest delay of each round is what the demand speaks of."""
    row = partial(Row, question=QUESTION, case=case, lower_is_better=True)
    largest, largest_alone, largest_calm = (
        [phase.largest * 1000 for phase in phases] for phases in (hostile, alone, calm)
    )
    for meaning, phases in (("alone", alone), ("where it behaves", calm)):
        yield row(
            what="median delay, ms",
            values=[phase.median * 1000 for phase in hostile],
            against=Comparison(f"ms, {meaning}", [phase.median * 1000 for phase in phases]),
        )
    for meaning, delays in (("alone", largest_alone), ("where it behaves", largest_calm)):
        yield row(what="largest delay, ms", values=largest, against=Comparison(f"ms, {meaning}", delays))
    yield row(
        what="more than alone in the largest delay, ms",
        values=[ours - without for ours, without in zip(largest, largest_alone, strict=True)],
        asked=Demand("median", at_most=100),
    )
    yield row(what="memory grew by, MiB", values=[grown / _MIB], asked=Demand("median", at_most=1))


def measure(effort: Effort) -> Iterator[Row]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        good = probe.getsockname()[1]
    with (
        hostile_destinations() as routes,
        relay_process(route=f"127.0.0.1:{good}", routes=routes) as relay,
        relay_process(route=f"127.0.0.1:{good}") as spared,
    ):
        yield from trio.run(_measure, relay, spared, good, effort)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        trio.run(serve_hostile)
    else:
        run({QUESTION: measure})
