"""What has become of a message, in words: each way that it can go has its sentence, and what to do has its own."""

from __future__ import annotations

import msgspec
import pytest

from relay.presentation import MessageDetail, Reply, Report, TimelineEntry
from relay.story_in_words import quoted, sentence, steps, what_to_do


def entry(seq: int, kind: str, **fields: object) -> TimelineEntry:
    return TimelineEntry(seq, f"2026-09-21T14:13:{seq:02}.000000Z", kind, **fields)  # type: ignore[arg-type]


def reply(code: int | None, bounce_class: str | None, text: str = "no") -> Reply:
    return Reply(code, "5.1.1" if code == 550 else None, text, "mx.example.com", bounce_class)


def report() -> Report:
    nothing = dict.fromkeys(
        ("enhanced", "code", "feedback_type", "reporting_mta", "remote_mta", "diagnostic")
    )
    return Report(
        seq=5,
        time="2026-09-21T14:13:05.000000Z",
        kind="dsn",
        reported_action="failed",
        bounce_class="invalid_recipient",
        counts=True,
        advice="Take it off the list.",
        **nothing,  # type: ignore[arg-type]
    )


def message(status: str, *timeline: TimelineEntry, **fields: object) -> MessageDetail:
    plain = MessageDetail(
        message_id=1,
        send_id=0,
        status=status,
        category="bulk",
        sender="you@example.org",
        recipient="friend@example.com",
        subject="Hello",
        via="http",
        shown=True,
        tag=None,
        metadata=None,
        scheduled_at=None,
        accepted_at="2026-09-21T14:13:01.000000Z",
        attempts=1,
        next_attempt_at=None,
        last_reply=None,
        reports=[],
        timeline=[entry(1, "message.queued", status="queued"), *timeline],
    )
    return msgspec.structs.replace(plain, **fields)


STARTED = entry(2, "attempt.started", attempt=1)
HELD = entry(3, "message.held", because="operator")
SENT = entry(3, "message.sent", status="sent", reply=reply(250, None))


def bounced(reason: str, said: Reply) -> TimelineEntry:
    return entry(3, "message.bounced", status="bounced", reason=reason, reply=said)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (message("queued"), "It was accepted and waits for its first attempt."),
        (
            message("queued", scheduled_at="2026-10-01T00:00:00Z"),
            "It waits for the time that was chosen for it.",
        ),
        (message("queued", STARTED), "It is being tried now."),
        (message("queued", HELD), "It is held: the operator of the relay holds it."),
        (
            message("queued", HELD, entry(4, "message.released")),
            "It was accepted and waits for its first attempt.",
        ),
        (
            message("deferred", attempts=2, last_reply=reply(451, "transient_failure"), next_attempt_at="x"),
            "mx.example.com did not take it yet, after 2 attempts. It is tried again.",
        ),
        (
            message("deferred", last_reply=reply(None, "no_answer_from_host"), next_attempt_at="x"),
            "It could not be handed over yet, after one attempt. It is tried again.",
        ),
        (
            message("sent", SENT, attempts=12, last_reply=reply(250, None)),
            "mx.example.com took it at the 12th attempt.",
        ),
        (
            message("sent", SENT, reports=[report()], last_reply=reply(250, None)),
            "mx.example.com took it at the first attempt. Later its receiver reported that it failed.",
        ),
        (
            message("sent", SENT, entry(4, "message.complained", authenticated=True)),
            "The receiver took it at the first attempt. Its recipient reported it as spam.",
        ),
        (
            message("bounced", bounced("rejected", reply(550, None)), last_reply=reply(550, None)),
            "mx.example.com refused it for good.",
        ),
        (
            message("bounced", bounced("expired", reply(451, None))),
            "It was given up after one attempt, because its time was over.",
        ),
        (
            message("bounced", bounced("suppressed", reply(None, None))),
            "It was not sent: its recipient is on the suppression list.",
        ),
        (
            message("bounced", bounced("cancelled", reply(None, None))),
            "It was cancelled before it was sent.",
        ),
    ],
)
def test_each_way_has_its_sentence(told: MessageDetail, words: str) -> None:
    assert sentence(told) == words


def test_what_to_do_is_that_of_the_class_and_of_what_is_over() -> None:
    rejected = message("bounced", bounced("rejected", reply(550, "invalid_recipient")))
    assert what_to_do(rejected) == "Nobody has this address: take it off the list."
    waiting = message("deferred", last_reply=reply(451, "no_answer_from_host"))
    assert what_to_do(waiting) == "No connection came about: wait; once it has bounced, send it again later."
    over = message("bounced", bounced("expired", reply(451, "no_answer_from_host")))
    assert what_to_do(over) == "No connection came about: it was given up; send it again later."
    assert what_to_do(message("sent", SENT, reports=[report()])) == "Take it off the list."
    assert what_to_do(message("sent", SENT)) is None


def test_steps_have_their_waits_and_a_reply_its_numbers_once() -> None:
    told = steps(message("sent", STARTED, entry(9, "message.sent", status="sent")))
    assert [step.waited_us for step in told] == [None, 1_000_000, 7_000_000]
    assert [step.kind for step in told] == ["plain", "plain", "good"]
    assert quoted(reply(550, None, "5.1.1 No such user")) == "550 5.1.1 No such user"
    assert quoted(reply(550, None, "No such user")) == "550 5.1.1 No such user"
    assert quoted(reply(None, None, "connection refused")) == "connection refused"
