"""What a notification of a bounce says, to people and to programs, and that nobody else can make it say (RFC 3464)."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.addresses import Mailbox
from relay.delivery.smtp import check_envelope, check_message
from relay.events import RemoteSide, ReportDetails
from relay.message.compose import Draft, Message
from relay.message.envelope import Envelope
from relay.message.signing import DkimVerdict, verify
from tests.golden_messages.notices import DSN_STORIES, DsnStory, composed_dsn, signed_dsn
from tests.golden_messages.stories import (
    ACCEPTED_AT_US,
    BOUNCED_AT_US,
    HERE,
    OPERATORS_SIGNERS,
    RECORDS,
    Story,
    composed,
)
from tests.mail_strategies import contents, mailboxes
from tests.mailauth import verify_all

PLAIN = DSN_STORIES["dsn"]
OPERATORS_TWO = [DkimVerdict(signer.domain, signer.selector, True) for signer in OPERATORS_SIGNERS]


def parse(message: Message | bytes) -> EmailMessage:
    octets = message if isinstance(message, bytes) else message.as_bytes()
    return email.message_from_string(octets.decode(), _class=EmailMessage, policy=email.policy.SMTPUTF8)


def parts_of(message: Message) -> tuple[str, EmailMessage, EmailMessage, str]:
    """The text, the fields about the message, those about the recipient, and the original's headers."""
    read = parse(message)
    text, status, headers = read.get_payload()
    about_message, about_recipient = status.get_payload()
    payload = headers.get_payload(decode=True)
    return text.get_content(), about_message, about_recipient, payload.decode().replace("\r\n", "\n")


# ------------------------------------------------------------------------------------------------ the golden ones


@pytest.mark.parametrize("name", DSN_STORIES)
def test_golden_bytes_never_change(name: str) -> None:
    assert signed_dsn(DSN_STORIES[name]) == (HERE / f"{name}.eml").read_bytes()


def test_only_the_operator_signs_and_two_verifiers_agree() -> None:
    messages = [signed_dsn(story) for story in DSN_STORIES.values()]
    for message in messages:
        assert verify(message, RECORDS.get) == OPERATORS_TWO
    assert verify_all(messages, RECORDS) == [OPERATORS_TWO] * len(messages)
    void = [verdict._replace(valid=False) for verdict in OPERATORS_TWO]
    assert verify(messages[0].replace(b"5.1.1", b"2.0.0"), RECORDS.get) == void


# ------------------------------------------------------------------------------------------------ what it says


def test_its_headers() -> None:
    read = parse(composed_dsn(PLAIN))
    assert read["From"] == "Mail Delivery System <mailer-daemon@relay.example>"
    assert read["To"] == "postmaster@member.example"
    assert read["Message-ID"] == "<451.p9x1w4@relay.example>"
    assert read["In-Reply-To"] == read["References"] == "<448.k3v7q2@member.example>"
    assert read["Auto-Submitted"] == "auto-replied"
    assert parsedate_to_datetime(read["Date"]).timestamp() == BOUNCED_AT_US // 1_000_000
    assert read.get_content_type() == "multipart/report"
    assert read.get_param("report-type") == "delivery-status"


def test_it_has_the_three_parts_of_rfc_3464_and_their_fields() -> None:
    text, about_message, about_recipient, headers = parts_of(composed_dsn(PLAIN))
    assert about_message.items() == [
        ("Reporting-MTA", "dns; relay.example"),
        ("Arrival-Date", "Mon, 24 Nov 2025 16:00:00 +0000"),
    ]
    assert about_recipient.items() == [
        ("Final-Recipient", "rfc822; jane@recipient.example"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.recipient.example"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 No such mailbox here"),
        ("Last-Attempt-Date", "Mon, 24 Nov 2025 16:01:30 +0000"),
        ("Final-Log-ID", "448"),
    ]
    assert parsedate_to_datetime(about_message["Arrival-Date"]).timestamp() == ACCEPTED_AT_US // 1_000_000
    original = composed(PLAIN.about)
    assert headers == original.as_bytes().partition(b"\r\n\r\n")[0].decode().replace("\r\n", "\n") + "\n"
    for said in (
        "jane@recipient.example",
        "Your weekly digest",
        "448",
        "mx.recipient.example said:",
        "550 5.1.1 No such mailbox here",
        "The address does not exist",
    ):
        assert said in text
    assert "three things" not in composed_dsn(PLAIN).as_bytes().decode(), "the body is not sent back"


