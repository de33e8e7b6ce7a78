"""What an attempt came to, and with whom it was: what a session reports, and the events of the attempt are made from.

Exactly one of a reply and a failure says why; `relay.delivery.replies` judges it. No I/O, no clock.

All of it may pass between processes, so it is made of words alone: structs that msgspec writes and reads.
"""

from enum import Enum
from typing import Self

import msgspec

from relay.delivery.replies import DeliveryVerdict, Failure, FailureKind, Judgement, judge
from relay.delivery.reply_reader import Command, SmtpReply


class TlsInfo(msgspec.Struct, frozen=True, array_like=True):
    """What the connection is protected by."""

    version: str
    cipher: str
    certificate: str
    """"verified", or why it proves nothing: "unverified: …"."""


class Peer(msgspec.Struct, frozen=True, array_like=True):
    """Who is being talked to."""

    host: str
    """The name from the MX record or the route."""
    address: str
    port: int


class AttemptOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What one attempt came to: exactly one of `reply` and `failure` says why."""

    judgement: Judgement
    reply: SmtpReply | None = None
    failure: Failure | None = None
    started: bool = False
    """before_final_dot had returned. Without a reply the receiver may nevertheless have the message."""

    body_begun: bool = False
    """Bytes of the message have been handed to the network."""

    @classmethod
    def of(
        cls,
        said: SmtpReply | Failure,
        *,
        reused: bool = False,
        tls_refused: bool = False,
        started: bool = False,
        body_begun: bool = False,
    ) -> Self:
        """Judge what was said."""
        judgement = judge(said, reused=reused, tls_refused=tls_refused)
        if isinstance(said, SmtpReply):
            return cls(judgement, reply=said, started=started, body_begun=body_begun)
        return cls(judgement, failure=said, started=started, body_begun=body_begun)

    @classmethod
    def of_a_stop(cls) -> Self:
        """It was begun, and we broke it off, without a dot."""
        return cls.of(Failure(FailureKind.ABANDONED, "the relay was stopped"))

    @property
    def said(self) -> SmtpReply | Failure:
        """What was judged."""
        said = self.reply or self.failure
        assert said is not None
        return said

    @property
    def verdict(self) -> DeliveryVerdict:
        """What becomes of the recipient."""
        return self.judgement.verdict

    @property
    def command(self) -> Command | None:
        """What was answered, or under way."""
        return self.reply.command if self.reply else self.failure.command if self.failure else None

    @property
    def enhanced(self) -> str | None:
        """The receiver's enhanced status code, or ours for a failure."""
        return self.reply.enhanced if self.reply else self.failure.enhanced if self.failure else None

    @property
    def error(self) -> str | None:
        """The failure as a sentence; None where the receiver replied."""
        return self.failure.text if self.failure else None


class NotTried(Enum):
    """Why nothing was asked of a receiver. The value is for programs and stays the same."""

    NO_ROOM = "no_room"
    """There was no memory for a large message now: it is due as before."""
    PAYLOAD_GONE = "payload_gone"
    """Retention has removed what it is made of."""
    KEY_MISSING = "key_missing"
    """A signing key, or the pepper of then, cannot be read."""


class Carried(msgspec.Struct, frozen=True, array_like=True):
    """What became of an errand (`relay.delivery.carrier`): tried, with an outcome, or not tried."""

    usable: bool
    """Its connection is open, and can carry another message."""
    not_tried: NotTried | None = None
    outcome: AttemptOutcome | None = None
    """None exactly where it was not tried."""
    peer: Peer | None = None
    """Who was talked to, or would have been; None where there was nobody to talk to."""
    tls: TlsInfo | None = None
    sha256: str | None = None
    """Of the message, where octets of it have been handed to the network; and how many it has."""
    size: int | None = None
    seconds: float = 0.0
    """From when the message was ready until the dialogue was over."""
