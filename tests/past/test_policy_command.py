"""Policies tried on the log: reputation, and the command."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from relay.codec import encode
from relay.config import ReputationConfig
from relay.events import (
    Evidence,
    MemberResumed,
)
from relay.times import DAY_US, HOUR_US, MINUTE_US, rfc3339
from spool import open_log
from tests.world.policies import DOMAINS, LAX, START_US, Draft, policy, simulated, tiers
from tests.world.relay import DID, make_directory, open_world, run
from tools.cli import cli, expected_errors

# ------------------------------------------------------------------------------------------------ reputation


STRICT = ReputationConfig(messages_min=2, bounce_rate_max=0.5, complaint_rate_max=0.5)


def test_a_pause_has_its_evidence_and_refuses_until_the_log_resumes_the_domain() -> None:
    draft = Draft()
    send = draft.after(1).send(4)
    good = draft.after(1).fares(send + 1, "sent")
    bad = draft.after(1).fares(send + 2, "bounced")
    judged_at = draft.now
    late = draft.after(HOUR_US).send()
    draft.after(1).send(domain=DOMAINS[1])
    draft.after(1).resume()
    draft.after(1).send()
    # Its window begins anew: one bounce alone is below the least number of messages.
    draft.after(1).fares(send + 3, "bounced")
    found = simulated(draft.log, policy(reputation=STRICT))
    (pause,) = found.pauses
    assert (pause.seq, pause.time_us, pause.domain) == (bad, judged_at, DOMAINS[0])
    assert pause.status == "paused_bounce_rate"
    assert pause.evidence == Evidence(
        window_start=judged_at - DAY_US,
        window_end=judged_at,
        first_seq=good,
        last_seq=bad,
        final=2,
        bounced=1,
        complaints=0,
    )
    (refused,) = found.refused
    assert (refused.seq, refused.code, refused.retry_after_seconds) == (late, "DOMAIN_MISMATCH", None)
    assert "paused_bounce_rate" in refused.because


def test_outcomes_of_refused_sends_count_in_no_rate() -> None:
    draft = Draft()
    kept = draft.after(1).send(2)
    lost = draft.after(1).send(3)
    for index in (1, 2, 3):
        draft.after(1).fares(lost + index, "bounced")
        draft.after(1).fares(lost + index, "complained")
    for index in (1, 2):
        draft.after(1).fares(kept + index, "sent")
    assert simulated(draft.log, policy(LAX, STRICT)).pauses != []
    limited = simulated(draft.log, policy(tiers((None, 2, 2)), STRICT))
    assert ([send.seq for send in limited.refused], limited.pauses) == ([lost], [])


def test_what_has_one_time_is_judged_together() -> None:
    """As the relay judges after a batch: the bounce alone would be too many, with the batch's other outcomes not."""
    draft = Draft()
    send = draft.after(1).send(4)
    draft.after(1).fares(send + 1, "sent")
    draft.after(1)
    for index, how in ((2, "bounced"), (3, "sent"), (4, "sent")):
        draft.fares(send + index, how)
    assert simulated(draft.log, policy(reputation=STRICT)).pauses == []


def test_the_logs_own_pauses_for_rates_are_not_this_policys() -> None:
    draft = Draft()
    send = draft.after(1).send(3)
    draft.after(1).fares(send + 1, "bounced")
    draft.after(1).pause("paused_bounce_rate")
    draft.after(1).resume()
    draft.after(1).send()
    # The log's resumption resumed nothing here, so the first bounce still counts.
    second = draft.after(1).fares(send + 2, "bounced")
    found = simulated(draft.log, policy(reputation=STRICT))
    assert ([pause.seq for pause in found.pauses], found.refused) == ([second], [])


def test_what_the_operator_paused_is_not_judged() -> None:
    draft = Draft()
    send = draft.after(1).send(2)
    draft.after(1).pause("paused")
    for index in (1, 2):
        draft.after(1).fares(send + index, "bounced")
    assert simulated(draft.log, policy(reputation=STRICT)).pauses == []


def test_the_operators_pause_of_what_is_paused_here_changes_nothing() -> None:
    draft = Draft()
    send = draft.after(1).send(2)
    for index in (1, 2):
        draft.after(1).fares(send + index, "bounced")
    draft.after(1).pause("paused")
    draft.after(1).send()
    (refused,) = simulated(draft.log, policy(reputation=STRICT)).refused
    assert refused.because.endswith("paused_bounce_rate")


