"""A message that came in whole: what of it is kept, what is refused and where, and what is known of it."""

from __future__ import annotations

import random
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.fields_of import HEADER_LINES_MAX, HEADER_OCTETS_MAX, HeaderSectionError, header_of
from relay.message.submitted import ONCE, SubmissionError, Submitted, read_submitted
from tests.mime_strategies import REMOVED, REMOVED_IN_BULK, Composed, messages

FROM = b"From: You <you@yourdomain.com>\r\n"


def read(octets: bytes, *, smtputf8: bool = False, default_category: str = "transactional") -> Submitted:
    return read_submitted(octets, smtputf8=smtputf8, default_category=default_category)


def refused(octets: bytes, **how: bool) -> str:
    with pytest.raises(SubmissionError) as caught:
        read(octets, **how)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ what is kept


@given(messages(is_bulk=True))
def test_what_is_kept_is_what_came_without_the_removed_fields(composed: Composed) -> None:
    found = read(composed.submitted, default_category="bulk")
    assert found.raw == composed.kept
    assert not found.normalised


@given(messages(is_bulk=False))
def test_the_transactional_class_keeps_its_own_list_unsubscribe(composed: Composed) -> None:
    assert read(composed.submitted, default_category="login-link").raw == composed.kept


@given(messages())
def test_what_is_kept_is_kept_again_as_it_is(composed: Composed) -> None:
    kept = read(composed.submitted, default_category="bulk").raw
    again = read(kept, default_category="bulk")
    assert again.raw is kept


@pytest.mark.parametrize("name", [*REMOVED, *(name.upper() for name in REMOVED)])
@pytest.mark.parametrize("value", [b" x", b"x", b"", b" a\r\n b\r\n\tc", b"\r\n folded"])
def test_a_removed_field_goes_with_all_its_lines(name: str, value: bytes) -> None:
    field = name.encode() + b":" + value + b"\r\n"
    for before, behind in ((b"", FROM), (FROM, b""), (b"X-A: 1\r\n\t2\r\n", FROM)):
        found = read(before + field + behind + b"\r\n" + field)
        assert found.raw == before + behind + b"\r\n" + field  # in the body it is text


@pytest.mark.parametrize("name", REMOVED_IN_BULK)
def test_bulk_mail_loses_its_own_pair_and_its_url_is_kept(name: str) -> None:
    field = f"{name}: <mailto:u@yourdomain.com>,\r\n <https://yourdomain.com/\r\n u?1>\r\n".encode()
    bulk = read(FROM + field + b"\r\n", default_category="broadcast")
    assert bulk.raw == FROM + b"\r\n"
    expected = None if name.lower().endswith("-post") else "https://yourdomain.com/u?1"
    assert bulk.unsubscribe_url == expected
    own = read(FROM + field + b"\r\n")
    assert own.raw == FROM + field + b"\r\n"
    assert own.unsubscribe_url is None


def test_a_header_without_a_body_stays_one() -> None:
    assert read(FROM + b"Bcc: x@example.com\r\n").raw == FROM
    assert read(FROM[:-2]).raw == FROM  # the last line gets an end


@pytest.mark.parametrize(
    ("given_octets", "kept"),
    [
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\rb\r", b"a\r\nb\r\n"),
        (b"a\n\r\nb", b"a\r\n\r\nb\r\n"),
        (b"a\r\r\n.\nb\r\n", b"a\r\n\r\n.\r\nb\r\n"),
        (b"\n.\n", b"\r\n.\r\n"),
    ],
)
def test_a_bare_end_of_a_line_is_mended_and_told(given_octets: bytes, kept: bytes) -> None:
    found = read(FROM + b"\r\n" + given_octets)
    assert found.raw == FROM + b"\r\n" + kept
    assert found.normalised


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"."]), max_size=30).map(b"".join))
def test_whatever_the_line_ends_were_all_receivers_see_the_same_lines(body: bytes) -> None:
    raw = read(FROM + b"\r\n" + body).raw
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert raw.replace(b"\r\n", b"") == (FROM + body).replace(b"\r", b"").replace(b"\n", b"")


