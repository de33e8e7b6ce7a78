"""Mail that came in and is passed on: two fields on top of it, and nothing else changed.

Contract. `compose_forward` is a pure function, and what came in is a suffix of what it makes, octet for octet, so that
its author's signatures (and with them DMARC) hold. It is not signed by the relay: it is not the relay's mail. On top
stand, in this order,

    Received: from <what the client called itself> ([<its address>]) by <us> with <protocol> id <S>; <when>
    X-Atmos-Forwarded: <S>-<mac>

with S the id of its `forward.queued` (RFC 5321 section 4.4; RFC 3848 for the protocol). Nothing that a client said can
start a line there, or end a comment: what is no host name and no address literal is called `unknown`.

The envelope sender is `forward+<S>-<mac>`, so that a bounce is known to be one of this mail; what came with the null
sender goes on with it (RFC 5321 section 6.1: nothing is sent about a notification).

`is_looping` says of what comes in whether it has been here already. Two relays that pass mail to each other both put
such a field on top of it, so it ends at the first one that sees its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from relay.addresses import AddressError, Mailbox
from relay.codec import Recorded
from relay.events import ForwardQueued, IncomingMail, MailReceived
from relay.message.bodies import header_line
from relay.message.compose import date_value, folded
from relay.message.field_values import readable, single_mailbox
from relay.message.fields_of import HeaderSectionError, header_of
from relay.message.headers import SUBJECT_CHARACTERS_MAX
from relay.message.submitted import RECEIVED_MAX
from relay.networks import parse_address

if TYPE_CHECKING:  # cryptography, which those who only show mail do not need
    from relay.message.tokens import BounceAddresses

#: So much of a header is looked at. What passed here stands at the top.
_LOOKED_AT_OCTETS_MAX: Final = 256 * 1024
#: So many tokens are tried, each of which is a hash for every pepper. Who has more goes in circles elsewhere.
_TOKENS_MAX: Final = 50

_UNKNOWN: Final = "unknown"
#: A host name, of one label too, or an address literal (RFC 5321 section 4.1.3).
_is_name: Final = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9_-])){0,254}|\[[A-Za-z0-9.:-]{1,64}\]"
).fullmatch
_find_passed: Final = re.compile(
    # A program on the way may have folded the field. Only the first word of it is ours.
    rb"^(?:(received)|x-atmos-forwarded)[ \t]*:(?:[ \t]|\r\n[ \t]){0,8}([!-~]{0,80})",
    re.IGNORECASE | re.MULTILINE,
).finditer


class Forwarded(NamedTuple):
    """A mail to be passed on."""

    top: bytes
    #: As it came in.
    octets: bytes

    def as_bytes(self) -> bytes:
        return self.top + self.octets

    @property
    def smtputf8(self) -> bool:
        """Whether its header is UTF-8 and not ASCII. (8-bit characters of other charsets are no SMTPUTF8, RFC 6531
        section 3.1: they go on as they came.)"""
        head = _head(self.octets, len(self.octets))
        if head.isascii():
            return False
        try:
            head.decode()
        except UnicodeDecodeError:
            return False
        return True


def compose_forward(forward: Recorded, received: Recorded, *, token: str) -> Forwarded:
    """The message of a `forward.queued`, from the `mail.received` that it passes on, which has its payload."""
    event, mail = forward.event, received.event
    assert isinstance(event, ForwardQueued)
    assert isinstance(mail, MailReceived)
    assert mail.personal is not None
    assert received.seq == forward.seq - 1
    trace = (
        f"{_from(mail.personal)} by {mail.received_by} with {mail.received_with} id {forward.seq}; "
        f"{date_value(received.time_us)}"
    )
    fields = ((b"Received", folded("Received", trace)), (b"X-Atmos-Forwarded", token.encode()))
    return Forwarded(b"".join(map(header_line, fields)), mail.personal.raw)


def is_looping(head: bytes, tokens: BounceAddresses) -> bool:
    """Whether a mail with this header (or a mail that begins with it) goes in circles: this relay has passed it on
    already, or it has been through more than RECEIVED_MAX servers. Takes CRLF lines of any octets; linear and bounded.
    """
    received = tried = 0
    for found in _find_passed(_head(head)):
        if found[1] is not None:
            received += 1
        else:
            tried += 1
            if tried > _TOKENS_MAX or tokens.parse_token(found[2].decode("ascii")) is not None:
                return True
    return received > RECEIVED_MAX


def from_and_subject(octets: bytes) -> tuple[Mailbox | None, str | None]:
    """Whose mail it is and about what, as its header says it, for showing; None for what it does not say, or not so
    that all readers would read the same."""
    head = _head(octets)
    try:
        fields = header_of(head if head.endswith(b"\r\n") or not head else head + b"\r\n").fields
    except HeaderSectionError:
        return None, None
    senders = [field for field in fields if field.name == b"from"]
    subjects = [field for field in fields if field.name == b"subject"]
    sender = None
    if len(senders) == 1:
        try:
            sender = single_mailbox(senders[0].text)
        except AddressError:
            sender = None
    return sender, readable(subjects[0].text)[:SUBJECT_CHARACTERS_MAX] if len(subjects) == 1 else None


def _from(mail: IncomingMail) -> str:
    name = mail.ehlo_name if _is_name(mail.ehlo_name) else _UNKNOWN
    try:
        address = parse_address(mail.client_address or "")
    except ValueError:
        return f"from {name}"
    literal = f"IPv6:{address}" if address.version == 6 else str(address)
    return f"from {name} ([{literal}])"


def _head(octets: bytes, octets_max: int = _LOOKED_AT_OCTETS_MAX) -> bytes:
    """The header, or so much of it."""
    if octets.startswith(b"\r\n"):
        return b""
    end = octets.find(b"\r\n\r\n", 0, octets_max)
    return octets[: end + 2] if end >= 0 else octets[:octets_max]
