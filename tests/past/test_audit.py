"""`log audit`: the story of a message as it was, and a proof that fails when anything in it is not so."""

from __future__ import annotations

import json
import shutil
import stat
import tempfile
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.codec import decode, encode
from relay.events import DsnQueued, Event, MessageQueued, MessageSent, Outcome, PayloadErased, SendAccepted
from relay.message.keys import KeyRing
from relay.past.audit import audit
from relay.views import messages
from spool import Entry, LogReader, open_log
from spool.record import encode_record
from spool.segment import SEGMENT_HEADER_BYTES, decode_segment_header, encode_segment_header
from tests.campaigns.days import simulate
from tests.world.audited import ANN, DOMAIN, DSN, GOLDEN, NOBODY, make_story, tell
from tests.world.directories import contents
from tests.world.relay import DID, OPERATOR_DOMAIN, open_world, run
from tests.world.relay import DOMAIN as DOMAIN_OF_WORLD
from tests.world.small_log import STORY
from tests.world.spool import inline
from tools.cli import expected_errors

STEM = "atmos20260921"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_story(tmp_path_factory.mktemp("story") / "data")


@pytest.fixture
def copy(story: Path, tmp_path: Path) -> Path:
    """To be changed."""
    shutil.copytree(story, tmp_path / "data", ignore=shutil.ignore_patterns("*.sock"))
    return tmp_path / "data"


def told(directory: Path, message_id: int, exit_code: int = 0) -> Any:
    result = tell(directory, message_id, "--json")
    assert result.exit_code == exit_code, (result.output, result.exception)
    return json.loads(result.output)


def rewrite(directory: Path, change: Callable[[Event], Event], more: list[Entry] | None = None) -> Path:
    """The same log with other events: the same batches at the same times."""
    with LogReader(directory / "log") as reader:
        records = list(reader.read(1))
    shutil.rmtree(directory / "log")
    now = 0

    async def main() -> None:
        nonlocal now
        async with open_log(directory / "log", clock=lambda: now, offload=inline) as log:
            for _, batch in groupby(records, key=lambda record: record.batch_seq):
                entries = [(record.time_us, encode(change(decode(record).event))) for record in batch]
                now = entries[0][0]
                await log.append([entry for _, entry in entries])
            if more:
                await log.append(more)

    trio.run(main)
    return directory


def strip(directory: Path) -> None:
    """Take the payload out of every record of a log that is one segment: the same chain under another salt."""
    (path,) = (directory / "log").glob("*.seg")
    with LogReader(directory / "log") as reader:
        records = list(reader.read(1))
    header = decode_segment_header(path.read_bytes()[:SEGMENT_HEADER_BYTES], 1)._replace(
        salt=b"after stripping."
    )
    data = encode_segment_header(header)
    for record in records:
        bare = record._replace(payload=None, stripped=record.payload is not None, offset=len(data))
        data += b"".join(encode_record(bare, header.seed))
    path.write_bytes(data)


# ------------------------------------------------------------------------------------------------ the report


@pytest.mark.parametrize(("name", "message_id"), [("ann", ANN), ("nobody", NOBODY), ("dsn", DSN)])
def test_it_is_told_as_it_always_was(story: Path, name: str, message_id: int) -> None:
    result = tell(story, message_id)
    assert result.exit_code == 0
    assert result.stdout == (GOLDEN / f"{name}.txt").read_text()
    assert all(line.isprintable() for line in result.stdout.splitlines())


def test_for_programs(story: Path) -> None:
    found = told(story, ANN)
    assert (found["messageId"], found["status"], found["recipient"]) == (ANN, "sent", "ann@shop.example")
    assert [event["type"] for event in found["events"]] == [
        "send.accepted",
        "message.queued",
        "attempt.started",
        "message.deferred",
        "message.held",
        "domain.paused",
        "message.released",
        "message.held",
        "domain.resumed",
        "attempt.started",
        "attempt.interrupted",
        "attempt.started",
        "message.sent",
        "message.complained",
        "recipient.suppressed",
    ]
    assert found["interrupted"] == [2]
    (composition,) = found["compositions"]
    assert (composition["attempt"], composition["match"]) == (3, True)
    assert composition["sha256"] == found["composedSha256"] == found["events"][12]["data"]["sha256"]
    assert [(one["d"], one["s"], one["valid"]) for one in found["signatures"]] == [
        (DOMAIN, STEM + "r", True),
        (DOMAIN, STEM + "e", True),
        (OPERATOR_DOMAIN, STEM + "r", True),
        (OPERATOR_DOMAIN, STEM + "e", True),
    ]
    assert (found["problems"], found["notComposed"], found["records"]) == ([], None, 32)
    decision = found["decision"]
    assert (decision["keySeq"], decision["keyActive"], decision["suppressedFor"]) == (3, True, [])
    assert decision["limits"] == {
        "hour": {"limit": 2, "before": 1, "after": 2},
        "day": {"limit": 10, "before": 1, "after": 2},
        "warmingDay": 0,
        "setBySeq": None,
        "refusedNow": None,
    }


