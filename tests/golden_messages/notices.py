"""Notices and mail that is passed on: what was recorded for each, and how its bytes come about. See README.md."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay import events
from relay.addresses import parse_mailbox
from relay.codec import Recorded
from relay.events import (
    NOBODY,
    Addressee,
    AlarmQueued,
    ConfirmationQueued,
    DsnQueued,
    ForwardQueued,
    IncomingMail,
    MailReceived,
    MessageBounced,
    MessageBounceReported,
    MessageQueued,
    RemoteSide,
    ReportDetails,
    SendAccepted,
    WebhookNoticeQueued,
)
from relay.message.alarm_notice import compose_alarm
from relay.message.compose import (
    Message,
)
from relay.message.confirmation import compose_confirmation
from relay.message.dsn import compose_dsn
from relay.message.forward import compose_forward
from relay.message.signing import sign
from relay.message.webhook_notice import compose_webhook_notice
from tests.golden_messages.stories import (
    ACCEPTED_AT_US,
    BOUNCED_AT_US,
    DID,
    OPERATORS_SIGNERS,
    STORIES,
    Story,
    composed,
)


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
        personal=Addressee(given="owner@elsewhere.example", address="owner@elsewhere.example"),
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
        personal=Addressee(given=story.about.to, name=to.name, address=to.address),
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
            is_failure=True,
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
        personal=Addressee(given=forward_to, address=forward_to),
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
        personal=Addressee(given=address, address=address),
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


#: Of a member's webhook, and of the operator's.
WEBHOOK_NOTICES: Final[Mapping[str, WebhookNoticeQueued]] = {
    name: WebhookNoticeQueued(
        did=did,
        domain="member.example",
        next_attempt_at=BOUNCED_AT_US,
        give_up_at=BOUNCED_AT_US,
        operator_domain="relay.example",
        operator_stem="atmos20251124",
        message_id_entropy="c7f2k8",
        composition=3,
        link_base="https://relay.example",
        webhook_id="whabcdefghijklmnop234567",
        because=because,  # type: ignore[arg-type]
        until_seq=447,
        http_status=status,
        error=error,
        personal=Addressee(given="büro@member.example", address="büro@member.example"),
    )
    for name, did, because, status, error in (
        ("webhook-failing", DID, "failing", None, "timeout"),
        ("webhook-gone", NOBODY, "gone", 410, None),
    )
}


def signed_webhook_notice(notice: WebhookNoticeQueued) -> bytes:
    return sign(
        compose_webhook_notice(Recorded(461, BOUNCED_AT_US, notice)),
        OPERATORS_SIGNERS,
        timestamp=BOUNCED_AT_US // 1_000_000,
        composition=notice.composition,
    )


#: To a member, of its domain; to the operator, of what is no domain's.
ALARMS: Final[Mapping[str, AlarmQueued]] = {
    name: AlarmQueued(
        did=did,
        domain=domain,
        next_attempt_at=BOUNCED_AT_US,
        give_up_at=BOUNCED_AT_US,
        operator_domain="relay.example",
        operator_stem="atmos20251124",
        message_id_entropy="c7f2k8",
        composition=3,
        alarm=alarm,
        about=about,
        says=says,
        personal=Addressee(given="büro@member.example", address="büro@member.example"),
    )
    for name, did, domain, alarm, about, says in (
        (
            "alarm-domain",
            DID,
            "member.example",
            "domain_paused",
            "member.example",
            [
                "Your domain member.example is paused since 2025-11-24T10:00:00Z: of its last 40 messages 3 bounced.",
                "Take the addresses that do not exist off your list, then ask the operator to resume the domain.",
                "  atmos-relay domain resume DIR --domain member.example   # is for the operator, who has the paths",
            ],
        ),
        (
            "alarm-file",
            NOBODY,
            "relay.example",
            "certificate_expires",
            "/etc/Schlüssel/\u202efullchain.pem",
            ["The certificate in /etc/Schlüssel/\u202efullchain.pem expires in 13 days."],
        ),
    )
}


def signed_alarm(alarm: AlarmQueued) -> bytes:
    return sign(
        compose_alarm(Recorded(462, BOUNCED_AT_US, alarm)),
        OPERATORS_SIGNERS,
        timestamp=BOUNCED_AT_US // 1_000_000,
        composition=alarm.composition,
    )
