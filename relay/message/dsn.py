"""Delivery status notifications: a bounce is made known to its domain's `forward_to` mailbox (SPEC 6, RFC 3464).

So is what a receiver reports later of a mail that it had taken, where that counts as a bounce.

`dsn_for` decides whether there is one, as an event that is appended right behind the bounce or report, in its batch.
`compose_dsn` makes the message: a pure function of events, so that every attempt sends the same bytes. Its contract:

* three parts (RFC 6522): a text for people, a `message/delivery-status` for programs, and the headers of the message
  that bounced, as `text/rfc822-headers`. Never its body: the mailbox is the member's choice, and may be a stranger's;
* all of it 7-bit ASCII, but for a non-ASCII local part of `forward_to` in the To header. A non-ASCII recipient stands
  in the delivery status with the address type `utf-8`, in the 7-bit form of RFC 6533 §3;
* what strangers wrote (the receiver's reply, a report) and members chose (subject, headers) is bounded, and can neither
  start a header, a field nor a part, nor end one. A report's word on who made it is repeated only where it is a host's
  name, and from where it was handed in not at all.

The operator speaks, not the member: From is the operator's, the two signatures are the operator's, and the null
sender and `Auto-Submitted` (RFC 3834) keep every well-behaved machine from answering. A DSN that bounces makes no DSN,
so there is no loop. There is at most one for each message that the member sent, so its limits bound them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from relay.addresses import is_host_name
from relay.codec import Recorded
from relay.config import Config
from relay.events import (
    DSN_CATEGORY,
    Addressee,
    DsnQueued,
    MessageBounced,
    MessageBounceReported,
    MessageQueued,
    SendAccepted,
)
from relay.message import ADVICE_SINCE, COMPOSITION
from relay.message.advice import advice
from relay.message.bodies import Body, header_line, multipart, text_part
from relay.message.compose import Message, date_value, folded
from relay.message.notice import notice_fields
from relay.message.whole import WholeMessage
from relay.times import SECOND_US
from relay.views import members, messages, suppressions
from spool.views import Snapshot

SUBJECT: Final = "Your mail could not be delivered"

#: Bounces of which the member needs no telling: its recipient, the member itself or the operator wanted them.
UNTOLD_REASONS: Final = ("suppressed", "cancelled")

#: How much of what others wrote is repeated. A field with its name fits one line even if it cannot be folded
#: (RFC 5322 §2.1.1).
REPLY_CHARACTERS_MAX: Final = 200
#: Of composition 1.
OLD_REPLY_CHARACTERS_MAX: Final = 900
SUBJECT_CHARACTERS_MAX: Final = 200
HOST_CHARACTERS_MAX: Final = 255

_WHY: Final = {
    "rejected": "The recipient's mail server refused it for good.",
    "undeliverable": "It can never be delivered as it is.",
    "expired": "It could not be delivered in time, and was given up.",
}
#: By the subject of the enhanced status code (RFC 3463 §3). Of compositions 1 and 2: later ones have `advice`.
_OLD_MEANING: Final = {
    "1": "The address does not exist, or takes no mail. Check it before you write to it again.",
    "2": "The mailbox takes no mail now: it may be full, or switched off.",
    "3": "The receiving system is in trouble, or cannot take a message like this one.",
    "4": "The receiving system cannot be reached, or did not answer in time.",
    "5": "The receiving system and ours did not understand each other.",
    "6": "The receiving system cannot take a message of this form.",
    "7": "The receiver does not want this message: for its content, its sender, or a rule of its own.",
}

_is_status: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}").fullmatch


# ------------------------------------------------------------------------------------------------ whether


def dsn_for(
    view: Snapshot,
    about: MessageBounced | MessageBounceReported,
    *,
    mail_from_null: bool = False,
    config: Config,
    operator_stem: str,
    message_id_entropy: str,
    now_us: int,
) -> DsnQueued | None:
    """The DSN that this bounce or report makes, to be appended right behind it in the same batch; None: it makes none.

    A report makes one where it is a failure, which is once for each message that has not bounced. `view` does not have
    the bounce or the report yet.

    What was submitted with the null sender wants none (RFC 5321 section 6.1). What a report has told of already, which
    came while the message was under way, is not told twice.
    """
    state = messages.message(view, about.message_id)
    assert state is not None
    if mail_from_null or not _is_news(view, state, about):
        return None
    return _told_to_forward_to(
        view,
        state,
        config=config,
        operator_stem=operator_stem,
        message_id_entropy=message_id_entropy,
        now_us=now_us,
    )


def has_null_sender(view: Snapshot, message_id: int, get: Callable[[int], Recorded]) -> bool:
    """Whether its member submitted the message with the null sender, and wants to hear of no bounce. `get` reads an
    event of the log by its sequence number."""
    state = messages.message(view, message_id)
    send = None if state is None else get(state.send_seq).event
    return isinstance(send, SendAccepted) and send.mail_from_null


def _told_to_forward_to(
    view: Snapshot,
    state: messages.MessageState,
    *,
    config: Config,
    operator_stem: str,
    message_id_entropy: str,
    now_us: int,
) -> DsnQueued | None:
    """The DSN that tells of this message, right behind what it tells of; None: there is nobody to tell.

    Nobody is told in a mailbox whose owner has not confirmed it, nor in one that is on anybody's suppression list; nor
    is anybody told of a notice, so that there is no loop.
    """
    if state.is_notice:
        return None
    domain = members.enrolment(view, state.did, state.domain)
    address = None if domain is None else domain.forward_to
    if (
        domain is None
        or address is None
        or not domain.forward_confirmed
        or suppressions.is_on_any_list(view, address)
    ):
        return None
    return DsnQueued(
        composition=COMPOSITION,
        did=state.did,
        domain=state.domain,
        about=state.message_id,
        scheduled_at=state.scheduled_at,
        next_attempt_at=now_us,
        give_up_at=now_us + config.give_up_seconds(DSN_CATEGORY) * SECOND_US,
        operator_domain=config.operator_domain,
        operator_stem=operator_stem,
        message_id_entropy=message_id_entropy,
        personal=Addressee(given=address, address=address),
    )


def _is_news(
    view: Snapshot, state: messages.MessageState, about: MessageBounced | MessageBounceReported
) -> bool:
    if state.reported_seq is not None or state.status == "bounced":
        return False
    if isinstance(about, MessageBounced):
        return state.status not in messages.FINAL and about.reason not in UNTOLD_REASONS
    # Without its payload there is nothing to tell of.
    return about.is_failure and messages.has_personal_data(view, state.message_id)


# ------------------------------------------------------------------------------------------------ what


def compose_dsn(
    dsn: Recorded,
    about: Recorded,
    *,
    accepted: Recorded,
    queued: Recorded,
    original: Message | WholeMessage,
) -> Message:
    """The message of a `dsn.queued`; `about` is the `message.bounced` or `message.bounce_reported` right before it.
    `original` is what bounced, composed again from `accepted` and `queued`.

    All have their payloads but perhaps `about`: then nothing is told of what the receiver said.
    """
    notice, bounce, send, message = dsn.event, about.event, accepted.event, queued.event
    assert isinstance(notice, DsnQueued)
    assert isinstance(bounce, MessageBounced | MessageBounceReported)
    assert isinstance(send, SendAccepted)
    assert isinstance(message, MessageQueued)
    assert notice.personal is not None
    assert send.personal is not None
    assert message.personal is not None
    assert notice.about == bounce.message_id == queued.seq
    recipient = message.personal.address
    original_id = original.message_id
    report = multipart(
        "report; report-type=delivery-status",
        [
            _for_people(about, bounce, notice, queued, recipient, send.personal.subject, original_id),
            _delivery_status(about, bounce, notice, queued, recipient),
            _headers_part(original),
        ],
    )
    headers = notice_fields(dsn, SUBJECT, auto_submitted="auto-replied", about=original_id)
    return Message((*headers, *report.headers), report.octets)


def _for_people(
    about: Recorded,
    bounce: MessageBounced | MessageBounceReported,
    notice: DsnQueued,
    queued: Recorded,
    recipient: str,
    subject: str,
    original_id: bytes | None,
) -> Body:
    who = _mx(bounce)
    lines = [
        f"This is the mail delivery system of {notice.operator_domain}.",
        "",
        *_what_happened(bounce, notice),
        "",
        f"  to         {recipient}",
        f"  subject    {_bounded(_printable(subject), SUBJECT_CHARACTERS_MAX)}",
        f"  accepted   {date_value(queued.time_us)}",
        f"  message    {queued.seq}{f', {original_id.decode()}' if original_id else ''}",
    ]
    if isinstance(bounce, MessageBounceReported):
        lines.append(f"  reported   {date_value(about.time_us)}{f', by {who}' if who else ''}")
        why = None
    else:
        why = _WHY.get(bounce.reason, "It was given up.")
    explained = [line for line in (why, _meaning(bounce, notice)) if line is not None]
    lines += ["", *explained] if explained else []
    said = _said(bounce, notice)
    if said:
        if who is None:
            who = "The relay" if _diagnostic_type(bounce) == "x-atmos-relay" else "The receiver"
        who = _bounded(_printable(who), HOST_CHARACTERS_MAX)
        lines += ["", f"{who} said:", "", f"  {_bounded(_printable(said), OLD_REPLY_CHARACTERS_MAX)}"]
    lines += ["", "Below: the same for programs, and the headers of the message."]
    return text_part("plain", "\n".join(lines) + "\n")


def _what_happened(bounce: MessageBounced | MessageBounceReported, notice: DsnQueued) -> list[str]:
    if isinstance(bounce, MessageBounced):
        return [f"A message of {notice.domain} could not be delivered, and is not tried again:"]
    return [
        f"A message of {notice.domain} was taken by its receiver, which has reported since",
        "that it could not be delivered:",
    ]


def _meaning(bounce: MessageBounced | MessageBounceReported, notice: DsnQueued) -> str | None:
    if notice.composition < ADVICE_SINCE:
        return _OLD_MEANING.get(_status(bounce)[2])
    return advice(bounce.bounce_class)


def _delivery_status(
    about: Recorded,
    bounce: MessageBounced | MessageBounceReported,
    notice: DsnQueued,
    queued: Recorded,
    recipient: str,
) -> Body:
    """RFC 3464 §2: fields about the message, an empty line, and fields about its one recipient."""
    mx, said = _mx(bounce), _said(bounce, notice)
    was_tried = isinstance(bounce, MessageBounced) and bool(bounce.attempt)
    fields: list[tuple[str, str | None]] = [
        ("Final-Recipient", _typed_address(recipient)),
        ("Action", "failed"),
        ("Status", _status(bounce)),
        ("Remote-MTA", f"dns; {_ascii(mx, HOST_CHARACTERS_MAX)}" if mx else None),
        ("Diagnostic-Code", f"{_diagnostic_type(bounce)}; {_ascii(said)}" if said else None),
        ("Last-Attempt-Date", date_value(about.time_us) if was_tried else None),
        ("Final-Log-ID", str(queued.seq)),
    ]
    lines = [
        _field("Reporting-MTA", f"dns; {notice.operator_domain}"),
        _field("Arrival-Date", date_value(queued.time_us)),
        b"\r\n",
        *(_field(name, value) for name, value in fields if value is not None),
    ]
    content_type = (b"Content-Type", b"message/delivery-status")
    return Body((content_type, (b"Content-Transfer-Encoding", b"7bit")), b"".join(lines))


def _headers_part(original: Message | WholeMessage) -> Body:
    """The headers of the original, without its signatures: they would not verify without its body.

    A non-ASCII address in them is encoded (RFC 6522 §4 allows quoted-printable), as all parts of this relay's are.
    """
    return text_part("rfc822-headers", original.head.decode())


def _field(name: str, value: str) -> bytes:
    return header_line((name.encode(), folded(name, value)))


def _status(bounce: MessageBounced | MessageBounceReported) -> str:
    """The enhanced status code (RFC 3463), or the best that the reply's code gives."""
    if bounce.enhanced is not None and _is_status(bounce.enhanced):
        return bounce.enhanced
    return "4.0.0" if bounce.code is not None and bounce.code // 100 == 4 else "5.0.0"