def test_of_a_notification_nobody_decided_and_its_own_bytes_are_compared(story: Path) -> None:
    found = told(story, DSN)
    assert (found["about"], found["decision"], found["category"]) == (NOBODY, None, "dsn")
    assert [one["attempt"] for one in found["compositions"]] == [1]
    assert {one["d"] for one in found["signatures"]} == {OPERATOR_DOMAIN}


def test_a_notifications_bytes_are_not_those_of_the_mail_that_bounced(tmp_path: Path) -> None:
    """Its story begins with a bounce that has a hash, of other bytes."""
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            await world.command("domain_set_forward", domain=DOMAIN_OF_WORLD, to="owner@elsewhere.example")
            refused = await world.send(to="refuse-message@example.com")
            await world.until_final(refused)
            (notice,) = [seq for seq, event in enumerate(world.events(), 1) if isinstance(event, DsnQueued)]
            await world.until_final(notice)
            bounce, *_ = told(directory, notice)["events"]
            assert (bounce["messageId"], len(bounce["data"]["sha256"])) == (refused, 64)
            assert [one["match"] for one in told(directory, notice)["compositions"]] == [True]

    run(main)


def test_the_counts_are_those_right_before_the_send_whatever_came_later(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            ids = []
            for _ in range(3):
                ids.append(await world.send())
                await trio.sleep(1800)
            did = world.credentials["X-Atmos-DID"]
            await world.command("member_limits", did=did, hour=7, day=70)
            limits_seq = world.core.store.last_seq
            await world.request("POST", "/v1/suppressions", json={"recipient": "friend@example.com"})
            await trio.sleep(1800)
            # Suppressed for a manual reason, so that only another address can be written to.
            last = await world.send(to="other@example.com")
            await world.until_final(last)
            for message_id, (hour, day) in zip(ids, [(0, 0), (1, 1), (1, 2)], strict=True):
                found = told(directory, message_id)["decision"]
                assert (found["limits"]["hour"]["before"], found["limits"]["day"]["before"]) == (hour, day)
                assert (found["limits"]["warmingDay"], found["limits"]["hour"]["limit"]) == (0, 1000000)
                assert found["suppressedFor"] == []
            limits = told(directory, last)["decision"]["limits"]
            assert limits == {
                "hour": {"limit": 7, "before": 0, "after": 1},
                "day": {"limit": 70, "before": 3, "after": 4},
                "warmingDay": None,
                "setBySeq": limits_seq,
                "refusedNow": None,
            }
            assert f"set by sequence {limits_seq}" in tell(directory, last).stdout

    run(main)


def test_what_a_login_link_may_pass_is_said(tmp_path: Path) -> None:
    """An unsubscribe does not stop it."""
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            bulk = await world.send(category="bulk")
            await world.until_final(bulk)
            link = next(line for line in world.mx.messages[0].data.decode().split("<") if "/u/" in line)
            path = "/u/" + link.replace("\r\n ", "").partition("/u/")[2].partition(">")[0]
            clicked = await world.client.post(path, form={"List-Unsubscribe": "One-Click"})
            assert clicked.status_code == 200
            login = await world.send(category="login-link")
            await world.until_final(login)
            assert told(directory, login)["decision"]["suppressedFor"] == ["unsubscribe"]
            assert "suppressed for unsubscribe, which does not stop" in tell(directory, login).stdout
            assert told(directory, bulk)["events"][-1]["type"] == "recipient.suppressed"

    run(main)


def test_an_attempt_under_way_has_no_outcome_yet_and_nothing_is_changed(tmp_path: Path) -> None:
    """Beside a running relay."""
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send(to="hang-after-dot@example.com")
            await wait_all_tasks_blocked()
            before = contents(directory)
            output = tell(directory, message_id).stdout
            assert "Attempt 1 has no outcome yet" in output
            assert "no attempt has sent anything" in output
            assert contents(directory) == before

    run(main)


# ------------------------------------------------------------------------------------------------ the proof


def test_every_message_of_days_of_trouble_is_what_was_sent(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    found = simulate(directory, messages=60, seed=5)
    compared = 0
    with LogReader(directory / "log") as reader:
        for recorded in found.events:
            if not isinstance(recorded.event, MessageQueued | DsnQueued):
                continue
            result = audit(directory, reader, recorded.seq)
            assert result.problems == []
            assert all(one.match for one in result.compositions)
            assert len(result.signatures) == 4
            assert all(one.valid for one in result.signatures)
            story = [one.recorded for one in result.story if one.recorded.seq >= recorded.seq]
            assert messages.state_after(story) == result.state
            compared += len(result.compositions)
    assert compared == sum(
        isinstance(one.event, Outcome) and one.event.sha256 is not None for one in found.events
    )
    assert compared > 50


def test_another_hash_in_the_log_is_found(copy: Path) -> None:
    def change(event: Event) -> Event:
        if isinstance(event, MessageSent) and event.message_id == ANN:
            assert event.sha256 is not None
            other = "0" if event.sha256[0] != "0" else "1"
            return msgspec.structs.replace(event, sha256=other + event.sha256[1:])
        return event

    rewrite(copy, change)
    found = told(copy, ANN, exit_code=1)
    assert [one["match"] for one in found["compositions"]] == [False]
    assert found["problems"] == ["attempt 3 sent other bytes than those composed again"]
    assert all(one["valid"] for one in found["signatures"])
    result = tell(copy, ANN)
    assert "attempt 3: DIFFERENT BYTES" in result.stdout
    assert "1 of this contradict the log" in result.stdout
    told(copy, NOBODY)  # is as it was


def test_a_rewritten_log_that_says_the_same_is_proved_the_same(copy: Path) -> None:
    """Or the test above would see only that it was rewritten."""
    rewrite(copy, lambda event: event)
    assert told(copy, ANN)["problems"] == []


def test_another_word_in_the_content_is_found(copy: Path) -> None:
    def change(event: Event) -> Event:
        if isinstance(event, SendAccepted):
            personal = msgspec.structs.replace(event.personal, subject="This week in the Forum")
            return msgspec.structs.replace(event, personal=personal)
        return event

    assert told(rewrite(copy, change), ANN, exit_code=1)["compositions"][0]["match"] is False


@pytest.mark.parametrize("letter", ["r", "e"])
def test_a_key_that_is_not_the_members_key_of_then_is_found(copy: Path, letter: str) -> None:
    """A file for another domain's key: it signs, but not as the member."""
    KeyRing(copy).create("stranger.example", STEM)
    stranger = copy / "keys" / "stranger.example" / f"{STEM}{letter}.pem"
    shutil.copy2(stranger, copy / "keys" / DOMAIN / stranger.name)
    found = told(copy, ANN, exit_code=1)
    assert [one["s"] for one in found["signatures"] if not one["valid"]] == [STEM + letter]
    assert found["compositions"][0]["match"] is False
    assert f"signature d={DOMAIN} s={STEM}{letter}: NOT VALID" in tell(copy, ANN).stdout


def test_another_pepper_is_found(copy: Path) -> None:
    """The unsubscribe link is made with it."""
    (copy / "pepper").write_bytes(bytes(32))
    assert told(copy, ANN, exit_code=1)["compositions"][0]["match"] is False


# ------------------------------------------------------------------------------------------------ what is missing


def test_without_the_payload_the_skeleton_still_tells(copy: Path) -> None:
    """As retention leaves it."""
    strip(copy)
    for message_id in (ANN, NOBODY, DSN):
        found = told(copy, message_id)
        assert (found["recipient"], found["composedSha256"], found["signatures"]) == (None, None, [])
        assert "has been removed" in found["notComposed"]
        assert all(one["match"] is None for one in found["compositions"])
    result = tell(copy, ANN)
    assert "To          (removed)" in result.stdout
    assert "attempt 3: not compared, SHA-256 " in result.stdout
    assert "Held by root: (removed)" in result.stdout
    assert "1 and 2 of 2 in the hour" in result.stdout  # every count stays the same
    assert "cannot be told: its address has been removed" in result.stdout
    assert "Sent at attempt 3 (personal data removed) [sequence 30]" in result.stdout
    assert "personal" not in json.dumps(told(copy, ANN)["events"])


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"because": "retention"}, "Personal data removed by retention: their time was over"),
        (
            {"because": "operator", "by": "maria", "reason": "ticket 4711"},
            "Personal data removed by order of maria: ticket 4711",
        ),
    ],
)
def test_who_had_the_personal_data_removed_is_told(copy: Path, how: dict[str, str], sentence: str) -> None:
    erased = encode(PayloadErased(did=DID, message_ids=[NOBODY, ANN], **how))
    of_another = encode(PayloadErased(did=DID, message_ids=[DSN], because="operator", by="eve", reason="x"))
    strip(rewrite(copy, lambda event: event, [erased, of_another]))
    lines = tell(copy, ANN).stdout.splitlines()
    assert [line for line in lines if "ersonal data removed by" in line] == [
        line for line in lines if f"  {sentence} [sequence " in line
    ]
    assert sum(sentence in line for line in lines) == 1
    assert "removed by" not in tell(copy, DSN).stdout.replace("removed by order of eve: x", "")
    assert told(copy, ANN)["events"][-1]["type"] == "payload.erased"


