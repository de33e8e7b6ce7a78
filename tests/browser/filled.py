"""A relay with a past: members, mail in every state that there is, and texts of hostile people where one can stand.

    with filled(make_past(directory, DAYS)) as relay:
        relay.address, relay.keys[DID], relay.messages["bounced"]

It is filled by the API and by the operator's commands, as people would. Its days before today are lives of the relay
whose clock was behind (`tests.browser.served`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from relay.config import CONFIG_FILE
from relay.file_names import INBOUND_ADDRESS_FILE
from relay.message.keys import load_pepper
from relay.message.tokens import BounceAddresses
from relay.operator.client import administer
from relay.operator.initialise import initialise
from tests.browser.hostile import RECIPIENT, TEXT
from tests.browser.served import DAYS_BEHIND
from tests.world.daemon import free_port
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, wait_until
from tools.demo.receiver import hand_in
from tools.demo.reports import bounce_report

OPERATOR_DOMAIN: Final = "relay.example"
DID: Final = "did:plc:2kq7vvwyb6zxnch5rtmdu4ea"
DOMAIN: Final = "garden.example"
#: Its records are not there.
BARE_DOMAIN: Final = "bare.example"
#: Its domain is paused.
OTHER_DID: Final = "did:plc:hf3s5ogtm2wq4ydxkab7jcle"
OTHER_DOMAIN: Final = "bazaar.example"
#: Suspended.
THIRD_DID: Final = "did:web:attic.example"
THIRD_DOMAIN: Final = "attic.example"
#: Before today, on which the relay ran.
DAYS: Final = (9, 1)

_TIERS: Final = (
    "\n[warming]\ntiers = [ { until_day = 7, hour = 200, day = 1000 }, { hour = 1000, day = 10000 } ]\n"
)


class FilledRelay(RelayProcess):
    """Made by `filled`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, command=["-m", "tests.browser.served"])
        #: By DID.
        self.keys: dict[str, str] = {}
        #: Message ids of DID, by what is to be seen of them.
        self.messages: dict[str, str] = {}
        self.webhook_id = ""
        #: Nobody uses it.
        self.other_key_id = ""

    @contextmanager
    def days_behind(self, days: int) -> Iterator[None]:
        os.environ[DAYS_BEHIND] = str(days)
        try:
            with self.running():
                yield
                assert self.stop() == 0, self.output
        finally:
            del os.environ[DAYS_BEHIND]

    def order(self, command: str, **arguments: Any) -> Any:
        """An operator's command."""
        return administer(self.directory, command, arguments, patience_seconds=PATIENCE_SECONDS)

    def ask(self, path: str, body: object = None, *, did: str = DID, method: str | None = None) -> Any:
        """The API, as a member."""
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            None if body is None else json.dumps(body).encode(),
            {
                "X-Atmos-DID": did,
                "Authorization": f"Bearer {self.keys[did]}",
                "Content-Type": "application/json",
            },
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                octets = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None
        return json.loads(octets) if octets else None

    def send(self, to: str, *, did: str = DID, domain: str = DOMAIN, **fields: Any) -> str:
        """The message id."""
        mail = {
            "from": f"Garden <hello@{domain}>",
            "to": to,
            "subject": "Your harvest box",
            "text": "Hello!\n",
            **fields,
        }
        (accepted,) = self.ask("/v1/send", mail, did=did)["accepted"]
        return str(accepted["messageId"])

    def until(self, message_id: str, *, did: str = DID, shows: Callable[[Any], bool]) -> Any:
        last: list[Any] = [None]

        def asked() -> bool:
            last[0] = self.ask(f"/v1/messages/{message_id}", did=did)
            return shows(last[0])

        wait_until(asked, lambda: str(last[0]))
        return last[0]

    def until_status(self, message_id: str, status: str, *, did: str = DID) -> Any:
        return self.until(message_id, did=did, shows=lambda message: message["status"] == status)


