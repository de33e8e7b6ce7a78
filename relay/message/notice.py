"""What all mails that the relay writes itself have on top: who writes, and that no machine may answer.

The operator speaks, and no member. The fields are a pure function of the notice's event, so every attempt has the same.
"""

from __future__ import annotations

from typing import Final, Literal

from relay.addresses import Mailbox
from relay.codec import Recorded
from relay.events import OwnNotice
from relay.message.bodies import MIME_VERSION, Header
from relay.message.compose import date_value, mailbox_value

SENDER_NAME: Final = "Mail Delivery System"
SENDER_LOCAL: Final = "mailer-daemon"


def sender(operator_domain: str) -> Mailbox:
    return Mailbox(SENDER_NAME, SENDER_LOCAL, operator_domain)


def notice_fields(
    notice: Recorded,
    subject: str,
    *,
    auto_submitted: Literal["auto-generated", "auto-replied"],
    about: bytes | None = None,
) -> tuple[Header, ...]:
    """The header of a notice, which has its payload, without what describes its body. `about`: the Message-ID of the
    mail that it tells of. `auto_submitted`: a word of RFC 3834 §5."""
    event = notice.event
    assert isinstance(event, OwnNotice)
    assert event.personal is not None
    return (
        (b"From", mailbox_value("From", sender(event.operator_domain))),
        (b"To", mailbox_value("To", Mailbox.recorded("", event.personal.address))),
        (b"Subject", subject.encode()),
        (b"Date", date_value(notice.time_us).encode()),
        (b"Message-ID", f"<{notice.seq}.{event.message_id_entropy}@{event.operator_domain}>".encode()),
        *([] if about is None else [(b"In-Reply-To", about), (b"References", about)]),
        (b"Auto-Submitted", auto_submitted.encode()),
        MIME_VERSION,
    )
