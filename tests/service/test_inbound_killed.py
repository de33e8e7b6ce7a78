"""kill -9 between a mail's fsync and the 250 that its sender waits for: what comes in again is one.

Mail servers hand in reports about messages, and mail for the operator, at the same time. The relay is killed at the
moments of `test_kill_before_the_answer`, and they come again, as mail servers do, until they hear 250. In the end the
log has each report once in its message's story, and each mail once with its `forward.queued` right behind it; the
operator's mailbox got each, and what it got twice the log knows of.

For a campaign: `KILL_ROUNDS=100 KILL_SEED=7 python -m pytest tests/service/test_inbound_killed.py`.
"""

from __future__ import annotations

import hashlib
import random
import smtplib
import threading
from collections import Counter
from pathlib import Path

import pytest
import trio

from relay.codec import Recorded
from relay.events import AttemptInterrupted, ForwardQueued, MailReceived, MessageBounceReported
from tests.service.test_kill_before_the_answer import (
    CLIENTS,
    MOMENTS,
    ROUND_SECONDS_MAX,
    ROUNDS,
    SEED,
    arm,
    wait_dead_or_done,
)
from tests.world.inbound_relay import OPERATOR_MAILBOX, InboundRelay, make_inbound_directory
from tests.world.mx import Mx, open_mx
from tests.world.mx_options import ReceivedMessage
from tests.world.process import PATIENCE_SECONDS, configure, wait_until
from tests.world.relay import OPERATOR_DOMAIN


class Sender:
    """Hands in one mail until it hears 250; every other one is a report about the message."""

    def __init__(self, relay: InboundRelay, number: int, message_id: int) -> None:
        self.number = number
        self.message_id = message_id if number % 2 else None
        self.rcpt_to = relay.bounce_address(message_id) if number % 2 else f"postmaster@{OPERATOR_DOMAIN}"
        #: Times that it came to the end of the mail and heard nothing.
        self.left_without = 0
        self.failure = ""
        self._relay = relay
        self.thread = threading.Thread(target=self._run)

    @property
    def mail(self) -> bytes:
        text = "x" * (self.number * 7919 % 900)
        if self.message_id is None:
            return f"From: a@b.example\r\nSubject: {self.number}\r\n\r\n{text}\r\n".encode()
        return (
            f"From: MAILER-DAEMON@b.example\r\nSubject: {self.number}\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
            f"--b\r\n\r\n{text}\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
            "Reporting-MTA: dns; b.example\r\n\r\nFinal-Recipient: rfc822; x@b.example\r\n"
            "Action: delayed\r\nStatus: 4.4.1\r\n\r\n--b--\r\n"
        ).encode()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.mail).hexdigest()

    def _run(self) -> None:
        try:
            wait_until(self._hand_in, lambda: f"{self.number} is taken. {self._relay.output[-2000:]}")
        except AssertionError as error:
            self.failure = repr(error)

    def _hand_in(self) -> bool:
        in_data = False
        try:
            with smtplib.SMTP("127.0.0.1", self._relay.port, timeout=PATIENCE_SECONDS) as client:
                client.ehlo("b.example")
                client.mail("")
                client.rcpt(self.rcpt_to)
                in_data = True
                code, text = client.data(self.mail)
        except (OSError, smtplib.SMTPException, IndexError):
            self.left_without += in_data
            return False
        assert code == 250, text
        return True


# Its own limit ends it before, with more to say.
@pytest.mark.timeout(ROUND_SECONDS_MAX * (ROUNDS + 5))
def test_a_mail_that_comes_in_again_is_one(tmp_path: Path) -> None:
    async def main() -> list[Sender]:
        async with open_mx() as mx:
            with trio.fail_after(ROUND_SECONDS_MAX * (ROUNDS + 3)):
                return await trio.to_thread.run_sync(kill_and_look, tmp_path, mx)

    senders = trio.run(main)
    # Or nothing was tried.
    assert sum(sender.left_without for sender in senders) >= ROUNDS // len(MOMENTS)


def kill_and_look(tmp_path: Path, mx: Mx) -> list[Sender]:
    dice = random.Random(SEED)
    directory = make_inbound_directory(
        tmp_path / "data",
        route=mx.address,
        settings="messages_per_minute_per_address = 100000\nmessages_per_hour = 100000",
    )
    configure(directory, retry="delays_seconds = [1]")
    switches = {name: tmp_path / name for name in ("answer", "die")}
    command = ["-m", "tests.world.sabotage"]
    for name, file in switches.items():
        command += [name, str(file)]
    relay = InboundRelay(directory, command=command)
    relay.credentials = relay.enrol()
    senders: list[Sender] = []
    with relay.running():
        for round_ in range(ROUNDS):
            message_id = relay.send(f"friend-{round_}@example.com")
            relay.wait_sent(message_id)
            moment = MOMENTS[round_ % len(MOMENTS)]
            new = [Sender(relay, round_ * CLIENTS + index, message_id) for index in range(CLIENTS)]
            senders += new
            arm(switches, moment, dice)
            for sender in new:
                sender.thread.start()
            if moment == "any":
                threading.Event().wait(dice.random() / 3)
                relay.kill()
            wait_dead_or_done(relay, new)
            for file in switches.values():
                file.unlink(missing_ok=True)
            # One that was to die in a change of the disk counts on, and would die of what comes next.
            if moment == "disk" or not relay.is_running:
                relay.kill()
                relay.start()
            for sender in new:
                sender.thread.join()
                assert not sender.failure, sender.failure
        relay.wait_until(
            lambda: (
                {subject_of(message.data) for message in forwarded(mx)}
                == {sender.number for sender in senders if sender.message_id is None}
            ),
            "all of it is passed on",
        )
        assert relay.stop() == 0
        relay.command("log", "verify", "--json")
    check_the_log(relay.records(), senders, mx)
    return senders


def check_the_log(records: list[Recorded], senders: list[Sender], mx: Mx) -> None:
    reported = Counter(
        (item.event.message_id, item.event.sha256)
        for item in records
        if isinstance(item.event, MessageBounceReported)
    )
    assert reported == {
        (sender.message_id, sender.sha256): 1 for sender in senders if sender.message_id is not None
    }
    received = Counter(item.event.sha256 for item in records if isinstance(item.event, MailReceived))
    assert received == {sender.sha256: 1 for sender in senders if sender.message_id is None}
    for item, behind in zip(records, [*records[1:], None], strict=True):
        if isinstance(item.event, MailReceived):
            assert behind is not None
            assert isinstance(behind.event, ForwardQueued)
    twice = {number for number, count in Counter(map(envelope_id, forwarded(mx))).items() if count > 1}
    assert twice <= {item.event.message_id for item in records if isinstance(item.event, AttemptInterrupted)}


def forwarded(mx: Mx) -> list[ReceivedMessage]:
    return [message for message in mx.messages if message.rcpt_to == (OPERATOR_MAILBOX,)]


def subject_of(data: bytes) -> int:
    return int(data.partition(b"\r\nSubject: ")[2].partition(b"\r\n")[0])


def envelope_id(message: ReceivedMessage) -> int:
    """A mail that came with the null sender goes on with it: the relay's own field names it."""
    return int(message.data.partition(b"X-Atmos-Forwarded: ")[2].partition(b"-")[0])
