"""What a report makes true that came in about a message: what counts, and what follows."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from relay.decisions.reports import REPORTS_MAX, Came, complaint_report
from relay.decisions.suppression import complaint
from relay.events import (
    NOBODY,
    RECIPIENT_CLASSES,
    RELAY_CLASSES,
    DomainForwardSet,
    DomainRemoved,
    DsnQueued,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageSent,
    PayloadErased,
    RecipientSuppressed,
    ReportDetails,
    SuppressedRecipient,
)
from relay.mail_reading import RAW_OCTETS_MAX, Reading
from relay.message.dsn import dsn_for
from relay.refusals import Refusal
from relay.views import messages, suppressions
from tests.world.inbound_log import (
    CONFIG,
    DOMAIN,
    FORWARD_TO,
    FRIEND,
    GONE,
    OPERATORS,
    SPAM,
    InboundLog,
    for_operator,
    incoming,
    open_inbound_log,
    types,
)
from tests.world.relay import DID

REPORTED, DSN, SUPPRESSED = "message.bounce_reported", "dsn.queued", "recipient.suppressed"
COMPLAINED = "message.complained"


@pytest.fixture
def log() -> Iterator[InboundLog]:
    with open_inbound_log() as found:
        yield found


def with_(reading: Reading, **fields: object) -> Reading:
    return msgspec.structs.replace(reading, **fields)


def reasons(log: InboundLog, address: str = FRIEND, did: str = DID) -> list[str]:
    state = suppressions.suppression(log.view, did, address)
    return [] if state is None else [reason.reason for reason in state.reasons]


# ------------------------------------------------------------------------------------------------ bounces


def test_a_bounce_that_comes_later_is_recorded_told_and_suppresses(log: InboundLog) -> None:
    message_id = log.sent()
    came = Came("ab" * 32, 4711, b"x" * (RAW_OCTETS_MAX + 1), "192.0.2.7", "mx.example.com", ("example.com",))
    reported, dsn, suppressed = log.report(message_id, came=came)
    assert reported == MessageBounceReported(
        did=DID,
        message_id=message_id,
        kind="dsn",
        action="failed",
        enhanced="5.1.1",
        code=550,
        bounce_class="invalid_recipient",
        is_failure=True,
        sha256="ab" * 32,
        size=4711,
        personal=ReportDetails(
            diagnostic="550 5.1.1 no such user",
            reporting_mta="dns; mx.example.com",
            remote_mta="dns; store.example.com",
            client_address="192.0.2.7",
            client_name="mx.example.com",
            signed_by=["example.com"],
            raw=b"x" * RAW_OCTETS_MAX,
        ),
    )
    assert isinstance(dsn, DsnQueued)
    assert (dsn.about, dsn.personal and dsn.personal.address) == (message_id, FORWARD_TO)
    assert isinstance(suppressed, RecipientSuppressed)
    assert (suppressed.reason, suppressed.message_id) == ("bounced", message_id)
    assert reasons(log) == ["bounced"]
    state = log.state(message_id)
    # What it was it stays.
    assert (state.status, state.final_at is not None) == ("sent", True)
    told = messages.dsn_about(log.view, state)
    assert told is not None
    assert log.get(told.message_id).event == dsn
    assert log.get(told.message_id - 1).event == reported


def test_the_same_mail_again_changes_nothing_and_another_counts_no_more(log: InboundLog) -> None:
    message_id = log.sent()
    came = log.came()
    assert types(log.report(message_id, came=came)) == [REPORTED, DSN, SUPPRESSED]
    assert log.report(message_id, came=came) == []
    assert log.complain(message_id, came=came, provider="yahoo.com") == []
    (again,) = log.report(message_id)
    assert isinstance(again, MessageBounceReported)
    assert not again.counts
    assert log.state(message_id).reported_seq == min(
        item.seq for item in log.events if isinstance(item.event, MessageBounceReported)
    )


@pytest.mark.parametrize(
    "reading",
    [
        with_(GONE, kind="heuristic"),
        with_(GONE, kind="auto_reply"),
        with_(GONE, kind="unknown"),
        with_(GONE, kind="feedback", feedback_type="not-spam"),
        with_(GONE, action="delayed"),
        with_(GONE, action="relayed"),
        with_(GONE, action=None),
        with_(GONE, enhanced="2.1.5"),
        Reading(),
    ],
)
def test_what_does_not_count_is_recorded_and_does_nothing(log: InboundLog, reading: Reading) -> None:
    message_id = log.sent()
    (event,) = log.report(message_id, reading)
    assert isinstance(event, MessageBounceReported)
    assert (event.kind, event.action, event.counts) == (reading.kind, reading.action, False)
    # The real one may come yet.
    assert types(log.report(message_id)) == [REPORTED, DSN, SUPPRESSED]


@pytest.mark.parametrize(
    "reading",
    [GONE, with_(GONE, kind="dsn_utf8"), with_(GONE, enhanced=None), with_(GONE, code=None)],
)
def test_what_counts(log: InboundLog, reading: Reading) -> None:
    assert types(log.report(log.sent(), reading)) == [REPORTED, DSN, SUPPRESSED]


@pytest.mark.parametrize(
    "reading",
    [
        with_(GONE, enhanced="4.1.1"),
        with_(GONE, enhanced="4.4.7", code=550),
        with_(GONE, enhanced=None, code=450),
        with_(GONE, enhanced=None, code=None),
    ],
)
def test_of_a_receiver_that_gave_up_trying_the_member_is_told_once_and_nothing_counts(
    log: InboundLog, reading: Reading
) -> None:
    message_id = log.sent()
    reported, dsn = log.report(message_id, reading)
    assert isinstance(reported, MessageBounceReported)
    assert (reported.is_failure, reported.counts, dsn.TYPE) == (True, False, DSN)
    # It has failed, whatever else is said of it.
    assert types(log.report(message_id)) == [REPORTED]


@pytest.mark.parametrize("bounce_class", [*RECIPIENT_CLASSES, *RELAY_CLASSES, "mailbox_full", None])
def test_only_what_tells_of_the_mailbox_suppresses(log: InboundLog, bounce_class: str | None) -> None:
    found = types(log.report(log.sent(), with_(GONE, bounce_class=bounce_class)))
    assert found == [REPORTED, DSN, *([SUPPRESSED] if bounce_class in RECIPIENT_CLASSES else [])]


def test_of_what_bounced_already_nothing_is_told_twice(log: InboundLog) -> None:
    message_id = log.bounced()
    (event,) = log.report(message_id)
    assert isinstance(event, MessageBounceReported)
    assert not event.counts
    assert log.state(message_id).reported_seq is None


def test_of_what_was_never_tried_nobody_can_know(log: InboundLog) -> None:
    (event,) = log.report(log.queued())
    assert isinstance(event, MessageBounceReported)
    assert not event.counts


@pytest.mark.parametrize("ends_in", ["sent", "bounced"])
def test_a_receiver_that_bounces_before_we_have_its_answer(log: InboundLog, ends_in: str) -> None:
    """It had the mail before its 250 was here, or durable. What the attempt ends in then makes no second DSN."""
    message_id = log.started()
    assert types(log.report(message_id)) == [REPORTED, DSN, SUPPRESSED]
    bounced = MessageBounced(did=DID, message_id=message_id, attempt=1, reason="rejected", code=550)
    told = {"config": CONFIG, "operator_stem": "s", "message_id_entropy": "e", "now_us": log.now}
    assert dsn_for(log.view, bounced, **told) is None  # type: ignore[arg-type]
    log.add(bounced if ends_in == "bounced" else MessageSent(did=DID, message_id=message_id, attempt=1))
    state = log.state(message_id)
    assert state.status == ends_in
    assert len(messages.dsns_about(log.view, state)) == 1


def test_a_report_at_the_very_moment_of_the_bounce_breaks_nothing(log: InboundLog) -> None:
    """Outcomes are not decided in turn: both may have seen a message that was under way."""
    message_id = log.started()
    report = log.report(message_id)
    with open_inbound_log() as other:
        other.started()
        other.add(MessageBounced(did=DID, message_id=message_id, attempt=1, reason="rejected"))
        told = next(event for event in report if isinstance(event, DsnQueued))
        (first,) = other.add(told)
        other.add(*report)
        state = other.state(message_id)
        assert state.status == "bounced"
        assert [dsn.message_id for dsn in messages.dsns_about(other.view, state)] == [first, first + 2]


def test_who_is_to_be_told_nothing(log: InboundLog) -> None:
    assert types(log.report(log.sent(), mail_from_null=True)) == [REPORTED, SUPPRESSED]
    log.add(
        RecipientSuppressed(
            did="did:web:x.example", reason="manual", personal=SuppressedRecipient(address=FORWARD_TO)
        )
    )
    assert types(log.report(log.sent("b@example.com"))) == [REPORTED, SUPPRESSED]


@pytest.mark.parametrize(
    "event",
    [
        DomainForwardSet(did=DID, domain=DOMAIN),
        DomainRemoved(did=DID, domain=DOMAIN, because="operator"),
    ],
)
def test_where_nobody_hears_of_bounces_the_rest_holds(
    log: InboundLog, event: DomainForwardSet | DomainRemoved
) -> None:
    message_id = log.sent()
    log.add(event)
    assert types(log.report(message_id)) == [REPORTED, SUPPRESSED]


def test_without_its_personal_data_it_still_counts_and_that_is_all(log: InboundLog) -> None:
    message_id = log.sent()
    log.add(PayloadErased(did=DID, because="retention", message_ids=[message_id]))
    (event,) = log.report(message_id)
    assert isinstance(event, MessageBounceReported)
    assert event.counts


def test_a_report_about_a_notice_is_recorded_and_goes_nowhere(log: InboundLog) -> None:
    """A DSN that bounces makes no other, and what was passed on is passed on to nobody again."""
    log.report(log.sent())
    dsn = next(item.seq for item in log.events if isinstance(item.event, DsnQueued))
    log.pass_on(incoming())
    forward = len(log.events)
    for message_id in (dsn, forward):
        log.add(log.start_of(message_id), MessageSent(did=DID, message_id=message_id, attempt=1))
        (event,) = log.report(message_id)
        assert isinstance(event, MessageBounceReported)
        assert not event.counts
    assert reasons(log, FORWARD_TO) == []


# ------------------------------------------------------------------------------------------------ bounds


def test_so_many_about_one_message_by_mail_and_then_no_more(log: InboundLog) -> None:
    message_id = log.sent()
    for number in range(REPORTS_MAX):
        last = log.came()
        assert log.report(message_id, Reading(), last) if number % 2 else log.complain(message_id, came=last)
    for more in (log.report, log.complain):
        with pytest.raises(Refusal) as refused:
            more(message_id)
        assert refused.value.code == "TOO_MANY_REPORTS"
    # A repeat is none more; and the operator's hand has no bound, nor does it use up theirs.
    assert log.report(message_id, Reading(), last) == []
    by_hand = log.came(by="root", why="it came to another mailbox")
    assert types(log.report(message_id, GONE, by_hand)) == [REPORTED, DSN, SUPPRESSED]
    assert types(log.complain(message_id, came=log.came(by="root"))) == [COMPLAINED, SUPPRESSED]
    assert types(log.report(log.sent("b@example.com"))) == [REPORTED, DSN, SUPPRESSED]


def test_about_no_message(log: InboundLog) -> None:
    with pytest.raises(Refusal) as refused:
        log.report(448)
    assert refused.value.code == "NOT_FOUND"
    with pytest.raises(Refusal) as refused:
        log.complain(448)
    assert refused.value.code == "NOT_FOUND"


# ------------------------------------------------------------------------------------------------ complaints


def test_a_complaint_that_a_provider_signed(log: InboundLog) -> None:
    message_id = log.sent()
    complained, suppressed = log.complain(message_id, came=log.came(sha256="cd" * 32), provider="yahoo.com")
    assert complained == MessageComplained(
        did=DID,
        message_id=message_id,
        via="report",
        feedback_type="abuse",
        provider="yahoo.com",
        sha256="cd" * 32,
        size=9,
        personal=ReportDetails(raw=b"Subject: x\r\n"),
    )
    assert complained.authenticated
    assert isinstance(suppressed, RecipientSuppressed)
    assert reasons(log) == ["complaint"]
    assert log.state(message_id).complained_seq == len(log.events) - 1


def test_a_complaint_that_nobody_signed_is_an_unsubscribe(log: InboundLog) -> None:
    message_id = log.sent()
    complained, _ = log.complain(message_id)
    assert isinstance(complained, MessageComplained)
    assert not complained.authenticated
    assert reasons(log) == ["unsubscribe"]
    assert log.state(message_id).complained_seq is None
    # The real one counts.
    log.complain(message_id, provider="yahoo.com")
    assert reasons(log) == ["unsubscribe", "complaint"]
    assert log.state(message_id).complained_seq == len(log.events) - 1


@pytest.mark.parametrize("provider", [None, "yahoo.com"])
def test_only_an_unsubscribe_calls_the_members_own_url(log: InboundLog, provider: str | None) -> None:
    message_id = log.sent()
    story = log.story(message_id)
    found = complaint_report(
        log.view, message_id, story, SPAM, log.came(), provider=provider, call_at=log.now
    )
    assert isinstance(found[1], RecipientSuppressed)
    assert found[1].call_at == (log.now if provider is None else None)
    assert found[1].message_id == message_id


def test_the_operators_complaint_counts_whatever_came_before_it(log: InboundLog) -> None:
    message_id = log.sent()
    log.complain(message_id)
    found = complaint(log.view, message_id, log.story(message_id))
    assert types(found) == [COMPLAINED, SUPPRESSED]
    log.add(*found)
    assert complaint(log.view, message_id, log.story(message_id)) == []
    # What a provider says later is recorded, and is the same complaint.
    first = log.state(message_id).complained_seq
    assert types(log.complain(message_id, provider="yahoo.com")) == [COMPLAINED]
    assert log.state(message_id).complained_seq == first


def test_of_a_complaint_about_what_was_erased_nobody_knows_whom_to_suppress(log: InboundLog) -> None:
    """Though its payload may still be in the log."""
    message_id = log.sent()
    log.add(PayloadErased(did=DID, because="operator", message_ids=[message_id]))
    assert types(complaint(log.view, message_id, log.story(message_id))) == [COMPLAINED]
    assert types(log.complain(message_id, provider="yahoo.com")) == [COMPLAINED]
    assert reasons(log) == []


def test_what_a_provider_calls_no_spam_is_kept(log: InboundLog) -> None:
    (event,) = log.report(log.sent(), with_(GONE, kind="feedback", feedback_type="not-spam"))
    assert isinstance(event, MessageBounceReported)
    assert (event.feedback_type, event.counts) == ("not-spam", False)


def test_of_a_report_that_the_operator_records_his_word_is_enough(log: InboundLog) -> None:
    message_id = log.sent()
    complained, _ = log.complain(message_id, came=log.came(by="root"))
    assert isinstance(complained, MessageComplained)
    assert (complained.via, complained.by, complained.authenticated) == ("operator", "root", True)
    assert reasons(log) == ["complaint"]


def test_the_operators_own_mailbox_is_never_closed_by_a_complaint(log: InboundLog) -> None:
    log.pass_on(for_operator(), OPERATORS)
    # Neither by the operator's own word, nor by a report.
    assert types(complaint(log.view, len(log.events), log.story(len(log.events)))) == [COMPLAINED]
    assert types(log.complain(len(log.events), provider="yahoo.com")) == [COMPLAINED]
    assert reasons(log, OPERATORS, NOBODY) == []
    # Who has a member's replies and calls them spam gets no more of them.
    log.pass_on(incoming(2))
    assert types(log.complain(len(log.events), provider="yahoo.com")) == [COMPLAINED, SUPPRESSED]
    assert reasons(log, FORWARD_TO) == ["complaint"]
