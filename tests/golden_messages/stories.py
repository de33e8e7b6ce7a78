"""What was accepted for each golden message, and how its bytes come about. See README.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from relay import events
from relay.addresses import parse_mailbox
from relay.codec import Recorded
from relay.domains.records import dkim_record
from relay.events import (
    NOBODY,
    ConfirmationQueued,
    DsnQueued,
    ForwardQueued,
    IncomingMail,
    MailReceived,
    MessageBounced,
    MessageBounceReported,
    MessageQueued,
    Recipient,
    RemoteSide,
    ReportDetails,
    SendAccepted,
)
from relay.message.compose import (
    Draft,
    Message,
    compose,
    compose_body,
    feedback_id,
    message_id_header,
    shared_fields,
)
from relay.message.confirmation import compose_confirmation
from relay.message.dsn import compose_dsn
from relay.message.fields_of import header_of
from relay.message.forward import compose_forward
from relay.message.signer import Signer
from relay.message.signing import sign
from relay.message.whole import compose_whole

HERE: Final = Path(__file__).parent
DID: Final = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
ACCEPTED_AT_US: Final = 1_764_000_000_987_654  # 24 November 2025, 16:00 UTC
BOUNCED_AT_US: Final = ACCEPTED_AT_US + 90_000_000


class Story(NamedTuple):
    content: Draft
    to: str
    category: str = "transactional"
    unsubscribe: str | None = None
    composition: int = 1


class WholeStory(NamedTuple):
    """A message that came in whole."""

    kept: bytes
    composition: int
    unsubscribe: str | None = None


class DsnStory(NamedTuple):
    """A message of another story bounced, or was taken and reported later."""

    about: Story
    forward_to: str
    code: int | None
    enhanced: str | None
    #: None: it was reported.
    reason: str | None
    remote: RemoteSide | ReportDetails | None
    attempt: int = 1
    composition: int = 1
    bounce_class: str | None = None


class ForwardStory(NamedTuple):
    """Mail that came in and is passed on."""

    octets: bytes
    ehlo_name: str
    client_address: str | None
    received_with: str = "ESMTPS"


NEWS: Final = parse_mailbox("Member News <news@member.example>")
JANE: Final = "Jane Doe <jane@recipient.example>"
MESSAGE_TOKEN: Final = "448-abcdefghijkl2345"
TOKEN: Final = "https://relay.example/u/zKwdoYCW498f_aI4ybWVyRFZ-s9-AgPKuoYsSqavPXaCXrNmObX876Y"

STORIES: Final[dict[str, Story]] = {
    "login-link": Story(
        Draft(
            parse_mailbox("login@member.example"),
            "Your login link",
            "Follow this link to log in:\n\nhttps://member.example/login/5f1c\n\nIt works once, for an hour.\n",
        ),
        "jane@recipient.example",
        "login-link",
    ),
    "digest": Story(
        Draft(
            NEWS,
            "Your weekly digest",
            "Hello Jane,\n\nthree things happened this week.\n",
            "<p>Hello Jane,</p>\n<p>three things happened this week.</p>\n",
            reply_to=parse_mailbox("replies@member.example"),
            headers=(
                ("Precedence", "bulk"),
                ("List-Unsubscribe", "<https://member.example/off?u=1>"),
                ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
            ),
        ),
        JANE,
        "bulk",
        TOKEN,
    ),
    "html-alone": Story(
        Draft(NEWS, "Receipt", None, "<table>" + "<tr><td>1 × widget</td></tr>" * 40 + "</table>"), JANE
    ),
    "international": Story(
        Draft(
            parse_mailbox("Zoë Müller <zoe@bücher.example>"),
            "今週のお知らせ — Grüße von allen, die diese lange Betreffzeile gelesen haben",
            "今週は三つの出来事がありました。\n",
        ),
        "Дмитрий <dmitri@recipient.example>",
    ),
    "smtputf8": Story(
        Draft(NEWS, "Ciao", "Ciao!\n", reply_to=parse_mailbox("Søren <søren@member.example>")),
        "Zoë <zoë@例え.テスト>",
    ),
    "awkward-body": Story(
        Draft(
            NEWS,
            "",
            "From me to you\nFrom From\n.\n..\ntrailing \t\nbare\rreturn\n\n-- \nMember\n"
            "--=_50e3f1f2f4a54c5e8d1b0a7c6d5e4f3a",
            "<p>plain</p>\n.\n--=_50e3f1f2f4a54c5e8d1b0a7c6d5e4f3a--",
        ),
        JANE,
    ),
    "awkward-headers": Story(
        Draft(
            parse_mailbox(r'"Doe, \"JD\" \\ Jane" <jane@member.example>'),
            " two  spaces, a\ttab, and =?utf-8?q?no_encoded_word?= ",
            "text\n",
            headers=(
                ("Message-ID", "<own.id@member.example>"),
                ("References", " ".join(f"<thread.{number}@member.example>" for number in range(12))),
                ("List-Id", "Freunde der Bücher <friends.member.example>"),
                ("X-Long-Word", "x" * 990),
                ("X-Empty", ""),
            ),
        ),
        "J. R. Doe <jr@recipient.example>",
    ),
    "transactional-own-unsubscribe": Story(
        Draft(
            NEWS,
            "Receipt",
            "Thank you.\n",
            headers=(("List-Unsubscribe", "<mailto:off@member.example>, <https://member.example/off>"),),
        ),
        JANE,
    ),
}
STORIES |= {
    "login-link-3": STORIES["login-link"]._replace(composition=3),
    "digest-3": STORIES["digest"]._replace(composition=3),
}
_SUBMITTED: Final = (
    b"Received: from phone.home.example by member.example; Mon, 24 Nov 2025 15:59:58 +0000\r\n"
    b"From: =?utf-8?q?Zo=C3=AB?= <zoe@member.example>\r\n"
    b"To: Jane Doe\r\n\t<jane@recipient.example>\r\n"
    b"Subject:  two  spaces\r\n"
    b"Message-ID: <own.id@member.example>\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
    b"Gr\xfc\xdfe\r\n.\r\nFrom here\r\n"
)
WHOLE_STORIES: Final[Mapping[str, WholeStory]] = {
    "submitted-2": WholeStory(_SUBMITTED, 2, TOKEN),
    "submitted-3": WholeStory(_SUBMITTED, 3, TOKEN),
}


DSN_STORIES: Final[Mapping[str, DsnStory]] = {
    "dsn": DsnStory(
        STORIES["digest"],
        "postmaster@member.example",
        550,
        "5.1.1",
        "rejected",
        RemoteSide(mx="mx.recipient.example", address="192.0.2.25", text="No such mailbox here"),
    ),
    "dsn-international": DsnStory(
        STORIES["smtputf8"],
        "büro@member.example",
        554,
        None,
        "rejected",
        RemoteSide(
            mx="mx.recipient.example",
            text="Обнаружен спам ‮; see	https://recipient.example/" + "x" * 100 + " and " * 300,
        ),
    ),
    "dsn-expired": DsnStory(
        STORIES["awkward-headers"],
        "postmaster@member.example",
        None,
        "4.4.7",
        "expired",
        RemoteSide(text="given up: its time was over before it could be tried again"),
        attempt=0,
    ),
    "dsn-2": DsnStory(
        STORIES["digest"],
        "postmaster@member.example",
        550,
        "5.7.1",
        "rejected",
        RemoteSide(mx="mx.recipient.example", text="Read this:\t" + "buy what we sell. " * 50),
        composition=2,
    ),
    "dsn-3": DsnStory(
        STORIES["digest-3"],
        "postmaster@member.example",
        550,
        "5.1.1",
        "rejected",
        RemoteSide(mx="mx.recipient.example", address="192.0.2.25", text="No such mailbox here"),
        composition=3,
        bounce_class="invalid_recipient",
    ),
    "dsn-report": DsnStory(
        STORIES["digest-3"],
        "postmaster@member.example",
        550,
        "5.2.2",
        None,
        ReportDetails(
            diagnostic="550 5.2.2 Mailbox is full \u2014 \u202eread this: https://recipient.example/"
            + "x" * 300,
            reporting_mta="mx2.recipient.example",
            remote_mta="store.recipient.example",
            client_address="192.0.2.26",
            client_name="out.recipient.example",
            why="typed by hand",
        ),
        composition=3,
        bounce_class="quota_issues",
    ),
    "dsn-report-bare": DsnStory(
        STORIES["international"], "büro@member.example", None, None, None, None, composition=3
    ),
}
FORWARD_STORIES: Final[Mapping[str, ForwardStory]] = {
    "forward": ForwardStory(
        b"DKIM-Signature: v=1; a=rsa-sha256; d=recipient.example; s=s; h=from; bh=AAAA; b=AAAA\r\n"
        b"From: Jane Doe <jane@recipient.example>\r\n"
        b"To: news@member.example\r\n"
        b"Subject: Re: Your weekly digest\r\n"
        b"In-Reply-To: <448.k3v7q2@member.example>\r\n\r\n"
        b"Thank you!\r\n",
        "out.recipient.example",
        "2001:db8::25",
    ),
    "forward-hostile": ForwardStory(
        b" continued from nowhere\r\nno field\r\n\r\n\xff\r\n",
        "x) by relay.example\r\nX-Evil: yes",
        "192.0.2.25%\r\nX-Evil: yes",
        "ESMTP",
    ),
}
#: The mail that asks the owner of a mailbox, by its address.
CONFIRMATIONS: Final[Mapping[str, str]] = {
    "confirmation": "postmaster@elsewhere.example",
    "confirmation-international": "büro@xn--bcher-kva.example",
}


def _key(name: str) -> RSAPrivateKey | Ed25519PrivateKey:
    key = load_pem_private_key((HERE / "keys" / f"{name}.pem").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey | Ed25519PrivateKey)
    return key


#: Four signers as in production, made of one pair of keys.
SIGNERS: Final = [
    Signer(domain, f"atmos20251124{suffix}", _key(name))
    for domain in ("member.example", "relay.example")
    for suffix, name in (("r", "rsa"), ("e", "ed25519"))
]
OPERATORS_SIGNERS: Final = SIGNERS[2:]
RECORDS: Final = {record.name: record.value for record in map(dkim_record, SIGNERS)}


def composed(story: Story) -> Message:
    content = story.content
    return compose(
        content,
        compose_body(content.text, content.html),
        to=parse_mailbox(story.to),
        message_id=message_id_header(content, message_id=448, entropy="k3v7q2", domain="member.example"),
        accepted_at_us=ACCEPTED_AT_US,
        feedback_id=feedback_id(
            sending_domain="member.example", did=DID, category=story.category, operator_domain="relay.example"
        ),
        member_did=DID,
        list_unsubscribe_url=story.unsubscribe,
        token=MESSAGE_TOKEN if story.composition >= 3 else None,
        shared=shared_fields(content, story.composition),
    )


def signed(story: Story) -> bytes:
    return sign(
        composed(story), SIGNERS, timestamp=ACCEPTED_AT_US // 1_000_000, composition=story.composition
    )


def signed_whole(story: WholeStory) -> bytes:
    message = compose_whole(
        story.kept,
        message_id=448,
        entropy="k3v7q2",
        sending_domain="member.example",
        accepted_at_us=ACCEPTED_AT_US,
        feedback_id="member.example:abc:bulk:relay.example",
        member_did=DID,
        received_by="mail.relay.example",
        received_with="ESMTPSA",
        list_unsubscribe_url=story.unsubscribe,
        token=MESSAGE_TOKEN if story.composition >= 3 else None,
        section=header_of(story.kept),
    )
    return sign(message, SIGNERS, timestamp=ACCEPTED_AT_US // 1_000_000, composition=story.composition)


def forwarded(story: ForwardStory) -> bytes:
    received = MailReceived(
        did=DID,
        kind="reply",
        domain="member.example",
        sha256="",
        size=len(story.octets),
        digest="",
        received_by="mail.relay.example",
        received_with=story.received_with,
        personal=IncomingMail(
            mail_from="jane@recipient.example",
            rcpt_to=["news@member.example"],
            client_address=story.client_address,
            ehlo_name=story.ehlo_name,
            raw=story.octets,
        ),
    )
    forward = ForwardQueued(
        did=DID,
        domain="member.example",
        next_attempt_at=BOUNCED_AT_US,
        give_up_at=BOUNCED_AT_US,
        operator_domain="relay.example",
        about=455,
        personal=Recipient(given="owner@elsewhere.example", address="owner@elsewhere.example"),
    )
    composed = compose_forward(
        Recorded(456, BOUNCED_AT_US, forward),
        Recorded(455, BOUNCED_AT_US, received),
        token="456-abcdefghijkl2345",
    )
    return composed.as_bytes()


def composed_dsn(story: DsnStory) -> Message:
    content, to = story.about.content, parse_mailbox(story.about.to)
    forward_to = parse_mailbox(story.forward_to).address
    common = {"did": DID, "domain": "member.example"}
    give_up_at = ACCEPTED_AT_US + 5 * 24 * 3600 * 1_000_000
    accepted = SendAccepted(
        **common,
        category=story.about.category,
        recipients=1,
        key_id="0a1b2c3d4e5f",
        selector_stem="atmos20251124",
        operator_domain="relay.example",
        operator_stem="atmos20251124",
        message_id_entropy="k3v7q2",
        personal=events.Content(from_address=content.sender.address, subject=content.subject),
    )
    queued = MessageQueued(
        **common,
        category=story.about.category,
        index=1,
        next_attempt_at=ACCEPTED_AT_US,
        give_up_at=give_up_at,
        personal=Recipient(given=story.about.to, name=to.name, address=to.address),
    )
    bounced: MessageBounced | MessageBounceReported
    if story.reason is None:
        assert not isinstance(story.remote, RemoteSide)
        bounced = MessageBounceReported(
            did=DID,
            message_id=448,
            kind="dsn",
            action="failed",
            code=story.code,
            enhanced=story.enhanced,
            bounce_class=story.bounce_class,
            counts=True,
            sha256="",
            size=1,
            personal=story.remote,
        )
    else:
        assert not isinstance(story.remote, ReportDetails)
        bounced = MessageBounced(
            did=DID,
            message_id=448,
            attempt=story.attempt,
            reason=story.reason,
            code=story.code,
            enhanced=story.enhanced,
            bounce_class=story.bounce_class,
            personal=story.remote,
        )
    dsn = DsnQueued(
        **common,
        about=448,
        next_attempt_at=BOUNCED_AT_US,
        give_up_at=give_up_at,
        operator_domain="relay.example",
        operator_stem="atmos20251124",
        message_id_entropy="p9x1w4",
        composition=story.composition,
        personal=Recipient(given=forward_to, address=forward_to),
    )
    return compose_dsn(
        Recorded(451, BOUNCED_AT_US, dsn),
        Recorded(450, BOUNCED_AT_US, bounced),
        accepted=Recorded(447, ACCEPTED_AT_US, accepted),
        queued=Recorded(448, ACCEPTED_AT_US, queued),
        original=composed(story.about),
    )


def signed_dsn(story: DsnStory) -> bytes:
    return sign(
        composed_dsn(story),
        OPERATORS_SIGNERS,
        timestamp=BOUNCED_AT_US // 1_000_000,
        composition=story.composition,
    )


def composed_confirmation(address: str) -> Message:
    queued = ConfirmationQueued(
        did=NOBODY,
        domain="member.example",
        next_attempt_at=BOUNCED_AT_US,
        give_up_at=BOUNCED_AT_US,
        operator_domain="relay.example",
        operator_stem="atmos20251124",
        message_id_entropy="c7f2k8",
        composition=2,
        link_base="https://relay.example",
        personal=Recipient(given=address, address=address),
    )
    return compose_confirmation(
        Recorded(460, BOUNCED_AT_US, queued), "https://relay.example/confirm/zKwdoYCW498f_aI4ybWVyRFZ-s9-AgPK"
    )


def signed_confirmation(address: str) -> bytes:
    return sign(
        composed_confirmation(address),
        OPERATORS_SIGNERS,
        timestamp=BOUNCED_AT_US // 1_000_000,
        composition=2,
    )


def write_missing() -> None:
    messages = {name: signed(story) for name, story in STORIES.items()}
    messages |= {name: signed_dsn(story) for name, story in DSN_STORIES.items()}
    messages |= {name: signed_whole(story) for name, story in WHOLE_STORIES.items()}
    messages |= {name: forwarded(story) for name, story in FORWARD_STORIES.items()}
    messages |= {name: signed_confirmation(address) for name, address in CONFIRMATIONS.items()}
    for name, message in messages.items():
        path = HERE / f"{name}.eml"
        if not path.exists():
            path.write_bytes(message)


if __name__ == "__main__":
    write_missing()
