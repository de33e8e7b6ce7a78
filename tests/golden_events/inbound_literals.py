"""The golden events of mail that comes in. See README.md."""

from collections.abc import Mapping
from typing import Final

from relay.events import (
    Addressee,
    Event,
    ForwardQueued,
    IncomingMail,
    MailReceived,
    MessageBounceReported,
    MessageComplained,
    ReportDetails,
)
from tests.golden_events.facts import ACCEPTED_AT_US, DID, MINUTE_US

_REPORT: Final = ReportDetails(
    diagnostic="550 5.1.1 no such user: bob",
    reporting_mta="dns; mx.recipient.example",
    remote_mta="dns; store.recipient.example",
    client_address="192.0.2.25",
    client_name="mx.recipient.example",
    signed_by=["recipient.example"],
    raw=b"Subject: Undelivered\r\n\r\nSorry.\r\n",
    why="it came to another mailbox",
)

#: As in `literals`.
INBOUND: Final[Mapping[tuple[str, int], Event]] = {
    ("message.complained", 1): MessageComplained(did=DID, message_id=448),
    ("message.complained", 2): MessageComplained(
        did=DID,
        message_id=448,
        via="report",
        feedback_type="abuse",
        provider="yahoo.com",
        authenticated=False,
        sha256="5e" * 32,
        size=4711,
        by="postmaster",
        personal=_REPORT,
    ),
    ("message.bounce_reported", 1): MessageBounceReported(
        did=DID,
        message_id=448,
        kind="dsn",
        action="failed",
        enhanced="5.1.1",
        code=550,
        bounce_class="invalid_recipient",
        feedback_type="not-spam",
        is_failure=True,
        sha256="5f" * 32,
        size=4712,
        by="postmaster",
        personal=_REPORT,
    ),
    ("mail.received", 1): MailReceived(
        did=DID,
        kind="reply",
        domain="member.example",
        reading="auto_reply",
        sha256="60" * 32,
        size=4713,
        digest="61" * 32,
        mail_from_null=True,
        received_by="mail.relay.example",
        received_with="ESMTPS",
        personal=IncomingMail(
            mail_from="bob@recipient.example",
            rcpt_to=["news@member.example", "büro@member.example"],
            client_address="192.0.2.25",
            ehlo_name="mx.recipient.example",
            raw=b"Subject: Re: Hello\r\n\r\nHello.\r\n",
        ),
    ),
    ("forward.queued", 1): ForwardQueued(
        did=DID,
        domain="member.example",
        next_attempt_at=ACCEPTED_AT_US,
        give_up_at=ACCEPTED_AT_US + 60 * MINUTE_US,
        operator_domain="relay.example",
        personal=Addressee(given="Ann <ann@ANN.example>", name="Ann", address="ann@ann.example"),
    ),
}
