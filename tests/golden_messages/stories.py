"""What was accepted for each golden message, and how its bytes come about. See README.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from relay.addresses import parse_mailbox
from relay.domains.records import dkim_record
from relay.events import Attachment, Calendar
from relay.message.compose import (
    Draft,
    Message,
    compose,
    feedback_id,
    message_id_header,
    shared_fields,
)
from relay.message.fields_of import header_of
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
            reply_to=(parse_mailbox("replies@member.example"),),
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
        Draft(NEWS, "Ciao", "Ciao!\n", reply_to=(parse_mailbox("Søren <søren@member.example>"),)),
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
_INVITATION: Final = (
    "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//Member//EN\nMETHOD:REQUEST\nBEGIN:VEVENT\nUID:1@member.example\n"
    "DTSTAMP:20251124T160000Z\nDTSTART:20251201T100000Z\nORGANIZER:mailto:news@member.example\n"
    "SUMMARY:Tea at Zoë's\nEND:VEVENT\nEND:VCALENDAR\n"
)
STORIES |= {
    "files": Story(
        Draft(
            NEWS,
            "Your invoice",
            "See the file.\n",
            '<p><img src="cid:logo@member"> See the file.</p>',
            attachments=(
                Attachment(
                    filename="Rechnung Nr. 17 für Zoë \u2013 November.pdf",
                    content_type="application/pdf",
                    content=b"%PDF-1.7\n" + bytes(range(100)),
                ),
                Attachment(
                    filename="logo.png",
                    content_type="image/png",
                    content_id="logo@member",
                    inline=True,
                    content=b"\x89PNG\r\n\x1a\n",
                ),
                Attachment(
                    filename='what "he" said.txt', content_type="text/plain; charset=utf-8", content=b""
                ),
            ),
        ),
        JANE,
        composition=3,
    ),
    "conversation": Story(
        Draft(
            NEWS,
            "Tea",
            "Will you come?\n",
            reply_to=(NEWS, parse_mailbox("Zoë <zoe@member.example>")),
            to_shown=(parse_mailbox(JANE), parse_mailbox('"Übelacker, Jörg" <joerg@bücher.example>')),
            cc=(parse_mailbox("bob@recipient.example"),),
            calendar=Calendar(method="REQUEST", content=_INVITATION),
        ),
        "hidden@recipient.example",
        composition=3,
    ),
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
        content.body(),
        to=parse_mailbox(story.to),
        message_id=message_id_header(
            content.headers, message_id=448, entropy="k3v7q2", domain="member.example"
        ),
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
