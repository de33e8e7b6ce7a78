"""`make demo`: the whole way of a mail on one machine, with nothing outside it.

A relay on its own data directory, a local SMTP receiver (aiosmtpd, which nobody here wrote) as the MX for everything, a
demo member, the Send API page's own example; then a mail of a program that only knows SMTP, and one that its receiver
takes and bounces a moment later. It prints what happened and what arrived, checks every DKIM signature, and then serves
until Ctrl-C; with `--once` it ends after the sends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import smtplib
import socket
import sys
import urllib.request
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, NamedTuple

import trio
from aiosmtpd.controller import Controller

from relay.config import CONFIG_FILE
from relay.config_template import config_template
from relay.core import Core
from relay.logs import configure_logging
from relay.message.signing import verify
from relay.operator.api_keys import KeyIssue, KeyRevoke, key_issue, key_revoke
from relay.operator.initialise import initialise
from relay.operator.membership import MemberAdd, member_add
from relay.operator.membership_shown import Dns, dns
from relay.principals import Operator
from relay.service import Relay, open_relay
from relay.views import members

DIRECTORY = Path("demo-data")
DID = "did:plc:demodemodemodemodemodemo"
DOMAIN = "yourdomain.com"
OPERATOR_DOMAIN = "relay.example"
OPERATOR = Operator("demo")
#: The example of the Send API page.
MAIL = {
    "from": f"you@{DOMAIN}",
    "to": "friend@example.com",
    "subject": "Hello",
    "text": "Sent via Atmosphere Mail",
}
#: The same, as a program hands it in over SMTP. The field that names the category is removed on the way.
SUBMITTED = (
    f"From: You <you@{DOMAIN}>\r\nTo: {MAIL['to']}\r\nSubject: Your code\r\nX-Atmos-Category: login-link\r\n\r\n"
    "123456\r\n"
)
#: The receiver takes mail for this mailbox, at any domain, and finds out later that it is not there.
LATER = "later"
HTTP_PORT = 8025
SUBMISSION_PORT = 2587
SECONDS_MAX = 30


class Taken(NamedTuple):
    mail_from: str
    rcpt_to: str
    message: bytes


class Receiver:
    """Takes every mail and hands it to the demo. What it took for `LATER` it bounces, by `bounce`."""

    def __init__(self) -> None:
        self._send, self.received = trio.open_memory_channel[bytes](100)
        self._send_later, self._later = trio.open_memory_channel[Taken](100)
        self._token = trio.lowlevel.current_trio_token()
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port(0))

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        # Runs in the receiver's own thread and loop.
        taken = Taken(envelope.mail_from, envelope.rcpt_tos[0], envelope.original_content)
        self._token.run_sync_soon(self._take, taken)
        return "250 2.0.0 The demo has it"

    def _take(self, taken: Taken) -> None:
        with contextlib.suppress(trio.WouldBlock):  # when it is only serving, nobody takes them any more
            self._send.send_nowait(taken.message)
        if taken.rcpt_to.startswith(f"{LATER}@"):
            with contextlib.suppress(trio.WouldBlock):
                self._send_later.send_nowait(taken)

    async def bounce(self, address: str) -> None:
        """Send a report about each mail for `LATER` to the relay's port for mail that comes in."""
        async for taken in self._later:
            await trio.to_thread.run_sync(hand_in_report, address, taken)


def hand_in_report(address: str, taken: Taken) -> None:
    """As mail servers do (RFC 3464): with the null sender, to the envelope sender of what it is about."""
    host, _, port = address.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=SECONDS_MAX) as client:
        client.sendmail("", [taken.mail_from], report(taken))


def report(taken: Taken) -> bytes:
    header = taken.message.partition(b"\r\n\r\n")[0].decode().replace("\r\n", "\n")
    lines = f"""\
From: Mail Delivery System <MAILER-DAEMON@mx.example.com>
To: {taken.mail_from}
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="demo"

--demo

Your mail could not be delivered.

--demo
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com

Final-Recipient: rfc822; {taken.rcpt_to}
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 there is no mailbox {taken.rcpt_to}

--demo
Content-Type: text/rfc822-headers

{header}

--demo--
"""
    return lines.replace("\n", "\r\n").encode()


