"""From the log to the wire: the exact bytes and the envelope of one message.

A pure function of the message's two events and the relay's keys: `audit` makes the same bytes in a year, and every
attempt sends the same ones. Nothing of today's configuration is asked; what composing needs is in the events.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import NamedTuple

from relay import events
from relay.addresses import Mailbox
from relay.codec import Recorded
from relay.compose import Content, compose, compose_body, feedback_id, message_id_header
from relay.delivery.smtp import Envelope
from relay.events import MessageQueued, SendAccepted
from relay.keys import KeyRing
from relay.signing import sign
from relay.tokens import BounceAddresses, Unsubscribe, UnsubscribeTokens

SMOKE_SINK = "smoke-sink"


class Outgoing:
    """What is handed to a receiver."""

    def __init__(self, envelope: Envelope, message: bytes) -> None:
        self.envelope = envelope
        #: The whole message with its signatures, CRLF, not dot-stuffed.
        self.message = message

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.message).hexdigest()


class Composer(NamedTuple):
    """What composing takes besides the events: keys."""

    keyring: KeyRing
    unsubscribe: UnsubscribeTokens
    bounces: BounceAddresses

    def compose(self, accepted: Recorded, queued: Recorded) -> Outgoing:
        """The outgoing message of a `message.queued` and its `send.accepted`, both with their payloads.

        Raises KeyFileError where a signing key of then is missing.
        """
        send, message = accepted.event, queued.event
        assert isinstance(send, SendAccepted)
        assert isinstance(message, MessageQueued)
        assert send.personal is not None
        assert message.personal is not None
        content = _content(send.personal)
        to = Mailbox.recorded(message.personal.name, message.personal.address)
        composed = compose(
            content,
            compose_body(content.text, content.html),
            to=to,
            message_id=message_id_header(
                content, message_id=queued.seq, entropy=send.message_id_entropy, domain=send.domain
            ),
            accepted_at_us=accepted.time_us,
            feedback_id=feedback_id(
                sending_domain=send.domain,
                did=send.did,
                category=send.category,
                operator_domain=send.operator_domain,
            ),
            member_did=send.did,
            list_unsubscribe_url=self._unsubscribe_url(send, queued.seq, message.personal),
        )
        signers = (
            *self.keyring.signers(send.domain, send.selector_stem),
            *self.keyring.signers(send.operator_domain, send.operator_stem),
        )
        envelope = Envelope(
            mail_from=self.bounces.make(queued.seq), rcpt_to=to.address, smtputf8=composed.smtputf8
        )
        return Outgoing(envelope, sign(composed, signers, timestamp=accepted.time_us // 1_000_000))

    def _unsubscribe_url(
        self, send: SendAccepted, message_id: int, recipient: events.Recipient
    ) -> str | None:
        if send.unsubscribe_base is None:
            return None
        token = self.unsubscribe.seal(Unsubscribe(send.did, message_id, recipient.address))
        return f"{send.unsubscribe_base}/u/{token}"


def is_smoke_sink(queued: Recorded, operator_domain: str) -> bool:
    """Whether the message is for `smoke-sink@<operator domain>`, which is accepted and dropped (SPEC 6)."""
    message = queued.event
    assert isinstance(message, MessageQueued)
    return message.personal is not None and message.personal.address == f"{SMOKE_SINK}@{operator_domain}"


def _content(content: events.Content) -> Content:
    return Content(
        sender=Mailbox.recorded(content.from_name, content.from_address),
        subject=content.subject,
        text=content.text,
        html=content.html,
        reply_to=None if content.reply_to is None else Mailbox.recorded(*content.reply_to),
        headers=tuple(content.headers),
    )