@pytest.mark.parametrize(
    ("code", "enhanced", "expected"),
    [
        (550, "5.7.26", "5.7.26"),
        (451, "4.7.1", "4.7.1"),
        (550, None, "5.0.0"),
        (451, None, "4.0.0"),
        (None, None, "5.0.0"),
        (None, "4.4.7", "4.4.7"),
        (None, "5.1.10", "5.1.10"),
        (550, "5.1.1\r\nX-Evil: yes", "5.0.0"),
        (550, "five", "5.0.0"),
    ],
)
def test_the_status_is_the_best_that_is_known(code: int | None, enhanced: str | None, expected: str) -> None:
    message = composed_dsn(PLAIN._replace(code=code, enhanced=enhanced))
    check_message(message.as_bytes())
    _, _, about_recipient, _ = parts_of(message)
    assert about_recipient["Status"] == expected
    assert "X-Evil" not in about_recipient


def test_without_a_reply_there_is_no_word_of_smtp() -> None:
    _, _, about_recipient, _ = parts_of(composed_dsn(DSN_STORIES["dsn-expired"]))
    assert about_recipient["Diagnostic-Code"].startswith("x-atmos-relay; given up")
    assert {"Remote-MTA", "Last-Attempt-Date"}.isdisjoint(about_recipient.keys())


def test_without_the_bounces_payload_the_rest_is_told() -> None:
    text, _, about_recipient, _ = parts_of(composed_dsn(PLAIN._replace(remote=None)))
    assert about_recipient["Diagnostic-Code"] == "smtp; 550 5.1.1"
    assert "The receiver said:" in text


def test_all_but_a_non_ascii_mailbox_is_seven_bit() -> None:
    for story in DSN_STORIES.values():
        message = composed_dsn(story)
        assert message.body.isascii()
        assert message.smtputf8 == (not story.forward_to.isascii())
        for name, value in message.headers:
            assert value.isascii() or name == b"To"


def test_a_non_ascii_recipient_is_told_in_the_form_of_rfc_6533() -> None:
    _, _, about_recipient, headers = parts_of(composed_dsn(DSN_STORIES["dsn-international"]))
    assert about_recipient["Final-Recipient"] == r"utf-8; zo\x{EB}@xn--r8jz45g.xn--zckzah"
    assert "zoë@xn--r8jz45g.xn--zckzah" in headers
    story = PLAIN._replace(about=PLAIN.about._replace(to="ü+=\U0001f642@b.example"))
    _, _, about_recipient, _ = parts_of(composed_dsn(story))
    assert about_recipient["Final-Recipient"] == r"utf-8; \x{FC}\x{2B}\x{3D}\x{1F642}@b.example"


# ------------------------------------------------------------------------------------------------ of a report

REPORT = DSN_STORIES["dsn-report"]


def test_a_report_is_told_as_one() -> None:
    text, about_message, about_recipient, headers = parts_of(composed_dsn(REPORT))
    assert about_message.items() == [
        ("Reporting-MTA", "dns; relay.example"),
        ("Arrival-Date", "Mon, 24 Nov 2025 16:00:00 +0000"),
    ]
    assert about_recipient.keys() == [
        "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code", "Final-Log-ID",
    ]  # fmt: skip
    assert about_recipient["Remote-MTA"] == "dns; mx2.recipient.example"
    assert (about_recipient["Action"], about_recipient["Status"]) == ("failed", "5.2.2")
    assert re.match(r"smtp; 550 5\.2\.2 Mailbox", about_recipient["Diagnostic-Code"])
    assert "X-Atmos-Message: 448-abcdefghijkl2345\n" in headers
    for said in (
        "was taken by its receiver, which has reported since\r\nthat it could not be delivered",
        "jane@recipient.example",
        "reported   Mon, 24 Nov 2025 16:01:30 +0000, by mx2.recipient.example",
        "The mailbox or the system is full, or the message too big for it: wait, or send less.",
        "mx2.recipient.example said:",
        "550 5.2.2 Mailbox is full",
    ):
        assert said in text
    assert "not tried again" not in text


def test_who_handed_a_report_in_and_what_the_operator_said_is_nobodys_business() -> None:
    octets = composed_dsn(REPORT).as_bytes()
    for told in (b"192.0.2.26", b"out.recipient.example", b"typed by hand"):
        assert told not in octets


def test_of_a_reporters_words_no_more_than_200_characters_are_repeated() -> None:
    remote = ReportDetails(diagnostic="word " * 1000, reporting_mta="buy.at/https " * 20)
    text, _, about_recipient, _ = parts_of(composed_dsn(REPORT._replace(remote=remote)))
    assert re.sub(r"\s+", " ", text).count("word ") <= 40
    assert len(about_recipient["Diagnostic-Code"]) < 210
    assert "Remote-MTA" not in about_recipient, "what is no host's name is one more place for words"
    assert "buy.at" not in text
    assert "The receiver said:" in text


