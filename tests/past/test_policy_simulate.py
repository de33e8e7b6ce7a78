"""`policy simulate`: a log against another policy, compared with a recount that knows nothing of tables (SPEC 4).

The recount keeps plain lists of what it let through, and counts them anew for every question.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codec import Recorded, encode
from relay.config import Config, ReputationConfig, WarmingConfig, WarmingTier
from relay.events import (
    DomainAdded,
    DomainPaused,
    DomainResumed,
    DomainVerified,
    Event,
    Evidence,
    MemberAdded,
    MemberLimitsSet,
    MemberResumed,
    MessageBounced,
    MessageComplained,
    MessageQueued,
    MessageSent,
    SendAccepted,
)
from relay.past.simulation import POLICY_PROJECTORS, Simulation, simulate
from relay.times import DAY_US, HOUR_US, MINUTE_US, rfc3339
from spool import open_log
from spool.views.scratch import open_scratch
from tests.world.relay import DID, make_directory, open_world, run
from tools.cli import cli, expected_errors

START_US = 1_764_000_000_000_000
DOMAINS = ("a.example", "b.example")
OUTCOMES = {"sent": MessageSent, "bounced": MessageBounced, "complained": MessageComplained}
#: So lax that nothing is refused or paused.
LAX = WarmingConfig(tiers=(WarmingTier(hour=10**6, day=10**6),))
TOLERANT = ReputationConfig(messages_min=10**6)

repeatable = settings(derandomize=True, deadline=None, max_examples=200)


def policy(
    warming: WarmingConfig = LAX, reputation: ReputationConfig = TOLERANT, *, verified: bool = False
) -> Config:
    return Config(
        operator_domain="relay.example",
        public_url="https://relay.example",
        require_verified_domains=verified,
        warming=warming,
        reputation=reputation,
    )


def tiers(*limits: tuple[int | None, int, int]) -> WarmingConfig:
    """(until_day, hour, day) of each."""
    return WarmingConfig(tiers=tuple(WarmingTier(until_day=u, hour=h, day=d) for u, h, d in limits))


def simulated(log: Sequence[Recorded], config: Config) -> Simulation:
    with open_scratch(POLICY_PROJECTORS) as tables:
        return simulate(log, config, tables)


def refused_seqs(log: Sequence[Recorded], config: Config) -> list[int]:
    return [send.seq for send in simulated(log, config).refused]


class Draft:
    """A log in the making: one member, two domains that were enrolled at the beginning."""

    def __init__(self) -> None:
        self.log: list[Recorded] = []
        self.now = START_US
        self.add(MemberAdded(did=DID))
        for name in DOMAINS:
            self.add(DomainAdded(did=DID, domain=name, selector_stem="s", rsa_public="", ed25519_public=""))

    def add(self, event: Event) -> int:
        self.log.append(Recorded(len(self.log) + 1, self.now, event))
        return len(self.log)

    def after(self, microseconds: int) -> Draft:
        self.now += microseconds
        return self

    def send(self, recipients: int = 1, domain: str = DOMAINS[0]) -> int:
        """Sequence number of the `send.accepted`; those of its messages follow."""
        seq = self.add(
            SendAccepted(
                did=DID,
                domain=domain,
                category="bulk",
                recipients=recipients,
                key_id="k",
                selector_stem="s",
                operator_domain="relay.example",
                operator_stem="s",
                message_id_entropy="e",
            )
        )
        for index in range(1, recipients + 1):
            self.add(
                MessageQueued(
                    did=DID, domain=domain, category="bulk", index=index, next_attempt_at=0, give_up_at=1
                )
            )
        return seq

    def fares(self, message_id: int, how: str) -> int:
        more: dict[str, Any] = {} if how == "complained" else {"attempt": 1}
        if how == "bounced":
            more |= {"reason": "rejected", "bounce_class": "invalid_recipient"}
        return self.add(OUTCOMES[how](did=DID, message_id=message_id, **more))

    def resume(self, domain: str = DOMAINS[0]) -> int:
        return self.add(DomainResumed(did=DID, domain=domain))

    def pause(self, status: str, domain: str = DOMAINS[0]) -> int:
        return self.add(DomainPaused(did=DID, domain=domain, status=status))


# ------------------------------------------------------------------------------------------------ the recount


@dataclass
class Recount:
    refused: list[int] = field(default_factory=list)
    pauses: list[tuple[int, str, str]] = field(default_factory=list)


def recount(log: Sequence[Recorded], config: Config) -> Recount:
    """The same by lists. Every event of `log` has a time of its own but a send's messages."""
    found = Recount()
    (tier,) = config.warming.tiers
    rates = config.reputation
    accepted: list[tuple[int, str, int]] = []
    outcomes: list[tuple[int, str, str]] = []
    domain_of: dict[int, str] = {}
    paused: dict[str, str] = {}
    resumed: dict[str, int] = {}
    for seq, now, event in log:
        match event:
            case SendAccepted(domain=domain, recipients=recipients):
                hour, day = (
                    sum(n for at, name, n in accepted if name == domain and at > now - window)
                    for window in (HOUR_US, DAY_US)
                )
                if domain in paused or hour + recipients > tier.hour or day + recipients > tier.day:
                    found.refused.append(seq)
                else:
                    accepted.append((now, domain, recipients))
                    domain_of |= {seq + index: domain for index in range(1, recipients + 1)}
            case MessageSent() | MessageBounced() | MessageComplained():
                if event.message_id not in domain_of:
                    continue
                domain = domain_of[event.message_id]
                outcomes.append((now, domain, event.TYPE))
                since = max(now - rates.window_hours * HOUR_US, resumed.get(domain, 0))
                counted = [how for at, name, how in outcomes if name == domain and at > since]
                complaints, bounced = counted.count("message.complained"), counted.count("message.bounced")
                final = len(counted) - complaints
                if paused.get(domain) in ("paused", "paused_complaint_rate") or final < rates.messages_min:
                    continue
                # Every message here has a recipient of its own.
                if complaints >= rates.complaints_min and complaints / final >= rates.complaint_rate_max:
                    paused[domain] = "paused_complaint_rate"
                elif (
                    domain not in paused
                    and bounced >= rates.bounces_min
                    and bounced / final >= rates.bounce_rate_max
                ):
                    paused[domain] = "paused_bounce_rate"
                else:
                    continue
                found.pauses.append((seq, domain, paused[domain]))
            case DomainPaused(status="paused"):
                if paused.get(event.domain) in (None, "paused_bounce_rate"):
                    paused[event.domain] = "paused"
            case DomainResumed() if event.domain in paused:
                del paused[event.domain]
                resumed[event.domain] = now
    return found


