"""What an attempt came to, and with whom it was: what a session reports, and the events of the attempt are made from.

Exactly one of a reply and a failure says why; `relay.delivery.replies` judges it. No I/O, no clock.
"""

from dataclasses import dataclass
from typing import Self

from relay.delivery.replies import DeliveryVerdict, Failure, Judgement, judge
from relay.delivery.reply_reader import Command, SmtpReply


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What the connection is protected by."""

    version: str
    cipher: str
    certificate: str
    """"verified", or why it proves nothing: "unverified: …"."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is being talked to."""

    host: str
    """The name from the MX record or the route."""
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
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