def test_a_report_without_words_tells_its_codes() -> None:
    text, _, about_recipient, _ = parts_of(composed_dsn(REPORT._replace(remote=None)))
    assert about_recipient["Diagnostic-Code"] == "smtp; 550 5.2.2"
    assert "reported   Mon, 24 Nov 2025 16:01:30 +0000\r\n" in text
    remote = ReportDetails(diagnostic="gone")
    _, _, about_recipient, _ = parts_of(composed_dsn(REPORT._replace(code=None, remote=remote)))
    assert about_recipient["Diagnostic-Code"] == "x-atmos-report; gone"


def test_the_advice_is_that_of_the_class_since_composition_3() -> None:
    text, _, _, _ = parts_of(composed_dsn(DSN_STORIES["dsn-3"]))
    assert "Nobody has this address: take it off the list." in text
    assert "The address does not exist" not in text


# ------------------------------------------------------------------------------------------------ what strangers try

BOUNDARY = re.compile(rb'boundary="([^"]+)"').search
hostile = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "\r\n",
                "\n",
                "\r",
                "\r\n\r\n",
                "\r\n.\r\n",
                "--",
                "--=_",
                "\0",
                "\t",
                "Bcc: everybody@example.com",
                "Action: delivered",
                "Status: 2.0.0",
                "From me",
                "=?utf-8?q?x?=",
                "\u202e",
                "\u2028",
                "\x85",
                "é",
                "日本語",
                "x" * 1200,
                "(",
                '"',
                "\\",
            ]
        ),
        st.text(max_size=20).filter(lambda text: not re.search("[\ud800-\udfff]", text)),
    ),
    max_size=12,
).map("".join)


@settings(derandomize=True, max_examples=150)
@given(
    content=contents(),
    to=mailboxes(),
    forward_to=mailboxes(),
    reply=hostile | st.none(),
    mx=hostile | st.none(),
    enhanced=hostile | st.sampled_from([None, "5.1.1"]),
    code=st.sampled_from([None, 421, 550, 554]),
    reason=st.sampled_from([None, "rejected", "undeliverable", "expired", "something new"]),
)
def test_whatever_was_said_and_sent_it_is_three_parts_of_the_relays_own(
    content: Draft,
    to: Mailbox,
    forward_to: Mailbox,
    reply: str | None,
    mx: str | None,
    enhanced: str | None,
    code: int | None,
    reason: str | None,
) -> None:
    about = Story(content, f"<{to.address}>", "bulk", "https://relay.example/u/TOKEN")
    remote: RemoteSide | ReportDetails = RemoteSide(mx=mx, text=reply)
    if reason is None:
        remote = ReportDetails(reporting_mta=mx, remote_mta=mx, client_name=mx, diagnostic=reply)
    composition = 3 if reason is None else 1
    story = DsnStory(about, forward_to.address, code, enhanced, reason, remote, composition=composition)
    message = composed_dsn(story)
    octets = message.as_bytes()
    assert composed_dsn(story).as_bytes() == octets
    check_message(octets)
    check_envelope(Envelope("", forward_to.address, smtputf8=message.smtputf8))
    assert message.body.isascii()
    assert not re.search(rb"^From ", octets, re.MULTILINE)
    assert [name for name, _ in message.headers] == [name for name, _ in composed_dsn(PLAIN).headers]

    read = parse(message)
    assert not read.defects
    assert read["Subject"] == "Your mail could not be delivered"
    parts = read.get_payload()
    assert [part.get_content_type() for part in parts] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    boundary = BOUNDARY(octets)
    assert boundary is not None
    assert len(re.findall(rb"^--%b" % re.escape(boundary[1]), message.body, re.MULTILINE)) == 4
    about_message, about_recipient = parts[1].get_payload()
    assert about_message.keys() == ["Reporting-MTA", "Arrival-Date"]
    allowed = ["Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date"]
    assert about_recipient.keys() == [name for name in [*allowed, "Final-Log-ID"] if name in about_recipient]
    assert about_recipient["Action"] == "failed"
    assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", about_recipient["Status"])
    assert len(octets) < 200_000


def test_what_is_repeated_of_a_reply_is_bounded() -> None:
    story = PLAIN._replace(remote=RemoteSide(mx="m" * 5_000, text="word " * 100_000))
    assert len(composed_dsn(story).as_bytes()) < 10_000
