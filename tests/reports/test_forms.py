"""The forms of reports, bent in the ways that programs bend them; and what stands in headers."""

from __future__ import annotations

import pytest

from relay.mail_reading import REFERENCES_MAX, SIGNATURES_MAX, TOKENS_MAX, Signature
from relay.reports.delivery_status import read_delivery_status
from relay.reports.header import Header, domain_of_from, message_ids, signatures_of
from relay.reports.parts import DEPTH_MAX, PARTS_MAX, cut
from relay.reports.read import read_mail
from relay.reports.texts import code_in, reply_in, status_in

TOKEN = "448-abcdefghijklmnop"


@pytest.mark.parametrize(
    ("text", "action", "status", "code"),
    [
        ("Action: failed\nStatus: 5.1.1", "failed", "5.1.1", None),
        ("ACTION :  Failed (no such user)\nstatus: 5.1.1 (bad mailbox)", "failed", "5.1.1", None),
        ("Status: 550 5.1.1", "failed", "5.1.1", 550),
        ("Status: 5.01.001", "failed", "5.1.1", None),
        ("Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550-5.2.1 off\n 550 off", "failed", "5.2.1", 550),
        # What the text says of another class does not count.
        ("Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 451 4.7.1 later", "failed", "5.0.0", 451),
        ("Action: failed\nStatus: 4.4.7", "failed", "4.4.7", None),
        ("Action: expired\nStatus:", "failed", None, None),
        ("Status: 4.4.1", None, "4.4.1", None),
        ("Status: 2.1.5", "delivered", "2.1.5", None),
        ("Action: failed\n\nFinal-Recipient: rfc822; a@b.example\nAction: delayed", "failed", None, None),
        ("Final-Recipient: rfc822;a@b.example\nAction: relayed\nX-Own: 1\nStatus: 2.0.0", "relayed", "2.0.0", None),
        ("Action: delivered\nStatus: 2.0.0\nAction: failed\nStatus: 5.1.1", "failed", "5.1.1", None),
    ],
)  # fmt: skip
def test_a_delivery_status(text: str, action: str | None, status: str | None, code: int | None) -> None:
    for written in (text, f"{text}\n", f"\n\n{text}\n\n"):
        found = read_delivery_status(written)
        assert found is not None
        assert (found.chosen.action, found.chosen.status, found.chosen.code) == (action, status, code)


@pytest.mark.parametrize(
    "text", ["", "\n", "Action: unknown", "Status: ok", "> Action: failed", "Final-Recipient: x"]
)
def test_no_delivery_status(text: str) -> None:
    assert read_delivery_status(text) is None


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("550 5.1.1 no", 550, "5.1.1"),
        ("said: 550-5.1.1 no", 550, "5.1.1"),
        ("host mx [192.0.2.5]: 421: later (#4.4.2)", 421, "4.4.2"),
        # Neither is what it looks like.
        ("192.5.1.1 port 5.1.1.2, 5501, 4.4, id=550 a@550 10:450 http://x/550 5.1.1234", None, None),
        ("2.2.2", None, "2.2.2"),
    ],
)
def test_codes_in_text(text: str, code: int | None, status: str | None) -> None:
    assert (code_in(text), status_in(text)) == (code, status)


def test_a_reply_of_several_lines_is_one_sentence() -> None:
    assert reply_in("550-5.1.1 Nobody\n550-5.1.1 of that\n550 5.1.1 name") == "550 5.1.1 Nobody of that name"
    assert reply_in("550-Nobody\n550 here") == "550 Nobody 550 here"
    assert reply_in("554 554 5.7.1 No") == "554 5.7.1 No"


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        ("a@Example.ORG", "example.org"),
        ('"b@c.example, d" <a@example.org> (e@f.example)', "example.org"),
        ("=?utf-8?q?a=40b=2Eexample?= <a@bücher.example>", "xn--bcher-kva.example"),
        ("a@one.example, b@two.example", None),
        ("<a@one.example>, <b@two.example>", None),
        ("nobody", None),
        ("MAILER-DAEMON <>", None),
        ("a@localhost", None),
        ("a@-x.example", None),
    ],
)
def test_the_domain_of_from(value: str, domain: str | None) -> None:
    assert domain_of_from(Header.of(f"From: {value}\n".encode())) == domain


def test_two_from_fields_are_none() -> None:
    assert domain_of_from(Header.of(b"From: a@one.example\nFrom: a@one.example\n")) is None


def test_what_it_is_an_answer_to() -> None:
    header = Header.of(b"References: <1@a>\n <2@a>\t<3@a> junk\nIn-Reply-To: (of Monday) <4@a>\n")
    assert message_ids(header) == ("<4@a>", "<3@a>", "<2@a>", "<1@a>")
    many = Header.of(b"References: " + b" ".join(b"<%d@a>" % number for number in range(200)))
    assert len(message_ids(many)) == REFERENCES_MAX
    # The youngest are kept.
    assert message_ids(many)[0] == "<199@a>"


