"""A relay with two edges is one relay: its doors, its page of metrics, its orders, its settings and its secrets."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import ssl
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from relay.file_names import INBOUND_ADDRESS_FILE, SUBMISSION_ADDRESS_FILE
from tests.world.edge_processes import EdgeRelay
from tests.world.http import Answer, open_http
from tests.world.process import PATIENCE_SECONDS, configure, make_process_directory
from tests.world.relay import DID, DOMAIN
from tests.world.self_signed import self_signed_pem
from tests.world.smtp_relay import FRIEND, SENDER, mail
from tests.world.strangers import LETTER, OPERATOR_MAILBOX

#: New connections, so that both edges have some.
CONNECTIONS = 20


class OneRelay:
    def __init__(self, relay: EdgeRelay, credentials: dict[str, str]) -> None:
        self.relay = relay
        self.credentials = credentials

    @property
    def key(self) -> str:
        return self.credentials["Authorization"].removeprefix("Bearer ")

    def port(self, file: str, index: int = 0) -> int:
        return int((self.relay.directory / file).read_text().split()[index].rpartition(":")[2])

    def ask(self, method: str, path: str, credentials: dict[str, str] | None = None) -> list[Answer]:
        """On so many new connections, all open at once."""
        answers: list[Answer] = []

        async def one(all_open: trio.Event, opened: list[None]) -> None:
            async with open_http(self.relay.address) as http:
                opened.append(None)
                if len(opened) == CONNECTIONS:
                    all_open.set()
                await all_open.wait()
                if method == "POST":
                    answers.append(await http.post_send(credentials or self.credentials))
                else:
                    answers.append(await http.request(method, path, credentials or self.credentials))

        async def main() -> None:
            all_open, opened = trio.Event(), list[None]()
            with trio.fail_after(PATIENCE_SECONDS):
                async with trio.open_nursery() as nursery:
                    for _ in range(CONNECTIONS):
                        nursery.start_soon(one, all_open, opened)

        trio.run(main)
        return answers

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://{self.relay.address}/metrics", timeout=PATIENCE_SECONDS) as page:
            lines = page.read().decode().splitlines()
        found = [line.rpartition(" ") for line in lines if line.startswith("atmos_")]
        assert len({name for name, _, _ in found}) == len(found), "each is there once"
        return {name: float(value) for name, _, value in found}


@pytest.fixture
def one(tmp_path: Path) -> Iterator[OneRelay]:
    directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9", service="edges = 2")
    pem = directory / "tls.pem"
    pem.touch(0o600)
    pem.write_bytes(self_signed_pem("localhost", days=60))
    configure(
        directory,
        tls='certificate = "tls.pem"\nkey = "tls.pem"',
        submission='bind = ["127.0.0.1:0"]\nbind_tls = ["127.0.0.1:0"]',
        inbound=f'bind = ["127.0.0.1:0"]\noperator_mailbox = "{OPERATOR_MAILBOX}"',
    )
    relay = EdgeRelay(directory)
    credentials = relay.enrol()
    with relay.running():
        relay.wait_edges(2)
        yield OneRelay(relay, credentials)
        assert relay.stop() == 0
        assert not relay.log_lines("worker.killed")
        assert not relay.log_lines("service.grace_over")
        for event in ("http.defect", "smtp.door_defect", "edge.defect"):
            assert not relay.log_lines(event)


def test_each_door_is_open_and_what_came_in_is_counted_once(one: OneRelay) -> None:
    assert {answer.status for answer in one.ask("POST", "/v1/send")} == {200}
    with smtplib.SMTP("127.0.0.1", one.port(SUBMISSION_ADDRESS_FILE), timeout=PATIENCE_SECONDS) as client:
        client.login(DOMAIN, one.key)
        client.mail(SENDER)
        client.rcpt(FRIEND)
        code, text = client.data(mail("by smtp"))
        assert (code, text[:18]) == (250, b"2.0.0 accepted as ")
    with smtplib.SMTP("127.0.0.1", one.port(INBOUND_ADDRESS_FILE), timeout=PATIENCE_SECONDS) as client:
        client.ehlo("stranger.test")
        client.mail("ann@example.com")
        assert client.rcpt("abuse@relay.example")[0] == 250
        assert client.data(LETTER)[0] == 250
    counted = one.metrics()
    assert counted["atmos_sends_accepted_total"] == CONNECTIONS + 1
    assert counted['atmos_workers{role="edge"}'] == 2
    assert counted['atmos_workers_died_total{role="edge"}'] == 0
    assert counted['atmos_inbound_passed_on_total{kind="operator"}'] == 1
    assert counted['atmos_submission_replies_total{command="DATA",reply_class="2"}'] == 1
    assert counted["atmos_tls_certificate_expires_seconds"] > datetime.now(UTC).timestamp()
    assert counted['atmos_workers{role="edge"}'] == 2
    assert counted['atmos_workers_died_total{role="edge"}'] == 0
    # An order sees what came in by whatever edge, and every edge sees what was ordered.
    queue = json.loads(one.relay.command("queue", "list", "--messages", "--json"))
    assert queue["total"] == CONNECTIONS + 2
    one.relay.command("member", "suspend", "--did", DID, "--reason", "a test")
    assert {answer.status for answer in one.ask("POST", "/v1/send")} == {403}
    assert sum(
        value for name, value in one.metrics().items() if name.startswith("atmos_sends_refused_total")
    ) == (CONNECTIONS)


def test_what_changes_while_it_runs_changes_at_every_edge(one: OneRelay) -> None:
    # Settings.
    configure(one.relay.directory, submission='bind = ["127.0.0.1:1"]\nmessage_bytes_max = 70000')
    os.kill(one.relay.pid, signal.SIGHUP)
    one.relay.wait_logged("config.needs_restart")

    def sizes() -> set[str]:
        found = set()
        for _ in range(CONNECTIONS):
            with smtplib.SMTP(
                "127.0.0.1", one.port(SUBMISSION_ADDRESS_FILE), timeout=PATIENCE_SECONDS
            ) as client:
                client.ehlo()
                found.add(client.esmtp_features["size"])
        return found

    one.relay.wait_until(lambda: sizes() == {"70000"}, "new settings hold at both edges")
    # A pepper, and a key that it makes.
    one.relay.command("pepper", "rotate")
    key = json.loads(one.relay.command("key", "issue", "--did", DID, "--json"))
    new = {"X-Atmos-DID": DID, "Authorization": f"Bearer {key['apiKey']}"}
    assert {answer.status for answer in one.ask("POST", "/v1/send", new)} == {200}
    assert {answer.status for answer in one.ask("GET", "/v1/messages")} == {200}  # by the old one
    # A key that is revoked.
    one.relay.command("key", "revoke", "--did", DID, "--key-id", key["keyId"])
    assert {answer.status for answer in one.ask("POST", "/v1/send", new)} == {401}
    # A certificate: a new file right in the data directory, where edges can open none.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = one.port(SUBMISSION_ADDRESS_FILE, 1)

    def shown() -> set[str]:
        return {
            ssl.get_server_certificate(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
            for _ in range(CONNECTIONS)
        }

    (before,) = shown()
    renewed = one.relay.directory.with_name("renewed.pem")
    renewed.write_bytes(self_signed_pem("localhost", days=5))
    renewed.rename(one.relay.directory / "tls.pem")
    one.relay.wait_until(lambda: before not in shown(), "the new one is shown at both edges")
    assert len(shown()) == 1


def test_what_is_erased_is_open_in_no_edge_when_the_order_is_done(one: OneRelay) -> None:
    sent = one.ask("POST", "/v1/send")
    ids = [accepted["messageId"] for answer in sent for accepted in answer.json()["accepted"]]
    edges = one.relay.edges()

    def all_hold_it_open() -> bool:
        """Who is awake first takes a connection: it may be the same one for a while."""
        assert {answer.status for answer in one.ask("GET", f"/v1/messages/{ids[0]}")} == {200}
        return all(_segments(pid) for pid in edges.values())

    one.relay.wait_until(all_hold_it_open, "each edge has read the log")
    one.relay.command("queue", "cancel", "--message", str(ids[0]), "--reason", "a test")
    one.relay.command("log", "erase", "--message", str(ids[0]), "--reason", "asked for")
    for pid in edges.values():
        assert not [name for name in _segments(pid) if name.endswith(" (deleted)")]
    (body,) = {answer.body for answer in one.ask("GET", f"/v1/messages/{ids[0]}")}
    assert b"friend@example.com" not in body


def _segments(pid: int) -> list[str]:
    """Files of the log that the process has open."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if "/log/" in name:
            found.append(name)
    return found
