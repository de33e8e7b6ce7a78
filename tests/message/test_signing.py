"""Signatures: valid for two verifiers that share no code, the same every time, and void after any change."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from relay.addresses import Mailbox, parse_mailbox
from relay.message.compose import Draft, Message, compose
from relay.message.signer import Signer
from relay.message.signing import DkimVerdict, body_hash, sign, verify
from tests.golden_messages.notices import ALARMS, CONFIRMATIONS, DSN_STORIES, FORWARD_STORIES, WEBHOOK_NOTICES
from tests.golden_messages.stories import (
    HERE,
    RECORDS,
    SIGNERS,
    STORIES,
    WHOLE_STORIES,
    composed,
    signed,
    signed_whole,
)
from tests.mail_strategies import contents, mailboxes
from tests.mailauth import verify_all

TIMESTAMP = 1_764_000_000
ALL_VALID = [DkimVerdict(signer.domain, signer.selector, True) for signer in SIGNERS]
ALL_VOID = [verdict._replace(valid=False) for verdict in ALL_VALID]


def compose_any(content: Draft, to: Mailbox) -> Message:
    return compose(
        content,
        content.body(),
        to=to,
        message_id="<448.k3v7@member.example>",
        accepted_at_us=TIMESTAMP * 1_000_000,
        feedback_id="member.example:abc:bulk:relay.example",
        member_did="did:plc:ewvi7nxzyoun6zhxrhs64oiz",
    )


@pytest.mark.parametrize("name", STORIES)
def test_golden_bytes_never_change(name: str) -> None:
    assert signed(STORIES[name]) == (HERE / f"{name}.eml").read_bytes()


@pytest.mark.parametrize("name", WHOLE_STORIES)
def test_golden_bytes_of_what_came_in_whole_never_change(name: str) -> None:
    assert signed_whole(WHOLE_STORIES[name]) == (HERE / f"{name}.eml").read_bytes()


def test_every_golden_file_has_its_story() -> None:
    stories = {
        *STORIES,
        *WHOLE_STORIES,
        *DSN_STORIES,
        *FORWARD_STORIES,
        *CONFIRMATIONS,
        *WEBHOOK_NOTICES,
        *ALARMS,
    }
    assert {path.stem for path in HERE.glob("*.eml")} == stories


def test_all_signatures_of_anything_accepted_verify_with_dkimpy_and_mailauth() -> None:
    messages: list[bytes] = []

    @settings(derandomize=True, max_examples=100)
    @given(contents(), mailboxes())
    def sign_and_verify(content: Draft, to: Mailbox) -> None:
        message = sign(compose_any(content, to), SIGNERS, timestamp=TIMESTAMP)
        assert verify(message, RECORDS.get) == ALL_VALID
        messages.append(message)

    sign_and_verify()
    messages += [(HERE / f"{name}.eml").read_bytes() for name in (*STORIES, *WHOLE_STORIES)]
    assert verify_all(messages, RECORDS) == [ALL_VALID] * len(messages)


def test_signatures_of_mail_that_waits_for_its_time_verify_before_it() -> None:
    """An audit asks while a scheduled mail waits; receivers ask when it has come."""
    in_2096 = 4_000_000_000
    message = compose_any(STORIES["login-link"].content, parse_mailbox("ann@example.org"))
    assert verify(sign(message, SIGNERS, timestamp=in_2096), RECORDS.get) == ALL_VALID


def changed(message: bytes) -> Iterator[tuple[str, bytes]]:
    """The ways in which somebody on the way might change a bulk message."""
    head, _, body = message.partition(b"\r\n\r\n")
    yield "another body", message.replace(b"three things", b"three thinks")
    yield "a longer body", message + b"PS: send money\r\n"
    yield "a second From on top", b"From: evil@evil.example\r\n" + message
    yield "a second From below", head + b"\r\nFrom: evil@evil.example\r\n\r\n" + body
    for name in (b"In-Reply-To", b"References"):
        yield f"an added {name.decode()}", head + b"\r\n" + name + b": <evil@evil.example>\r\n\r\n" + body
    for name in (
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Reply-To", b"MIME-Version", b"Content-Type",
        b"Content-Transfer-Encoding", b"Feedback-ID", b"List-Unsubscribe", b"List-Unsubscribe-Post",
    ):  # fmt: skip
        line = re.search(rb"\r\n%b: .*(\r\n[ \t].*)*" % name, head)
        assert line is not None, name
        yield f"another {name.decode()}", message.replace(line[0], line[0] + b"x", 1)
        yield f"no {name.decode()}", message.replace(line[0], b"", 1)


def test_any_change_to_what_is_signed_voids_all_signatures() -> None:
    changes = list(changed(signed(STORIES["digest"])))
    assert len(changes) == 30
    for what, message in changes:
        assert verify(message, RECORDS.get) == ALL_VOID, what
    for (what, _), verdicts in zip(changes, verify_all([one for _, one in changes], RECORDS), strict=True):
        assert verdicts == ALL_VOID, what


def test_what_relaxed_canonicalisation_forgives() -> None:
    message = signed(STORIES["digest"])
    for forgiven in (
        message.replace(b"Subject: Your weekly digest", b"SUBJECT:   Your\r\n\tweekly  digest"),
        message.replace(b"three things", b"three  things"),
        message + b"\r\n\r\n",
        b"Received: from a by b; today\r\n" + message,
    ):
        assert forgiven != message
        assert verify(forgiven, RECORDS.get) == ALL_VALID


def test_signing_is_a_function_of_its_arguments() -> None:
    message = composed(STORIES["digest"])
    once = sign(message, SIGNERS, timestamp=TIMESTAMP)
    assert sign(message, SIGNERS, timestamp=TIMESTAMP) == once
    assert sign(message, SIGNERS, timestamp=TIMESTAMP, bh=body_hash(message.body)) == once
    assert once.count(b" t=1764000000;") == 4
    assert sign(message, SIGNERS, timestamp=TIMESTAMP + 1) != once
    assert sign(message, [], timestamp=TIMESTAMP) == message.as_bytes()


def test_what_is_signed() -> None:
    pair = ["list-unsubscribe", "list-unsubscribe-post"]
    expected = [
        "from", "from", "to", "subject", "date", "message-id", "reply-to", "mime-version", "content-type",
        "content-transfer-encoding", "in-reply-to", "references", "feedback-id",
    ]  # fmt: skip
    for name, more in (("digest", pair), ("login-link", []), ("transactional-own-unsubscribe", pair[:1])):
        message = signed(STORIES[name]).decode()
        lists = re.findall(r"\bh=([^;]*);", re.sub(r"\r\n\s", "", message.partition("\r\nFrom:")[0]))
        assert [one.split(":") for one in lists] == [expected + more] * 4, name


def test_signature_lines_are_short_and_a_long_domain_is_not_divided() -> None:
    domain = ".".join(["d" * 60] * 4)
    signers = [Signer(domain, signer.selector, signer._key) for signer in SIGNERS[:2]]
    message = sign(composed(STORIES["digest"]), signers, timestamp=TIMESTAMP)
    records = {
        f"{one.selector}._domainkey.{domain}": RECORDS[f"{one.selector}._domainkey.member.example"]
        for one in signers
    }
    expected = [DkimVerdict(domain, signer.selector, True) for signer in signers]
    assert verify(message, records.get) == expected
    assert verify_all([message], records) == [expected]
    for line in message.partition(b"\r\nFrom:")[0].split(b"\r\n"):
        assert len(line) <= 76 or line == f" d={domain};".encode()


def test_records_that_are_missing_or_damaged_make_invalid_and_not_errors() -> None:
    message = signed(STORIES["digest"])
    assert verify(message, lambda name: None) == ALL_VOID
    for damaged in (
        "",
        "v=DKIM1",
        "v=DKIM1; k=rsa; p=",
        "v=DKIM1; k=rsa; p=AAAA",
        "v=DKIM1; k=ed25519; p=AAAA",
        "p=é",
        ";",
    ):
        assert verify(message, lambda name, damaged=damaged: damaged) == ALL_VOID, damaged  # type: ignore[misc]


def test_damaged_signatures_are_invalid_and_not_errors() -> None:
    message = signed(STORIES["digest"])
    for old, new in (
        (b" b=", b" b=!"),
        (b" bh=", b" bh=!"),
        (b"a=rsa-sha256", b"a=rsa-sha1024"),
        (b" d=member.example;", b""),
        (b"v=1;", b"v=1"),
    ):
        verdicts = verify(message.replace(old, new, 1), RECORDS.get)
        assert len(verdicts) == 4
        assert not verdicts[0].valid
        assert verdicts[2].valid
    assert verify(b"no headers\r\n\r\nat all\r\n", RECORDS.get) == []
    assert verify(b"From: a@b.example\r\n\r\nunsigned\r\n", RECORDS.get) == []


def test_the_bare_address_form_is_signed_too() -> None:
    message = compose_any(Draft(parse_mailbox("a@b.example"), "s", "t"), parse_mailbox("c@d.example"))
    assert verify(sign(message, SIGNERS[2:], timestamp=TIMESTAMP), RECORDS.get) == ALL_VALID[2:]
