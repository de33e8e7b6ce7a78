"""`policy simulate`: a log against another policy, compared with a recount that knows nothing of tables (SPEC 4).

The recount keeps plain lists of what it let through, and counts them anew for every question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codec import Recorded
from relay.config import Config, ReputationConfig
from relay.events import (
    DomainPaused,
    DomainResumed,
    DomainVerified,
    MemberLimitsSet,
    MessageBounced,
    MessageComplained,
    MessageSent,
    SendAccepted,
)
from relay.times import DAY_US, HOUR_US, MINUTE_US
from tests.world.policies import (
    DOMAINS,
    STRICT,
    Draft,
    policy,
    simulated,
    tiers,
)
from tests.world.relay import DID

repeatable = settings(derandomize=True, max_examples=200)


def refused_seqs(log: Sequence[Recorded], config: Config) -> list[int]:
    return [send.seq for send in simulated(log, config).refused]


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
                # What is complained of may have been final before the window began.
                final = max(len(counted) - complaints, complaints)
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
