"""The mail that tells of an alarm: what it looks like, and that its bytes are proved."""

from __future__ import annotations

import email
import email.policy

import pytest

from relay.message.signing import verify
from tests.golden_messages.notices import ALARMS, signed_alarm
from tests.golden_messages.stories import HERE, RECORDS


@pytest.mark.parametrize("name", ALARMS)
def test_golden_alarms(name: str) -> None:
    signed = signed_alarm(ALARMS[name])
    assert signed == (HERE / f"{name}.eml").read_bytes()
    assert all(verdict.valid for verdict in verify(signed, RECORDS.get))


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("alarm-domain", "member.example is paused"),
        ("alarm-file", "The relay's certificate expires"),
    ],
)
def test_a_subject_names_what_it_is_about_where_that_is_a_name(name: str, subject: str) -> None:
    read = email.message_from_bytes(signed_alarm(ALARMS[name]), policy=email.policy.default)
    assert read["Subject"] == subject
    assert read["Auto-Submitted"] == "auto-generated"
    said = " ".join(read.get_content().split())
    assert all(" ".join(line.split()) in said for line in ALARMS[name].says)
