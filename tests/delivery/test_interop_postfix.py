"""A receiver that nobody here wrote: mail from a real relay to a real Postfix, in the shapes in which Postfix is met.

Each domain here is one such shape. What arrives is compared with what the relay has recorded: the delivered file ends
in exactly the octets whose SHA-256 is in the message's timeline.
"""

from __future__ import annotations

import email.policy
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
import requests
import trio

from relay.config import CONFIG_FILE
from tests.world.dns import open_dns_server
from tests.world.postfix import Postfix, running_postfix
from tests.world.postgrey import running_postgrey
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, make_process_directory, wait_until
from tests.world.relay import DOMAIN, OPERATOR_DOMAIN, OTHER_DID, OTHER_DOMAIN
from tests.world.rspamd import running_rspamd

#: More than the small receivers take, and than any other message here.
BIG_TEXT = "0123456789abcde\n" * 8192
SMALL_BYTES_MAX = "65536"

#: Receivers that take everything, in their own ways.
OPEN = {
    "plain.example": {},
    "lockstep.example": {"smtpd_discard_ehlo_keywords": "pipelining"},
    "seven-bit.example": {"smtpd_discard_ehlo_keywords": "8bitmime, smtputf8"},
    "old.example": {
        "smtpd_discard_ehlo_keywords": "pipelining, size, vrfy, etrn, starttls, enhancedstatuscodes, 8bitmime, dsn,"
        " smtputf8, chunking"
    },
}
#: Receivers with a limit.
STRICT = {
    "small.example": {"message_size_limit": SMALL_BYTES_MAX},
    "secretly-small.example": {
        "message_size_limit": SMALL_BYTES_MAX,
        "smtpd_discard_ehlo_keywords": "size",
    },
    "impatient.example": {"smtpd_hard_error_limit": "1"},
    "busy.example": {"smtpd_client_message_rate_limit": "1"},
    "crowded.example": {},
}

CONTENTS: dict[str, dict[str, Any]] = {
    "dots": {"text": ".\n..\n...\n\n.a\n.\r\n.\nb.\n."},
    "long lines": {"text": ("." + "x" * 4999 + "\n") * 3, "subject": "word " * 200},
    "not ASCII": {
        "subject": "Grüße 👋 " * 20,
        "text": "Grüße, naïve café 👋\n" * 3,
        "html": "<p>Grüße, naïve café 👋</p>\n" * 3,
        "to": '"Jürgen, der Große" <friend@{domain}>',
    },
    "what servers mangle": {"text": "From here\n\ttab, and spaces at the end   \n\nFrom there\n\n\n"},
    "big": {"text": BIG_TEXT},
}


