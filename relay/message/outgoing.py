"""From the log to the wire: the exact bytes and the envelope of one message.

A pure function of the message's events and the relay's keys: `audit` makes the same bytes in a year, and every
attempt sends the same ones. Nothing of today's configuration is asked; what composing needs is in the events.

It has two steps, because a large mail is made beside the loop (`relay.heavy_work`): `Composer.gather` reads events and
keys, and `Gathered.compose` makes the message of them, in whatever thread. `Composer.outgoing_of` is both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from typing import Self, TypeVar

from relay import events
from relay.addresses import Mailbox
from relay.codec import Recorded
from relay.events import (
    ALARM_CATEGORY,
    CONFIRMATION_CATEGORY,
    FORWARD_CATEGORY,
    WEBHOOK_CATEGORY,
    AlarmQueued,
    ConfirmationQueued,
    DsnQueued,
    ForwardQueued,
    MailReceived,
    MessageQueued,
    Notice,
    OwnNotice,
    SendAccepted,
    WebhookNoticeQueued,
)
from relay.message import TOKEN_SINCE
from relay.message.alarm_notice import compose_alarm
from relay.message.compose import (
    Message,
    compose,
    feedback_id,
    message_id_header,
)
from relay.message.confirmation import compose_confirmation
from relay.message.dsn import compose_dsn
from relay.message.envelope import Envelope
from relay.message.forward import compose_forward
from relay.message.key_files import KeyFileError, pepper_name
from relay.message.keys import KeyRing, Pepper, Peppers
from relay.message.sends import Send, Sends
from relay.message.signer import Signer
from relay.message.signing import sign
from relay.message.tokens import (
    BounceAddresses,
    Confirmation,
    ConfirmationTokens,
    Unsubscribe,
    UnsubscribeTokens,
)
from relay.message.webhook_notice import compose_webhook_notice
from relay.message.whole import WholeMessage, compose_whole
from relay.times import SECOND_US
from relay.views.messages import MessageState

Contents = TypeVar("Contents")

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


class Gathered:
    """All that one outgoing message is made of."""

    def __init__(self, send: Send | None, make: Callable[[], Outgoing], *, octets: int = 0) -> None:
        #: When it is composed, other recipients of the send can use it. None: there are no others.
        self.send = send
        self._make = make
        self._octets = octets

    @property
    def octets(self) -> int:
        """How large the work is, about."""
        return self._octets if self.send is None else self.send.octets

    def compose(self) -> Outgoing:
        """Pure: may be called in any thread."""
        outgoing = self._make()
        _ = outgoing.sha256  # it takes as long as a signature's digest, and will be wanted
        return outgoing


class Composer:
    """Composes with the keys of a relay. Between calls it keeps the sends that it met last."""

    def __init__(
        self,
        keyring: KeyRing,
        unsubscribe: UnsubscribeTokens,
        bounces: BounceAddresses,
        confirmations: ConfirmationTokens,
        pepper_at: Callable[[int], int],
    ) -> None:
        self.keyring = keyring
        self.unsubscribe = unsubscribe
        self.confirmations = confirmations
        self.bounces = bounces
        #: Kept for the few messages that are at work: each asks three times.
        self._pepper_at = lru_cache(maxsize=64)(pepper_at)
        self._sends = Sends()

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
            ConfirmationTokens(first.confirmation_key),
            pepper_at,
        )
        for number, pepper in later:
            composer.add_pepper(number, pepper)
        return composer

    def add_pepper(self, number: int, pepper: Pepper) -> None:
        """Know what a later pepper makes."""
        self.unsubscribe.add(number, pepper.unsubscribe_key)
        self.bounces.add(number, pepper.bounce_key)
        self.confirmations.add(number, pepper.confirmation_key)

    def outgoing_of(self, state: MessageState, get: Callable[[int], Recorded]) -> Outgoing:
        """Gather and compose. Raises as `gather`."""
        return self.gather(state, get).compose()

    def gather(self, state: MessageState, get: Callable[[int], Recorded]) -> Gathered:
        """What a member's message, a notice, or mail that is passed on is made of. `get` reads an event of the log by
        its sequence number.

        Raises PayloadGoneError, or KeyFileError where a signing key or the pepper of then is missing.
        """
        if state.category == FORWARD_CATEGORY:
            # First: retention takes the mailbox with the mail.
            forward = _whole(get, state.message_id)
            return self._gathered_forward(forward, _whole(get, state.message_id - 1))
        if state.category == WEBHOOK_CATEGORY:
            return self._gathered_webhook_notice(_whole(get, state.message_id))
        if state.category == ALARM_CATEGORY:
            return self._gathered_alarm(_whole(get, state.message_id))
        if state.category == CONFIRMATION_CATEGORY:
            return self._gathered_confirmation(_whole(get, state.message_id))
        if state.about is None:
            queued = _whole(get, state.message_id)  # first: retention takes it with the send that may be kept
            return self._gathered(self._send_of(state.send_seq, get), queued, state.scheduled_at)
        queued = _whole(get, state.about)
        assert isinstance(queued.event, MessageQueued)
        return self._gathered_dsn(
            _whole(get, state.message_id),
            get(state.message_id - 1),
            send=self._send_of(queued.seq - queued.event.index, get),
            queued=queued,
        )

    def _send_of(self, seq: int, get: Callable[[int], Recorded]) -> Send:
        return self._sends.get(seq) or Send(_whole(get, seq))

    def keep(self, gathered: Gathered) -> None:
        """Keep what has been composed for the other recipients of its send."""
        if gathered.send is not None:
            self._sends.keep(gathered.send)

    def forget_sends(self) -> None:
        """What they were made of is being erased."""
        self._sends = Sends()

    def compose(self, accepted: Recorded, queued: Recorded) -> Outgoing:
        """The outgoing message of a `message.queued` and its `send.accepted`, both with their payloads, where it is
        tried at the time that they name.

        Raises KeyFileError where a signing key of then is missing.
        """
        assert isinstance(accepted.event, SendAccepted)
        return self._gathered(Send(accepted), queued, accepted.event.scheduled_at).compose()

    def _gathered(self, send: Send, queued: Recorded, scheduled_at: int | None) -> Gathered:
        event, message = send.event, queued.event
        assert isinstance(event, SendAccepted)
        assert isinstance(message, MessageQueued)
        assert message.personal is not None
        signers = (
            *self.keyring.signers(event.domain, event.selector_stem),
            *self.keyring.signers(event.operator_domain, event.operator_stem),
        )
        dated_at = send.dated_at(scheduled_at)
        return Gathered(send, partial(self._outgoing, send, queued.seq, message.personal, signers, dated_at))

    def _outgoing(
        self,
        send: Send,
        message_id: int,
        recipient: events.Recipient,
        signers: Sequence[Signer],
        dated_at: int,
    ) -> Outgoing:
        event = send.event
        composed = self._composed(send, recipient, message_id, dated_at)
        envelope = Envelope(
            mail_from=NULL_SENDER if event.mail_from_null else self._bounce_address(message_id),
            rcpt_to=recipient.address,
            # What came in whole may name its recipient nowhere.
            smtputf8=composed.smtputf8 or not recipient.address.isascii(),
        )
        timestamp = dated_at // SECOND_US
        return Outgoing(
            envelope, sign(composed, signers, timestamp=timestamp, bh=send.bh, composition=event.composition)
        )

    def _gathered_dsn(self, dsn: Recorded, bounced: Recorded, *, send: Send, queued: Recorded) -> Gathered:
        def make() -> Outgoing:
            notice, message = dsn.event, queued.event
            assert isinstance(notice, DsnQueued)
            assert isinstance(message, MessageQueued)
            assert message.personal is not None
            dated_at = send.dated_at(notice.scheduled_at)
            original = self._composed(send, message.personal, queued.seq, dated_at)
            composed = compose_dsn(dsn, bounced, accepted=send.accepted, queued=queued, original=original)
            return self._of_the_relay(composed, dsn, notice, mail_from=NULL_SENDER)

        return Gathered(send, make)

    def _gathered_confirmation(self, confirmation: Recorded) -> Gathered:
        event = confirmation.event
        assert isinstance(event, ConfirmationQueued)
        assert event.personal is not None
        wanted = Confirmation(event.domain, confirmation.seq, event.personal.address)
        token = self._made_by_pepper(self.confirmations.seal, wanted, confirmation.seq)
        composed = compose_confirmation(confirmation, f"{event.link_base}/confirm/{token}")
        mail_from = self._bounce_address(confirmation.seq)
        return Gathered(None, lambda: self._of_the_relay(composed, confirmation, event, mail_from=mail_from))

    def _gathered_webhook_notice(self, notice: Recorded) -> Gathered:
        event = notice.event
        assert isinstance(event, WebhookNoticeQueued)
        composed = compose_webhook_notice(notice)
        return Gathered(None, partial(self._of_the_relay, composed, notice, event, mail_from=NULL_SENDER))

    def _gathered_alarm(self, alarm: Recorded) -> Gathered:
        event = alarm.event
        assert isinstance(event, AlarmQueued)
        composed = compose_alarm(alarm)
        return Gathered(None, partial(self._of_the_relay, composed, alarm, event, mail_from=NULL_SENDER))

    def _gathered_forward(self, forward: Recorded, received: Recorded) -> Gathered:
        event, mail = forward.event, received.event
        assert isinstance(event, ForwardQueued)
        assert isinstance(mail, MailReceived)
        assert event.personal is not None
        assert mail.personal is not None
        token = self._token(forward.seq)
        mail_from = NULL_SENDER
        if not mail.mail_from_null:
            mail_from = self._made_by_pepper(self.bounces.make_forward, forward.seq, forward.seq)
        rcpt_to = event.personal.address

        def make() -> Outgoing:
            composed = compose_forward(forward, received, token=token)
            envelope = Envelope(mail_from, rcpt_to, smtputf8=composed.smtputf8 or not rcpt_to.isascii())
            return Outgoing(envelope, composed.as_bytes())

        return Gathered(None, make, octets=len(mail.personal.raw))

    def _of_the_relay(
        self, composed: Message, recorded: Recorded, notice: OwnNotice, *, mail_from: str
    ) -> Outgoing:
        """A mail that the operator alone signs."""
        assert notice.personal is not None
        envelope = Envelope(mail_from=mail_from, rcpt_to=notice.personal.address, smtputf8=composed.smtputf8)
        return Outgoing(
            envelope,
            sign(
                composed,
                self.keyring.signers(notice.operator_domain, notice.operator_stem),
                timestamp=recorded.time_us // SECOND_US,
                composition=notice.composition,
            ),
        )

    def _composed(
        self, send: Send, recipient: events.Recipient, message_id: int, dated_at: int
    ) -> Message | WholeMessage:
        """A member's message, without its signatures."""
        event = send.event
        unsubscribe_url = self._unsubscribe_url(event, message_id, recipient)
        grouped_as = feedback_id(
            sending_domain=event.domain,
            did=event.did,
            category=event.category,
            operator_domain=event.operator_domain,
        )
        token = self._token(message_id) if event.composition >= TOKEN_SINCE else None
        if send.content.raw is not None:
            assert event.received_by is not None
            assert event.received_with is not None
            return compose_whole(
                send.content.raw,
                message_id=message_id,
                entropy=event.message_id_entropy,
                sending_domain=event.domain,
                accepted_at_us=send.accepted.time_us,
                feedback_id=grouped_as,
                member_did=event.did,
                received_by=event.received_by,
                received_with=event.received_with,
                list_unsubscribe_url=unsubscribe_url,
                token=token,
                section=send.section,
            )
        draft = send.written.draft
        return compose(
            draft,
            send.written.body,
            to=Mailbox.recorded(recipient.name, recipient.address),
            message_id=message_id_header(
                draft.headers,
                # A conversation is one message to all who read it: answers must find it by one name.
                message_id=send.first_message_id if event.conversation else message_id,
                entropy=event.message_id_entropy,
                domain=event.domain,
            ),
            accepted_at_us=dated_at,
            feedback_id=grouped_as,
            member_did=event.did,
            list_unsubscribe_url=unsubscribe_url,
            token=token,
            shared=send.written.shared,
        )

    def _unsubscribe_url(
        self, send: SendAccepted, message_id: int, recipient: events.Recipient
    ) -> str | None:
        if send.unsubscribe_base is None:
            return None
        who = Unsubscribe(send.did, message_id, recipient.address)
        token = self._made_by_pepper(self.unsubscribe.seal, who, message_id)
        return f"{send.unsubscribe_base}/u/{token}"

    def _token(self, message_id: int) -> str:
        return self._made_by_pepper(self.bounces.token, message_id, message_id)

    def _bounce_address(self, message_id: int) -> str:
        return self._made_by_pepper(self.bounces.make, message_id, message_id)

    def _made_by_pepper(self, make: Callable[[Contents, int], str], of: Contents, message_id: int) -> str:
        """By the pepper of then. Raises KeyFileError where that is missing."""
        number = self._pepper_at(message_id)
        try:
            return make(of, number)
        except KeyError:
            raise KeyFileError(f"{pepper_name(number)}: is missing; restore it from a backup") from None


def _whole(get: Callable[[int], Recorded], seq: int) -> Recorded:
    recorded = get(seq)
    if recorded.event.personal is None:
        raise PayloadGoneError(f"the payload of sequence {seq} has been removed")
    return recorded


def is_smoke_sink(queued: Recorded, operator_domain: str) -> bool:
    """Whether the message is for `smoke-sink@<operator domain>`, which is accepted and dropped (SPEC 6)."""
    message = queued.event
    assert isinstance(message, MessageQueued | Notice)
    return message.personal is not None and message.personal.address == f"{SMOKE_SINK}@{operator_domain}"