gaps = st.one_of(st.integers(1, 3), st.integers(1, 40 * MINUTE_US), st.integers(1, DAY_US))


@st.composite
def histories(draw: st.DrawFn) -> list[Recorded]:
    """Sends of two domains and what became of them, with the operator's hand between."""
    draft = Draft()
    #: What may still happen to each message.
    open_ends: list[tuple[int, str]] = []
    for _ in range(draw(st.integers(0, 40))):
        draft.after(draw(gaps))
        domain = draw(st.sampled_from(DOMAINS))
        step = draw(st.sampled_from(["send", "send", "fares", "fares", "fares", "resume", "pause"]))
        if step == "send":
            recipients = draw(st.integers(1, 4))
            seq = draft.send(recipients, domain)
            for message_id in range(seq + 1, seq + 1 + recipients):
                open_ends.append((message_id, draw(st.sampled_from(["sent", "bounced"]))))
                open_ends.append((message_id, "complained"))
        elif step == "fares" and open_ends:
            draft.fares(*open_ends.pop(draw(st.integers(0, len(open_ends) - 1))))
        elif step == "resume":
            draft.resume(domain)
        elif step == "pause":
            draft.pause(draw(st.sampled_from(["paused", "paused_bounce_rate"])), domain)
    return draft.log


@repeatable
@given(
    histories(),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 30),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.integers(1, 3),
    st.integers(1, 2),
)
def test_refused_and_paused_is_what_a_naive_recount_says(
    log: list[Recorded],
    hour: int,
    day: int,
    window_hours: int,
    bounces: float,
    complaints: float,
    bounces_min: int,
    complaints_min: int,
) -> None:
    rates = ReputationConfig(
        window_hours=window_hours,
        messages_min=2,
        bounces_min=bounces_min,
        complaints_min=complaints_min,
        bounce_rate_max=bounces,
        complaint_rate_max=complaints,
    )
    config = policy(tiers((None, hour, day)), rates)
    found, expected = simulated(log, config), recount(log, config)
    assert [send.seq for send in found.refused] == expected.refused
    assert [(pause.seq, pause.domain, pause.status) for pause in found.pauses] == expected.pauses


@repeatable
@given(histories(), st.integers(1, 6), st.integers(1, 12))
def test_the_policy_that_accepted_a_log_refuses_nothing_of_it_and_neither_does_a_laxer_one(
    log: list[Recorded], hour: int, day: int
) -> None:
    rates = STRICT
    config = policy(tiers((None, hour, day)), rates)
    # What this policy would have left of the log, the numbers of what is left out being a member's.
    refused = recount(log, config).refused
    dropped = {
        seq + index
        for seq in refused
        for index in range(1 + log[seq - 1].event.recipients)  # type: ignore[attr-defined]
    }
    accepted = [
        Recorded(seq, time, MemberLimitsSet(did=DID) if seq in dropped else event)
        for seq, time, event in log
        if getattr(event, "message_id", None) not in dropped
    ]
    assert refused_seqs(accepted, config) == []
    assert refused_seqs(accepted, policy(tiers((None, hour + 1, day + 1)), rates)) == []


