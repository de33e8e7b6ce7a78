"""The headers that a member adds: what is reserved, what is malformed, and what is free."""

import pytest

from relay.message.headers import HeaderError, check_headers, unsubscribe_https_url


@pytest.mark.parametrize(
    "name",
    [
        "From", "To", "Cc", "Bcc", "Subject", "Reply-To", "Sender", "Date", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding", "Content-Anything", "Return-Path", "Received", "DKIM-Signature",
        "ARC-Seal", "ARC-Anything", "Authentication-Results", "Feedback-ID", "X-Atmos-Member-Did", "X-Atmos-Else",
    ],
)  # fmt: skip
def test_reserved_in_any_case(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        with pytest.raises(HeaderError, match=f"{spelling} is reserved"):
            check_headers([(spelling, "x")], subject="")


def test_the_rest_is_free_and_comes_back_as_given() -> None:
    headers = (
        ("Message-ID", "<left.part@right.example>"),
        ("In-Reply-To", "<a@b.example>"),
        ("References", "<a@b.example> <c@d.example>"),
        ("Precedence", "bulk"),
        ("List-Unsubscribe", "<https://member.example/u?x=1>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("X-Custom", "  a \t value  with ünïcode "),
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
