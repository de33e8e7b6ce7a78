"""`log replay` and `log diff`, as an operator types them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import cbor2
import pytest

from relay.events import (
    AttemptStarted,
    DomainAdded,
    KeyIssued,
    MemberAdded,
    MessageQueued,
    Recipient,
    RecipientSuppressed,
    SendAccepted,
    SuppressedRecipient,
)
from relay.past.rows import VIEWS
from relay.times import rfc3339
from spool import Entry, LogReader
from tests.world.relay import DID, OTHER_DID
from tests.world.time_travels import all_views, answer, log, write_log
from tools.cli import expected_errors
from tools.log import replay


def test_replay_for_people(story: Path) -> None:
    lines = log("replay", story, "--until", 8).output.splitlines()
    assert lines[0].startswith("As of sequence 8, 2026-")
    assert lines[2] == "messages: every message and how it stands"
    assert lines[4].split()[:2] == ["5", "deferred"]
    assert "suppressions: to whom a member's mail may not go, and why\nnothing" in "\n".join(lines)
    due = log("replay", story, "--until", 8, "--view", "due").output.splitlines()
    assert due[-1].split()[-2:] == ["operator", "-"]
    assert [line for line in due if line.startswith("messages")] == []


def test_diff_for_people(story: Path) -> None:
    told = log("diff", story, 4, 8, "--view", "messages", "--view", "statuses").output
    assert "  + 5: status deferred, " in told
    assert "  ~ deferred: messages 0 -> 1" in told
    told = log("diff", story, 7, 8).output
    assert "  ~ 5: heldBy - -> operator" in told
    assert told.count("\n") == 4
    assert "Nothing changed." in log("diff", story, 8, 8).output


def test_more_rows_than_people_read_are_counted(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_ROWS_MAX", 1)
    assert "... and 3 more; --json prints them all" in log("replay", story, "--view", "statuses").output


def test_filters(story: Path) -> None:
    nobody = answer("replay", story, "--did", OTHER_DID, *all_views())
    assert {name for name in VIEWS if nobody[name]} == set()
    somebody = answer("replay", story, "--did", DID, "--message", 5, *all_views())
    assert {name for name in VIEWS if somebody[name]} == {"messages"}  # it is sent, so nothing is due
    assert [
        change["after"]["messageId"] for change in answer("diff", story, 1, 9, "--message", 5)["due"]
    ] == [5]
    assert answer("diff", story, 1, 9, "--message", 6)["messages"] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["replay", "--until", "0"], "there is no sequence 0: the log has 1 to "),
        (["replay", "--until", "999"], "there is no sequence 999"),
        (["replay", "--until", "9" * 5000], ""),
        (["replay", "--until", "2020-01-01T00:00:00Z"], "the log begins at 2026-"),
        (["replay", "--until", "2026-12-01T00:00:00"], "neither a sequence number nor a time"),
        (["replay", "--until", "yesterday"], "neither a sequence number nor a time"),
        (["replay", "--view", "secrets"], "none of messages, suppressions, counters, members"),
        (["diff", "8", "4"], "sequence 8 is after sequence 4"),
        (["diff", "8", "999"], "there is no sequence 999"),
        (["diff", "8"], "Missing argument"),
    ],
)
def test_a_wrong_use_is_told_and_exits_2(story: Path, arguments: list[str], complaint: str) -> None:
    result = log(arguments[0], story, *arguments[1:])
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr


def test_a_time_after_the_last_event_is_as_of_that(story: Path) -> None:
    """With or without a fraction, in any zone."""
    last = answer("replay", story)["seq"]
    for time in ("2099-01-01T00:00:00Z", "2099-01-01T00:00:00.5+02:00"):
        assert answer("replay", story, "--until", time)["seq"] == last


def test_an_unknown_event_stops_what_comes_after_it(tmp_path: Path) -> None:
    strange = Entry(cbor2.dumps({"type": "moon.landed", "v": 1}))
    directory = write_log(tmp_path, [MemberAdded(did=DID)], [strange])
    assert answer("replay", directory, "--until", 1)["members"][0]["did"] == DID
    for arguments in (["replay"], ["diff", "1", "2"]):
        result = log(arguments[0], directory, *arguments[1:])
        assert isinstance(result.exception, expected_errors())
        assert "record 2 holds 'moon.landed'" in str(result.exception)
        assert result.stdout == ""


def test_damage_is_named(story: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    shutil.copytree(story, directory, ignore=shutil.ignore_patterns("*.sock"))
    (segment,) = (directory / "log").glob("*.seg")
    damaged = bytearray(segment.read_bytes())
    damaged[200] ^= 1
    segment.write_bytes(damaged)
    result = log("replay", directory)
    assert isinstance(result.exception, expected_errors())
    assert f"segment {segment.name} offset" in str(result.exception)
    assert result.stdout == ""


def test_no_log_and_an_empty_one(tmp_path: Path) -> None:
    assert "holds no log" in log("replay", tmp_path).stderr
    directory = write_log(tmp_path, [])
    for arguments in (["replay"], ["replay", "--until", "2026-01-01T00:00:00Z"], ["diff", "1", "1"]):
        result = log(arguments[0], directory, *arguments[1:])
        assert (result.exit_code, "the log is empty" in result.stderr) == (1, True)


def test_what_a_stranger_wrote_does_not_reach_the_terminal(tmp_path: Path) -> None:
    """A member's note is free text."""
    hostile = "x\x1b[2J\r\n  + 9: status sent"
    directory = write_log(
        tmp_path,
        [
            MemberAdded(did=DID),
            RecipientSuppressed(
                did=DID, reason="manual", personal=SuppressedRecipient(address="a@example.com", note=hostile)
            ),
        ],
    )
    for output in (
        log("diff", directory, 1, 2).output,
        log("replay", directory, "--view", "suppressions").output,
        log("diff", directory, 1, 2, "--json").output,
    ):
        assert all(line.isprintable() for line in output.splitlines())
        assert not any(line.startswith("  + 9") for line in output.splitlines())