def free_port(wanted: int) -> int:
    """`wanted`, if nothing listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")


def prepare(directory: Path, *, http_port: int, smtp_port: int, submission_port: int = 0) -> None:
    """The demo's data directory, made once; its configuration is written anew, because the ports may differ."""
    public_url = f"http://127.0.0.1:{http_port}"
    if not (directory / CONFIG_FILE).exists():
        initialise(directory, operator_domain=OPERATOR_DOMAIN, public_url=public_url)
    text = config_template(OPERATOR_DOMAIN, public_url)
    for default, demo in (
        ("require_verified_domains = true", "require_verified_domains = false"),
        ('bind = "127.0.0.1:8025"', f'bind = "127.0.0.1:{http_port}"'),
        ("\n[submission]\n", f'\n[submission]\nbind = ["127.0.0.1:{submission_port}"]\n'),
        (
            "\n[inbound]\n",
            '\n[inbound]\nbind = ["127.0.0.1:0"]\noperator_mailbox = "operator@example.org"\n',
        ),
        ('# routes = { "*" = "127.0.0.1:2526" }', f'routes = {{ "*" = "127.0.0.1:{smtp_port}" }}'),
    ):
        assert default in text
        text = text.replace(default, demo)
    text += "\n# A new domain may send very little; the demo is for trying things out.\n"
    text += "[warming]\ntiers = [ { hour = 1000, day = 10000 } ]\n"
    (directory / CONFIG_FILE).write_text(text)


async def enrol(core: Core) -> str:
    """The demo member's API key: of a new member, or a new key of the one of an earlier run."""
    with core.store.read() as view:
        known = members.member(view, DID) is not None
        keys = [key for key in members.keys_of(view, DID) if key.revoked_at is None]
    if not known:
        answer: Any = await member_add(core, MemberAdd(did=DID, domains=[DOMAIN], offline=True), OPERATOR)
        return str(answer["apiKey"])
    for key in keys:  # nobody can have them any more: a key is shown once
        await key_revoke(core, KeyRevoke(did=DID, key_id=key.key_id), OPERATOR)
    answer = await key_issue(core, KeyIssue(did=DID), OPERATOR)
    return str(answer["apiKey"])


def call(url: str, key: str, body: dict[str, Any] | None = None, *, method: str | None = None) -> Any:
    """The decoded answer to a request with the demo member's credentials; None for an empty one."""
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), method=method)
    request.add_header("Content-Type", "application/json")
    request.add_header("X-Atmos-DID", DID)
    request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:
        data = answer.read()
    return json.loads(data) if data else None


def click(url: str) -> int:
    """What a mailbox provider does when its user presses "unsubscribe" (RFC 8058); the status of the answer."""
    with urllib.request.urlopen(url, b"List-Unsubscribe=One-Click", timeout=SECONDS_MAX) as answer:
        return int(answer.status)


async def until_final(url: str, key: str) -> Any:
    while True:
        message = await trio.to_thread.run_sync(call, url, key)
        if message["status"] in ("sent", "bounced"):
            return message
        await trio.sleep(0.05)


def dkim_records(answer: Any) -> dict[str, str]:
    """What DNS would say: the demo's names are in no DNS."""
    parts = (answer["operator"], *answer["domains"])
    return {record["name"]: record["value"] for part in parts for record in part["records"]}


async def demonstrate(core: Core, url: str, receiver: Receiver) -> str:
    """One mail from POST to inbox; returns the API key. Raises SystemExit where something is not as it should be."""
    key = await enrol(core)
    print(f"POST {url}/v1/send\n  {json.dumps(MAIL)}")
    answer = await trio.to_thread.run_sync(call, f"{url}/v1/send", key, MAIL)
    print(f"  200 {json.dumps(answer)}\n")

    message_url = f"{url}/v1/messages/{answer['accepted'][0]['messageId']}"
    message = await until_final(message_url, key)
    print(f"GET {message_url}")
    print_timeline(message)
    if message["status"] != "sent":
        sys.exit(f"the mail was not sent: {message['lastReply']}")

    received = await receiver.received.receive()
    await show(core, received)
    await demonstrate_unsubscribe(url, key, received)
    return key


def print_timeline(message: Any) -> None:
    for entry in message["timeline"]:
        print(f"  {entry['seq']:>4}  {entry['time']}  {entry['type']:<16}  {entry.get('status', '')}")
        if (said := entry.get("report")) is not None:
            print(f"        {said['reportingMta']} says: {said['reportedAction']}, {said['diagnostic']}")
            print(f"        {said['advice']}")


async def show(core: Core, received: bytes) -> None:
    """What arrived, and what its signatures are worth."""
    print("\nWhat the receiver got (headers):")
    for name, value in message_from_bytes(received, policy=policy.compat32).items():
        if name != "DKIM-Signature":
            print(f"  {name}: {value}")
    records = dkim_records(await dns(core, Dns(), OPERATOR))
    verdicts = verify(received, records.get)
    print("\nIts DKIM signatures, checked:")
    for verdict in verdicts:
        print(f"  {'valid  ' if verdict.valid else 'INVALID'}  d={verdict.d} s={verdict.s}")
    if len(verdicts) != 4 or not all(verdict.valid for verdict in verdicts):
        sys.exit("not every signature is valid")


