"""From the log to the wire: the exact bytes and the envelope of one message.

A pure function of the message's events and the relay's keys: `audit` makes the same bytes in a year, and every
attempt sends the same ones. Nothing of today's configuration is asked; what composing needs is in the events.

It has two steps, because a large mail is made beside the loop (`relay.heavy_work`): `Composer.gather` reads events and
keys, and `Gathered.compose` makes the message of them, in whatever thread. `Composer.outgoing_of` is both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Final, NamedTuple, Self

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
from relay.message.keys import KeyRing, Pepper
from relay.message.signer import Signer
from relay.message.signing import sign
from relay.message.tokens import BounceAddresses, Unsubscribe, UnsubscribeTokens
from relay.times import SECOND_US
from relay.views.messages import MessageState

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
        if send.event.recipients == 1 or size > SENDS_KEPT_OCTETS_MAX or send.accepted.seq in self._by_seq:
            return
        self._by_seq[send.accepted.seq] = send
        self._octets += size
        while self._octets > SENDS_KEPT_OCTETS_MAX or len(self._by_seq) > SENDS_KEPT_MAX:
            oldest = self._by_seq.pop(next(iter(self._by_seq)))
            self._octets -= len(oldest.body.octets)


class Gathered:
    """All that one outgoing message is made of."""

    def __init__(self, send: _Send | Recorded, make: Callable[[_Send], Outgoing]) -> None:
        self._send = send
        self._make = make

    @property
    def octets(self) -> int:
        """How large the work is, about: the octets of the body, or of the request that it is made of."""
        if isinstance(self._send, _Send):
            return len(self._send.body.octets)
        send = self._send.event
        assert isinstance(send, SendAccepted)
        assert send.personal is not None
        characters = len(send.personal.text or "") + len(send.personal.html or "")
        return max(characters, send.size)  # old events do not say their size

    def compose(self) -> Outgoing:
        """Pure, and shared with nobody: may be called in any thread."""
        if not isinstance(self._send, _Send):
            self._send = _Send.of(self._send)
        outgoing = self._make(self._send)
        _ = outgoing.sha256  # it takes as long as a signature's digest, and will be wanted
        return outgoing

    @property
    def send(self) -> _Send:
        """When it is composed: what other recipients of the send can use."""
        assert isinstance(self._send, _Send)
        return self._send


class Composer:
    """Composes with the keys of a relay. Between calls it keeps the sends that it met last."""

    def __init__(self, keyring: KeyRing, unsubscribe: UnsubscribeTokens, bounces: BounceAddresses) -> None:
        self.keyring = keyring
        self.unsubscribe = unsubscribe
        self.bounces = bounces
        self._sends = _Sends()

    @classmethod
    def of(cls, keyring: KeyRing, pepper: Pepper, operator_domain: str) -> Self:
        return cls(
            keyring,
            UnsubscribeTokens(pepper.unsubscribe_key),
            BounceAddresses(pepper.bounce_key, operator_domain),
        )

    def outgoing_of(self, state: MessageState, get: Callable[[int], Recorded]) -> Outgoing:
        """Gather and compose. Raises as `gather`."""
        return self.gather(state, get).compose()

    def gather(self, state: MessageState, get: Callable[[int], Recorded]) -> Gathered:
        """What a member's message, or a DSN, is made of. `get` reads an event of the log by its sequence number.

        Raises PayloadGoneError, or KeyFileError where a signing key of then is missing.
        """

        def whole(seq: int) -> Recorded:
            recorded = get(seq)
            if recorded.event.personal is None:
                raise PayloadGoneError(f"the payload of sequence {seq} has been removed")
            return recorded

        if state.about is None:
            queued = whole(state.message_id)  # first: retention takes it with the send that may be kept here
            return self._gathered(self._sends.get(state.send_seq) or whole(state.send_seq), queued)
        queued = whole(state.about)
        assert isinstance(queued.event, MessageQueued)
        send_seq = queued.seq - queued.event.index
        return self._gathered_dsn(
            whole(state.message_id),
            get(state.message_id - 1),
            send=self._sends.get(send_seq) or whole(send_seq),
            queued=queued,
        )

    def keep(self, gathered: Gathered) -> None:
        """Keep what has been composed for the other recipients of its send."""
        self._sends.keep(gathered.send)

    def compose(self, accepted: Recorded, queued: Recorded) -> Outgoing:
        """The outgoing message of a `message.queued` and its `send.accepted`, both with their payloads.

        Raises KeyFileError where a signing key of then is missing.
        """
        return self._gathered(accepted, queued).compose()

    def _gathered(self, send: _Send | Recorded, queued: Recorded) -> Gathered:
        event, message = send.event, queued.event
        assert isinstance(event, SendAccepted)
        assert isinstance(message, MessageQueued)
        assert message.personal is not None
        signers = (
            *self.keyring.signers(event.domain, event.selector_stem),
            *self.keyring.signers(event.operator_domain, event.operator_stem),
        )
        return Gathered(send, partial(self._outgoing, queued.seq, message.personal, signers))

    def _outgoing(
        self, message_id: int, recipient: events.Recipient, signers: Sequence[Signer], send: _Send
    ) -> Outgoing:
        event = send.event
        composed = self._composed(send, recipient, message_id)
        envelope = Envelope(
            mail_from=self.bounces.make(message_id), rcpt_to=recipient.address, smtputf8=composed.smtputf8
        )
        timestamp = send.accepted.time_us // SECOND_US
        return Outgoing(
            envelope, sign(composed, signers, timestamp=timestamp, bh=send.bh, composition=event.composition)
        )

    def _gathered_dsn(
        self, dsn: Recorded, bounced: Recorded, *, send: _Send | Recorded, queued: Recorded
    ) -> Gathered:
        notice, message = dsn.event, queued.event
        assert isinstance(notice, DsnQueued)
        assert isinstance(message, MessageQueued)
        assert notice.personal is not None
        assert message.personal is not None
        signers = self.keyring.signers(notice.operator_domain, notice.operator_stem)

        def make(send: _Send) -> Outgoing:
            assert isinstance(notice, DsnQueued)
            assert isinstance(message, MessageQueued)
            assert notice.personal is not None
            assert message.personal is not None
            original = self._composed(send, message.personal, queued.seq)
            composed = compose_dsn(dsn, bounced, accepted=send.accepted, queued=queued, original=original)
            envelope = Envelope(
                mail_from=NULL_SENDER, rcpt_to=notice.personal.address, smtputf8=composed.smtputf8
            )
            return Outgoing(
                envelope,
                sign(
                    composed,
                    signers,
                    timestamp=dsn.time_us // SECOND_US,
                    composition=notice.composition,
                ),
            )

        return Gathered(send, make)

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
        token = self.unsubscribe.seal(Unsubscribe(send.did, message_id, recipient.address))
        return f"{send.unsubscribe_base}/u/{token}"


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