def test_signatures_are_those_of_the_mail_itself() -> None:
    header = Header.of(
        b"DKIM-Signature: v=1; D=x; d=A.exam\n ple; s = K1 ;b=d=evil.example\n" * 9 + b"DKIM-Signature: d=a\n"
    )
    assert signatures_of(header) == (Signature("a.example", "k1"),) * SIGNATURES_MAX
    enclosed = b"Content-Type: message/rfc822\n\nDKIM-Signature: d=a.example; s=k\n\n"
    assert read_mail(enclosed).signatures == ()


def test_a_header_of_any_octets() -> None:
    header = Header.of(
        b"From MAILER-DAEMON now\n\x00\xff: x\nSubject :  a\n\tb\x1b[0m\xe2\x80\xae\nno field\n"
    )
    assert header.fields == (("subject", "a b [0m"),)


def test_parts_are_bounded() -> None:
    many = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * (PARTS_MAX + 9)
    assert len(cut(many).parts) == PARTS_MAX
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (number, number) for number in range(9)
    )
    (part,) = cut(deep).parts
    assert part.body.count(b"Content-Type") == 9 - DEPTH_MAX - 1


@pytest.mark.parametrize(
    ("mail", "bodies"),
    [
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n--b--\n--b\n\nthree", [b"one", b"two"]),
        # As the first octets of the body, without an end, with blanks behind.
        (b'Content-Type: multipart/mixed; boundary="b c"\n\n--b c \t\n\none\n--b c\n\ntwo', [b"one", b"two"]),
        # Longer ones that begin alike are none.
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--bb\n --b\nx--b\n", [b"--bb\n --b\nx--b\n"]),
        # Said wrongly, or not at all; and neither said nor there.
        (b"Content-Type: multipart/mixed; boundary=c\n\nhello\n--b\n\none\n--b--", [b"one"]),
        (b"Content-Type: multipart/mixed\n\n--b\n\none\n--b--", [b"one"]),
        (b"Content-Type: multipart/mixed\n\none", [b"one"]),
        # A part without a line, and one that is nothing.
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n\n--b--", [b"", b""]),
        (b"Content-Transfer-Encoding: base64\n\nb25l\nIA", [b"one"]),
        (b"Content-Transfer-Encoding: quoted-printable\n\no=\nn=65=ZZ", [b"one=ZZ"]),
        (b"", [b""]),
    ],
)  # fmt: skip
def test_cutting(mail: bytes, bodies: list[bytes]) -> None:
    for line_end in (b"\n", b"\r\n", b"\r"):
        assert [part.body for part in cut(mail.replace(b"\n", line_end)).parts] == bodies


def test_mixed_line_ends() -> None:
    mail = b"Content-Type: multipart/mixed;\r boundary=b\r\n\r--b\n\r\none\r\r\n--b\r\rtwo\n--b--"
    assert [part.body for part in cut(mail).parts] == [b"one\n", b"two"]


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (f"X-Atmos-Message: {TOKEN}", (TOKEN,)),
        (f"x-atmos-message:\n <{TOKEN.upper()}>", (TOKEN,)),
        (f"Return-Path: <bounces+{TOKEN}@relay.example>", (f"bounces+{TOKEN}",)),
        (f"see https://x.example/?q=Bounces%2B{TOKEN}%40relay.example", (f"bounces+{TOKEN}",)),
        (f"forward&#43;{TOKEN}", (f"forward+{TOKEN}",)),
        (f"bounces+{TOKEN}@a, bounces+{TOKEN}@b; X-Atmos-Message: {TOKEN}", (TOKEN, f"bounces+{TOKEN}")),
        (f"xbounces+{TOKEN} bounces+{TOKEN}a bounces+0{TOKEN} bounces-{TOKEN} {TOKEN}", ()),
        (" ".join(f"bounces+{number}-abcdefghijklmnop" for number in range(1, 50)), "many"),
    ],
)
def test_tokens(body: str, tokens: tuple[str, ...] | str) -> None:
    for mail in (
        f"X-Own: 1\n\n{body}",
        f"Content-Type: message/rfc822\n\n{body}",
        f"Content-Type: multipart/mixed\n\n--b\n\n{body}\n--b",
    ):
        found = read_mail(mail.encode()).tokens
        assert len(found) == TOKENS_MAX if tokens == "many" else found == tokens


def test_the_mails_own_header_has_no_tokens() -> None:
    """Whoever writes to us writes it: what he could only have from a mail of ours stands in what he encloses."""
    assert (
        read_mail(f"To: bounces+{TOKEN}@relay.example\nX-Atmos-Message: {TOKEN}\n\nHello".encode()).tokens
        == ()
    )


def test_a_failure_always_has_a_class_of_the_table_for_replies() -> None:
    form = "Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n"
    for fields, bounce_class in (
        ("Action: failed", "uncategorized"),
        ("Action: failed\nStatus: 2.0.0", "uncategorized"),
        ("Action: failed\nDiagnostic-Code: smtp; 250 ok", "uncategorized"),
        ("Action: delayed", "transient_failure"),
        ("Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 no", "invalid_recipient"),
        (
            "Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 no (in reply to end of DATA command)",
            "uncategorized",
        ),
        ("Action: relayed", None),
    ):
        assert read_mail(f"{form}{fields}\n".encode()).bounce_class == bounce_class, fields
