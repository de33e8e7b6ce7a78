"""What the demo shows in the terminal: mails from POST or SMTP to inbox, an unsubscribe, and what comes back.

Each step raises SystemExit where something is not as it should be: the demo is a test, too.
"""

from __future__ import annotations

import json
import smtplib
import sys
import urllib.error
import urllib.request
from email import message_from_bytes, policy
from typing import Any

import trio

from relay.core import Core
from relay.message.signing import verify
from relay.operator.membership_shown import Dns, dns
from tools.demo.directory import DID, DOMAIN, OPERATOR
from tools.demo.receiver import MOODS, SECONDS_MAX, Receiver

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
#: A mailbox of whom a report says, later, that it is not there.
LATER = "later"


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


async def demonstrate(core: Core, url: str, key: str, receiver: Receiver) -> None:
    """One mail from POST to inbox."""
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
    await take_back(url, key, mail["to"])
    answer = await trio.to_thread.run_sync(call, f"{url}/v1/send", key, mail)
    message_url = f"{url}/v1/messages/{answer['accepted'][0]['messageId']}"
    message = await until_final(message_url, key)
    print(f"\nA mail to {mail['to']} is taken by its receiver ({message['status']}),")
    while not message["reports"]:
        await trio.sleep(0.05)
        message = await trio.to_thread.run_sync(call, message_url, key)
    print("and a moment later a report comes back, as a mail to the relay:")
    print_timeline(message)
    await take_back(url, key, mail["to"])


async def take_back(url: str, key: str, address: str) -> None:
    """What an earlier run has put on the member's suppression list. A complaint stays, as it does for everybody."""
    try:
        await trio.to_thread.run_sync(lambda: call(f"{url}/v1/suppressions/{address}", key, method="DELETE"))
    except urllib.error.HTTPError as error:
        with error:
            if error.code not in (404, 409):
                raise


async def send_to_moods(url: str, key: str) -> None:
    """A mail to each mailbox that the receiver treats in its own way, so that the pages have something to show."""
    print("These recipients, at any domain, are treated in their own way. A mail to each is under way:")
    for mailbox, mood in MOODS.items():
        mail = {**MAIL, "to": f"{mailbox}@example.com", "subject": f"To {mailbox}@"}
        await take_back(url, key, mail["to"])
        answer = await trio.to_thread.run_sync(call, f"{url}/v1/send", key, mail)
        refused = "" if answer["accepted"] else " (in an earlier run: it gets no mail any more)"
        print(f"  {mailbox + '@':<12}{mood}{refused}")


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
