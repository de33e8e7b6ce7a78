"""A relay in a process of its own that takes mail for itself on loopback, as the world outside sees it.

    with running_inbound_relay(tmp_path / "data", route=mx.address) as relay:
        message_id = relay.send("friend@example.com")
        relay.hand_in("", relay.bounce_address(message_id), report)       # an `Answer`

Everything blocks: a test whose receivers live in a trio loop runs it by `trio.to_thread.run_sync`.
"""

from __future__ import annotations

import json
import smtplib
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from relay.codec import Recorded, decode
from relay.file_names import LOG_DIRECTORY
from relay.message.keys import load_pepper
from relay.message.tokens import BounceAddresses
from spool.reader import LogReader
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, make_process_directory
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN

#: Where the operator reads mail.
OPERATOR_MAILBOX = "operator@elsewhere.example"


class Said(NamedTuple):
    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class InboundRelay(RelayProcess):
    """With a member of `DID` and `domain`."""

    def __init__(
        self,
        directory: Path,
        *,
        command: Sequence[str] = ("-m", "relay"),
        domain: str = DOMAIN,
        operator_domain: str = OPERATOR_DOMAIN,
    ) -> None:
        super().__init__(directory, command=command)
        self.domain = domain
        self.operator_domain = operator_domain
        self.credentials: dict[str, str] = {}

    @property
    def port(self) -> int:
        """Of mail that comes in."""
        return int((self.directory / "inbound.address").read_text().split()[0].rpartition(":")[2])

    # -- as a member

    def request(self, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            None if body is None else json.dumps(body).encode(),
            {**self.credentials, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def send(self, to: str, **fields: object) -> int:
        """The message's id."""
        mail = {"from": f"you@{self.domain}", "to": to, "subject": "Hello", "text": "Hi\n", **fields}
        message_id: int = self.request("/v1/send", mail)["accepted"][0]["messageId"]
        return message_id

    def message(self, message_id: int) -> Any:
        return self.request(f"/v1/messages/{message_id}")

    def wait_message(self, message_id: int, condition: Callable[[Any], bool]) -> Any:
        """The message as soon as the condition holds for it."""
        found: list[Any] = []

        def holds() -> bool:
            found[:] = [self.message(message_id)]
            return condition(found[0])

        self.wait_until(holds, f"message {message_id} becomes what is waited for: {found}")
        return found[0]

    def wait_sent(self, message_id: int) -> Any:
        return self.wait_message(message_id, lambda message: message["status"] == "sent")

    def suppressions(self) -> dict[str, str]:
        """Address -> reason."""
        answer = self.request("/v1/suppressions")
        return {entry["recipient"]: entry["reason"] for entry in answer["suppressions"]}

    # -- as a stranger

    def hand_in(self, mail_from: str, rcpt_to: str, mail: bytes) -> Said:
        """One mail, and the reply that decided about it."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_SECONDS) as client:
            client.ehlo("stranger.test")
            for code, text in (
                client.mail(mail_from),
                client.rcpt(rcpt_to),
            ):
                if code >= 400:
                    return Said(code, text.decode())
            code, text = client.data(mail)
        return Said(code, text.decode())

    # -- what is on the disk

    def bounce_address(self, message_id: int) -> str:
        """The envelope sender of a message."""
        return BounceAddresses(load_pepper(self.directory).bounce_key, self.operator_domain).make(message_id)

    def records(self) -> list[Recorded]:
        """All that is in the log."""
        with LogReader(self.directory / LOG_DIRECTORY) as reader:
            return [decode(record) for record in reader.read(1)]

    def waiting(self) -> int:
        """How many messages are in its queue."""
        total: int = json.loads(self.command("queue", "list", "--messages", "--json"))["total"]
        return total


def make_inbound_directory(
    directory: Path,
    *,
    route: str,
    port: int = 0,
    settings: str = "",
    operator_domain: str = OPERATOR_DOMAIN,
    operator_mailbox: str = OPERATOR_MAILBOX,
) -> Path:
    """`settings` are lines of `[inbound]`."""
    make_process_directory(directory, route=route, operator_domain=operator_domain)
    inbound = f'bind = ["127.0.0.1:{port}"]\noperator_mailbox = "{operator_mailbox}"\n{settings}'
    configure(directory, inbound=inbound)
    return directory


@contextmanager
def running_inbound_relay(
    directory: Path,
    *,
    route: str,
    port: int = 0,
    settings: str = "",
    forward_to: str | None = None,
) -> Iterator[InboundRelay]:
    """`forward_to`: where the member's domain passes on its mail to, confirmed."""
    make_inbound_directory(directory, route=route, port=port, settings=settings)
    relay = InboundRelay(directory)
    relay.credentials = relay.enrol(DID, relay.domain)
    if forward_to is not None:
        relay.command("domain", "set-forward", "--domain", relay.domain, "--to", forward_to)
    with relay.running():
        yield relay
