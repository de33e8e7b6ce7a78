"""A message that came in whole, as it goes out: fields on top of what was kept of it, and nothing else changed.

Contract. `compose_whole` is a pure function, and what was kept (`relay.message.submitted`) is a suffix of what it
makes, octet for octet: body, parts, order and folds of the fields, and the signatures in them that cover no field that
was removed or added. In this order stand on top of it, below our own signatures: the List-Unsubscribe pair in the bulk
class, Feedback-ID, X-Atmos-Member-Did, X-Atmos-Message (since composition 3), one Received (RFC 5321 §4.4), and Date
and Message-ID where there are none (RFC 6409 §8.2 and §8.3).

The client's address is not in Received: it is a home address more often than not. The log has it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from relay.message.bodies import Header, header_line
from relay.message.compose import date_value, folded, token_field, unsubscribe_pair
from relay.message.fields_of import HeaderSection, header_of

# RFC 5322 §3.6.4, loosely: what can be quoted in another message as one word.
_is_message_id: Final = re.compile(rb"<[!-;=?-~]{1,900}>").fullmatch


class WholeMessage(NamedTuple):
    """The twin of `relay.message.compose.Message`."""

    prefix: tuple[Header, ...]
    kept: bytes
    section: HeaderSection

    @property
    def headers(self) -> tuple[Header, ...]:
        """All fields, each with its value as it is folded."""
        return (*self.prefix, *((field.name, field.value) for field in self.section.fields))

    @property
    def head(self) -> bytes:
        """The header as it goes out, without the empty line."""
        fields = self.section.fields
        return b"".join([*map(header_line, self.prefix), self.kept[: fields[-1].end if fields else 0]])

    @property
    def body(self) -> bytes:
        return self.kept[self.section.body_start :]

    @property
    def smtputf8(self) -> bool:
        """Whether the receiver must offer SMTPUTF8: the header is not ASCII."""
        return not self.head.isascii()

    @property
    def message_id(self) -> bytes | None:
        """What others can name it by; None: its own Message-ID is none."""
        found = next(value.strip(b" \t\r\n") for name, value in self.headers if name.lower() == b"message-id")
        return found if _is_message_id(found) else None

    def as_bytes(self) -> bytes:
        return b"".join([*map(header_line, self.prefix), self.kept])


def compose_whole(
    kept: bytes,
    *,
    message_id: int,
    entropy: str,
    sending_domain: str,
    accepted_at_us: int,
    feedback_id: str,
    member_did: str,
    received_by: str,
    received_with: str,
    list_unsubscribe_url: str | None = None,
    token: str | None = None,
    section: HeaderSection | None = None,
) -> WholeMessage:
    """Return one recipient's message. `section` is `header_of` of the same octets, where that is known."""
    section = section or header_of(kept)
    date = date_value(accepted_at_us)
    received = f"from {sending_domain} by {received_by} with {received_with} id {message_id}; {date}"
    prefix: list[Header] = [
        *(unsubscribe_pair(list_unsubscribe_url) if list_unsubscribe_url is not None else ()),
        (b"Feedback-ID", feedback_id.encode()),
        (b"X-Atmos-Member-Did", member_did.encode()),
        *token_field(token),
        (b"Received", folded("Received", received)),
    ]
    own = {field.name for field in section.fields}
    if b"date" not in own:
        prefix.append((b"Date", date.encode()))
    if b"message-id" not in own:
        prefix.append((b"Message-ID", f"<{message_id}.{entropy}@{sending_domain}>".encode()))
    return WholeMessage(tuple(prefix), kept, section)
