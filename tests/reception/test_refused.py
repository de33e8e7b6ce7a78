"""The table of refusals, line by line: what SMTP says for each code."""

from __future__ import annotations

import pytest

from relay.message.submitted import SubmissionError
from relay.reception.refused import (
    TABLE,
    bad_recipient,
    bad_sender,
    reply_to,
    reply_to_message,
    too_many_at_once,
)
from relay.refusals import STATUS_OF_CODE, Refusal

LINES = [
    ("AUTH_REQUIRED", 530, "5.7.0"),
    ("INVALID_DID", 535, "5.7.8"),
    ("AUTH_FAILED", 535, "5.7.8"),
    ("MEMBER_SUSPENDED", 525, "5.7.13"),
    ("SCOPE_INSUFFICIENT", 550, "5.7.1"),
    ("DOMAIN_MISMATCH", 550, "5.7.1"),
    ("RECIPIENT_SUPPRESSED", 550, "5.7.1"),
    ("DOMAIN_UNVERIFIED", 450, "4.7.1"),
    ("DOMAIN_PAUSED", 450, "4.7.1"),
    ("RATE_LIMITED", 451, "4.7.1"),
    ("QUEUE_FULL", 452, "4.3.1"),
    ("TEMPORARILY_UNAVAILABLE", 451, "4.3.0"),
    ("INTERNAL_ERROR", 451, "4.3.0"),
    ("INVALID_REQUEST", 554, "5.6.0"),
    ("IDEMPOTENCY_CONFLICT", 554, "5.7.0"),
    ("PAYLOAD_TOO_LARGE", 552, "5.3.4"),
]
#: What only HTTP, or another request than a send, is refused for.
NEVER = {
    "CONFLICT",
    "METHOD_NOT_ALLOWED",
    "NOT_CANCELLABLE",
    "NOT_FOUND",
    "REQUEST_TIMEOUT",
    "SELF_SERVICE_OFF",
    "SUPPRESSION_LOCKED",
    "TOO_MANY_REPORTS",
    "UNSUPPORTED_MEDIA_TYPE",
}


@pytest.mark.parametrize(("code", "reply", "enhanced"), LINES)
def test_each_refusal_has_its_line(code: str, reply: int, enhanced: str) -> None:
    assert reply_to(Refusal(code, "because")) == (reply, enhanced, "because")
    assert enhanced[0] == str(reply)[0]


def test_the_table_has_every_code_and_no_other() -> None:
    assert {code for code, _, _ in LINES} == TABLE.keys()
    assert TABLE.keys() | NEVER == STATUS_OF_CODE.keys()
    assert not TABLE.keys() & NEVER


def test_what_has_a_time_says_it() -> None:
    refusal = Refusal("RATE_LIMITED", "too many", retry_after_seconds=90)
    assert reply_to(refusal).octets == b"451 4.7.1 too many; come again in 90 s\r\n"


def test_what_is_wrong_with_a_message_is_said_with_its_code() -> None:
    assert reply_to_message(SubmissionError("x")) == (554, "5.6.0", "x")
    assert reply_to_message(SubmissionError("x", enhanced="5.4.6")) == (554, "5.4.6", "x")
    assert reply_to_message(SubmissionError("x", enhanced="5.3.4")) == (552, "5.3.4", "x")


def test_what_is_wrong_with_an_address() -> None:
    assert bad_sender("x")[:2] == (553, "5.1.7")
    assert bad_recipient("x")[:2] == (553, "5.1.3")
    assert too_many_at_once(2)[:2] == (452, "4.5.3")