def make_directory(directory: Path) -> FilledRelay:
    initialise(directory, operator_domain=OPERATOR_DOMAIN, public_url="http://127.0.0.1:1")
    configure(
        directory,
        inbound='bind = ["127.0.0.1:0"]\noperator_mailbox = "operator@elsewhere.example"',
        console='operator_bind = "127.0.0.1:0"',
        monitoring="dnsbl = []",
        members="self_service = true",
        webhooks=f'allow = ["127.0.0.1:9", "{DID} 127.0.0.1:9"]',
        service="grace_seconds = 5",
    )
    path = directory / CONFIG_FILE
    path.write_text(path.read_text() + _TIERS)
    _give_port(directory)
    return FilledRelay(directory)


def copied(past: Path, directory: Path) -> FilledRelay:
    """Another relay with the same past, at a port of its own."""
    shutil.copytree(past, directory)
    _give_port(directory)
    return FilledRelay(directory)


def _give_port(directory: Path) -> None:
    url = f"127.0.0.1:{free_port()}"
    path = directory / CONFIG_FILE
    path.write_text(
        re.sub(r"^public_url = .*$", f'public_url = "http://{url}"', path.read_text(), flags=re.M)
    )
    configure(directory, http=f'bind = "{url}"')


def make_past(directory: Path, days: Sequence[int]) -> FilledRelay:
    """A relay that does not run, with members and some mail. `days`: before today, on which it ran."""
    relay = make_directory(directory)
    first, *later = days
    with relay.days_behind(first):
        _enrol(relay)
        _ordinary_day(relay, 0)
    for number, behind in enumerate(later, 1):
        with relay.days_behind(behind):
            _ordinary_day(relay, number)
    return relay


@contextmanager
def filled(relay: FilledRelay, *, with_hostile_texts: bool = True) -> Iterator[FilledRelay]:
    """It runs, and has all of it. `relay`: of `make_past`."""
    note = f" {TEXT[:200]}" if with_hostile_texts else ""
    with relay.running():
        _today(relay, note)
        if with_hostile_texts:
            _hostile(relay)
        _settings(relay, note)
        yield relay


def _enrol(relay: FilledRelay) -> None:
    for did, domain in ((DID, DOMAIN), (OTHER_DID, OTHER_DOMAIN), (THIRD_DID, THIRD_DOMAIN)):
        answer = relay.order("member_add", did=did, domains=[domain], offline=True)
        relay.keys[did] = answer["apiKey"]
        verified = relay.order("domain_verify", did=did, domain=domain)
        assert verified["verified"], verified
    relay.order("domain_add", did=DID, domain=BARE_DOMAIN)


def _ordinary_day(relay: FilledRelay, number: int) -> None:
    """Some mail to everybody: more on some days than on others."""
    last = ""
    for index in range(3 + 4 * number % 7):
        site = ("people", "office", "freemail", "village")[index % 4]
        last = relay.send(
            f"reader{index}@{site}.example", subject=f"Week {number}: what is ripe", tag="weekly"
        )
        if index % 2:
            relay.send(f"guest{index}@{site}.example", did=OTHER_DID, domain=OTHER_DOMAIN)
    gone = relay.send(f"nobody+{number}@office.example", category="bulk")
    relay.until_status(gone, "bounced")
    relay.until_status(last, "sent")


def _today(relay: FilledRelay, note: str) -> None:
    send, kept = relay.send, relay.messages
    kept["sent"] = send(
        "ann@people.example",
        subject="Your order 1017 is on its way",
        text="Two boxes of apples.\n",
        html='<h1>On its way</h1><p>Two boxes of apples.</p><img src="https://tracker.example/x.gif" alt="">',
        category="transactional",
        tag="order",
        metadata={"order": "1017"},
        attachments=[{"filename": "invoice-1017.pdf", "content": "JVBERi0xLjQK"}],
    )
    kept["bounced"] = send("nobody@people.example", category="transactional", subject="Reset your password")
    kept["put_off"] = send("full@office.example", subject="What is ripe this week", category="bulk")
    kept["grey"] = send("grey@village.example", category="login-link", subject="Your sign-in code")
    kept["silent"] = send("carl@silent.example", subject="What is ripe this week", category="bulk")
    kept["held"] = send("dora@silent.example", subject="What is ripe this week", category="bulk")
    kept["cancelled"] = send("emil@silent.example", subject="Sent by mistake", category="bulk")
    kept["scheduled"] = send(
        "fritz@people.example",
        subject="The market opens on Saturday",
        scheduledAt=(datetime.now(UTC) + timedelta(days=3)).isoformat(timespec="seconds"),
    )
    kept["complained"] = send("greta@freemail.example", subject="What is ripe this week", category="bulk")
    kept["later"] = send("hans@village.example", subject="What is ripe this week", category="bulk")
    kept["blocked"] = send("blocked@freemail.example", subject="What is ripe this week", category="bulk")
    for name in ("put_off", "grey", "silent", "held", "cancelled"):
        relay.until_status(kept[name], "deferred")
    for name in ("sent", "complained", "later"):
        relay.until_status(kept[name], "sent")
    for name in ("bounced", "blocked"):
        relay.until_status(kept[name], "bounced")
    relay.order("queue_hold", message=[int(kept["held"])], reason=f"asking the receiver first{note}")
    relay.order("queue_cancel", message=[int(kept["cancelled"])], reason="sent by mistake")
    relay.order("queue_flush", message=[int(kept["put_off"])], reason="they say that it is mended")
    relay.order("complaint_record", message=int(kept["complained"]))
    _comes_back(relay, kept["later"])
    _pauses(relay)
    relay.order("member_suspend", did=THIRD_DID, reason=f"does not answer{note}")


