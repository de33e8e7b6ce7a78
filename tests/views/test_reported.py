"""What the views make of reports and of mail that came in: rates, days, repeats, senders, Message-IDs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given

from relay.events import (
    NOBODY,
    RECIPIENT_CLASSES,
    RELAY_CLASSES,
    ForwardQueued,
    MailReceived,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageQueued,
    MessageSent,
    PayloadErased,
    SendAccepted,
)
from relay.times import DAY_US
from relay.views import message_ids, messages, received, reputation
from relay.views.reputation import Day, Totals
from tests.world.drafts import DIDS, domain_of
from tests.world.folding import queued_of
from tests.world.histories import OWN_ID, RECIPIENTS, histories, repeatable
from tests.world.history_views import START_US, History, fold
from tests.world.inbound_log import DOMAIN, GONE, InboundLog, open_inbound_log
from tests.world.relay import DID


@pytest.fixture
def log() -> Iterator[InboundLog]:
    with open_inbound_log() as found:
        yield found


def totals(log: InboundLog) -> Totals:
    return reputation.totals_until(log.view, DOMAIN, log.now)


def today(log: InboundLog) -> Day:
    return reputation.days(log.view, DID, log.now)[-1]


# ------------------------------------------------------------------------------------------------ rates


@pytest.mark.parametrize(
    ("bounce_class", "counted"),
    [
        *((name, Totals(final=1, bounced=1)) for name in RECIPIENT_CLASSES),
        *((name, Totals(final=1, of_relay=1)) for name in RELAY_CLASSES),
        ("mailbox_full", Totals(final=1)),
        (None, Totals(final=1)),
    ],
)
def test_a_bounce_that_comes_later_counts_by_its_class_and_its_message_once(
    log: InboundLog, bounce_class: str | None, counted: Totals
) -> None:
    message_id = log.sent()
    assert totals(log) == Totals(final=1)
    log.later()
    log.report(message_id, msgspec.structs.replace(GONE, bounce_class=bounce_class))
    log.report(message_id, msgspec.structs.replace(GONE, bounce_class=bounce_class))
    assert totals(log) == counted
    # When it came, and not when the mail went out.
    assert today(log) == Day(bounced=1, reported=1)
    assert reputation.days(log.view, DID, log.now)[-2] == Day(accepted=1, sent=1)


def test_each_recipient_of_reported_bounces_is_another(log: InboundLog) -> None:
    for address in ("a@example.com", "b@example.com", "A@example.com"):
        log.report(log.sent(address))
    assert reputation.bounced_recipients(log.view, DOMAIN, 0, log.now, 10) == 2
    evidence = reputation.evidence(log.view, DOMAIN, log.now - DAY_US, log.now)
    assert (evidence.final, evidence.bounced) == (3, 3)
    assert evidence.last_seq == max(
        item.seq for item in log.events if isinstance(item.event, MessageBounceReported)
    )


@pytest.mark.parametrize(
    "outcome",
    [
        MessageSent(did=DID, message_id=6, attempt=1),
        MessageBounced(did=DID, message_id=6, attempt=1, reason="rejected", bounce_class="invalid_recipient"),
        MessageBounced(did=DID, message_id=6, attempt=1, reason="rejected", bounce_class="spam_block"),
        # The report has suppressed its recipient, so the next attempt was not made.
        MessageBounced(did=DID, message_id=6, attempt=0, reason="suppressed"),
    ],
)
def test_where_the_report_came_first_the_outcome_is_final_and_no_second_bounce(
    log: InboundLog, outcome: MessageSent | MessageBounced
) -> None:
    assert log.started() == 6
    log.report(6)
    assert totals(log) == Totals(bounced=1)
    log.add(outcome)
    assert totals(log) == Totals(final=1, bounced=1)
    assert today(log).bounced == 1


def test_where_both_came_at_one_moment_the_outcome_counts(log: InboundLog) -> None:
    """And of two reports the first, whatever they say of themselves."""
    report = MessageBounceReported(
        did=DID,
        message_id=6,
        kind="dsn",
        enhanced="5.1.1",
        bounce_class="invalid_recipient",
        is_failure=True,
        sha256="00" * 32,
        size=1,
    )
    assert log.bounced() == 6
    before = totals(log), today(log)
    log.add(report)
    assert (totals(log), today(log)) == before
    log.add(report)
    assert (totals(log), today(log)) == before
    assert log.state(6).reported_seq == len(log.events) - 1


def test_only_an_authenticated_complaint_counts_and_once(log: InboundLog) -> None:
    message_id = log.sent()
    log.complain(message_id)
    assert totals(log).complaints == today(log).complaints == 0
    for _ in range(2):
        log.complain(message_id, provider="yahoo.com")
        assert totals(log).complaints == today(log).complaints == 1


@repeatable
@given(histories())
def test_rates_are_what_the_history_says(history: History) -> None:
    expected: dict[str, Counter[str]] = {domain_of(did): Counter() for did in DIDS}
    members = {seq: event for seq, event in queued_of(history).items() if isinstance(event, MessageQueued)}
    bounced, reported, complained = set(), set(), set()
    for event in history:
        message_id = getattr(event, "message_id", None)
        if message_id not in members:
            continue
        count = expected[members[message_id].domain]
        match event:
            case MessageSent():
                count["final"] += 1
            case MessageBounced():
                # What nobody was given counts only where it was reported all the same.
                count["final"] += event.reason != "cancelled" or message_id in reported
                if message_id not in reported:
                    count["bounced"] += event.bounce_class == "invalid_recipient"
                bounced.add(message_id)
            case MessageBounceReported(counts=True):
                if message_id not in bounced:
                    count["bounced"] += event.bounce_class == "invalid_recipient"
                    count["of_relay"] += event.bounce_class == "spam_block"
                assert message_id not in reported
                reported.add(message_id)
            case MessageComplained(authenticated=True):
                count["complaints"] += message_id not in complained
                complained.add(message_id)
            case _:
                pass
    with fold(history) as view:
        for domain, count in expected.items():
            assert reputation.totals_until(view, domain, START_US + len(history)) == Totals(
                **{name: count[name] for name in Totals._fields}
            )


# ------------------------------------------------------------------------------------------------ what came in


@repeatable
@given(histories())
def test_who_sent_what_and_what_is_a_repeat(history: History) -> None:
    passed_on: dict[tuple[str, str], list[int]] = {}
    last: dict[str, int] = {}
    for seq, event in enumerate(history, 1):
        if isinstance(event, MailReceived):
            assert isinstance(history[seq], ForwardQueued)
            assert event.personal is not None
            passed_on.setdefault((event.did, event.personal.mail_from), []).append(seq + 1)
            last[event.digest] = START_US + seq
    with fold(history) as view:
        for did in (NOBODY, *DIDS):
            assert list(received.passed_on_from(view, did, "")) == []
            for address in RECIPIENTS:
                found = passed_on.get((did, address), [])
                assert list(received.passed_on_from(view, did, address.upper())) == found
                for behind in found:
                    rest = list(received.passed_on_from(view, did, address, after=behind))
                    assert rest == [seq for seq in found if seq > behind]
        for number in range(3):
            came = last.get(f"{number:064x}")
            for now in (START_US, START_US + len(history), START_US + received.REPEAT_US + 5):
                is_repeat = came is not None and came > now - received.REPEAT_US
                assert received.is_repeat(view, f"{number:064x}", now) == is_repeat


@repeatable
@given(histories())
def test_message_ids_of_members_and_that_they_go(history: History) -> None:
    ((_, own),) = OWN_ID["headers"]
    with_own = {
        seq: event.did
        for seq, event in enumerate(history, 1)
        if isinstance(event, SendAccepted)
        and event.personal is not None
        and (event.personal.headers or event.personal.raw)
    }
    with fold(history) as view:
        for did in DIDS:
            assert message_ids.is_own(view, did, domain_of(did), own) == (did in with_own.values())
        assert view.count("message_id_of") == len(with_own)
        final = [
            state
            for state in messages.all_messages(view)
            if state.status in ("sent", "bounced") and state.did
        ]
    erased = [PayloadErased(did=state.did, because="x", message_ids=[state.message_id]) for state in final]
    gone = {state.message_id for state in final}
    left = {
        seq
        for seq in with_own
        if not gone >= set(range(seq + 1, seq + 1 + history[seq - 1].recipients))  # type: ignore[attr-defined]
    }
    with fold([*history, *erased]) as view:
        assert view.count("message_ids") == view.count("message_id_of") == len(left)
        sent_in = {
            seq + 1
            for seq, event in enumerate(history, 1)
            if isinstance(event, MailReceived) and not event.mail_from_null
        }
        assert view.count("received_by_sender") == len(sent_in - gone) == view.count("received_sender_of")
