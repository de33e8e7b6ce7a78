"""The events that one attempt at one message can end in: from what was said to what is recorded.

Nothing is done here. The deliverer tries, and puts into the log what its story says of it.
"""

from __future__ import annotations

from typing import Any

from relay.core import Core
from relay.decisions.retry import is_given_up, next_attempt_at
from relay.delivery.bounce_classes import BounceClass, classify
from relay.delivery.outcomes import AttemptOutcome, Carried
from relay.delivery.replies import DeliveryVerdict, FailureKind
from relay.events import (
    AttemptInterrupted,
    AttemptStarted,
    MessageBounced,
    MessageDeferred,
    MessageSent,
    RemoteSide,
)
from relay.providers import provider_of
from relay.times import SECOND_US
from relay.views import messages


class Story:
    """The events of one attempt at one message."""

    def __init__(
        self, core: Core, state: messages.MessageState, dice: float, site: str | None = None
    ) -> None:
        """`site`: its name (`Destination.name`), where the recipient domain was looked up."""
        self._core = core
        self._state = state
        self._dice = dice
        self._site = site
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
        return self._put_off("a signing key of this domain cannot be read; the operator has been told")

    def unprepared(self) -> MessageDeferred | MessageBounced:
        """Who prepared it died of it, perhaps, so it was not tried."""
        return self._put_off("a defect of the relay kept it from being prepared; the operator has been told")

    def _put_off(self, text: str) -> MessageDeferred | MessageBounced:
        facts: dict[str, Any] = {
            "did": self._state.did,
            "message_id": self._state.message_id,
            "attempt": self._attempt,
            "enhanced": "4.3.0",
            "bounce_class": BounceClass.BAD_CONFIGURATION,
            "personal": RemoteSide(text=text),
        }
        next_at = self._next_attempt_at()
        if is_given_up(next_at, self._state.give_up_at):
            return MessageBounced(**facts, reason="expired")
        return MessageDeferred(**facts, next_attempt_at=next_at)

    def interrupted(self) -> AttemptInterrupted:
        """It was started, and nobody knows how it ended."""
        return AttemptInterrupted(
            did=self._state.did,
            message_id=self._state.message_id,
            attempt=self._attempt,
            next_attempt_at=self._next_attempt_at(),
        )

    def broken_off(self) -> MessageSent | MessageDeferred | MessageBounced | AttemptInterrupted:
        """It was started, and a defect of ours ended it, without a dot."""
        return self.ended(Carried(usable=False, outcome=AttemptOutcome.of_a_stop()))

    def ended(self, carried: Carried) -> MessageSent | MessageDeferred | MessageBounced | AttemptInterrupted:
        """It was tried, or put off."""
        outcome = carried.outcome
        assert outcome is not None
        failure = outcome.failure
        if outcome.started and failure is not None and failure.kind is FailureKind.ABANDONED:
            return self.interrupted()
        facts = self._facts(carried, outcome)
        if outcome.verdict is DeliveryVerdict.SENT:
            return MessageSent(**facts)
        if outcome.verdict is DeliveryVerdict.BOUNCED:
            return MessageBounced(**facts, reason="rejected" if outcome.reply else "undeliverable")
        next_at = self._next_attempt_at()
        if is_given_up(next_at, self._state.give_up_at):
            return MessageBounced(**facts, reason="expired")
        return MessageDeferred(**facts, next_attempt_at=next_at)

    def _facts(self, carried: Carried, outcome: AttemptOutcome) -> dict[str, Any]:
        reply, peer, tls = outcome.reply, carried.peer, carried.tls
        return {
            "did": self._state.did,
            "message_id": self._state.message_id,
            "attempt": self._attempt,
            "command": outcome.command.value if outcome.command else None,
            "code": reply.code if reply else None,
            "enhanced": outcome.enhanced,
            "bounce_class": classify(outcome.said),
            "provider": self._provider(carried),
            "tls_version": tls.version if tls else None,
            "tls_cipher": tls.cipher if tls else None,
            "tls_certificate": tls.certificate if tls else None,
            "duration_us": round(carried.seconds * SECOND_US),
            "sha256": carried.sha256,
            "size": carried.size,
            "personal": RemoteSide(
                mx=peer.host if peer else None,
                address=peer.address if peer else None,
                text=reply.text if reply else outcome.error,
            ),
        }

    def _provider(self, carried: Carried) -> str | None:
        """Whose receiver was talked to; else whose it would have been."""
        if carried.peer is not None:
            return provider_of([carried.peer.host])
        if self._site is None or self._site.startswith("unroutable "):
            return None
        hosts = self._site.removeprefix("route ").split(",")
        return provider_of(host.partition(":")[0] for host in hosts)

    def _next_attempt_at(self) -> int:
        delays = self._core.config.retry.delays_seconds
        return next_attempt_at(delays, self._attempt, self._core.store.now_us(), self._dice)
