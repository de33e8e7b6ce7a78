"""From the log to the wire: the exact bytes and the envelope of one message.

A pure function of the message's events and the relay's keys: `audit` makes the same bytes in a year, and every
attempt sends the same ones. Nothing of today's configuration is asked; what composing needs is in the events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Final, NamedTuple, Self, TypeVar

from relay import events
from relay.addresses import Mailbox
from relay.codec import Recorded
from relay.events import DsnQueued, MessageQueued, SendAccepted
from relay.message.canonical import body_hash
from relay.message.compose import (
    Body,
    Draft,
    Message,
    Shared,
    compose,
    compose_body,
    feedback_id,
    message_id_header,
    shared_fields,
)
from relay.message.dsn import compose_dsn
from relay.message.envelope import Envelope
from relay.message.key_files import KeyFileError, pepper_name
from relay.message.keys import KeyRing, Pepper, Peppers
from relay.message.signing import sign
from relay.message.tokens import BounceAddresses, Unsubscribe, UnsubscribeTokens
from relay.times import SECOND_US
from relay.views.messages import MessageState

Contents = TypeVar("Contents")

SMOKE_SINK = "smoke-sink"

#: How many sends a composer keeps, and how large their bodies may be together.
SENDS_KEPT_MAX: Final = 64
SENDS_KEPT_OCTETS_MAX: Final = 8 << 20

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


class _Send(NamedTuple):
    """What all recipients of a send share."""

    accepted: Recorded
    draft: Draft
    body: Body
    bh: bytes
    shared: Shared

    @property
    def event(self) -> SendAccepted:
        assert isinstance(self.accepted.event, SendAccepted)
        return self.accepted.event

    @classmethod
    def of(cls, accepted: Recorded) -> Self:
        send = accepted.event
        assert isinstance(send, SendAccepted)
        assert send.personal is not None
        draft = _draft_of(send.personal)
        body = compose_body(draft.text, draft.html)
        return cls(accepted, draft, body, body_hash(body.octets), shared_fields(draft, send.composition))


class _Sends:
    """Sends that are being delivered, the last ones, so that a body is not made and hashed for every recipient."""

    def __init__(self) -> None:
        self._by_seq: dict[int, _Send] = {}
        self._octets = 0

    def get(self, seq: int) -> _Send | None:
        send = self._by_seq.pop(seq, None)
        if send is not None:
            self._by_seq[seq] = send  # to the end: the one unused for longest goes first
        return send

    def keep(self, send: _Send) -> None:
        """Of a send to one there is nothing to share, and one that would displace all others is not worth it."""
        size = len(send.body.octets)
        if send.event.recipients == 1 or size > SENDS_KEPT_OCTETS_MAX:
            return
        self._by_seq[send.accepted.seq] = send
        self._octets += size
        while self._octets > SENDS_KEPT_OCTETS_MAX or len(self._by_seq) > SENDS_KEPT_MAX:
            oldest = self._by_seq.pop(next(iter(self._by_seq)))
            self._octets -= len(oldest.body.octets)


class Composer:
    """Composes with the keys of a relay. Between calls it keeps the sends that it met last."""

    def __init__(
        self,
        keyring: KeyRing,
        unsubscribe: UnsubscribeTokens,
        bounces: BounceAddresses,
        pepper_at: Callable[[int], int],
    ) -> None:
        self.keyring = keyring
        self.unsubscribe = unsubscribe
        self.bounces = bounces
        self._pepper_at = pepper_at
        self._sends = _Sends()

    @classmethod
    def of(
        cls, keyring: KeyRing, peppers: Peppers, operator_domain: str, pepper_at: Callable[[int], int]
    ) -> Self:
        """`pepper_at(message_id)`: the number of the pepper that held when the message was accepted."""
        (_, first), *later = sorted(peppers.items())
        composer = cls(
            keyring,
            UnsubscribeTokens(first.unsubscribe_key),
            BounceAddresses(first.bounce_key, operator_domain),
            pepper_at,
        )
        for number, pepper in later:
            composer.add_pepper(number, pepper)
        return composer

    def add_pepper(self, number: int, pepper: Pepper) -> None:
        """Know what a later pepper makes."""
        self.unsubscribe.add(number, pepper.unsubscribe_key)
        self.bounces.add(number, pepper.bounce_key)

    def outgoing_of(self, state: MessageState, get: Callable[[int], Recorded]) -> Outgoing:
        """The outgoing message, of a member's or a DSN. `get` reads an event of the log by its sequence number.

        Raises PayloadGoneError, or KeyFileError where a signing key or the pepper of then is missing.
        """

        def whole(seq: int) -> Recorded:
            recorded = get(seq)
            if recorded.event.personal is None:
                raise PayloadGoneError(f"the payload of sequence {seq} has been removed")
            return recorded

        if state.about is None:
            queued = whole(state.message_id)  # first: retention takes it with the send that may be kept here
            send = self._sends.get(state.send_seq)
            if send is None:
                send = _Send.of(whole(state.send_seq))
                self._sends.keep(send)
            return self._outgoing(send, queued)
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
        return self._outgoing(_Send.of(accepted), queued)

    def _outgoing(self, send: _Send, queued: Recorded) -> Outgoing:
        event, message = send.event, queued.event
        assert isinstance(message, MessageQueued)
        assert message.personal is not None
        composed = self._composed(send, message.personal, queued.seq)
        signers = (
            *self.keyring.signers(event.domain, event.selector_stem),
            *self.keyring.signers(event.operator_domain, event.operator_stem),
        )
        envelope = Envelope(
            mail_from=self._made_by_pepper(self.bounces.make, queued.seq, queued.seq),
            rcpt_to=message.personal.address,
            smtputf8=composed.smtputf8,
        )
        timestamp = send.accepted.time_us // SECOND_US
        return Outgoing(
            envelope, sign(composed, signers, timestamp=timestamp, bh=send.bh, composition=event.composition)
        )

    def _dsn(self, dsn: Recorded, bounced: Recorded, *, accepted: Recorded, queued: Recorded) -> Outgoing:
        notice, message = dsn.event, queued.event
        assert isinstance(notice, DsnQueued)
        assert isinstance(message, MessageQueued)
        assert notice.personal is not None
        assert message.personal is not None
        original = self._composed(_Send.of(accepted), message.personal, queued.seq)
        composed = compose_dsn(dsn, bounced, accepted=accepted, queued=queued, original=original)
        envelope = Envelope(
            mail_from=NULL_SENDER, rcpt_to=notice.personal.address, smtputf8=composed.smtputf8
        )
        signers = self.keyring.signers(notice.operator_domain, notice.operator_stem)
        return Outgoing(
            envelope,
            sign(
                composed,
                signers,
                timestamp=dsn.time_us // SECOND_US,
                composition=notice.composition,
            ),
        )

    def _composed(self, send: _Send, recipient: events.Recipient, message_id: int) -> Message:
        """A member's message, without its signatures."""
        event = send.event
        return compose(
            send.draft,
            send.body,
            to=Mailbox.recorded(recipient.name, recipient.address),
            message_id=message_id_header(
                send.draft, message_id=message_id, entropy=event.message_id_entropy, domain=event.domain
            ),
            accepted_at_us=send.accepted.time_us,
            feedback_id=feedback_id(
                sending_domain=event.domain,
                did=event.did,
                category=event.category,
                operator_domain=event.operator_domain,
            ),
            member_did=event.did,
            list_unsubscribe_url=self._unsubscribe_url(event, message_id, recipient),
            shared=send.shared,
        )

    def _unsubscribe_url(
        self, send: SendAccepted, message_id: int, recipient: events.Recipient
    ) -> str | None:
        if send.unsubscribe_base is None:
            return None
        who = Unsubscribe(send.did, message_id, recipient.address)
        token = self._made_by_pepper(self.unsubscribe.seal, who, message_id)
        return f"{send.unsubscribe_base}/u/{token}"

    def _made_by_pepper(self, make: Callable[[Contents, int], str], of: Contents, message_id: int) -> str:
        """By the pepper of then. Raises KeyFileError where that is missing."""
        number = self._pepper_at(message_id)
        try:
            return make(of, number)
        except KeyError:
            raise KeyFileError(f"{pepper_name(number)}: is missing; restore it from a backup") from None


def is_smoke_sink(queued: Recorded, operator_domain: str) -> bool:
    """Whether the message is for `smoke-sink@<operator domain>`, which is accepted and dropped (SPEC 6)."""
    message = queued.event
    assert isinstance(message, MessageQueued | DsnQueued)
    return message.personal is not None and message.personal.address == f"{SMOKE_SINK}@{operator_domain}"


def _draft_of(content: events.Content) -> Draft:
    return Draft(
        sender=Mailbox.recorded(content.from_name, content.from_address),
        subject=content.subject,
        text=content.text,
        html=content.html,
        reply_to=None if content.reply_to is None else Mailbox.recorded(*content.reply_to),
        headers=tuple(content.headers),
    )