# ------------------------------------------------------------------------------------------------ limits


def test_a_send_that_is_refused_leaves_its_room_to_the_next() -> None:
    draft = Draft()
    draft.after(MINUTE_US).send(2)
    too_many = draft.after(MINUTE_US).send(2)
    draft.after(MINUTE_US).send(1)
    one_more = draft.after(MINUTE_US).send(1)
    found = simulated(draft.log, policy(tiers((None, 3, 10))))
    assert [(send.seq, send.recipients, send.code) for send in found.refused] == [
        (too_many, 2, "RATE_LIMITED"),
        (one_more, 1, "RATE_LIMITED"),
    ]
    # Two recipients may come again when the first two are an hour old.
    assert [send.retry_after_seconds for send in found.refused] == [59 * 60, 57 * 60]
    assert (found.sends, found.recipients, found.refused_recipients) == (4, 6, 3)


def test_each_tier_counts_from_its_day_of_the_domains_life() -> None:
    draft = Draft()
    young = draft.after(DAY_US - 1).send(2)
    draft.after(1).send(2)
    grown = draft.after(DAY_US).send(3)
    assert refused_seqs(draft.log, policy(tiers((1, 1, 1), (None, 2, 2)))) == [young, grown]


def test_limits_of_a_member_stand_in_the_place_of_the_tiers_as_in_the_log() -> None:
    draft = Draft()
    before = draft.after(1).send(2)
    draft.after(1).add(MemberLimitsSet(did=DID, hour=3, day=3))
    draft.after(1).send(3)
    above = draft.after(1).send(1)
    draft.after(2 * DAY_US).add(MemberLimitsSet(did=DID))
    draft.after(1).send(1)
    after = draft.after(1).send(1)
    assert refused_seqs(draft.log, policy(tiers((None, 1, 1)))) == [before, above, after]


def test_a_policy_that_wants_verified_domains_refuses_until_they_are() -> None:
    draft = Draft()
    early = draft.after(1).send()
    draft.after(1).add(DomainVerified(did=DID, domain=DOMAINS[0]))
    draft.after(1).send()
    (refused,) = simulated(draft.log, policy(verified=True)).refused
    assert (refused.seq, refused.code, refused.retry_after_seconds) == (early, "DOMAIN_UNVERIFIED", None)


# ------------------------------------------------------------------------------------------------ reputation

STRICT = ReputationConfig(
    messages_min=2, bounces_min=1, complaints_min=1, bounce_rate_max=0.5, complaint_rate_max=0.5
)


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
    assert (refused.seq, refused.code, refused.retry_after_seconds) == (late, "DOMAIN_PAUSED", None)
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


def test_the_operators_pause_takes_the_place_of_one_for_bounces() -> None:
    draft = Draft()
    send = draft.after(1).send(2)
    for index in (1, 2):
        draft.after(1).fares(send + index, "bounced")
    draft.after(1).pause("paused")
    draft.after(1).send()
    (refused,) = simulated(draft.log, policy(reputation=STRICT)).refused
    assert "is paused since" in refused.because


# ------------------------------------------------------------------------------------------------ the command

OTHER = 'operator_domain = "relay.example"\npublic_url = "https://relay.example"\nrequire_verified_domains = false\n'
STRICT_TIERS = "[warming]\ntiers = [ { hour = 2, day = 2 } ]\n"
STRICT_RATES = (
    "[reputation]\nmessages_min = 2\ncomplaints_min = 1\nbounce_rate_max = 1.0\ncomplaint_rate_max = 0.25\n"
    "[warming]\ntiers = [ { hour = 1000, day = 1000 } ]\n"
)
STRICT_BOTH = (
    "[reputation]\nmessages_min = 2\nbounces_min = 2\nbounce_rate_max = 0.5\n"
    "[warming]\ntiers = [ { hour = 4, day = 4 } ]\n"
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


BECAUSE = (
    "from: the domain a.example is paused_bounce_rate for bulk mail (the transactional class goes on) since "
    f"{rfc3339(START_US + 4 * MINUTE_US)}: 2 bounces among 2 final messages; the relay's operator resumes it"
)


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
                "code": "DOMAIN_PAUSED",
                "because": BECAUSE,
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
14   {rfc3339(START_US + 6 * MINUTE_US)}  1           {BECAUSE}

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
