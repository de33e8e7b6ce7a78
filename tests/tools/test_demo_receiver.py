"""The demo as it serves: its receiver's moods, and the page of what arrived, which shows hostile mail as text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from queue import Empty, Queue
from typing import Any, NamedTuple

import pytest

from tests.world.process import PATIENCE_SECONDS, wait_until
from tools.demo.directory import DID, DOMAIN
from tools.demo.mailbox import MAILS_MAX, Mailbox
from tools.demo.receiver import MOODS


class Demo(NamedTuple):
    directory: Path
    url: str
    key: str
    mailbox: str
    said: str

    def send(self, to: str, **changed: Any) -> str:
        """The message id."""
        body = {"from": f"you@{DOMAIN}", "to": to, "subject": "Hello", "text": "Hi", **changed}
        (accepted,) = self.call("/v1/send", body)["accepted"]
        return str(accepted["messageId"])

    def message(self, message_id: str) -> Any:
        return self.call(f"/v1/messages/{message_id}")

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {
            "X-Atmos-DID": DID,
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
        }
        octets = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, octets, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo") / "data"
    command = [sys.executable, "-u", "-m", "tools.demo", "--directory", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: Queue[str] = Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=lambda out: [lines.put(line) for line in out], args=[process.stdout])
    reader.start()
    try:
        said = ""
        while "Serving until Ctrl-C." not in said:
            try:
                said += lines.get(timeout=PATIENCE_SECONDS)
            except Empty:
                pytest.fail(f"the demo does not serve: {said}")
        yield Demo(
            directory,
            one(r"The relay runs on (http://\S+?),", said),
            one(r"Bearer (atmos_\w+)", said),
            one(r"What arrived stands at (http://\S+)", said),
            said,
        )
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


def test_both_consoles_are_a_link_away(demo: Demo) -> None:
    for whose, title in (("member", "Mail console"), ("operator", "Operator&#39;s console")):
        link = one(rf"the {whose}'s +(http://127\.0\.0\.1:\d+/\S*\?link=\S+)", demo.said)
        headers, page = fetch(link)
        assert title in page
        assert "<button>Sign in</button>" in page
        assert headers["Referrer-Policy"] == "no-referrer"


def one(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]


def until(question: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    found: list[Any] = []

    def asked() -> bool:
        found.append(question())
        return holds(found[-1])

    wait_until(asked, lambda: str(found[-1]))
    return found[-1]


def test_each_mood_does_what_is_said_of_it(demo: Demo) -> None:
    assert all(f"  {mailbox}@" in demo.said and mood in demo.said for mailbox, mood in MOODS.items())
    sent = {mailbox: demo.send(f"{mailbox}@somewhere.example") for mailbox in MOODS if mailbox != "slow"}

    refused = until(lambda: demo.message(sent["bounce"]), lambda message: message["status"] == "bounced")
    assert refused["lastReply"]["code"] == 550
    put_off = until(lambda: demo.message(sent["defer"]), lambda message: message["status"] == "deferred")
    assert put_off["lastReply"]["code"] == 451
    complained = until(
        lambda: demo.message(sent["complain"]),
        lambda message: message["timeline"][-1]["type"] == "message.complained",
    )
    # Believed, because the provider signed it: so the member writes to this recipient no more.
    rejected = demo.call(
        "/v1/send", {"from": f"you@{DOMAIN}", "to": "complain@somewhere.example", "subject": "x", "text": "y"}
    )["rejected"]
    assert [each["code"] for each in rejected] == ["RECIPIENT_SUPPRESSED"], complained
    until(
        lambda: demo.message(sent["later"]),
        lambda message: message["timeline"][-1]["type"] == "message.bounce_reported",
    )


def test_hostile_mail_is_text_on_the_page(demo: Demo) -> None:
    hostile = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
    demo.send("friend@example.com", subject=hostile, text=hostile, html=f"<p>{hostile}</p>")
    page = until(lambda: fetch(demo.mailbox)[1], lambda page: "&lt;script&gt;alert(1)" in page)
    assert "<script>alert" not in page
    assert "<img" not in page
    number = one(r'href="/mails/(\d+)"><bdi>&lt;script', page)
    headers, page = fetch(f"{demo.mailbox}mails/{number}")
    assert "<script" not in page
    assert "<img" not in page
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    headers, page = fetch(f"{demo.mailbox}mails/{number}/html")
    assert "<script>alert(1)</script>" in page  # which the sandbox runs as little as anything else
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    headers, page = fetch(f"{demo.mailbox}mails/{number}/source")
    assert headers["Content-Type"].startswith("text/plain")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert BytesParser().parsebytes(page.encode())["X-Atmos-Member-Did"] == DID


def test_who_asks_by_another_name_sees_nothing(demo: Demo) -> None:
    request = urllib.request.Request(demo.mailbox, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="421"):
        urllib.request.urlopen(request, timeout=PATIENCE_SECONDS)


def fetch(url: str) -> tuple[Any, str]:
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        return answer.headers, answer.read().decode()


def test_the_mailbox_forgets_the_oldest_and_shows_what_nobody_can_decode() -> None:
    mailbox = Mailbox()
    for number in range(MAILS_MAX + 2):
        mailbox.put("a@a.example", "b@b.example", f"Subject: {number}\r\n\r\n".encode())
    assert len(mailbox.newest_first) == MAILS_MAX
    assert mailbox.mail(2) is None
    newest = mailbox.newest_first[0]
    assert newest.subject == str(MAILS_MAX + 1)

    odd = EmailMessage()
    odd["Subject"] = "x"
    octets = odd.as_bytes().replace(
        b"Subject: x", b"Subject: =?no-such-charset?q?=FF?=\r\nContent-Type: text/plain; charset=nope"
    )
    mailbox.put("a@a.example", "b@b.example", octets + b"\r\n\xff")
    newest = mailbox.newest_first[0]
    assert newest.subject == "=?no-such-charset?q?=FF?="
    assert newest.text_of("text/plain") is not None
