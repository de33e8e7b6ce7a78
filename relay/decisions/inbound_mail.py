"""What becomes of mail that comes in and is no report: passed on, or not. Pure functions of the views (INBOUND.md).

The contract. What is passed on is recorded whole, and its `forward.queued` right behind it in the same batch: no crash
parts them. The same mail in the same envelope within five days is a repeat, which changes nothing: whoever got no
answer sends again.

The rest are questions that the door asks before it answers. A mail is a *reply* if it names a Message-ID that this
domain sent: one of the relay's making is proved by chance that only its receivers know, one of the member's own is in
the views (`relay.views.message_ids`). A *known sender* was written to by this domain lately; that proves nothing by
itself, since anybody can write any envelope sender.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

from relay.codec import Recorded
from relay.config import Config
from relay.events import (
    FORWARD_CATEGORY,
    Addressee,
    Event,
    ForwardQueued,
    IncomingMail,
    MailReceived,
    SendAccepted,
)
from relay.times import DAY_US, SECOND_US
from relay.views import members, message_ids, messages, received, suppressions
from spool.views import Snapshot

#: Who was written to before that is known no more.
KNOWN_SENDER_US: Final = 30 * DAY_US
#: Of a recipient's messages so many are looked at, the newest first.
_LOOKED_AT_MAX: Final = 200

_is_own_id: Final = re.compile(r"<([1-9][0-9]{0,15})\.([0-9a-f]{1,64})@([^<>@\s]{1,255})>").fullmatch


class Incoming(NamedTuple):
    """A mail that is to be passed on, as it came in."""

    kind: Literal["operator", "reply", "other"]
    #: NOBODY: it is for the operator.
    did: str
    domain: str
    #: As in `relay.mail_reading`.
    reading: str
    #: "": the null sender.
    mail_from: str
    rcpt_to: tuple[str, ...]
    client_address: str | None
    ehlo_name: str
    #: What the Received field says.
    received_by: str
    received_with: str
    #: All of it, CRLF.
    raw: bytes
    #: Hex: of the mail, and of envelope and mail.
    sha256: str
    digest: str


def pass_on(
    view: Snapshot, incoming: Incoming, to_address: str, *, config: Config, now_us: int
) -> list[Event]:
    """`mail.received` and the `forward.queued` to this address (a normal form). [] for a repeat."""
    if received.is_repeat(view, incoming.digest, now_us):
        return []
    return [
        MailReceived(
            did=incoming.did,
            kind=incoming.kind,
            domain=incoming.domain,
            reading=incoming.reading,
            sha256=incoming.sha256,
            size=len(incoming.raw),
            digest=incoming.digest,
            mail_from_null=not incoming.mail_from,
            received_by=incoming.received_by,
            received_with=incoming.received_with,
            personal=IncomingMail(
                mail_from=incoming.mail_from,
                rcpt_to=list(incoming.rcpt_to),
                client_address=incoming.client_address,
                ehlo_name=incoming.ehlo_name,
                raw=incoming.raw,
            ),
        ),
        ForwardQueued(
            did=incoming.did,
            domain=incoming.domain,
            next_attempt_at=now_us,
            give_up_at=now_us + config.give_up_seconds(FORWARD_CATEGORY) * SECOND_US,
            operator_domain=config.operator_domain,
            personal=Addressee(given=to_address, address=to_address),
        ),
    ]


def forward_address(view: Snapshot, did: str, domain: str, *, config: Config) -> str | None:
    """Where mail for the member's domain is passed on to; None: nowhere.

    Only of whoever has the name, proved where it has to be; only where the mailbox's owner has confirmed it, and is on
    nobody's suppression list.
    """
    state = members.domain(view, domain)
    if state is None or state.did != did or (config.require_verified_domains and not state.verified):
        return None
    address = state.forward_to
    if address is None or not state.forward_confirmed or suppressions.is_on_any_list(view, address):
        return None
    return address


def is_reply(
    view: Snapshot, did: str, domain: str, references: Sequence[str], get: Callable[[int], Recorded]
) -> bool:
    """Whether one of these Message-IDs (with their angle brackets) is of a message that the member sent from this
    domain. `get` reads an event of the log by its sequence number."""
    return any(
        _is_made_here(view, did, domain, reference, get) or message_ids.is_own(view, did, domain, reference)
        for reference in references
    )


def _is_made_here(
    view: Snapshot, did: str, domain: str, reference: str, get: Callable[[int], Recorded]
) -> bool:
    match = _is_own_id(reference)
    if match is None or match[3].lower() != domain:
        return False
    state = messages.message(view, int(match[1]))
    if state is None or state.did != did or state.domain != domain or state.is_notice:
        return False
    send = get(state.send_seq).event
    assert isinstance(send, SendAccepted)
    return send.message_id_entropy == match[2]


def is_known_sender(view: Snapshot, did: str, domain: str, address: str, now_us: int) -> bool:
    """Whether the address got mail of this domain that was accepted in the last 30 days."""
    if not address:
        return False
    for state in islice(messages.messages_of(view, did, recipient=address), _LOOKED_AT_MAX):
        if state.accepted_at <= now_us - KNOWN_SENDER_US:
            break
        if state.domain == domain and not state.is_notice:
            return True
    return False