class Sender:
    """A member of a relay in a process of its own, and the Postfix that this is connected to."""

    def __init__(self, relay: RelayProcess, credentials: dict[str, str], postfix: Postfix) -> None:
        self.relay = relay
        self.postfix = postfix
        self._credentials = credentials

    def send(self, *to: str, **fields: Any) -> list[int]:
        """Send to each; returns the message ids."""
        mail = {"from": f"you@{DOMAIN}", "to": list(to), "subject": "Hello", "text": "Hi\n", **fields}
        url = f"http://{self.relay.address}/v1/send"
        answer = requests.post(url, json=mail, headers=self._credentials, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text
        return [accepted["messageId"] for accepted in answer.json()["accepted"]]

    def until_final(self, message_id: int) -> Any:
        url = f"http://{self.relay.address}/v1/messages/{message_id}"
        message: Any = None

        def is_final() -> bool:
            nonlocal message
            message = requests.get(url, headers=self._credentials, timeout=PATIENCE_SECONDS).json()
            return message["status"] in ("sent", "bounced")

        wait_until(is_final, lambda: f"{message} is final. {self.relay.output}")
        return message

    def send_and_wait(self, to: str, **fields: Any) -> Any:
        (message_id,) = self.send(to, **fields)
        return self.until_final(message_id)


@contextmanager
def running_relay(relay: RelayProcess, postfix: Postfix) -> Iterator[None]:
    """The relay, connected to a port of Postfix for each of its domains."""
    routes = ", ".join(f'"{domain}" = "{address}"' for domain, address in postfix.addresses.items())
    configure(relay.directory, delivery=f"routes = {{ {routes} }}\nconnections_per_site_max = 1")
    with relay.running():
        yield
        assert relay.stop() == 0


def make_relay(directory: Path) -> RelayProcess:
    data = make_process_directory(directory / "data", route="", retry="delays_seconds = [1]")
    with (data / CONFIG_FILE).open("a") as file:
        file.write("\n[reputation]\nmessages_min = 1000000\n")  # bounces are no disgrace here
    return RelayProcess(data)


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    with running_postgrey(delay_seconds=1) as greylist:
        grey = {"smtpd_recipient_restrictions": f"reject_unauth_destination, check_policy_service {greylist}"}
        with running_postfix({**OPEN, **STRICT, "grey.example": grey}) as postfix:
            relay = make_relay(tmp_path_factory.mktemp("postfix"))
            credentials = relay.enrol()
            with running_relay(relay, postfix):
                yield Sender(relay, credentials, postfix)


def statuses(message: Any) -> list[str]:
    return [entry["status"] for entry in message["timeline"] if "status" in entry]


def without_trace(delivered: bytes, outcome: Any) -> bytes:
    """The message as it was sent: what is delivered, without the fields that Postfix has put on top."""
    trace, message = delivered[: -outcome["size"]], delivered[-outcome["size"] :]
    names = re.findall(rb"^([!-9;-~]+):", trace, re.MULTILINE)
    assert set(names) <= {
        b"Return-Path",
        b"X-Original-To",
        b"Delivered-To",
        b"Received",
        b"Authentication-Results",
    }
    assert trace.endswith(b"\r\n")
    return message


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("domain", OPEN)
def test_every_byte_arrives(sender: Sender, domain: str, content: str) -> None:
    fields = {"to": "friend@{domain}", **CONTENTS[content]}
    message = sender.send_and_wait(fields.pop("to").format(domain=domain), **fields)
    assert statuses(message) == ["queued", "sent"]
    outcome = message["timeline"][-1]
    assert (outcome["reply"]["code"], outcome["command"]) == (250, "end of data")
    delivered = without_trace(sender.postfix.received(message["messageId"]), outcome)
    assert hashlib.sha256(delivered).hexdigest() == outcome["sha256"]


def test_starttls(sender: Sender) -> None:
    message = sender.send_and_wait("friend@plain.example")
    tls = message["timeline"][-1]["tls"]
    assert tls["version"] == "TLSv1.3"
    assert tls["certificate"].startswith("unverified: ")
    # Postfix says the same of this message, in its own words.
    assert f"using {tls['version']} with cipher {tls['cipher']} ".encode() in sender.postfix.received(
        message["messageId"]
    )


def test_a_receiver_without_tls_gets_its_mail_in_the_clear(sender: Sender) -> None:
    message = sender.send_and_wait("friend@old.example")
    assert message["status"] == "sent"
    assert "tls" not in message["timeline"][-1]


def test_an_address_that_is_not_ascii(sender: Sender) -> None:
    message = sender.send_and_wait("jürgen@plain.example")
    assert message["status"] == "sent"
    outcome = message["timeline"][-1]
    delivered = sender.postfix.received(message["messageId"])
    assert "\r\nDelivered-To: jürgen@plain.example\r\n".encode() in delivered
    assert hashlib.sha256(without_trace(delivered, outcome)).hexdigest() == outcome["sha256"]


def test_an_address_that_the_receiver_cannot_take(sender: Sender) -> None:
    message = sender.send_and_wait("jürgen@seven-bit.example")
    assert statuses(message) == ["queued", "bounced"]
    assert message["lastReply"]["enhanced"] == "5.6.7"
    assert message["timeline"][-1]["reason"] == "undeliverable"


@pytest.mark.parametrize("domain", OPEN)
def test_an_unknown_recipient_bounces(sender: Sender, domain: str) -> None:
    message = sender.send_and_wait(f"nobody@{domain}")
    assert statuses(message) == ["queued", "bounced"]
    outcome = message["timeline"][-1]
    assert (outcome["reply"]["code"], outcome["command"], outcome["reason"]) == (550, "RCPT", "rejected")
    # Postfix says 5.1.1 even where it does not announce such codes.
    assert "5.1.1" in (outcome["reply"]["enhanced"], outcome["reply"]["text"].split()[0])


def test_too_big_is_known_before_anything_is_sent(sender: Sender) -> None:
    message = sender.send_and_wait("friend@small.example", text=BIG_TEXT)
    assert statuses(message) == ["queued", "bounced"]
    outcome = message["timeline"][-1]
    assert (outcome["reason"], outcome["reply"]["enhanced"]) == ("undeliverable", "5.3.4")
    assert SMALL_BYTES_MAX in outcome["reply"]["text"]
    assert "sha256" not in outcome
    assert sender.send_and_wait("friend@small.example")["status"] == "sent"


def test_too_big_is_told_at_the_end(sender: Sender) -> None:
    message = sender.send_and_wait("friend@secretly-small.example", text=BIG_TEXT)
    assert statuses(message) == ["queued", "bounced"]
    outcome = message["timeline"][-1]
    assert (outcome["reason"], outcome["reply"]["code"]) == ("rejected", 552)
    assert outcome["command"] == "end of data"


def test_one_connection_carries_many(sender: Sender) -> None:
    message_ids = sender.send(*(f"friend{number}@crowded.example" for number in range(20)))
    for message_id in message_ids:
        assert sender.until_final(message_id)["status"] == "sent"
    sender.postfix.wait_logged("crowded.example", " disconnect from ")
    log = sender.postfix.log_of("crowded.example")
    assert sum(": connect from " in line for line in log) == 1
    (farewell,) = (line for line in log if " disconnect from " in line)
    assert " starttls=1 mail=20 rcpt=20 data=20 rset=19 quit=1 " in farewell


def test_a_receiver_that_hangs_up_on_errors(sender: Sender) -> None:
    unknown, known = sender.send("nobody@impatient.example", "friend@impatient.example")
    assert statuses(sender.until_final(unknown)) == ["queued", "bounced"]
    assert sender.until_final(known)["status"] == "sent"
    assert any("too many errors" in line for line in sender.postfix.log_of("impatient.example"))


def test_a_receiver_that_wants_less_at_once(sender: Sender) -> None:
    messages = [
        sender.until_final(message_id)
        for message_id in sender.send("a@busy.example", "b@busy.example", "c@busy.example")
    ]
    assert [message["status"] for message in messages] == ["sent"] * 3
    replies = [entry["reply"] for message in messages for entry in message["timeline"] if "reply" in entry]
    assert any(reply["code"] == 450 and "too much mail" in reply["text"] for reply in replies)


def test_greylisting_ends_in_sent(sender: Sender) -> None:
    message = sender.send_and_wait("friend@grey.example")
    first, *more = statuses(message)
    assert first == "queued"
    assert more == ["deferred"] * (len(more) - 1) + ["sent"]
    deferred = [entry for entry in message["timeline"] if entry.get("status") == "deferred"]
    assert deferred
    for attempt, entry in enumerate(deferred, 1):
        assert (entry["attempt"], entry["command"]) == (attempt, "RCPT")
        assert entry["reply"]["code"] == 450
        assert "Greylisted" in entry["reply"]["text"]
        assert entry["nextAttemptAt"] > entry["time"]
    assert message["attempts"] == len(deferred) + 1
    assert sender.postfix.received(message["messageId"])


def test_rspamd_verifies_all_four_signatures(tmp_path: Path) -> None:
    """And it does look: the second member's keys in the DNS are those of the first."""
    relay = make_relay(tmp_path)
    member = relay.enrol()
    zone = relay.run_command("dns", str(relay.directory)).stdout
    impostor = relay.enrol(OTHER_DID, OTHER_DOMAIN)
    zone += zone.replace(f".{DOMAIN}.", f".{OTHER_DOMAIN}.")

    async def main() -> None:
        async with open_dns_server(zone) as resolver:
            await trio.to_thread.run_sync(send_and_look, resolver.port)

    def send_and_look(dns_port: int) -> None:
        with (
            running_rspamd(dns_port=dns_port) as milter,
            running_postfix({"verifying.example": {"smtpd_milters": milter}}) as postfix,
            running_relay(relay, postfix),
        ):
            assert verdicts(Sender(relay, member, postfix), DOMAIN) == sorted(
                [("pass", DOMAIN), ("pass", DOMAIN), ("pass", OPERATOR_DOMAIN), ("pass", OPERATOR_DOMAIN)]
            )
            assert verdicts(Sender(relay, impostor, postfix), OTHER_DOMAIN) == [
                ("fail", OTHER_DOMAIN),
                ("fail", OTHER_DOMAIN),
                ("pass", OPERATOR_DOMAIN),
                ("pass", OPERATOR_DOMAIN),
            ]

    trio.run(main)


def verdicts(sender: Sender, domain: str) -> list[tuple[str, str]]:
    """Of each signature of a message from this domain, what the receiver says about it, and whose it is."""
    message = sender.send_and_wait(
        "friend@verifying.example", **CONTENTS["dots"], **{"from": f"you@{domain}"}
    )
    delivered = sender.postfix.received(message["messageId"])
    results = BytesParser(policy=email.policy.default).parsebytes(delivered)["Authentication-Results"]
    return sorted(re.findall(r"dkim=(\w+).*? header\.d=([^\s;]+)", results))
