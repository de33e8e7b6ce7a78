"""What a member sees of a report that came after its mail had been taken: who said what, and what to do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from relay.codec import Recorded
from relay.decisions.reports import Came, bounce_report, complaint_report
from relay.events import Event, MessageBounceReported
from relay.mail_reading import Reading
from relay.message.advice import report_advice
from relay.presentation import report_of, timeline_entry
from relay.stream_events import Labels, stream_event
from relay.views import messages
from spool.views import Snapshot
from tests.world.audited import tell
from tests.world.relay import DOMAIN, World, open_world, run
from tools.cli import cli
from tools.watch import as_line

OWNER = "owner@elsewhere.example"
GONE = Reading(
    kind="dsn",
    action="failed",
    enhanced="5.1.1",
    code=550,
    bounce_class="invalid_recipient",
    diagnostic="550 5.1.1 <friend@example.com>: no such user",
    reporting_mta="mx.example.com",
    remote_mta="store.example.com",
)
CAME = Came(
    sha256="ab" * 32,
    size=1234,
    raw=b"Subject: Undelivered\r\n\r\n",
    client_address="192.0.2.66",
    client_name="out.example.com",
    signed_by=("example.com",),
)


def came(raw: bytes) -> Came:
    return CAME._replace(raw=raw, sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))


async def report(world: World, message_id: int, reading: Reading = GONE, came: Came = CAME) -> list[Recorded]:
    """As it is recorded when it comes in."""
    core = world.core

    def decision(view: Snapshot) -> list[Event]:
        story = [core.store.get(seq) for seq in messages.timeline(view, message_id)]
        return bounce_report(
            view,
            message_id,
            story,
            reading,
            came,
            config=core.config,
            operator_stem=core.operator_stem,
            message_id_entropy="00ff",
            now_us=core.store.now_us(),
        )

    recorded: list[Recorded] = await core.store.decide(decision)
    return recorded


async def complain(world: World, message_id: int, provider: str | None) -> None:
    core = world.core

    def decision(view: Snapshot) -> list[Event]:
        story = [core.store.get(seq) for seq in messages.timeline(view, message_id)]
        reading = Reading(kind="feedback", feedback_type="abuse")
        return complaint_report(view, message_id, story, reading, CAME, provider=provider)

    await core.store.decide(decision)


def test_it_is_one_line_of_who_and_when_and_what_to_do(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    ids: list[int] = []

    async def main() -> None:
        async with open_world(directory) as world:
            await world.command("domain_set_forward", domain=DOMAIN, to=OWNER)
            message_id = await world.send()
            before = await world.until_final(message_id)
            reported, dsn, suppressed = await report(world, message_id)
            shown = await world.message(message_id)
            expected = {
                "seq": reported.seq,
                "time": shown["reports"][0]["time"],
                "kind": "dsn",
                "reportedAction": "failed",
                "enhanced": "5.1.1",
                "code": 550,
                "bounceClass": "invalid_recipient",
                "feedbackType": None,
                "reportingMta": "mx.example.com",
                "remoteMta": "store.example.com",
                "diagnostic": "550 5.1.1 <friend@example.com>: no such user",
                "counts": True,
                "advice": "Nobody has this address: take it off the list.",
            }
            assert shown["reports"] == [expected]
            entry = next(one for one in shown["timeline"] if one["type"] == "message.bounce_reported")
            assert entry == {
                "seq": reported.seq,
                "time": expected["time"],
                "type": "message.bounce_reported",
                "report": expected,
            }
            assert {**shown, "reports": [], "timeline": []} == {**before, "reports": [], "timeline": []}
            told = next(one for one in shown["timeline"] if one["type"] == "dsn.queued")
            assert (told["messageId"], told["about"], "status" in told) == (dsn.seq, message_id, False)

            # On the stream and in the list of events, the same.
            _, events, _ = await world.request("GET", f"/v1/events?cursor={reported.seq - 1}")
            frame = events["events"][0]
            assert frame == {
                **entry,
                "messageId": message_id,
                "recipient": "friend@example.com",
                "sendId": message_id - 1,
            }
            line = as_line(frame)
            for said in (
                expected["time"],
                f"message {message_id}",
                "mx.example.com reported failed: 550 5.1.1",
            ):
                assert said in line
            assert line.endswith("to do: Nobody has this address: take it off the list.")
            assert "\n" not in line

            # As it was before.
            _, then, _ = await world.request("GET", f"/v1/messages/{message_id}?asOf={reported.seq - 1}")
            assert then["reports"] == []

            # The owner of the mailbox hears of it.
            await world.until_final(dsn.seq)
            notice = world.mx.messages[-1]
            assert (notice.mail_from, notice.rcpt_to) == ("", (OWNER,))
            assert b"has reported since" in notice.data
            assert b"Nobody has this address: take it off the list." in notice.data

            # Where it came from is the operator's to know.
            for secret in ("192.0.2.66", "out.example.com", "signed"):
                assert secret not in json.dumps([shown, events])
                assert secret.encode() not in notice.data
            assert suppressed.event.TYPE == "recipient.suppressed"
            ids.extend([message_id, dsn.seq])

    run(main)

    for audited in ids:
        found = json.loads(tell(directory, audited, "--json").output)
        assert found["problems"] == []
        assert [one["match"] for one in found["compositions"]] == [True]
        assert all(one["valid"] for one in found["signatures"])
    text = tell(directory, ids[0]).stdout
    assert "A report came in (dsn); it counts as a bounce, and the status stays" in text
    assert 'mx.example.com reported failed: 550 5.1.1 "550 5.1.1 <friend@example.com>: no such user"' in text
    assert "192.0.2.66" not in text
    dsn_text = tell(directory, ids[1]).stdout
    assert f"Message {ids[0]}: A report came in (dsn)" in dsn_text
    assert f"Queued, because message {ids[0]} was reported and its domain wants to hear of it" in dsn_text


def test_the_terminal_shows_what_a_stranger_wrote_escaped(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    ids: list[int] = []
    hostile = msgspec.structs.replace(GONE, diagnostic="a\x1b[2Jb\u202ec", reporting_mta="mx\u202e")

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send()
            await world.until_final(message_id)
            await report(world, message_id, hostile)
            ids.append(message_id)

    run(main)
    shown = CliRunner().invoke(cli, ["queue", "show", str(directory), str(ids[0])])
    assert shown.exit_code == 0, shown.output
    for text in (shown.output, tell(directory, ids[0]).stdout):
        assert all(line.isprintable() for line in text.splitlines())
        assert "to do: Nobody has this address: take it off the list." in text
    assert not any(line.startswith("reports") for line in shown.output.splitlines())


def test_a_second_report_is_shown_and_does_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to=OWNER)
            message_id = await world.send()
            await world.until_final(message_id)
            await report(world, message_id)
            assert len(await report(world, message_id, came=came(b"again"))) == 1
            shown = await world.message(message_id)
            assert [one["counts"] for one in shown["reports"]] == [True, False]
            assert shown["status"] == "sent"

    run(main)


def test_a_message_that_bounced_makes_no_second_notification(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to=OWNER)
            message_id = await world.send(to="permfail@example.com")
            await world.until_final(message_id)
            assert len(await report(world, message_id)) == 1
            assert sum(event.TYPE == "dsn.queued" for event in world.events()) == 1

    run(main)


@pytest.mark.parametrize(
    ("provider", "line"),
    [
        ("yahoo.com", ": by yahoo.com (abuse)"),
        (None, ": by a report that nobody known signed (abuse), which counts as an unsubscribe"),
    ],
)
def test_a_complaint_says_who_made_it(tmp_path: Path, provider: str | None, line: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(category="bulk")
            await world.until_final(message_id)
            await complain(world, message_id, provider)
            shown = await world.message(message_id)
            entry = next(one for one in shown["timeline"] if one["type"] == "message.complained")
            assert (entry["via"], entry.get("provider"), entry["feedbackType"], entry["authenticated"]) == (
                "report", provider, "abuse", provider is not None,
            )  # fmt: skip
            assert (shown["status"], shown["reports"]) == ("sent", [])
            _, events, _ = await world.request("GET", f"/v1/events?cursor={entry['seq'] - 1}")
            frame = events["events"][0]
            assert frame["authenticated"] is (provider is not None)
            assert as_line(frame).endswith(line)
            assert "192.0.2.66" not in json.dumps([shown, events])

    run(main)


def test_what_the_operator_recorded_is_told_as_that(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send()
            await world.until_final(message_id)
            await world.command("complaint_record", message=message_id)
            shown = await world.message(message_id)
            entry = next(one for one in shown["timeline"] if one["type"] == "message.complained")
            assert (entry["via"], entry["authenticated"], "provider" in entry) == ("operator", True, False)
            await report(world, message_id, came=CAME._replace(by="root", why="by telephone"))
            shown = await world.message(message_id)
            entry = next(one for one in shown["timeline"] if one["type"] == "message.bounce_reported")
            assert entry["reason"] == "by telephone"
            assert "root" not in json.dumps(shown)

    run(main)


# ------------------------------------------------------------------------------------------------ the words


def reported(**fields: Any) -> MessageBounceReported:
    return MessageBounceReported(
        **{"did": "d", "message_id": 5, "kind": "dsn", "sha256": "", "size": 0, **fields}
    )


def test_what_was_personal_is_null_once_it_has_been_removed() -> None:
    recorded = Recorded(9, 0, reported(action="failed", enhanced="5.1.1", code=550, is_failure=True))
    shown = msgspec.to_builtins(report_of(recorded))
    assert (shown["diagnostic"], shown["reportingMta"], shown["remoteMta"]) == (None, None, None)
    assert (shown["reportedAction"], shown["enhanced"], shown["code"], shown["counts"]) == (
        "failed", "5.1.1", 550, True,
    )  # fmt: skip
    entry = msgspec.to_builtins(timeline_entry(recorded, 5))
    assert "status" not in entry
    frame = msgspec.to_builtins(stream_event(recorded, lambda _: Labels(None)))
    assert (frame["recipient"], frame["report"]) == (None, shown)
    assert "status" not in frame


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"action": "failed", "bounce_class": "quota_issues"}, "The mailbox or the system is full"),
        (
            {"action": "failed", "enhanced": "4.2.2", "bounce_class": "quota_issues"},
            "The mailbox or the system",
        ),
        (
            {"action": "failed", "enhanced": "4.4.1", "bounce_class": "no_answer_from_host"},
            "No connection came about: it was given up; send it again later.",
        ),
        ({"action": "failed"}, "It failed, for no reason that we could read"),
        ({"action": "failed", "bounce_class": "a_new_one"}, "It failed, for no reason that we could read"),
        ({"action": "delayed", "bounce_class": "quota_issues"}, "It is on its way still, and late: wait."),
        (
            {"enhanced": "4.4.1", "kind": "heuristic", "bounce_class": "quota_issues"},
            "It is on its way still",
        ),
        ({"enhanced": "", "kind": "heuristic", "bounce_class": "bad_domain"}, "The domain does not exist"),
        ({"action": "delivered"}, "Nothing is to be done."),
        ({"action": "expanded", "kind": "dsn_utf8"}, "Nothing is to be done."),
        ({"kind": "auto_reply", "action": "failed"}, "A program answered"),
        ({"kind": "feedback"}, "The recipient's provider writes of it"),
        ({"kind": "unknown"}, "It says nothing that we could read"),
        ({"kind": "a kind of later"}, "It says nothing that we could read"),
    ],
)
def test_there_is_always_one_sentence_of_what_to_do(fields: dict[str, Any], expected: str) -> None:
    sentence = report_advice(reported(**fields))
    assert sentence.startswith(expected)
    assert sentence.endswith(".")
    assert sentence.isprintable()
