"""Composition: what a reader sees is what the member gave, and the bytes are fit for any mail server."""

import email
import email.policy
import hashlib
import re
from binascii import b2a_qp
from email.header import decode_header, make_header
from email.message import EmailMessage, MIMEPart
from email.utils import getaddresses

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from relay.addresses import Mailbox, parse_mailbox
from relay.message import bodies as bodies_module
from relay.message.bodies import compose_body, header_line
from relay.message.compose import (
    Draft,
    Message,
    compose,
    feedback_id,
    message_id_header,
)
from tests.mail_strategies import bodies, contents, lines, mailboxes

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
JANE = parse_mailbox("Jane Doe <jane@recipient.example>")
NEWS = parse_mailbox("Member News <news@member.example>")


def compose_one(content: Draft, *, to: Mailbox = JANE, unsubscribe: str | None = None) -> Message:
    return compose(
        content,
        content.body(),
        to=to,
        message_id=message_id_header(
            content.headers, message_id=448, entropy="k3v7", domain="member.example"
        ),
        accepted_at_us=1_764_000_000_987_654,
        feedback_id="member.example:abc:bulk:relay.example",
        member_did=DID,
        list_unsubscribe_url=unsubscribe,
    )


def parse(message: Message) -> EmailMessage:
    """Parse with the standard library. From text, because it takes UTF-8 headers (RFC 6532) in no other way."""
    return email.message_from_string(
        message.as_bytes().decode(), _class=EmailMessage, policy=email.policy.SMTPUTF8
    )


def as_read(text: str) -> str:
    """A text with the line ends that a reader gets."""
    text = re.sub("\r\n?", "\n", text)
    return text if text.endswith("\n") else text + "\n"


def part_text(part: MIMEPart) -> str:
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    return octets.decode().replace("\r\n", "\n")


def assert_fit_for_smtp(message: Message) -> None:
    octets = message.as_bytes()
    assert octets.endswith(b"\r\n")
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert b"\0" not in octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert message.body.isascii()
    assert not re.search(rb"^From ", octets, re.MULTILINE)
    head = octets.partition(b"\r\n\r\n")[0]
    for line in head.split(b"\r\n"):
        assert line.strip(b" \t"), "a line of white space ends the headers for some servers"
    if not message.smtputf8:
        assert octets.isascii()


def mailbox_of(message: Message, header: bytes) -> tuple[str, str, str]:
    (mailbox,) = mailboxes_of(message, header)
    return mailbox


def mailboxes_of(message: Message, header: bytes) -> list[tuple[str, str, str]]:
    """Mailboxes as read; none where there is no such field. By the older of the standard library's parsers: the newer
    keeps the space between two encoded words of a name, against RFC 2047 §6.2."""
    values = [value.decode().replace("\r\n", "") for name, value in message.headers if name == header]
    assert len(values) < 2
    found = []
    for name, address in getaddresses(values):
        local, _, domain = address.rpartition("@")
        found.append((str(make_header(decode_header(name))), local, domain))
    return found


@settings(derandomize=True, max_examples=200)
@given(contents(), mailboxes(), st.sampled_from([None, "https://relay.example/u/" + "A" * 500]))
def test_what_is_accepted_reads_back_the_same(content: Draft, to: Mailbox, unsubscribe: str | None) -> None:
    message = compose_one(content, to=to, unsubscribe=unsubscribe)
    assert_fit_for_smtp(message)
    assert compose_one(content, to=to, unsubscribe=unsubscribe) == message
    assert message.smtputf8 == any(mailbox.smtputf8 for mailbox in (content.sender, to, *content.reply_to))

    read = parse(message)
    assert not read.defects
    assert read["Subject"] == content.subject
    assert mailbox_of(message, b"From") == content.sender
    assert mailbox_of(message, b"To") == to
    assert mailboxes_of(message, b"Reply-To") == list(content.reply_to)
    for name, value in content.headers:
        if unsubscribe and name.lower().startswith("list-unsubscribe"):
            continue
        # Encoded words that a member wrote are the member's; a reader decodes them.
        if "=?" not in value:
            assert str(read[name]).lstrip(" ") == value.strip(" \t"), name

    parts = list(read.iter_parts()) if read.is_multipart() else [read]
    given_parts = [("plain", content.text), ("html", content.html)]
    expected = [(subtype, as_read(text)) for subtype, text in given_parts if text]
    assert [(part.get_content_subtype(), part_text(part)) for part in parts] == expected
    event(f"encodings {[part['Content-Transfer-Encoding'] for part in parts]}")


@settings(derandomize=True)
@given(bodies)
@example("x" * 71 + " From me\n")
@example("x" * 74 + " \n" + "From " + "x" * 69 + "\t\n")
@example("é" * 23 + "\nFrom " + "y" * 80)
def test_lines_of_quoted_printable_and_base64_are_at_most_76(text: str) -> None:
    body = compose_body(text, None)
    encoding = dict(body.headers)[b"Content-Transfer-Encoding"]
    if encoding != b"7bit":
        assert max(map(len, body.octets.split(b"\r\n"))) <= 76


@settings(derandomize=True)
@given(lines, st.sampled_from(["X", "X-Campaign", "X-" + "N" * 40, "X-" + "N" * 74]))
def test_lines_with_encoded_words_are_at_most_76(value: str, name: str) -> None:
    message = compose_one(Draft(NEWS, value, "text", headers=((name, value),)))
    for header in message.headers:
        for line in header_line(header).split(b"\r\n"):
            words = re.findall(rb"=\?utf-8\?[qb]\?[^?]*\?=", line)
            assert all(len(word) <= 75 for word in words)
            if words and b"=?" not in value.encode():
                assert line.rindex(words[-1]) + len(words[-1]) <= 76


