"""kill -9 under load, again and again: what a client was told is true, and nothing else is half there.

Clients send over several connections and note every 200 that they read to its end. When a certain number of answers
has been read (chosen by dice with a seed) the relay is killed and started again on the same directory. In the end:

- every message that a client was told of is in the log, under the id and for the recipient that it was told;
- and was delivered, at least once; what was delivered twice was identical, and the log names the interrupted attempt;
- each `send.accepted` in the log is followed by exactly its own `message.queued`s, and none stands alone;
- nothing was delivered that the log does not know;
- the log and its views verify.

For a campaign: `KILL_ROUNDS=500 KILL_SEED=7 python -m pytest tests/service/test_kill_under_load.py`. The seed fixes how
many answers are read before each kill, not what else the machine was doing then.
"""

import os
import random
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.codec import decode
from relay.events import MessageQueued
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.world.checker import half_accepted
from tests.world.http import HttpConnection, NoAnswerError, open_http
from tests.world.mx import Mx, open_mx
from tests.world.mx_options import ReceivedMessage
from tests.world.process import RelayProcess, make_process_directory

ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
SEED = int(os.environ.get("KILL_SEED", "1"))
CONNECTIONS = 8
ANSWERS_MAX = 80
RECIPIENTS_MAX = 4
#: Many pages, so that a kill can hit a write half done.
TEXT_BYTES_MAX = 60_000
#: A round takes about a second; this tells a hanging one.
ROUND_SECONDS_MAX = 60


# Its own limit ends it before, with more to say.
@pytest.mark.timeout(ROUND_SECONDS_MAX * (ROUNDS + 5))
def test_every_answer_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            directory = make_process_directory(
                tmp_path / "data",
                route=mx.address,
                retry="delays_seconds = [1]",
                # About the smallest that is legal, so that some kills of a campaign hit a rotation.
                spool="segment_bytes = 16777216",
            )
            relay = RelayProcess(directory)
            clients = Clients(relay, relay.enrol())
            with relay.running(), trio.fail_after(ROUND_SECONDS_MAX * (ROUNDS + 3)):
                for _ in range(ROUNDS):
                    await clients.send_until_killed()
                    await trio.to_thread.run_sync(relay.start)
                await check_nothing_is_forgotten(clients)
                await wait_delivered(mx, clients.told)
                # In order, so that outcomes under way are written down, and once more, to be asked.
                assert await trio.to_thread.run_sync(relay.stop) == 0
                await trio.to_thread.run_sync(relay.start)
                delivered = by_message(mx.messages)
                await check_stories(clients, delivered)
                assert await trio.to_thread.run_sync(relay.stop) == 0
                await trio.to_thread.run_sync(relay.command, "log", "verify", "--json")
            check_the_log(directory, clients.told, delivered)
            assert mx.violations == []

    trio.run(main)


class Clients:
    """Several connections that send, and what they were told."""

    def __init__(self, relay: RelayProcess, credentials: dict[str, str]) -> None:
        #: messageId -> recipient, from every 200 that was read.
        self.told: dict[int, str] = {}
        self.relay = relay
        self.credentials = credentials
        self._dice = random.Random(SEED)
        self._answers = 0

    async def send_until_killed(self) -> None:
        """Send on all connections; after so many answers, kill the relay. Returns when all connections are dead."""
        last_answer = self._answers + self._dice.randint(1, ANSWERS_MAX)
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(self._send, last_answer)
        assert not self.relay.is_running

    async def _send(self, last_answer: int) -> None:
        try:
            async with open_http(self.relay.address) as http:
                while True:
                    to = self._recipients()
                    text = "x" * self._dice.randint(1, TEXT_BYTES_MAX)
                    answer = await http.post_send(self.credentials, to=to, text=text)
                    assert answer.status == 200, answer
                    accepted = answer.json()["accepted"]
                    assert [entry["recipient"] for entry in accepted] == to
                    for entry in accepted:
                        assert entry["messageId"] not in self.told
                        self.told[entry["messageId"]] = entry["recipient"]
                    self._answers += 1
                    if self._answers == last_answer:
                        self.relay.kill()
        except (NoAnswerError, OSError):
            assert not self.relay.is_running

    def _recipients(self) -> list[str]:
        """Nobody is written to twice."""
        count = self._dice.randint(1, RECIPIENTS_MAX)
        return [f"friend-{self._dice.getrandbits(64):016x}@example.com" for _ in range(count)]


async def wait_delivered(mx: Mx, told: Iterable[int]) -> None:
    """Wait until the receiver has all of them."""
    missing = set(told)
    seen = 0
    while True:
        missing -= set(by_message(mx.messages[seen:]))
        seen = len(mx.messages)
        if not missing:
            return
        await mx.wait_messages(seen + 1)


def by_message(received: Iterable[ReceivedMessage]) -> dict[int, list[ReceivedMessage]]:
    """The message is known by its envelope's sender."""
    found = defaultdict(list)
    for message in received:
        sender = re.fullmatch(r"bounces\+(\d+)-[a-z0-9]+@relay\.example", message.mail_from)
        assert sender is not None
        found[int(sender[1])].append(message)
    return dict(found)


async def check_nothing_is_forgotten(clients: Clients) -> None:
    async with open_http(clients.relay.address) as http:
        for message_id, recipient in clients.told.items():
            message = await read_back(http, clients, message_id)
            assert (message["messageId"], message["recipient"]) == (message_id, recipient)


async def check_stories(clients: Clients, delivered: dict[int, list[ReceivedMessage]]) -> None:
    async with open_http(clients.relay.address) as http:
        for message_id in clients.told:
            message = await read_back(http, clients, message_id)
            assert message["status"] == "sent"
            timeline = [entry["type"] for entry in message["timeline"]]
            assert len(delivered[message_id]) <= 1 + timeline.count("attempt.interrupted")


async def read_back(http: HttpConnection, clients: Clients, message_id: int) -> Any:
    answer = await http.request("GET", f"/v1/messages/{message_id}", clients.credentials)
    assert answer.status == 200, answer
    return answer.json()


def check_the_log(directory: Path, told: dict[int, str], delivered: dict[int, list[ReceivedMessage]]) -> None:
    with LogReader(directory / LOG_DIRECTORY) as reader:
        recorded = [decode(record) for record in reader.read(1)]
    assert [record.seq for record in recorded] == list(range(1, len(recorded) + 1))
    assert half_accepted(recorded) == []
    queued = {
        record.seq: record.event.personal.address
        for record in recorded
        if isinstance(record.event, MessageQueued) and record.event.personal is not None
    }
    assert told.items() <= queued.items()
    assert delivered.keys() <= queued.keys()
    for message_id, copies in delivered.items():
        assert {copy.rcpt_to for copy in copies} == {(queued[message_id],)}
        assert len({copy.data for copy in copies}) == 1
