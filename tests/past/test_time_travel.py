"""The views as they were: `log replay`, `log diff` and `?asOf=` say what was true then, at every sequence number.

What they must say is never computed by them: it is the fold of the first records, or what the relay answered when it
was at that record.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
import trio
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codec import Recorded, encode
from relay.events import (
    AttemptStarted,
    DomainAdded,
    Event,
    KeyIssued,
    MemberAdded,
    MessageQueued,
    MessageSent,
    Recipient,
    RecipientSuppressed,
    SendAccepted,
    SuppressedRecipient,
)
from relay.past.rows import VIEWS, Change, Moment, differences
from relay.presentation import message_detail
from relay.times import rfc3339
from relay.views import messages
from spool import Entry, LogReader, open_log
from tests.world.directories import contents
from tests.world.histories import History, histories, opened, records_of, repeatable
from tests.world.relay import DID, OTHER_DID, open_world, run
from tests.world.spool import clock, inline
from tools.cli import cli, expected_errors
from tools.log import replay

#: Each of their examples folds a log for every one of its records.
repeatable_and_very_few = settings(repeatable, max_examples=8)


def log(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["log", *map(str, arguments)])


def answer(*arguments: object) -> Any:
    result = log(*arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.output)


def all_views() -> list[str]:
    return [word for name in VIEWS for word in ("--view", name)]


def write_log(directory: Path, events: Sequence[Event], more: Sequence[Entry] = ()) -> Path:
    """A data directory with nothing but a log, in which each event has a time of its own."""

    async def main() -> None:
        async with open_log(
            directory / "log", clock=clock(), offload=inline, segment_bytes_max=3000, batch_bytes_max=2000
        ) as written:
            for entry in (*map(encode, events), *more):
                await written.append([entry])

    directory.mkdir(exist_ok=True)
    trio.run(main)
    return directory


@contextmanager
def log_of(history: History) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield write_log(Path(name), history)


def rows_of(moment: Moment) -> dict[str, list[Any]]:
    return {
        name: json.loads(json.dumps([row for _, row in view.rows(moment)])) for name, view in VIEWS.items()
    }


# ------------------------------------------------------------------------------------------------ properties


@repeatable_and_very_few
@given(histories())
def test_replay_until_any_record_is_the_fold_of_the_first_records(history: History) -> None:
    with log_of(history) as directory, tempfile.TemporaryDirectory() as name, opened(Path(name)) as views:
        for record in LogReader(directory / "log").read(1):
            views.apply([record])
            found = answer("replay", directory, "--until", record.seq, *all_views())
            assert found.pop("seq") == record.seq
            found.pop("time")
            with views.read() as view:
                assert found == rows_of(Moment(record.seq, record.time_us, view))
            # The same by its time.
            assert seq_at_time(directory, record.time_us) == record.seq


def seq_at_time(directory: Path, time_us: int) -> int:
    seq: int = answer("replay", directory, "--until", rfc3339(time_us), "--view", "members")["seq"]
    return seq


@repeatable_and_very_few
@given(histories(), st.data())
def test_a_difference_turns_what_was_into_what_is(history: History, data: st.DataObject) -> None:
    begin = data.draw(st.integers(1, len(history)))
    end = data.draw(st.integers(begin, len(history)))
    with log_of(history) as directory:
        before, after = (answer("replay", directory, "--until", seq, *all_views()) for seq in (begin, end))
        found = answer("diff", directory, begin, end)
        assert (found.pop("from"), found.pop("to")) == (begin, end)
        assert list(found) == list(VIEWS)
        for name, changes in found.items():
            assert applied(name, before[name], changes) == after[name]
            # Nothing that is the same is named.
            assert all(change["before"] != change["after"] for change in changes)


def applied(name: str, rows: list[Any], changes: list[Any]) -> list[Any]:
    def identity(row: Any) -> tuple[Any, ...]:
        return tuple(row[field] for field in VIEWS[name].identity)

    found = {identity(row): row for row in rows}
    for change in changes:
        match change["what"]:
            case "added":
                assert found.setdefault(identity(change["after"]), change["after"]) is change["after"]
            case "removed":
                assert found.pop(identity(change["before"])) == change["before"]
            case "changed":
                assert found[identity(change["before"])] == change["before"]
                found[identity(change["after"])] = change["after"]
    if name == "suppressions":  # their order is that of a digest
        order = [identity(row) for row in rows_sorted_as_the_table(found)]
        return [found[one] for one in order]
    return [found[one] for one in sorted(found)]


def rows_sorted_as_the_table(found: dict[tuple[Any, ...], Any]) -> list[Any]:
    return sorted(
        found.values(),
        key=lambda row: (row["did"], sha256(row["recipient"].lower().encode()).digest()),
    )


@repeatable
@given(histories())
def test_the_state_after_any_part_of_a_timeline_is_that_of_the_view_then(history: History) -> None:
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as views:
        recorded: list[Recorded] = []
        for seq, record in enumerate(records_of(history), 1):
            views.apply([record])
            recorded.append(Recorded(seq, record.time_us, history[seq - 1]))
            with views.read() as view:
                for state in messages.all_messages(view):
                    story = [recorded[at - 1] for at in messages.timeline(view, state.message_id)]
                    assert messages.state_after(story) == state


def test_nothing_changes_what_is_final() -> None:
    queued = MessageQueued(
        did=DID, domain="a.example", category="bulk", index=1, next_attempt_at=1, give_up_at=2
    )
    sent = MessageSent(did=DID, message_id=2, attempt=1)
    again = AttemptStarted(did=DID, message_id=2, attempt=2, next_attempt_at=9)
    story = [Recorded(seq, seq, event) for seq, event in enumerate([queued, sent, again], 2)]
    assert messages.state_after(story) == messages.state_after(story[:2])


def test_differences_of_lists_that_end_apart() -> None:
    def rows(**of: int) -> Iterator[tuple[bytes, dict[str, Any]]]:
        return iter([(key.encode(), {"is": value}) for key, value in of.items()])

    assert list(differences(rows(), rows())) == []
    assert list(differences(rows(a=1, b=2, d=4), rows(b=3, c=1))) == [
        Change("removed", {"is": 1}, None),
        Change("changed", {"is": 2}, {"is": 3}),
        Change("added", None, {"is": 1}),
        Change("removed", {"is": 4}, None),
    ]
    assert list(differences(rows(), rows(z=1))) == [Change("added", None, {"is": 1})]


# ------------------------------------------------------------------------------------------------ a whole relay


def test_as_of_any_event_the_api_answers_what_it_answered_then(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            store = world.core.store
            #: (sequence number, message id) -> what the relay said when it was there.
            answers: dict[tuple[int, int], Any] = {}

            def observe(events: Sequence[Recorded]) -> None:
                with store.read() as view:
                    for state in messages.all_messages(view):
                        timeline = messages.timeline(view, state.message_id)
                        said = message_detail(state, timeline, store.get)
                        answers[view.position, state.message_id] = said

            store.observers.append(observe)
            first = await world.send(to="tempfail-2@example.com")
            await world.until(first, "deferred")
            await world.command("queue_hold", by="root", message=[first], reason="asked for")
            second = await world.send(to="permfail@example.com", category="transactional")
            await world.until_final(second)
            await world.command("queue_release", by="root", message=[first], reason="it may go")
            await world.until_final(first)
            await world.command("complaint_record", message=first)
            other = await world.enrol(OTHER_DID, "other.example")
            assert len(answers) > 20
            for (seq, message_id), said in answers.items():
                status, now, _ = await world.request("GET", f"/v1/messages/{message_id}?asOf={seq}")
                assert status == 200
                assert now == msgspec.to_builtins(said)
            last = store.last_seq
            assert (await world.request("GET", f"/v1/messages/{first}?asOf={last}"))[
                1
            ] == await world.message(first)
            for path, expected, code in (
                (f"{second}?asOf={second - 1}", 404, "NOT_FOUND"),
                (f"{first}?asOf={last + 1}", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=0", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=-1", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=2026-01-01T00:00:00Z", 400, "INVALID_REQUEST"),
                (f"{first}?asOf={'9' * 400}", 400, "INVALID_REQUEST"),
                (f"999999?asOf={last}", 404, "NOT_FOUND"),
            ):
                status, answered, _ = await world.request("GET", f"/v1/messages/{path}")
                assert (status, answered["code"]) == (expected, code), path
            # Whose message it is, is asked first of all.
            status, answered, _ = await world.request(
                "GET", f"/v1/messages/{first}?asOf={first - 1}", headers=other
            )
            assert answered["error"] == "messageId: you have no message with this id"

    run(main)


def test_beside_a_running_relay_and_nothing_is_changed(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send()
            await world.until_final(message_id)
            before = contents(directory)
            found = answer("replay", directory)
            assert found["seq"] == world.core.store.last_seq
            (row,) = found["messages"]
            assert (row["messageId"], row["status"], row["did"]) == (message_id, "sent", DID)
            assert answer("replay", directory, "--until", message_id)["messages"][0]["status"] == "queued"
            changes = answer("diff", directory, message_id, found["seq"], "--view", "messages")["messages"]
            (change,) = changes
            assert (change["before"]["status"], change["after"]["status"]) == ("queued", "sent")
            assert contents(directory) == before

    run(main)


# ------------------------------------------------------------------------------------------------ the commands


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 to 3 an enrolment, 4 and 5 a send that is deferred (7), held (8), released and sent; 12 a suppression."""
    directory = tmp_path_factory.mktemp("story") / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send(to="tempfail-1@example.com")
            await world.until(message_id, "deferred")
            await world.command("queue_hold", by="root", message=[message_id], reason="test")
            await world.command("queue_release", by="root", message=[message_id], reason="test")
            await world.until_final(message_id)
            await world.request("POST", "/v1/suppressions", json={"recipient": "x@example.com"})

    run(main)
    return directory


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
        (["replay", "--view", "secrets"], "'messages', 'suppressions', 'counters', 'members'"),
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
            }
        ],
        "keys": [{"did": DID, "keyId": "k1", "issuedAt": times[3], "revokedAt": None}],
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
        "days": [{"did": DID, "day": "2023-11-14", "accepted": 1, "sent": 0, "bounced": 0, "complaints": 0}],
        "idempotency": [
            {"did": DID, "keySha256": "ab" * 32, "seq": 4, "time": times[4]},
        ],
        "calls": [{"suppressedSeq": 6, "nextAttemptAt": "2023-11-14T22:13:20.000000Z", "attempts": 0}],
    }