@pytest.mark.parametrize(
    "missing", [f"keys/{DOMAIN}/{STEM}r.pem", f"keys/{OPERATOR_DOMAIN}/{STEM}e.pem", "pepper"]
)
def test_without_a_secret_the_story_is_told(copy: Path, missing: str) -> None:
    (copy / missing).unlink()
    found = told(copy, ANN)
    assert f"{missing}: is missing" in found["notComposed"]
    assert found["compositions"][0]["match"] is None
    assert "the message cannot be composed again: " in tell(copy, ANN).stdout


def test_a_secret_that_others_can_read_is_not_used(copy: Path) -> None:
    (copy / "pepper").chmod(0o644)
    assert "chmod 600" in told(copy, ANN)["notComposed"]


def test_without_a_configuration_the_limits_are_not_known(copy: Path) -> None:
    (copy / "relay.toml").unlink()
    found = told(copy, ANN)
    assert found["decision"]["limits"] is None
    assert "relay.toml" in found["decision"]["limitsUnknown"]
    assert found["compositions"][0]["match"] is True


def test_a_stricter_configuration_of_today_is_told_apart(copy: Path) -> None:
    config = copy / "relay.toml"
    config.write_text(config.read_text().replace("hour = 2, day = 10", "hour = 1, day = 10"))
    found = told(copy, ANN)
    assert found["decision"]["limits"]["hour"]["limit"] == 1
    assert "the 1 of this request" in found["decision"]["limits"]["refusedNow"]
    assert "today's configuration would refuse it: " in tell(copy, ANN).stdout


