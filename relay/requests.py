"""What clients may ask: the body of a send, checked whole before anything is decided.

`request_of` is pure: fields in, a `SendRequest` in normal form out, or a Refusal that names the field. Every door that
takes JSON comes here. `parse_send` is the same for the octets of a body.

The fields themselves stand in `relay.send_body`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.addresses import Mailbox
from relay.attachments import check_message_size, checked_attachments, checked_calendar
from relay.events import BULK_CATEGORIES, Content
from relay.fields import mailbox_in, mailbox_of_many_in, moment_in
from relay.json_body import JsonBody
from relay.message.headers import HeaderError, check_headers
from relay.refusals import Refusal, invalid
from relay.send_body import SendBody

#: Of `to`, `cc` and `bcc` together, as they are written.
RECIPIENTS_MAX = 50
REPLY_TO_MAX = 10
METADATA_MAX = 10
METADATA_NAME_CHARACTERS_MAX = 64
METADATA_VALUE_CHARACTERS_MAX = 256
#: Of a send that names none, by a key that has none.
DEFAULT_CATEGORY = "bulk"

_is_tag: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch


class ListShownRefusal(Refusal):
    """Bulk mail that would show its recipients to each other. A door may have another remedy for it."""


class BySmtp(NamedTuple):
    """What a send has besides that came in by SMTP."""

    #: Domain of MAIL FROM; None: the null sender.
    mail_from_domain: str | None
    #: Domain of the field Sender, where there is one.
    sent_by_domain: str | None
    normalised: bool
    #: For the Received field: a word of RFC 3848.
    received_with: str


class SendRequest(NamedTuple):
    """A send in normal form: checked, and every recipient once."""

    sender: Mailbox
    #: As the client wrote it, and in normal form.
    recipients: list[tuple[str, Mailbox]]
    category: str
    content: Content
    #: None: it came in by HTTP.
    by_smtp: BySmtp | None = None
    #: All recipients see the same To and Cc (`content.to_shown`, `content.cc`).
    conversation: bool = False
    #: Addresses of the recipients whom nobody sees.
    hidden: frozenset[str] = frozenset()
    tag: str | None = None
    metadata: dict[str, str] | None = None
    #: As it was asked for, whatever time it is now.
    scheduled_at: int | None = None
    #: Suppressed recipients become messages that bounce at once, because who asks cannot be told otherwise. So it is
    #: over SMTP.
    queues_suppressed: bool = False


#: Fields that other services have, and what to do here.
_INSTEAD = {
    "reply_to": "there is no such field; write `replyTo`",
    "scheduled_at": "there is no such field; write `scheduledAt`",
    "tags": "there is no such field; write `tag`, which is one word, or `metadata`",
    "template": "there are no templates; send the text as it is to be read",
    "attachments.path": "files are not fetched from anywhere; give the octets, in base64, as `content`",
}
_BODY = JsonBody(SendBody, _INSTEAD)


def parse_send(body: bytes, default_category: str = DEFAULT_CATEGORY) -> SendRequest:
    """Check the body of a send, which is of `default_category` where it names none. Raises Refusal(INVALID_REQUEST)."""
    return request_of(_BODY.decode(body), default_category)


def request_of(
    fields: SendBody, default_category: str = DEFAULT_CATEGORY, *, recipients_see_each_other: bool = False
) -> SendRequest:
    """Check the fields of a send. Raises Refusal(INVALID_REQUEST).

    `recipients_see_each_other`: several recipients are a conversation although there is no `cc` and no `bcc`.
    """
    sender = mailbox_in("from", fields.sender)
    reply_to = _reply_to(fields.reply_to)
    category = fields.category or default_category
    recipients = _recipients(fields)
    everybody = recipients.everybody()
    conversation = bool(recipients.cc or recipients.bcc) or (recipients_see_each_other and len(everybody) > 1)
    if conversation and category in BULK_CATEGORIES:
        _check_is_no_list(recipients, category)
    for name, value in (("subject", fields.subject), ("text", fields.text), ("html", fields.html)):
        if value is not None and "\0" in value:
            raise invalid(name, "holds a NUL character, which mail cannot carry; remove it")
    try:
        headers = check_headers(
            fields.headers.items() if fields.headers else (),
            subject=fields.subject,
            bulk=category in BULK_CATEGORIES,
        )
    except HeaderError as error:
        raise Refusal("INVALID_REQUEST", str(error)) from error
    if not fields.text and not fields.html:
        raise invalid("text", "is required unless html is set")
    content = Content(
        from_name=sender.name,
        from_address=sender.address,
        reply_to=[(mailbox.name, mailbox.address) for mailbox in reply_to],
        to_shown=_shown(recipients.to) if conversation else [],
        cc=_shown(recipients.cc) if conversation else [],
        subject=fields.subject,
        text=fields.text or None,
        html=fields.html or None,
        headers=list(headers),
        attachments=checked_attachments(fields.attachments, fields.html) if fields.attachments else [],
        calendar=None if fields.calendar is None else checked_calendar(fields.calendar),
    )
    check_message_size(content)
    return SendRequest(
        sender,
        list(everybody.values()),
        category,
        content,
        conversation=conversation,
        hidden=frozenset(everybody.keys() - recipients.seen()) if recipients.bcc else frozenset(),
        tag=tag_in(fields.tag) if fields.tag else None,
        metadata=_metadata(fields.metadata),
        # Not even an empty one is taken for "at once": whoever fills it in from a variable meant a time.
        scheduled_at=None if fields.scheduled_at is None else moment_in("scheduledAt", fields.scheduled_at),
    )


#: As it is written, and in normal form.
_Written = tuple[str, Mailbox]


class _Recipients(NamedTuple):
    """Those of a send, all of them, as they are written."""

    to: list[_Written]
    cc: list[_Written]
    bcc: list[_Written]

    def everybody(self) -> dict[str, _Written]:
        """By address, each once, where it stands first."""
        found: dict[str, _Written] = {}
        for each in self:
            for written in each:
                found.setdefault(written[1].address, written)
        return found

    def seen(self) -> set[str]:
        """The addresses that a conversation shows."""
        return {mailbox.address for _, mailbox in (*self.to, *self.cc)}


def _recipients(fields: SendBody) -> _Recipients:
    if not fields.to and not isinstance(fields.to, str):
        raise invalid("to", "is empty; name at least one recipient")
    count = _count(fields.to)
    where = "has"
    if fields.cc or fields.bcc:
        count += _count(fields.cc or ()) + _count(fields.bcc or ())
        where = "with cc and bcc has"
    if count > RECIPIENTS_MAX:
        raise invalid("to", f"{where} {count} recipients; the most for one request is {RECIPIENTS_MAX}")
    return _Recipients(
        _mailboxes("to", fields.to),
        _mailboxes("cc", fields.cc) if fields.cc else [],
        _mailboxes("bcc", fields.bcc) if fields.bcc else [],
    )


def _count(given: str | Sequence[str]) -> int:
    return 1 if isinstance(given, str) else len(given)


def _mailboxes(field: str, given: str | Sequence[str]) -> list[_Written]:
    if isinstance(given, str):
        return [(given, mailbox_of_many_in(field, given))]
    return [(text, mailbox_of_many_in(f"{field}[{number}]", text)) for number, text in enumerate(given)]


def _check_is_no_list(recipients: _Recipients, category: str) -> None:
    """Who reads a list does not see who else does."""
    seen = len(recipients.seen())
    if seen > 1:
        field = "cc" if recipients.cc else "to"
        raise ListShownRefusal(
            "INVALID_REQUEST",
            f"{field}: a conversation shows its {seen} recipients to each other, which mail of the class of "
            f"`{category}` must "
            'not; set "category" to `transactional` if it is that, or list them all in `to`, without cc and bcc',
        )


def _shown(written: list[_Written]) -> list[tuple[str, str]]:
    return [(mailbox.name, mailbox.address) for _, mailbox in written]


def _reply_to(given: str | list[str] | None) -> list[Mailbox]:
    if not given:
        return []
    if isinstance(given, str):
        return [mailbox_of_many_in("replyTo", given)]
    if len(given) > REPLY_TO_MAX:
        raise invalid("replyTo", f"has {len(given)} addresses; the most is {REPLY_TO_MAX}")
    return [mailbox_of_many_in(f"replyTo[{number}]", text) for number, text in enumerate(given)]


def tag_in(given: str) -> str:
    """The same. Raises Refusal(INVALID_REQUEST) where it can be none."""
    if not _is_tag(given):
        raise invalid("tag", "expected 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    return given


def _metadata(given: dict[str, str] | None) -> dict[str, str] | None:
    if not given:
        return None
    if len(given) > METADATA_MAX:
        raise invalid("metadata", f"has {len(given)} names; the most is {METADATA_MAX}")
    for name, value in given.items():
        if not 1 <= len(name) <= METADATA_NAME_CHARACTERS_MAX:
            raise invalid(
                f"metadata.{name[:METADATA_NAME_CHARACTERS_MAX]}",
                f"a name has 1 to {METADATA_NAME_CHARACTERS_MAX} characters, and this one {len(name)}",
            )
        if len(value) > METADATA_VALUE_CHARACTERS_MAX:
            raise invalid(
                f"metadata.{name}",
                f"a value has at most {METADATA_VALUE_CHARACTERS_MAX} characters, and this one {len(value)}",
            )
    return given