def _hostile(relay: FilledRelay) -> None:
    """Whatever a member can say of a mail, and what a receiver can answer."""
    send, kept = relay.send, relay.messages
    hostile: dict[str, Any] = {
        "from": f'"{TEXT[:100].replace(chr(34), "")}" <hello@{DOMAIN}>',
        "subject": TEXT[:300],
        "text": TEXT,
        "html": TEXT,
        "metadata": {TEXT[:60]: TEXT[:250]},
        "headers": {"X-Hostile": "<b class=owned>x</b>"},
        "attachments": [{"filename": TEXT[:100].replace("/", ""), "content": "eA=="}],
    }
    kept["hostile"] = send(RECIPIENT, **hostile)
    kept["hostile_bounced"] = send("hostile@hostile.example", **hostile)
    kept["hostile_put_off"] = send("hostile-later@hostile.example", **hostile)
    relay.until_status(kept["hostile"], "sent")
    relay.until_status(kept["hostile_bounced"], "bounced")
    relay.until_status(kept["hostile_put_off"], "deferred")


def _comes_back(relay: FilledRelay, message_id: str) -> None:
    """Its receiver finds out later that there is no such mailbox, and says so."""
    tokens = BounceAddresses(load_pepper(relay.directory).bounce_key, OPERATOR_DOMAIN)
    to = tokens.make(int(message_id))
    address = (relay.directory / INBOUND_ADDRESS_FILE).read_text().split()[0]
    original = b"From: hello@garden.example\r\nSubject: What is ripe this week\r\n\r\n"
    hand_in(address, to, bounce_report(to, "hans@village.example", original))
    relay.until(message_id, shows=lambda message: bool(message["reports"]))


def _pauses(relay: FilledRelay) -> None:
    """The other member's domain, by what its receivers say."""
    bounced = [
        relay.send(f"nobody+{number}@people.example", did=OTHER_DID, domain=OTHER_DOMAIN, category="bulk")
        for number in range(4)
    ]
    for message_id in bounced:
        relay.until_status(message_id, "bounced", did=OTHER_DID)
    sent = [
        relay.send(
            f"guest{number}@people.example", did=OTHER_DID, domain=OTHER_DOMAIN, category="transactional"
        )
        for number in range(8)
    ]
    for message_id in sent:
        relay.until_status(message_id, "sent", did=OTHER_DID)


def _settings(relay: FilledRelay, note: str) -> None:
    """Keys, suppressions, forwarding, webhooks."""
    relay.other_key_id = relay.order("key_issue", did=DID, category="login-link")["keyId"]
    revoked = relay.order("key_issue", did=DID)
    relay.order("key_revoke", did=DID, key_id=revoked["keyId"])
    relay.order("domain_set_forward", domain=DOMAIN, to="bounces@people.example")
    for address in ("ida@people.example", *([RECIPIENT] if note else [])):
        relay.ask("/v1/suppressions", {"recipient": address, "reason": f"asked by phone{note}"})
    webhook = relay.ask("/v1/webhooks", {"url": "http://127.0.0.1:9/hook"})
    relay.webhook_id = str(webhook["webhookId"])
