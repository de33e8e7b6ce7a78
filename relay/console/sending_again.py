"""A message that is over is sent again: as a new one, to the same recipient, which names the old.

It is a send like any other, by the same decision: the suppression list, limits and the domain's state are looked at as
they are now. What it holds is what the old one held; the member's own words about it have one more, `again-of`, which
is the number of the old. The old one stays as it is. A form that is sent twice sends once: `once` is made into its
Idempotency-Key.

A Message-ID that the member gave the old one stays with that: receivers would take the second for a repeat of the first
and show it to nobody. For the same reason what came in whole, by SMTP, is not sent again here.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from relay.acceptance import Idempotency, Send, Sent, answer_to
from relay.addresses import Mailbox
from relay.console.message_contents import handed_in
from relay.console.visit import Visit
from relay.events import Content, MessageQueued, SendAccepted
from relay.refusals import Refusal, invalid
from relay.requests import SendRequest
from relay.views.messages import WAITING, MessageState

AGAIN_OF: Final = "again-of"
_is_once: Final = re.compile(r"[0-9a-f]{32}").fullmatch


async def send_again(visit: Visit, state: MessageState, once: str) -> int:
    """The number of the new message. Raises Refusal."""
    if not _is_once(once):
        raise invalid("once", "load the page again")
    if state.status in WAITING:
        raise Refusal("CONFLICT", "it waits still, and will be tried again by itself")
    accepted, content, queued = handed_in(visit, state)
    if content.raw is not None:
        raise Refusal("CONFLICT", "it came in by SMTP; send it again by SMTP")
    key = hashlib.sha256(f"console {state.message_id} {once}".encode()).hexdigest()
    wanted = Send(
        request=request_again(accepted, content, queued, state.message_id),
        client_address=visit.request.client_address,
        idempotency=Idempotency(key, key),
        body_sha256=key,
        size=accepted.size,
    )
    sent: Sent = await visit.decide("send", wanted)
    rejected = answer_to(sent).rejected
    if rejected:
        raise Refusal("RECIPIENT_SUPPRESSED", rejected[0].reason)
    return sent.ids[0]


def request_again(
    accepted: SendAccepted, content: Content, queued: MessageQueued, message_id: int
) -> SendRequest:
    recipient = queued.personal
    assert recipient is not None
    headers = [each for each in content.headers if each[0].lower() != "message-id"]
    content = msgspec.structs.replace(content, headers=headers)
    return SendRequest(
        Mailbox.recorded(content.from_name, content.from_address),
        [(recipient.given, Mailbox.recorded(recipient.name, recipient.address))],
        accepted.category,
        content,
        conversation=accepted.conversation,
        hidden=frozenset() if queued.shown else frozenset({recipient.address}),
        tag=accepted.tag,
        metadata={**recipient.metadata, AGAIN_OF: str(message_id)},
    )