def submit(address: str, key: str) -> str:
    """What the relay says to the mail."""
    host, _, port = address.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=SECONDS_MAX) as client:
        client.login(DOMAIN, key)
        client.mail(f"you@{DOMAIN}")
        client.rcpt(MAIL["to"])
        code, text = client.data(SUBMITTED)
    return f"{code} {text.decode()}"


async def demonstrate_submission(core: Core, address: str, key: str, receiver: Receiver) -> None:
    """A program that only knows SMTP, as a PDS does: here Python's smtplib."""
    print(f"\nA program that only knows SMTP hands in to smtp://{DOMAIN}:{key}@{address}/")
    for line in SUBMITTED.splitlines():
        print(f"  {line}")
    said = await trio.to_thread.run_sync(submit, address, key)
    print(f"and hears\n  {said}")
    if not said.startswith("250 "):
        sys.exit("the mail was not accepted")
    await show(core, await receiver.received.receive())


async def demonstrate_unsubscribe(url: str, key: str, received: bytes) -> None:
    """The recipient clicks; the next mail to it is refused; the member takes it back, for the next run of the demo."""
    link = message_from_bytes(received, policy=policy.compat32)["List-Unsubscribe"].strip("<>")
    status = await trio.to_thread.run_sync(click, link)
    print(f"\nThe recipient unsubscribes with one click: POST to the List-Unsubscribe link\n  {status}")
    answer = await trio.to_thread.run_sync(call, f"{url}/v1/send", key, MAIL)
    print(f"and the next mail to it is not sent:\n  200 {json.dumps(answer)}")
    if answer["accepted"] or answer["rejected"][0]["code"] != "RECIPIENT_SUPPRESSED":
        sys.exit("the recipient is not suppressed")
    suppression = f"{url}/v1/suppressions/{MAIL['to']}"
    await trio.to_thread.run_sync(lambda: call(suppression, key, method="DELETE"))
    print(f"DELETE {suppression}\n  takes it back, so that the demo can be run again.")


async def demonstrate_bounce(url: str, key: str) -> None:
    """A receiver takes a mail, says so, and finds out later that it cannot deliver it."""
    mail = {**MAIL, "to": f"{LATER}@example.com"}
    answer = await trio.to_thread.run_sync(call, f"{url}/v1/send", key, mail)
    message_url = f"{url}/v1/messages/{answer['accepted'][0]['messageId']}"
    message = await until_final(message_url, key)
    print(f"\nA mail to {mail['to']} is taken by its receiver ({message['status']}),")
    while not message["reports"]:
        await trio.sleep(0.05)
        message = await trio.to_thread.run_sync(call, message_url, key)
    print("and a moment later a report comes back, as a mail to the relay:")
    print_timeline(message)
    await trio.to_thread.run_sync(lambda: call(f"{url}/v1/suppressions/{mail['to']}", key, method="DELETE"))


def print_curl(url: str, key: str) -> None:
    print(f"""
Send one yourself:

curl -X POST {url}/v1/send \\
  -H "Content-Type: application/json" \\
  -H "X-Atmos-DID: {DID}" \\
  -H "Authorization: Bearer {key}" \\
  -d '{{"from": "you@{DOMAIN}", "to": "friend@example.com", "subject": "Hello", "text": "Sent via Atmosphere Mail"}}'

and ask what became of it:

curl {url}/v1/messages -H "X-Atmos-DID: {DID}" -H "Authorization: Bearer {key}"
""")


async def serve(relay: Relay, receiver: Receiver, directory: Path, *, once: bool) -> None:
    url = f"http://{relay.http_address}"
    print(f"The relay runs on {url}, its data in {directory}/, its MX for everything is a local receiver.\n")
    with trio.fail_after(SECONDS_MAX):
        key = await demonstrate(relay.core, url, receiver)
        await demonstrate_submission(relay.core, relay.addresses.submission[0], key, receiver)
        await demonstrate_bounce(url, key)
    print_curl(url, key)
    if not once:
        print("Serving until Ctrl-C.")
        await trio.sleep_forever()


async def main(*, once: bool, directory: Path) -> None:
    receiver = Receiver()
    prepare(
        directory,
        http_port=free_port(HTTP_PORT),
        submission_port=free_port(SUBMISSION_PORT),
        smtp_port=receiver.controller.port,
    )
    receiver.controller.start()
    try:
        async with open_relay(directory) as relay:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receiver.bounce, relay.addresses.inbound[0])
                await serve(relay, receiver, directory, once=once)
                nursery.cancel_scope.cancel()
            await relay.stop()
    finally:
        await trio.to_thread.run_sync(receiver.controller.stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the send")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="default: %(default)s")
    options = parser.parse_args()
    configure_logging(logging.WARNING)
    try:
        trio.run(lambda: main(once=options.once, directory=options.directory))
    except* KeyboardInterrupt:
        print("Stopped. The demo's data stay; the next run goes on with them.")
