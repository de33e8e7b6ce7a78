"""kill -9 between a message's fsync and the 250 that its client waits for: one thing said twice is one mail.

Clients hand in messages over SMTP, each a message of its own, at the same time. The relay is killed at a moment that is
drawn by dice: when a message is durable and its client has not heard of it; at one of the changes of the disk that
accept it; or at any moment. The clients do what every mail server does: they come again with the same message until
they hear 250. In the end:

- the log has each message once, and what the client heard are its ids;
- every recipient got it; what it got twice is identical, and the log names the interrupted attempt;
- the log and its views verify.

For a campaign: `KILL_ROUNDS=100 KILL_SEED=7 python -m pytest tests/service/test_kill_before_the_answer.py`.
"""

from __future__ import annotations

import os
import random
import smtplib
import threading
from collections import Counter
from pathlib import Path

import pytest
import trio

from relay.codec import decode
from relay.events import AttemptInterrupted, MessageQueued, SendAccepted
from relay.file_names import LOG_DIRECTORY, SUBMISSION_ADDRESS_FILE
from spool.reader import LogReader
from tests.world.checker import half_accepted
from tests.world.mx import open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, wait_until
from tests.world.relay import DOMAIN
from tests.world.smtp_relay import SENDER, accepted_ids, make_smtp_directory

ROUNDS = int(os.environ.get("KILL_ROUNDS", "6"))
SEED = int(os.environ.get("KILL_SEED", "1"))
CLIENTS = 3
ROUND_SECONDS_MAX = 60
#: A message and what is tried of those before it change the disk so often, more or less.
CHANGES_MAX = 8
MOMENTS = ("durable", "disk", "any")


class Client:
    """Hands in one message until it hears 250."""

    def __init__(self, relay: RelayProcess, key: str, number: int, recipients: list[str]) -> None:
        self.number = number
        self.recipients = recipients
        self.ids: list[int] = []
        #: Times that it came to the end of the message and heard nothing.
        self.left_without = 0
        self.failure = ""
        self._relay = relay
        self._key = key
        self.thread = threading.Thread(target=self._run)

    @property
    def message(self) -> bytes:
        return (
            f"From: {SENDER}\r\nTo: {self.recipients[0]}\r\nSubject: Hello\r\nX-Atmos-Category: transactional\r\n"
            f"Date: Mon, 1 Sep 2026 10:00:00 +0000\r\nMessage-ID: <{self.number}@{DOMAIN}>\r\n\r\n"
            f"{'x' * (self.number * 7919 % 900)}\r\n"
        ).encode()

    def _run(self) -> None:
        try:
            wait_until(self._hand_in, lambda: f"{self.number} is taken. {self._relay.output[-2000:]}")
        except AssertionError as error:
            self.failure = repr(error)

    def _hand_in(self) -> bool:
        in_data = False
        try:
            address = (self._relay.directory / SUBMISSION_ADDRESS_FILE).read_text().split()[0]
            with smtplib.SMTP(
                "127.0.0.1", int(address.rpartition(":")[2]), timeout=PATIENCE_SECONDS
            ) as client:
                client.login(DOMAIN, self._key)
                client.mail(SENDER)
                for recipient in self.recipients:
                    client.rcpt(recipient)
                in_data = True
                code, text = client.data(self.message)
        except (OSError, smtplib.SMTPException, IndexError):
            self.left_without += in_data
            return False
        assert code == 250, text
        self.ids = accepted_ids(text.decode())
        return True


# Its own limit ends it before, with more to say.
@pytest.mark.timeout(ROUND_SECONDS_MAX * (ROUNDS + 5))
def test_a_message_that_is_handed_in_again_is_one(tmp_path: Path) -> None:
    dice = random.Random(SEED)

    async def main() -> list[Client]:
        clients: list[Client] = []
        async with open_mx() as mx:
            directory = make_smtp_directory(tmp_path / "data", route=mx.address, tls=False)
            configure(directory, retry="delays_seconds = [1]")
            switches = {name: tmp_path / name for name in ("answer", "die")}
            command = ["-m", "tests.world.sabotage"]
            for name, file in switches.items():
                command += [name, str(file)]
            relay = RelayProcess(directory, command=command)
            key = relay.enrol()["Authorization"].removeprefix("Bearer ")
            with relay.running(), trio.fail_after(ROUND_SECONDS_MAX * (ROUNDS + 3)):
                for round_ in range(ROUNDS):
                    moment = MOMENTS[round_ % len(MOMENTS)]
                    new = [
                        Client(relay, key, round_ * CLIENTS + index, _recipients(dice))
                        for index in range(CLIENTS)
                    ]
                    clients += new
                    arm(switches, moment, dice)
                    for client in new:
                        client.thread.start()
                    if moment == "any":
                        await trio.sleep(dice.random() / 3)
                        relay.kill()
                    await trio.to_thread.run_sync(wait_dead_or_done, relay, new)
                    for file in switches.values():
                        file.unlink(missing_ok=True)
                    # One that was to die in a change of the disk counts on, and would die of what comes next.
                    if moment == "disk" or not relay.is_running:
                        relay.kill()
                        await trio.to_thread.run_sync(relay.start)
                    for client in new:
                        await trio.to_thread.run_sync(client.thread.join)
                        assert not client.failure, client.failure
                told = {message_id for client in clients for message_id in client.ids}
                while {_id_of(message.mail_from) for message in mx.messages} != told:
                    await mx.wait_messages(len(mx.messages) + 1)
                assert await trio.to_thread.run_sync(relay.stop) == 0
                await trio.to_thread.run_sync(relay.command, "log", "verify", "--json")
            assert mx.violations == []
            check_the_log(directory, clients, [message.mail_from for message in mx.messages])
        return clients

    clients = trio.run(main)
    # Or nothing was tried.
    assert sum(client.left_without for client in clients) >= ROUNDS // len(MOMENTS)


def arm(switches: dict[str, Path], moment: str, dice: random.Random) -> None:
    if moment == "durable":
        switches["answer"].touch()
    elif moment == "disk":
        beside = switches["die"].with_name("die.new")
        beside.write_text(str(dice.randint(1, CHANGES_MAX)))
        beside.rename(switches["die"])


def wait_dead_or_done(relay: RelayProcess, clients: list[Client]) -> None:
    wait_until(
        lambda: not relay.is_running or not any(client.thread.is_alive() for client in clients),
        lambda: "the relay is dead, or all is said",
    )


def check_the_log(directory: Path, clients: list[Client], received: list[str]) -> None:
    with LogReader(directory / LOG_DIRECTORY) as reader:
        records = [decode(record) for record in reader.read(1)]
    assert half_accepted(records) == []
    assert sum(isinstance(item.event, SendAccepted) for item in records) == len(clients)
    queued = {
        item.seq: item.event.personal.address
        for item in records
        if isinstance(item.event, MessageQueued) and item.event.personal is not None
    }
    for client in clients:
        assert [queued.get(message_id) for message_id in client.ids] == client.recipients, client.number
    assert len(queued) == sum(len(client.ids) for client in clients)
    twice = {_id_of(mail_from) for mail_from, count in Counter(received).items() if count > 1}
    interrupted = {item.event.message_id for item in records if isinstance(item.event, AttemptInterrupted)}
    assert twice <= interrupted


def _recipients(dice: random.Random) -> list[str]:
    return [f"friend-{dice.getrandbits(64):016x}@example.com" for _ in range(dice.randint(1, 3))]


def _id_of(mail_from: str) -> int:
    return int(mail_from.partition("+")[2].partition("-")[0])