# ------------------------------------------------------------------------------------------------ the command


OTHER = 'operator_domain = "relay.example"\npublic_url = "https://relay.example"\nrequire_verified_domains = false\n'


STRICT_TIERS = "[warming]\ntiers = [ { hour = 2, day = 2 } ]\n"


STRICT_RATES = (
    "[reputation]\nmessages_min = 2\nbounce_rate_max = 1.0\ncomplaint_rate_max = 0.25\n"
    "[warming]\ntiers = [ { hour = 1000, day = 1000 } ]\n"
)


STRICT_BOTH = (
    "[reputation]\nmessages_min = 2\nbounce_rate_max = 0.5\n[warming]\ntiers = [ { hour = 4, day = 4 } ]\n"
)


def simulate_on(directory: Path, settings_text: str, *words: str) -> Result:
    other = directory.parent / "other.toml"
    other.write_text(OTHER + settings_text)
    return CliRunner().invoke(cli, ["policy", "simulate", str(directory), "--config", str(other), *words])


def files_of(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_beside_a_running_relay_and_it_is_not_disturbed(tmp_path: Path) -> None:
    async def main() -> None:
        directory = tmp_path / "data"
        async with open_world(directory) as world:
            message_ids = []
            for number in range(4):
                message_ids.append(await world.send(to=f"friend{number}@example.com"))
                await world.until_final(message_ids[-1])
                await trio.sleep(600)
            await world.command("complaint_record", message=message_ids[0])
            await trio.sleep(1)
            before = files_of(directory)

            own = (directory / "relay.toml").read_text().partition("\n[warming]\n")[2]
            same = simulate_on(directory, f"[warming]\n{own}", "--json")
            stricter = simulate_on(directory, STRICT_TIERS, "--json")
            rates = simulate_on(directory, STRICT_RATES, "--json")
            assert files_of(directory) == before
            assert (await world.post_send())[0] == 200

        assert [result.exit_code for result in (same, stricter, rates)] == [0, 0, 0]
        totals = {"sends": 4, "recipients": 4, "pauses": 0}
        assert json.loads(same.stdout) == {
            "refused": [],
            "pauses": [],
            "totals": {
                **totals,
                "refused": 0,
                "refusedRecipients": 0,
                "accepted": 4,
                "acceptedRecipients": 4,
            },
        }
        found = json.loads(stricter.stdout)
        assert found["totals"] == {
            **totals,
            "refused": 2,
            "refusedRecipients": 2,
            "accepted": 2,
            "acceptedRecipients": 2,
        }
        assert [send["retryAfterSeconds"] for send in found["refused"]] == [86400 - 1200, 86400 - 1800]
        (pause,) = json.loads(rates.stdout)["pauses"]
        assert pause["status"] == "paused_complaint_rate"
        assert (pause["evidence"]["final"], pause["evidence"]["complaints"]) == (4, 1)

    run(main)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory whose log is known to the byte, with no relay."""
    draft = Draft()
    bounced = draft.after(MINUTE_US).send(2)
    draft.after(MINUTE_US).send(3)
    for index in (1, 2):
        draft.after(MINUTE_US).fares(bounced + index, "bounced")
    draft.now += MINUTE_US
    draft.add(MemberResumed(did=DID))
    draft.after(MINUTE_US).send()
    return with_log(tmp_path / "data", draft)


def with_log(directory: Path, draft: Draft) -> Path:
    """`directory`, made by `init`, with that log."""
    make_directory(directory)
    times = iter([START_US, *(recorded.time_us for recorded in draft.log)])

    async def main() -> None:
        # The clock is read for the segment's header, and for each batch.
        async with open_log(directory / "log", clock=lambda: next(times)) as log:
            for recorded in draft.log:
                await log.append([encode(recorded.event)])

    trio.run(main)
    return directory


def test_for_programs(directory: Path) -> None:
    result = simulate_on(directory, STRICT_BOTH, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    paused_at = START_US + 4 * MINUTE_US
    assert json.loads(result.stdout) == {
        "refused": [
            {
                "seq": 7,
                "time": rfc3339(START_US + 2 * MINUTE_US),
                "did": DID,
                "domain": "a.example",
                "recipients": 3,
                "code": "RATE_LIMITED",
                "because": "the domain a.example may send to 4 recipients an hour and 4 a day now; "
                "the 3 of this request are more than are left",
                "retryAfterSeconds": 86400 - 60,
            },
            {
                "seq": 14,
                "time": rfc3339(START_US + 6 * MINUTE_US),
                "did": DID,
                "domain": "a.example",
                "recipients": 1,
                "code": "DOMAIN_MISMATCH",
                "because": "from: the domain a.example is paused_bounce_rate",
                "retryAfterSeconds": None,
            },
        ],
        "pauses": [
            {
                "seq": 12,
                "time": rfc3339(paused_at),
                "domain": "a.example",
                "status": "paused_bounce_rate",
                "evidence": {
                    "windowStart": rfc3339(paused_at - DAY_US),
                    "windowEnd": rfc3339(paused_at),
                    "firstSeq": 11,
                    "lastSeq": 12,
                    "final": 2,
                    "bounced": 2,
                    "complaints": 0,
                },
            }
        ],
        "totals": {
            "sends": 3,
            "recipients": 6,
            "refused": 2,
            "refusedRecipients": 4,
            "accepted": 1,
            "acceptedRecipients": 2,
            "pauses": 1,
        },
    }


def test_for_people(directory: Path) -> None:
    result = simulate_on(directory, STRICT_BOTH)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == f"""\
seq  time                         recipients  because
7    {rfc3339(START_US + 2 * MINUTE_US)}  3           the domain a.example may send to 4 recipients an hour and 4 \
a day now; the 3 of this request are more than are left
14   {rfc3339(START_US + 6 * MINUTE_US)}  1           from: the domain a.example is paused_bounce_rate

seq  time                         domain     status              evidence
12   {rfc3339(START_US + 4 * MINUTE_US)}  a.example  paused_bounce_rate  2 bounced and 0 complaints of 2

3 sends to 6 recipients; 2 to 4 would have been refused, 1 to 2 accepted.
"""
    )


def test_where_nothing_would_have_been_refused(directory: Path) -> None:
    result = simulate_on(directory, "[warming]\ntiers = [ { hour = 6, day = 6 } ]\n")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "No send would have been refused.\n\nNo domain would have been paused.\n\n"
        "3 sends to 6 recipients; 0 to 0 would have been refused, 3 to 6 accepted.\n"
    )


def test_people_are_shown_the_first_and_programs_all(tmp_path: Path) -> None:
    draft = Draft()
    for _ in range(25):
        draft.after(MINUTE_US).send()
    directory = with_log(tmp_path / "data", draft)
    lines = simulate_on(directory, STRICT_TIERS).stdout.splitlines()
    assert lines[21:23] == ["... and 3 more; --json prints them all", ""]
    assert len(json.loads(simulate_on(directory, STRICT_TIERS, "--json").stdout)["refused"]) == 23


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[warming]\ntiers = [ { hour = 0, day = 2 } ]\n", "line 5: warming.tiers[0].hour: "),
        ("[warmth]\n", "line 4: warmth is not a setting"),
        ("tiers = [", "is not TOML"),
    ],
)
def test_a_bad_configuration_is_named_with_its_line(directory: Path, text: str, complaint: str) -> None:
    result = simulate_on(directory, text)
    assert isinstance(result.exception, expected_errors())
    assert f"{directory.parent / 'other.toml'} " in str(result.exception)
    assert complaint in str(result.exception)
    assert result.stdout == ""


def test_no_configuration_and_no_log(directory: Path, tmp_path: Path) -> None:
    missing = CliRunner().invoke(cli, ["policy", "simulate", str(directory), "--config", "none.toml"])
    assert (missing.exit_code, "none.toml" in missing.stderr) == (2, True)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff")
    unreadable = CliRunner().invoke(cli, ["policy", "simulate", str(directory), "--config", str(binary)])
    assert isinstance(unreadable.exception, expected_errors())
    empty = make_directory(tmp_path / "empty")
    assert "holds no log" in simulate_on(empty, "").stderr


def test_nothing_is_left_of_the_scratch_tables(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr("spool.views.scratch._FOLDS_PER_TRANSACTION", 2)  # what is committed is seen as well
    assert json.loads(simulate_on(directory, STRICT_BOTH, "--json").stdout)["totals"]["refused"] == 2
    assert list(place.iterdir()) == []
