"""The headers that a member adds: what is reserved, what is malformed, and what is free."""

import pytest

from relay.message.headers import HeaderError, check_headers, unsubscribe_https_url


@pytest.mark.parametrize(
    "name",
    [
        "From", "To", "Cc", "Bcc", "Subject", "Reply-To", "Sender", "Date", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding", "Content-Anything", "Return-Path", "Received", "DKIM-Signature",
        "ARC-Seal", "ARC-Anything", "Authentication-Results", "Feedback-ID", "X-Atmos-Member-Did", "X-Atmos-Else",
        "Received-SPF", "Delivered-To", "Resent-From", "Resent-Date", "DomainKey-Signature", "X-Original-To",
        "X-Original-From", "Errors-To", "BIMI-Selector", "BIMI-Location", "X-Google-DKIM-Signature",
    ],
)  # fmt: skip
def test_reserved_in_any_case(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        with pytest.raises(HeaderError, match=f"{spelling} is reserved"):
            check_headers([(spelling, "x")], subject="")


@pytest.mark.parametrize("name", ["Return-Receipt-To", "Disposition-Notification-To"])
def test_receipts_are_for_the_transactional_class(name: str) -> None:
    assert check_headers([(name, "a@member.example")], subject="") == ((name, "a@member.example"),)
    with pytest.raises(HeaderError, match="is reserved: a receipt"):
        check_headers([(name.lower(), "a@member.example")], subject="", bulk=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Disposition-Notification-To", '"Jörg Smith" <j@member.example>'),
        ("Mail-Followup-To", "Jörg <j@member.example>"),
        ("List-Id", "Bücher <books.member.example>"),
        ("List-Post", "<https://bücher.example/post>"),
        ("List-Help", "<https://member.example/hilfe?für=alle>"),
        ("List-Archive", "<https://member.example/ä>"),
        ("List-Owner", "<mailto:jörg@member.example>"),
        ("List-Subscribe", "<https://member.example/ü>"),
        # Of whatever name, where the value is such a thing.
        ("Apparently-To", '"Jörg Smith" <j@member.example>'),
        ("X-Complaints-To", 'a@member.example, "Smith, Jörg"\t<j@member.example>'),
        ("X-Report-Abuse", "<jörg@member.example>"),
        ("X-Owner", "Jo <j@bücher.example>"),
        ("X-Help", "<mailto:jörg@member.example>"),
        ("X-Report-Abuse-URL", "<https://bücher.example/>"),
        ("X-URL", " https://member.example/ä"),
    ],
)
def test_what_holds_addresses_or_urls_is_ascii(name: str, value: str) -> None:
    """An encoded word for all of it would leave no reader an address, and no program a URL (RFC 2047 §5)."""
    with pytest.raises(HeaderError, match=f"headers: {name} may hold ASCII only; .*encoded word"):
        check_headers([(name, value)], subject="")
    encoded = "=?utf-8?q?J=C3=B6rg?= <j@member.example>"
    assert check_headers([(name, encoded)], subject="") == ((name, encoded),)


def test_the_rest_is_free_and_comes_back_as_given() -> None:
    headers = (
        ("Message-ID", "<left.part@right.example>"),
        ("In-Reply-To", "<a@b.example>"),
        ("References", "<a@b.example> <c@d.example>"),
        ("Precedence", "bulk"),
        ("List-Unsubscribe", "<https://member.example/u?x=1>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("X-Custom", "  a \t value  with ünïcode "),
        # An encoded word of these says to every reader what was meant.
        ("X-Contact", "Jörg Smith <j@member.example>"),
        ("X-Team", 'Jörg and "Jo" <j@member.example>'),
        ("X-Note", 'she said "schön" at https://member.example/ä < 3 > 2, a:b'),
        ("X-Empty", ""),
        ("x-atmosphere", "no hyphen, so another name"),
    )
    assert check_headers(headers, subject="Hello \t ünïcode") == headers
    assert check_headers((), subject="") == ()


@pytest.mark.parametrize(
    "name", ["", " ", "X Y", "X:", "X-Y ", " X", "X\tY", "X\r\nY", "Ünï", "X\x7f", "X\0"]
)
def test_malformed_names(name: str) -> None:
    with pytest.raises(HeaderError, match="not a header name"):
        check_headers([(name, "x")], subject="")


CONTROLS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029", "\ud800", "\udfff"]


@pytest.mark.parametrize("control", [control for control in CONTROLS if control != "\t"])
def test_no_control_character_is_taken(control: str) -> None:
    with pytest.raises(HeaderError, match="X-A: contains"):
        check_headers([("X-A", f"a{control}b")], subject="")
    with pytest.raises(HeaderError, match="subject: contains"):
        check_headers([], subject=f"a{control}b")


def test_bounds() -> None:
    check_headers([("X", "é" * 499)], subject="s" * 4_000)
    check_headers([("X" * 76, "")], subject="")
    check_headers([(f"X-{number}", "") for number in range(50)], subject="")
    for headers, subject in (
        ([("X", "é" * 500)], ""),
        ([("X" * 77, "")], ""),
        ([(f"X-{number}", "") for number in range(51)], ""),
        ([], "s" * 4_001),
        ([("References", f"<{'a' * 980}@b>")], ""),
    ):
        with pytest.raises(HeaderError):
            check_headers(headers, subject=subject)


def test_a_name_once_in_any_case() -> None:
    with pytest.raises(HeaderError, match="x-a is given twice"):
        check_headers([("X-A", "1"), ("x-a", "2")], subject="")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "left@right",
        "<left>",
        "<left@>",
        "<@right>",
        "<a b@c>",
        "<a@b> <c@d>",
        "<a@b>x",
        "<a..b@c>",
        "<é@b>",
        " <a@b>",
    ],
)
def test_a_message_id_is_one_identifier(value: str) -> None:
    with pytest.raises(HeaderError, match="Message-ID"):
        check_headers([("Message-ID", value)], subject="")


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("<https://member.example/u>", "https://member.example/u"),
        ("<mailto:off@member.example>, <https://member.example/u?a=b,c>", "https://member.example/u?a=b,c"),
        ("<HTTPS://member.example/u>, <https://second.example>", "HTTPS://member.example/u"),
        ("<https://member.example/ \t u>", "https://member.example/u"),
        ("(comment) <https://member.example/u> (comment)", "https://member.example/u"),
        ("<http://member.example/u>", None),
        ("<mailto:off@member.example>", None),
        ("https://member.example/u", None),
        ("<https:///u>", None),
        ("<https://[::1/u>", None),
        ("", None),
    ],
)
def test_the_https_url_of_list_unsubscribe(value: str, url: str | None) -> None:
    assert unsubscribe_https_url(value) == url
