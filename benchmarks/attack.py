"""Under attack by five members and a thousand strangers, how long does another member's login link wait?

    python -m benchmarks.attack

Members A1 to A5 suppress addresses, send texts of a megabyte and mails of spaces, flood with headers and read all they
can; strangers hold connections and click on links that do not exist (`tests.world.attack`), all at once and as fast as
they are let. B sends a login link ten times a second, on a connection of its own, and every one of them must arrive.
In turn with rounds without the attack. The attack takes most of one of two cores, which is its advantage.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import trio

from benchmarks.command import Effort, run
from benchmarks.load import OK, post, read_answer
from benchmarks.receiver import serve_smtp
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import DOMAIN, BenchedRelay, relay_process
from tests.world.attack import STRANGERS, Member, attacked

QUESTION = "attack"
MEMBERS = 5
LINKS_PER_SECOND = 10
ARRIVAL_SECONDS_MAX = 60
#: A thousand strangers connect in the same moment; after that they come as they are hung up on.
BEGINNING_SECONDS = 5
_MIB = 1 << 20
_B = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
_B_DOMAIN = "b.example"


class Phase(NamedTuple):
    """Milliseconds of each link; MiB."""

    waits: list[float]
    memory: float
    refused: int


class Links:
    """B's login links, from the request to the receiver."""

    def __init__(self, relay: BenchedRelay, credentials: dict[str, str]) -> None:
        self._relay = relay
        self._credentials = credentials
        self._sent = 0
        self._missing: set[bytes] = set()
        self._arrival = trio.Event()

    def taken(self, recipient: bytes) -> None:
        self._missing.discard(recipient.partition(b"<")[2].partition(b"@")[0])
        self._arrival.set()
        self._arrival = trio.Event()

    async def send(self, seconds: float) -> Phase:
        """For so long; returns when the last one has arrived."""
        host, _, port = self._relay.address.rpartition(":")
        waits, memory, refused = [], 0.0, 0
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            start = trio.current_time()
            for number in range(int(seconds * LINKS_PER_SECOND)):
                await trio.sleep_until(start + number / LINKS_PER_SECOND)
                self._sent += 1
                local_part = f"link{self._sent}"
                self._missing.add(local_part.encode())
                begun = time.perf_counter()
                await stream.send_all(self._request(local_part))
                answer = await read_answer(stream)
                waits.append(1000 * (time.perf_counter() - begun))
                if not answer.startswith(OK):
                    refused += 1
                    self._missing.discard(local_part.encode())
                    print(f"         refused: {answer!r}", file=sys.stderr)
                if number % LINKS_PER_SECOND == 0:
                    memory = max(memory, self._relay.memory().without_views / _MIB)
        with trio.fail_after(ARRIVAL_SECONDS_MAX):
            while self._missing:
                await self._arrival.wait()
        return Phase(waits, memory, refused)

    def _request(self, local_part: str) -> bytes:
        mail = {
            "from": f"you@{_B_DOMAIN}",
            "to": f"{local_part}@example.com",
            "subject": "Your login link",
            "text": "Here it is.",
            "category": "login-link",
        }
        return post("/v1/send", json.dumps(mail).encode(), self._credentials)


async def _measure(effort: Effort) -> tuple[list[Phase], list[Phase]]:
    calm, attack = [], []
    links: list[Links] = []

    def taken(recipient: bytes) -> None:
        for each in links:
            each.taken(recipient)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, partial(serve_smtp, taken=taken), [listener])
        route = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        with ExitStack() as stack:
            relay = await trio.to_thread.run_sync(
                stack.enter_context, relay_process(route=route, http="trusted_proxies = []")
            )
            members = [Member(DOMAIN, relay.credentials)]
            for number in range(2, MEMBERS + 1):
                did, domain = f"did:plc:{'a' * 23}{number}", f"a{number}.example"
                credentials = await trio.to_thread.run_sync(relay.enrol, did, domain)
                members.append(Member(domain, credentials))
            links.append(Links(relay, await trio.to_thread.run_sync(relay.enrol, _B, _B_DOMAIN)))
            await links[0].send(1)
            for _ in range(effort.rounds):
                calm.append(await links[0].send(effort.seconds))
                with attacked(relay.address, members, strangers=effort.scaled(STRANGERS)):
                    await trio.sleep(BEGINNING_SECONDS)
                    attack.append(await links[0].send(effort.seconds))
        nursery.cancel_scope.cancel()
    return calm, attack


def measure(effort: Effort) -> Iterator[Row]:
    calm, attack = trio.run(_measure, effort)
    row = partial(Row, question=QUESTION, case="five members and 1,000 strangers", lower_is_better=True)
    for what, of, at_most in (("median", statistics.median, 200), ("longest", max, 1000)):
        yield row(
            what=f"login link until 200, {what}, ms",
            values=[of(phase.waits) for phase in attack],
            against=Comparison("ms, in peace", [of(phase.waits) for phase in calm]),
            asked=Demand("median", at_most=at_most),
            is_headline=True,
        )
    yield row(
        what="login links refused",
        values=[phase.refused for phase in attack],
        asked=Demand("median", at_most=0),
    )
    yield row(
        what="resident memory without views, MiB",
        values=[phase.memory for phase in attack],
        asked=Demand("median", at_most=300),
        is_headline=True,
    )


if __name__ == "__main__":
    run({QUESTION: measure})
