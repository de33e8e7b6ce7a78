"""From the log to the wire: the exact bytes and the envelope of one message.

A pure function of the message's events and the relay's keys: `audit` makes the same bytes in a year, and every
attempt sends the same ones. Nothing of today's configuration is asked; what composing needs is in the events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, Self

from relay import events
from relay.addresses import Mailbox
from relay.codec import Recorded
from relay.compose import Content, Message, compose, compose_body, feedback_id, message_id_header
from relay.delivery.smtp import Envelope
from relay.dsn import compose_dsn
from relay.events import DsnQueued, MessageQueued, SendAccepted
from relay.keys import KeyRing, Pepper
from relay.signing import sign
from relay.tokens import BounceAddresses, Unsubscribe, UnsubscribeTokens
from relay.views.messages import MessageState

SMOKE_SINK = "smoke-sink"


#: What the envelope of a notification has as its sender, so that nobody answers it (RFC 3464 §2).
NULL_SENDER = ""


class PayloadGoneError(Exception):
    """Retention has removed what composing needs: the message can never be made again."""


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

    @classmethod
    def of(cls, keyring: KeyRing, pepper: Pepper, operator_domain: str) -> Self:
        return cls(
            keyring,
            UnsubscribeTokens(pepper.unsubscribe_key),
            BounceAddresses(pepper.bounce_key, operator_domain),
        )

    def outgoing_of(self, state: MessageState, get: Callable[[int], Recorded]) -> Outgoing:
        """The outgoing message, of a member's or a DSN. `get` reads an event of the log by its sequence number.

        Raises PayloadGoneError, or KeyFileError where a signing key of then is missing.
        """

        def whole(seq: int) -> Recorded:
            recorded = get(seq)
            if recorded.event.personal is None:
                raise PayloadGoneError(f"the payload of sequence {seq} has been removed")
            return recorded

        if state.about is None:
            return self.compose(whole(state.send_seq), whole(state.message_id))
        queued = whole(state.about)
        assert isinstance(queued.event, MessageQueued)
        return self._dsn(
            whole(state.message_id),
            get(state.message_id - 1),
            accepted=whole(queued.seq - queued.event.index),
            queued=queued,
        )

    def compose(self, accepted: Recorded, queued: Recorded) -> Outgoing:
        """The outgoing message of a `message.queued` and its `send.accepted`, both with their payloads.

        Raises KeyFileError where a signing key of then is missing.
        """
        send, message = accepted.event, queued.event
        assert isinstance(send, SendAccepted)
        assert isinstance(message, MessageQueued)
        assert message.personal is not None
        composed = self._composed(send, accepted.time_us, message.personal, queued.seq)
        signers = (
            *self.keyring.signers(send.domain, send.selector_stem),
            *self.keyring.signers(send.operator_domain, send.operator_stem),
        )
        envelope = Envelope(
            mail_from=self.bounces.make(queued.seq),
            rcpt_to=message.personal.address,
            smtputf8=composed.smtputf8,
        )
        return Outgoing(envelope, sign(composed, signers, timestamp=accepted.time_us // 1_000_000))

    def _dsn(self, dsn: Recorded, bounced: Recorded, *, accepted: Recorded, queued: Recorded) -> Outgoing:
        notice, send, message = dsn.event, accepted.event, queued.event
        assert isinstance(notice, DsnQueued)
        assert isinstance(send, SendAccepted)
        assert isinstance(message, MessageQueued)
        assert notice.personal is not None
        assert message.personal is not None
        original = self._composed(send, accepted.time_us, message.personal, queued.seq)
        composed = compose_dsn(dsn, bounced, accepted=accepted, queued=queued, original=original)
        envelope = Envelope(
            mail_from=NULL_SENDER, rcpt_to=notice.personal.address, smtputf8=composed.smtputf8
        )
        signers = self.keyring.signers(notice.operator_domain, notice.operator_stem)
        return Outgoing(envelope, sign(composed, signers, timestamp=dsn.time_us // 1_000_000))

    def _composed(
        self, send: SendAccepted, accepted_at_us: int, recipient: events.Recipient, message_id: int
    ) -> Message:
        """A member's message, without its signatures."""
        assert send.personal is not None
        content = _content(send.personal)
        return compose(
            content,
            compose_body(content.text, content.html),
            to=Mailbox.recorded(recipient.name, recipient.address),
            message_id=message_id_header(
                content, message_id=message_id, entropy=send.message_id_entropy, domain=send.domain
            ),
            accepted_at_us=accepted_at_us,
            feedback_id=feedback_id(
                sending_domain=send.domain,
                did=send.did,
                category=send.category,
                operator_domain=send.operator_domain,
            ),
            member_did=send.did,
            list_unsubscribe_url=self._unsubscribe_url(send, message_id, recipient),
        )

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
    assert isinstance(message, MessageQueued | DsnQueued)
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