def test_a_bare_line_end_across_any_octet_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.message.lines._PIECE_OCTETS", 7)
    dice = random.Random(0)
    for _ in range(2000):
        body = b"".join(dice.choice([b"\r\n", b"\r\n", b"ab"]) for _ in range(20))
        assert not read(FROM + b"\r\n" + body).normalised
        at = dice.randrange(len(body) + 1)
        assert read(FROM + b"\r\n" + body[:at] + b"a\ra" + body[at:]).normalised


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("octets", "sentence"),
    [
        (FROM + b"\r\na\0b\r\n", f"the message has a NUL (octet {len(FROM) + 3})"),
        (FROM + b"\r\nok\r\n" + b"x" * 999 + b"\r\n", f"a line over 998 octets (octet {len(FROM) + 6})"),
        (FROM + b"\r\n" + b"x" * 999, f"a line over 998 octets (octet {len(FROM) + 2})"),
        (FROM + b"X: " + b"y" * 996 + b"\r\n\r\n", f"a line over 998 octets (octet {len(FROM)})"),
        (FROM + b"Subject: \xc3\xbc\r\n\r\n", f"the header has 8-bit characters (octet {len(FROM) + 9})"),
        (FROM + b"no field\r\n\r\n", f"begins with no Name: (octet {len(FROM)})"),
        (b"From you@yourdomain.com Mon Jan 1\r\n" + FROM, "begins with no Name: (octet 0)"),
        (FROM + b"Subject : x\r\n\r\n", f"begins with no Name: (octet {len(FROM)})"),
        (FROM + b": x\r\n\r\n", f"begins with no Name: (octet {len(FROM)})"),
        (b" x\r\n" + FROM, "the continuation of none (octet 0)"),
        (b"\r\n" + FROM, "the message has no From"),
        (b"", "the message has no From"),
        (b"Subject: x\r\n\r\n" + FROM, "the message has no From"),
        (FROM + b"X-Atmos-Category: Bulk\r\n\r\n", "X-Atmos-Category: expected one of transactional"),
        (FROM + b"X-Atmos-Category: bulk\r\nx-atmos-category: bulk\r\n\r\n", "a second X-Atmos-Category"),
        (FROM + b"X-Atmos-Idempotency-Key: \r\n\r\n", "expected 1 to 255 printable"),
        (FROM + b"X-Atmos-Idempotency-Key: " + b"k" * 256 + b"\r\n\r\n", "expected 1 to 255 printable"),
        (
            b"From: a@yourdomain.com, b@yourdomain.com\r\n\r\n",
            "From: it names more than one mailbox; name one",
        ),
        (b"From: you\r\n\r\n", "From: the address has no @; write local@domain (octet 0)"),
        (
            FROM + b"Sender: nobody\r\n\r\n",
            f"Sender: the address has no @; write local@domain (octet {len(FROM)})",
        ),
    ],
)
def test_what_is_refused_is_refused_with_its_place(octets: bytes, sentence: str) -> None:
    assert sentence in refused(octets)


@pytest.mark.parametrize("name", sorted(ONCE))
def test_a_field_that_may_stand_once_is_refused_twice(name: bytes) -> None:
    value = b"you@yourdomain.com" if name in (b"from", b"sender") else b"bulk"
    field = name + b": " + value + b"\r\n"
    header = field if name == b"from" else FROM + field
    read(header)
    assert f"(octet {len(header)}); it must have one" in refused(header + field.upper() + b"\r\n")


def test_the_bounds_of_a_header_are_where_they_are() -> None:
    lines = FROM + b"X: 1\r\n" * (HEADER_LINES_MAX - 1)
    read(lines + b"\r\n")
    assert f"the header has over {HEADER_LINES_MAX} lines (octet {len(lines)})" in refused(
        lines + b"X: 1\r\n\r\n"
    )
    filling = b"X: " + b"y" * 61 + b"\r\n"
    count, rest = divmod(HEADER_OCTETS_MAX - len(FROM), len(filling))
    header = FROM + filling * (count - 1) + filling[:-2] + b"z" * rest + b"\r\n"
    assert len(header) == HEADER_OCTETS_MAX
    read(header + b"\r\n" + b"body\r\n" * 10)
    read(header)
    assert f"the header is over {HEADER_OCTETS_MAX} octets" in refused(header[:-2] + b"z\r\n\r\nbody\r\n")
    assert f"the header is over {HEADER_OCTETS_MAX} octets" in refused(header[:-2] + b"z\r\n")


def test_a_mail_that_goes_in_circles_is_a_loop() -> None:
    received = b"Received: from a by b;\r\n Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    assert read(received * 50 + FROM + b"\r\n").raw == received * 50 + FROM + b"\r\n"
    with pytest.raises(SubmissionError) as caught:
        read(received * 51 + FROM + b"\r\n")
    assert caught.value.enhanced == "5.4.6"


