"""What `log cat` says of mail that came in: a line each, and no stranger writes on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.events import (
    NOBODY,
    Event,
    ForwardQueued,
    IncomingMail,
    MailReceived,
    MessageBounceReported,
    MessageComplained,
    Recipient,
    ReportDetails,
)
from tests.world.small_log import DID, HOSTILE, STORY, make
from tools.cli import cli


def reported(**fields: object) -> MessageBounceReported:
    given = {"kind": "dsn", "sha256": "0" * 64, "size": 10, "did": DID, "message_id": 3} | fields
    return MessageBounceReported(**given)  # type: ignore[arg-type]


def received(**fields: object) -> MailReceived:
    given = {
        "did": NOBODY,
        "kind": "operator",
        "domain": "relay.example",
        "sha256": "0" * 64,
        "size": 1234,
        "digest": "0" * 64,
        "received_by": "relay.example",
        "received_with": "ESMTPS",
        "personal": IncomingMail(mail_from="a@x.example", rcpt_to=["abuse@relay.example"], raw=b"x"),
    } | fields
    return MailReceived(**given)  # type: ignore[arg-type]


BOUNCE = ReportDetails(diagnostic=HOSTILE, reporting_mta="mx.example", raw=b"\x1b")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            reported(
                action="failed",
                enhanced="5.1.1",
                code=550,
                bounce_class="invalid_recipient",
                is_failure=True,
                personal=BOUNCE,
            ),
            "message 3: a report came, it failed (invalid_recipient), mx.example: 550 5.1.1 "
            r'"4.7.1 later\x1b[2J\r\n      9  message.sent\x9b2J\u202e\\x1b"; it counts as a bounce',
        ),
        (
            reported(action="failed", by="root", personal=ReportDetails(why="a letter")),
            "message 3: a report came, it failed; recorded by root: a letter",
        ),
        (reported(action="delayed", enhanced="4.4.1"), "message 3: a report came, it is late: 4.4.1"),
        (reported(kind="auto_reply"), "message 3: an automatic answer came"),
        (reported(kind="unknown"), "message 3: mail came about it (unknown)"),
        (MessageComplained(did=DID, message_id=3), "message 3: the recipient complained"),
        (
            MessageComplained(
                did=DID, message_id=3, via="report", feedback_type="abuse", provider="yahoo.example"
            ),
            "message 3: the recipient complained (abuse), yahoo.example says so",
        ),
        (
            MessageComplained(did=DID, message_id=3, via="report", authenticated=False),
            "message 3: the recipient complained; nobody who is believed says so: it counts nowhere",
        ),
        (
            MessageComplained(did=DID, message_id=3, by="root", personal=ReportDetails(why="x\x1b")),
            r"message 3: the recipient complained; recorded by root: x\x1b",
        ),
        (
            received(),
            "the operator's mail for relay.example came in from a@x.example to abuse@relay.example, 1,234 bytes, "
            "and is passed on",
        ),
        (
            received(
                kind="reply", mail_from_null=True, personal=IncomingMail(rcpt_to=["a@b.example"], raw=b"")
            ),
            "a reply for relay.example came in from the null sender to a@b.example, 1,234 bytes, and is passed on",
        ),
        (
            received(personal=None),
            "the operator's mail for relay.example came in, 1,234 bytes, and is passed on",
        ),
        (
            ForwardQueued(
                did=NOBODY,
                domain="relay.example",
                next_attempt_at=1,
                give_up_at=2,
                operator_domain="relay.example",
                personal=Recipient(given="op@example.org", address="op@example.org"),
            ),
            "message 11 to op@example.org is queued: it is the mail that came in",
        ),
    ],
    ids=lambda value: "" if isinstance(value, Event) else str(value)[:40],
)
def test_a_line_each(tmp_path: Path, event: Event, line: str) -> None:
    # A forward stands behind its mail.
    before = [received()] if isinstance(event, ForwardQueued) else []
    story = [*STORY[:-1], *([before] if before else []), [event]]
    data = make(tmp_path / "data", story)
    printed = CliRunner().invoke(cli, ["log", "cat", str(data)]).output.splitlines()
    assert all(text.isprintable() for text in printed)
    last = printed[-1].split(event.TYPE, 1)[1].strip()
    assert last == line