def test_a_log_without_the_enrolment(copy: Path) -> None:
    """As a test, or a log that was cut together, may have it."""
    shutil.rmtree(copy / "log")

    async def main() -> None:
        async with open_log(copy / "log", clock=lambda: 1_790_000_000_000_000, offload=inline) as log:
            for batch in STORY:
                await log.append([encode(event) for event in batch])

    trio.run(main)
    found = told(copy, 3)
    assert found["status"] == "sent"
    assert found["decision"]["limitsUnknown"] == "the log does not have the enrolment"
    assert "of which the log does not have the issue" in tell(copy, 3).stdout


# ------------------------------------------------------------------------------------------------ refusals


def test_there_is_no_such_message(story: Path) -> None:
    for message_id, why in ((1, "sequence 1 is member.added, and no message"), (999, "no sequence 999")):
        result = tell(story, message_id)
        assert isinstance(result.exception, expected_errors())
        assert why in str(result.exception)
    for word in ("0", "-1", "x"):
        assert tell(story, word).exit_code == 2  # type: ignore[arg-type]


def test_an_unknown_event_anywhere_stops_it(copy: Path) -> None:
    strange = Entry(cbor2.dumps({"type": "moon.landed", "v": 1}))
    result = tell(rewrite(copy, lambda event: event, [strange]), ANN)
    assert isinstance(result.exception, expected_errors())
    assert "record 33 holds 'moon.landed'" in str(result.exception)
    assert result.stdout == ""


def test_damage_anywhere_is_named(copy: Path) -> None:
    (segment, *_) = sorted((copy / "log").glob("*.seg"))
    damaged = bytearray(segment.read_bytes())
    damaged[150] ^= 1
    segment.write_bytes(damaged)
    result = tell(copy, ANN)
    assert isinstance(result.exception, expected_errors())
    assert f"segment {segment.name} offset" in str(result.exception)


def test_a_stranger_cannot_write_on_the_terminal(copy: Path) -> None:
    hostile = "ok\x1b[2J\r\nProof\u202e\r\n    nothing contradicts the log"

    def change(event: Event) -> Event:
        if isinstance(event, Outcome) and event.personal is not None:
            return msgspec.structs.replace(
                event, personal=msgspec.structs.replace(event.personal, text=hostile)
            )
        return event

    output = tell(rewrite(copy, change), ANN).stdout
    assert all(line.isprintable() for line in output.splitlines())
    assert output.splitlines().count("Proof") == 1


def test_on_a_read_only_copy_and_with_nothing_left_behind(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / "views")  # they are not needed
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for path in [copy, *copy.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    before = contents(copy)
    assert told(copy, ANN)["problems"] == []
    assert contents(copy) == before
    assert list(temporary.iterdir()) == []