def _diagnostic_type(bounce: MessageBounced | MessageBounceReported) -> str:
    """A type of our own where no server has answered (RFC 3464 §2.3.6)."""
    if bounce.code is not None:
        return "smtp"
    return "x-atmos-relay" if isinstance(bounce, MessageBounced) else "x-atmos-report"


def _said(bounce: MessageBounced | MessageBounceReported, notice: DsnQueued) -> str:
    """What the receiver said, or, where it said nothing, what we have to say; not yet harmless.

    A report's words are whole: its codes stand in them already, or nowhere.

    Of the receiver's words no more than tells why: they could be meant for whoever reads this. (Of composition 1 they
    are bounded where they are written.)
    """
    if isinstance(bounce, MessageBounceReported):
        text = None if bounce.personal is None else bounce.personal.diagnostic
    else:
        text = None if bounce.personal is None else bounce.personal.text
    if text is not None and notice.composition > 1:
        text = _bounded(" ".join(text.split()), REPLY_CHARACTERS_MAX)
    codes = [str(bounce.code), bounce.enhanced] if bounce.code is not None else []
    if isinstance(bounce, MessageBounceReported) and text:
        codes = []
    return " ".join(filter(None, [*codes, text]))


def _mx(bounce: MessageBounced | MessageBounceReported) -> str | None:
    """Who said so."""
    if bounce.personal is None:
        return None
    if isinstance(bounce, MessageBounced):
        return bounce.personal.mx or None
    reporter = bounce.personal.reporting_mta
    return reporter if reporter is not None and is_host_name(reporter) else None


def _typed_address(address: str) -> str:
    """RFC 3464 §2.3.2; a non-ASCII address in the 7-bit form that RFC 6533 §3 has for it (utf-8-addr-xtext)."""
    if address.isascii():
        return f"rfc822; {address}"
    escaped = [
        character if character.isascii() and character not in "\\+=" else f"\\x{{{ord(character):X}}}"
        for character in address
    ]
    return f"utf-8; {''.join(escaped)}"


def _ascii(text: str, characters_max: int = OLD_REPLY_CHARACTERS_MAX) -> str:
    """One bounded line of printable ASCII."""
    line = " ".join(text.split())
    return _bounded("".join(c if " " <= c <= "~" else "?" for c in line), characters_max)


def _printable(text: str) -> str:
    """One line without what could play tricks on whoever reads it: control and bidirectional characters."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def _bounded(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 3] + "..."