def test_nothing_is_left_of_the_temporary_views(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    answer("replay", story)
    answer("diff", story, 1, 8)
    assert list(tmp_path.iterdir()) == []


def test_every_view_and_all_that_it_says(tmp_path: Path) -> None:
    send = SendAccepted(
        did=DID,
        domain="a.example",
        category="bulk",
        recipients=1,
        key_id="k1",
        selector_stem="s",
        operator_domain="relay.example",
        operator_stem="s",
        message_id_entropy="e",
        idempotency_key="ab" * 32,
        body_sha256="cd" * 32,
    )
    queued = MessageQueued(
        did=DID,
        domain="a.example",
        category="bulk",
        index=1,
        next_attempt_at=1_700_000_000_000_000,
        give_up_at=1_700_000_100_000_000,
        personal=Recipient(given="b@b.example", address="b@b.example"),
    )
    suppressed = RecipientSuppressed(
        did=DID,
        reason="unsubscribe",
        message_id=5,
        call_at=1_700_000_000_000_000,
        personal=SuppressedRecipient(address="b@b.example"),
    )
    keys = DomainAdded(did=DID, domain="a.example", selector_stem="s", rsa_public="r", ed25519_public="e")
    events = [
        MemberAdded(did=DID),
        keys,
        KeyIssued(did=DID, key_id="k1", key_hash="0" * 64),
        send,
        queued,
        suppressed,
        AttemptStarted(did=DID, message_id=5, attempt=1, next_attempt_at=1_700_000_060_000_000),
    ]
    directory = write_log(tmp_path, events)
    times = [
        "",
        *(rfc3339(record.time_us) for record in LogReader(directory / "log").read(1)),
    ]
    assert answer("replay", directory, *all_views()) == {
        "seq": 7,
        "time": times[7],
        "messages": [
            {
                "messageId": 5,
                "status": "queued",
                "did": DID,
                "domain": "a.example",
                "category": "bulk",
                "acceptedAt": times[5],
                "giveUpAt": "2023-11-14T22:15:00.000000Z",
                "nextAttemptAt": "2023-11-14T22:14:20.000000Z",
                "attempts": 1,
                "attempting": True,
                "outcomeSeq": None,
                "finalAt": None,
                "about": None,
                "reportedSeq": None,
                "complainedSeq": None,
            }
        ],
        "suppressions": [
            {
                "did": DID,
                "recipient": "b@b.example",
                "reason": "unsubscribe",
                "since": times[6],
                "seq": 6,
                "reasons": [
                    {
                        "reason": "unsubscribe",
                        "since": times[6],
                        "seq": 6,
                        "note": None,
                    }
                ],
            }
        ],
        "counters": [
            {
                "domain": "a.example",
                "did": DID,
                "acceptedLastHour": 1,
                "acceptedLastDay": 1,
                "accepted": 1,
                "finalLastDay": 0,
                "bouncedLastDay": 0,
                "complaintsLastDay": 0,
            }
        ],
        "members": [
            {
                "did": DID,
                "handle": None,
                "handleProvedAt": None,
                "handleCheckedAt": None,
                "handleFailingSince": None,
                "status": "active",
                "addedAt": times[1],
                "hourLimit": None,
                "dayLimit": None,
                "domains": ["a.example"],
            }
        ],
        "domains": [
            {
                "domain": "a.example",
                "did": DID,
                "status": "active",
                "verified": False,
                "selectorStem": "s",
                "addedAt": times[2],
                "firstVerifiedAt": None,
                "failingSince": None,
                "checkedAt": None,
                "resumedAt": None,
                "forwardTo": None,
                "forwardConfirmed": False,
            }
        ],
        "keys": [
            {
                "did": DID,
                "keyId": "k1",
                "scope": "full",
                "category": None,
                "issuedBy": None,
                "issuedAt": times[3],
                "revokedAt": None,
            }
        ],
        "statuses": [
            {"status": status, "messages": int(status == "queued")}
            for status in ("bounced", "deferred", "queued", "sent")
        ],
        "due": [
            {
                "messageId": 5,
                "did": DID,
                "recipientDomain": "b.example",
                "class": "bulk",
                "nextAttemptAt": "2023-11-14T22:14:20.000000Z",
                "heldBy": None,
                "attempting": 1,
            }
        ],
        "days": [
            {
                "did": DID,
                "day": "2023-11-14",
                "accepted": 1,
                "sent": 0,
                "bounced": 0,
                "complaints": 0,
                "reported": 0,
            }
        ],
        "idempotency": [
            {"did": DID, "keySha256": "ab" * 32, "seq": 4, "time": times[4]},
        ],
        "calls": [{"suppressedSeq": 6, "nextAttemptAt": "2023-11-14T22:13:20.000000Z", "attempts": 0}],
        "webhooks": [],
    }