def test_a_plain_message() -> None:
    content = Draft(NEWS, "Hello", "Hi there,\n\nbye\n")
    assert compose_one(content).as_bytes().decode() == (
        "From: Member News <news@member.example>\r\n"
        "To: Jane Doe <jane@recipient.example>\r\n"
        "Subject: Hello\r\n"
        "Date: Mon, 24 Nov 2025 16:00:00 +0000\r\n"
        "Message-ID: <448.k3v7@member.example>\r\n"
        "Feedback-ID: member.example:abc:bulk:relay.example\r\n"
        f"X-Atmos-Member-Did: {DID}\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "Hi there,\r\n"
        "\r\n"
        "bye\r\n"
    )


def test_the_recipients_of_a_send_share_one_body() -> None:
    content = Draft(NEWS, "Hello", "text", "<p>html</p>")
    one, two = (compose_one(content, to=parse_mailbox(to)) for to in ("a@b.example", "c@d.example"))
    assert one.body == two.body
    assert one.headers != two.headers


def test_a_bulk_message_has_one_unsubscribe_pair_and_it_is_the_relays() -> None:
    own = (
        ("LIST-UNSUBSCRIBE", "<https://member.example/u>"),
        ("list-unsubscribe-post", "List-Unsubscribe=One-Click"),
    )
    read = parse(compose_one(Draft(NEWS, "", "t", headers=own), unsubscribe="https://relay.example/u/T"))
    assert read.get_all("List-Unsubscribe") == ["<https://relay.example/u/T>"]
    assert read.get_all("List-Unsubscribe-Post") == ["List-Unsubscribe=One-Click"]


def test_a_transactional_message_passes_a_members_own_pair_and_adds_none() -> None:
    own = (("List-Unsubscribe", "<mailto:off@member.example>,  <https://member.example/u>"),)
    read = parse(compose_one(Draft(NEWS, "", "t", headers=own)))
    assert read.get_all("List-Unsubscribe") == [own[0][1]]
    assert read["List-Unsubscribe-Post"] is None
    assert parse(compose_one(Draft(NEWS, "", "t")))["List-Unsubscribe"] is None


def test_a_members_message_id_is_used_once() -> None:
    content = Draft(NEWS, "", "t", headers=(("message-id", "<own@member.example>"),))
    assert parse(compose_one(content)).get_all("Message-ID") == ["<own@member.example>"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain\n", b"7bit"),
        ("x" * 998, b"7bit"),
        (".\n.dot\n..\n", b"7bit"),
        ("x" * 999, b"quoted-printable"),
        ("-- \nsignature", b"quoted-printable"),
        ("From here", b"quoted-printable"),
        ("bell \x07", b"quoted-printable"),
        ("mostly plain, with an é", b"quoted-printable"),
        ("日本語のメール", b"base64"),
    ],
)
def test_the_transfer_encoding_is_the_simplest_that_is_safe(text: str, encoding: bytes) -> None:
    assert dict(compose_body(text, None).headers)[b"Content-Transfer-Encoding"] == encoding


def test_a_part_that_holds_the_boundary_gets_another() -> None:
    html = "<p>html</p>"
    text = "text"
    for _ in range(3):
        body = compose_body(text, html)
        boundary = re.search(rb'boundary="([^"]+)"', dict(body.headers)[b"Content-Type"])
        assert boundary is not None
        assert body.octets.count(boundary[1]) == 3
        text += "\n--" + boundary[1].decode()


def test_empty_parts_are_no_parts() -> None:
    assert compose_body("", "<p>") == compose_body(None, "<p>")
    assert compose_body("text", "") == compose_body("text", None)
    with pytest.raises(AssertionError):
        compose_body("", None)


def test_words_around_an_encoded_one_stay_as_they_are() -> None:
    message = compose_one(Draft(NEWS, "", "t", headers=(("List-Id", "Über alles <list.example>"),)))
    assert dict(message.headers)[b"List-Id"] == b"=?utf-8?b?w5xiZXI=?= alles <list.example>"


def test_feedback_id() -> None:
    value = feedback_id(sending_domain="m.example", did=DID, category="bulk", operator_domain="r.example")
    domain, member, category, operator = value.split(":")
    assert (domain, category, operator) == ("m.example", "bulk", "r.example")
    # 16 base32 characters are 80 bits: the first ten octets of the hash.
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    bits = "".join(f"{alphabet.index(character):05b}" for character in member)
    assert int(bits, 2).to_bytes(10, "big") == hashlib.sha256(DID.encode()).digest()[:10]


@given(
    st.lists(st.sampled_from([*"a.= \t~\0é", "\r\n", "From ", "rom ", "a" * 70, "a" * 75]), max_size=120),
    st.sampled_from([100, 128, 333]),
)
def test_quoted_printable_does_not_depend_on_the_pieces_in_which_it_is_made(
    words: list[str], piece: int
) -> None:
    octets = ("".join(words) + "\r\n").encode()
    whole = bodies_module._without_from_lines(b2a_qp(octets, quotetabs=False, istext=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies_module, "PIECE_OCTETS", piece)
        assert bodies_module._quoted_printable(octets) == whole