def test_a_header_in_utf_8_wants_smtputf8() -> None:
    header = "From: Jörg <jörg@yourdomain.com>\r\nSubject: Grüße\r\n\r\n".encode()
    found = read(header, smtputf8=True)
    assert (found.sender.address, found.sender.name, found.subject) == (
        "jörg@yourdomain.com",
        "Jörg",
        "Grüße",
    )
    assert found.raw == header
    assert "8-bit characters (octet 7)" in refused(header)
    assert f"the header is no UTF-8 (octet {len(FROM) + 3})" in refused(
        FROM + b"X: \xff\r\n\r\n", smtputf8=True
    )
    assert "begins with no Name" in refused("Größe: 1\r\n".encode() + FROM, smtputf8=True)


def test_a_body_may_have_any_octet_but_nul() -> None:
    body = bytes(octet for octet in range(1, 256) if octet not in b"\r\n") + b"\r\n"
    assert read(FROM + b"\r\n" + body).raw == FROM + b"\r\n" + body


@pytest.mark.parametrize("name", [b"Disposition-Notification-To", b"return-receipt-to"])
def test_a_receipt_is_asked_for_in_the_transactional_class_only(name: bytes) -> None:
    message = FROM + name + b": you@yourdomain.com\r\n\r\n"
    assert read(message).raw == message
    with pytest.raises(SubmissionError, match="is reserved"):
        read(message, default_category="bulk")


# ------------------------------------------------------------------------------------------------ what is known


def test_what_is_known_of_a_message() -> None:
    found = read(
        b"from:=?utf-8?q?J=C3=B6rg?= <you@YOURDOMAIN.com>\r\n"
        b"SENDER: office@yourdomain.com\r\n"
        b"Subject: =?utf-8?q?Gr=C3?=\r\n =?utf-8?q?=BC=C3=9Fe?= to\r\n\tall\r\n"
        b"X-ATMOS-CATEGORY:\tpassword-reset\r\n"
        b"x-atmos-idempotency-key: a key\r\n"
        b"Date: today\r\n"
        b"Message-Id: <a@b>\r\n\r\n",
        default_category="bulk",
    )
    assert (found.sender.name, found.sender.address) == ("Jörg", "you@yourdomain.com")
    assert found.sent_by is not None
    assert found.sent_by.address == "office@yourdomain.com"
    assert found.subject == "Grüße to\tall"
    assert found.category == "password-reset"
    assert found.idempotency_key == "a key"
    assert found.is_one_of_its_kind


def test_what_is_not_said_is_not_known() -> None:
    found = read(FROM + b"Date: today\r\nX-Atmos-Category:\r\n\r\n", default_category="mfa-otp")
    assert found.category == "mfa-otp"
    assert (found.sent_by, found.subject, found.idempotency_key) == (None, "", None)
    assert not found.is_one_of_its_kind


@given(st.binary(max_size=300), st.booleans())
def test_whatever_comes_is_read_or_refused(octets: bytes, smtputf8: bool) -> None:
    for message in (octets, FROM + octets, FROM + b"\r\n" + octets):
        try:
            found = read(message, smtputf8=smtputf8)
        except SubmissionError:
            continue
        assert [field.name for field in header_of(found.raw).fields].count(b"from") == 1


@given(
    st.lists(st.sampled_from([b"From: a@b.example", b" x", b"A: b", b"", b"x", b"\t", b"B:c"]), max_size=10)
)
def test_fields_are_the_header_and_nothing_is_between_them(lines: list[bytes]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    try:
        section = header_of(message)
    except HeaderSectionError:
        return
    at = 0
    for field in section.fields:
        assert field.start == at
        assert message[field.start : field.end].lower().startswith(field.name + b":")
        at = field.end
    assert section.body_start - at in (0, 2)
    assert message[at : section.body_start] in (b"", b"\r\n")


@pytest.mark.parametrize(
    "header",
    [
        b"X:" + b"\r\n " * 900 + b"x\r\n",
        b"X:1\r\n" * 900,
        b"Subject: " + b"=?a?q?\r\n " * 900 + b"\r\n",
        b"Subject: " + b"=?utf-8?q?a?= \r\n " * 900 + b"x\r\n",
        b"Subject: " + b"=?utf-8?q?" * 90 + b"\r\n",
        b"List-Unsubscribe: " + b"<\r\n " * 900 + b"\r\n",
        b"Sender: " + b'"\\' * 400 + b"\r\n",
        b"Sender: " + b"(" * 900 + b"\r\n",
    ],
    ids=range(8),
)
def test_no_header_takes_long(header: bytes) -> None:
    """Each is near its bounds; what is quadratic takes seconds."""
    started = time.process_time()
    with suppress(SubmissionError):
        read(FROM + header + b"\r\n", default_category="bulk")
    assert time.process_time() - started < 0.5
