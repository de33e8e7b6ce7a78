"""Ordinary mail is no bounce and no complaint, however much of it looks like one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings

from relay.message.compose import Draft
from relay.reports.read import read_mail
from tests import mail_strategies, mime_strategies
from tests.reports.bounds import assert_within_bounds
from tests.reports.ordinary import ordinary

#: Those of Python's own test mails that are delivery reports.
_REAL_REPORTS = ("msg_16.txt", "msg_25.txt", "msg_43.txt")


def _assert_harmless(octets: bytes) -> None:
    reading = read_mail(octets)
    assert_within_bounds(reading)
    assert reading.verdict in ("none", "auto_reply"), (reading, octets.decode(errors="replace"))


def test_ordinary_mail_is_no_bounce() -> None:
    mails = list(ordinary())
    assert len(mails) >= 500
    for octets in mails:
        _assert_harmless(octets)


def test_the_test_mails_of_python() -> None:
    spec = find_spec("test.test_email")
    if spec is None or spec.origin is None:
        pytest.skip("this Python came without its tests")
    files = sorted((Path(spec.origin).parent / "data").glob("msg_*.txt"))
    assert len(files) > 30
    for path in files:
        if path.name in _REAL_REPORTS:
            assert read_mail(path.read_bytes()).kind == "dsn", path.name
        else:
            _assert_harmless(path.read_bytes())


@settings(max_examples=150)
@given(mime_strategies.messages())
def test_what_programs_submit(message: mime_strategies.Composed) -> None:
    _assert_harmless(message.submitted)


@settings(max_examples=100)
@given(mail_strategies.contents())
def test_what_members_write(draft: Draft) -> None:
    text = draft.text or draft.html or ""
    _assert_harmless(f"From: {draft.sender}\nSubject: {draft.subject}\n\n{text}".encode("utf-8", "replace"))
