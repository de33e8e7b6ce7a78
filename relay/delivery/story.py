"""The events that one attempt at one message can end in: from what was said to what is recorded.

Nothing is done here. The deliverer tries, and puts into the log what its story says of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from relay.core import Core
from relay.decisions.retry import is_given_up, next_attempt_at
from relay.delivery.bounce_classes import BounceClass, classify
from relay.delivery.outcomes import AttemptOutcome, Peer
from relay.delivery.replies import DeliveryVerdict, FailureKind
from relay.delivery.session import Session
from relay.events import (
    AttemptInterrupted,
    AttemptStarted,
    MessageBounced,
    MessageDeferred,
    MessageSent,
    RemoteSide,
)
from relay.message.outgoing import Outgoing
from relay.times import SECOND_US
from relay.views import messages


class Tried(NamedTuple):
    """What a dialogue came to, and with whom it was."""

    session: Session | None
    outcome: AttemptOutcome
    peer: Peer | None


class Story:
    """The events of one attempt at one message."""

    def __init__(self, core: Core, state: messages.MessageState, dice: float) -> None:
        self._core = core
        self._state = state
        self._dice = dice
        self._attempt = state.attempts + 1

    def started(self) -> AttemptStarted:
        return AttemptStarted(
            did=self._state.did,
            message_id=self._state.message_id,
            attempt=self._attempt,
            next_attempt_at=self._next_attempt_at(),
        )

    def dropped(self) -> MessageSent:
        return MessageSent(
            did=self._state.did,
            message_id=self._state.message_id,
            attempt=0,
            personal=RemoteSide(text="accepted and dropped: this is the smoke sink"),
        )

    def expired(self) -> MessageBounced:
        return MessageBounced(
            did=self._state.did,
            message_id=self._state.message_id,
            attempt=0,
            reason="expired",
            enhanced="4.4.7",
            bounce_class=BounceClass.MESSAGE_EXPIRED,
            personal=RemoteSide(text="given up: its time was over before it could be tried again"),
        )

    def erased(self) -> MessageBounced:
        return MessageBounced(
            did=self._state.did,
            message_id=self._state.message_id,
            attempt=0,
            reason="undeliverable",
            enhanced="5.3.0",
            bounce_class=BounceClass.UNCATEGORIZED,
            personal=RemoteSide(text="what it is made of was removed by retention before it was delivered"),
        )

    def unsigned(self) -> MessageDeferred | MessageBounced:
        """It could not be signed, so it was not tried."""
        facts: dict[str, Any] = {
            "did": self._state.did,
            "message_id": self._state.message_id,
            "attempt": self._attempt,
            "enhanced": "4.3.0",
            "bounce_class": BounceClass.BAD_CONFIGURATION,
            "personal": RemoteSide(
                text="a signing key of this domain cannot be read; the operator has been told"
            ),
        }
        next_at = self._next_attempt_at()
        if is_given_up(next_at, self._state.give_up_at):
            return MessageBounced(**facts, reason="expired")
        return MessageDeferred(**facts, next_attempt_at=next_at)

    def ended(
        self, tried: Tried, outgoing: Outgoing | None, seconds: float
    ) -> MessageSent | MessageDeferred | MessageBounced | AttemptInterrupted:
        outcome = tried.outcome
        failure = outcome.failure
        if outcome.started and failure is not None and failure.kind is FailureKind.ABANDONED:
            return AttemptInterrupted(
                did=self._state.did,
                message_id=self._state.message_id,
                attempt=self._attempt,
                next_attempt_at=self._next_attempt_at(),
            )
        facts = self._facts(tried, outgoing, seconds)
        if outcome.verdict is DeliveryVerdict.SENT:
            return MessageSent(**facts)
        if outcome.verdict is DeliveryVerdict.BOUNCED:
            return MessageBounced(**facts, reason="rejected" if outcome.reply else "undeliverable")
        next_at = self._next_attempt_at()
        if is_given_up(next_at, self._state.give_up_at):
            return MessageBounced(**facts, reason="expired")
        return MessageDeferred(**facts, next_attempt_at=next_at)

    def _facts(self, tried: Tried, outgoing: Outgoing | None, seconds: float) -> dict[str, Any]:
        outcome, peer = tried.outcome, tried.peer
        reply, tls = outcome.reply, tried.session.tls if tried.session else None
        sent = outgoing if outcome.body_begun else None
        return {
            "did": self._state.did,
            "message_id": self._state.message_id,
            "attempt": self._attempt,
            "command": outcome.command.value if outcome.command else None,
            "code": reply.code if reply else None,
            "enhanced": outcome.enhanced,
            "bounce_class": classify(outcome.said),
            "tls_version": tls.version if tls else None,
            "tls_cipher": tls.cipher if tls else None,
            "tls_certificate": tls.certificate if tls else None,
            "duration_us": round(seconds * SECOND_US),
            "sha256": sent.sha256 if sent else None,
            "size": len(sent.message) if sent else None,
            "personal": RemoteSide(
                mx=peer.host if peer else None,
                address=peer.address if peer else None,
                text=reply.text if reply else outcome.error,
            ),
        }

    def _next_attempt_at(self) -> int:
        delays = self._core.config.retry.delays_seconds
        return next_attempt_at(delays, self._attempt, self._core.store.now_us(), self._dice)
