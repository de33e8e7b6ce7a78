"""What an edge may have: whoever answers requests, today in the core's process, one day in its own.

The invariant: **an edge changes nothing.** It reads configuration, views and log, and knows who asks; whatever has to
be decided goes through one door, `decide`, to the core, which alone sees everything that is under way. So a door for
SMTP, or a process that only answers, needs nothing that is not here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from relay.buffers import Buffers
from relay.config import Config
from relay.data_directory import LogToRead
from relay.elsewhere import OwnNode
from relay.heavy_work import HeavyWork
from relay.internet.resolver import Resolver
from relay.mail_reading import Reading, Signature
from relay.message.keys import Peppers
from relay.message.tokens import BounceAddresses, ConfirmationTokens, UnsubscribeTokens
from relay.metrics import EdgeMetrics
from relay.principals import Asker
from relay.quota import Quota
from relay.refusals import Refusal
from relay.settings import Settings
from relay.streams import Streams
from spool.errors import (
    LogClosedError,
    LogDeposedError,
    LogFollowsError,
    LogPoisonedError,
    LogStalledError,
)

#: What a decision raises where the log cannot be written now: whoever asked is told `relay.refusals.unavailable`.
LOG_UNAVAILABLE: Final = (LogStalledError, LogPoisonedError, LogClosedError, LogDeposedError, LogFollowsError)


class Decide(Protocol):
    """The door. `await decide("send", arguments, asker)` is what that decision of `relay.registry` returns.

    Returned: it is durable and in the views. Cancelled: it was not written. Raises Refusal, an error of `spool` where
    the log cannot be written, or LookupError where this asker has no such decision, which is a defect of the caller.
    """

    def __call__(self, name: str, arguments: msgspec.Struct, asker: Asker) -> Awaitable[Any]: ...


class ByName(msgspec.Struct, frozen=True):
    """The arguments of an operator's command by their names, as they stand on the admin socket.

    For pages that are shown to members and to the operator alike: they may not import what only the operator may order.
    Only the operator's door takes it (`relay.operator_console.orders`).
    """

    arguments: dict[str, Any]


class DecisionFailedError(Exception):
    """A defect in a decision that another process carried out. Its log has it, under this request id."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id


class MailReader(Protocol):
    """Reads mail of strangers, apart from the relay's loop and bounded in time and memory.

    A mail that cannot be read within the bounds is one of which nothing is known (`Reading()`), and nobody signed it.
    Raises NotReadNow where nobody can be asked, which is not the mail's fault. `party`: in whose turn it is read.
    """

    async def read(self, octets: bytes, party: str | None) -> Reading: ...

    async def signed_by(
        self, octets: bytes, signatures: Sequence[Signature], party: str | None
    ) -> tuple[str, ...]:
        """The domains of those of its signatures that verify."""
        ...


@dataclass(frozen=True)
class Edge:
    settings: Settings
    #: Views and log, to read.
    store: LogToRead
    #: By which API keys are known.
    pepper: Peppers
    #: Opens the tokens of unsubscribe links.
    unsubscribe_tokens: UnsubscribeTokens
    #: Opens those of links that confirm a `forward_to`.
    confirmation_tokens: ConfirmationTokens
    #: Opens the tokens of messages: where bounces come back to.
    bounce_addresses: BounceAddresses
    #: Reads mail that comes in; None: none does.
    mail_reader: MailReader | None
    #: What the DNS says of strangers.
    resolver: Resolver
    streams: Streams
    #: What this edge counts itself.
    metrics: EdgeMetrics
    #: The numbers of the whole relay, for Prometheus. Takes a second at most.
    metrics_page: Callable[[], Awaitable[bytes]]
    quota: Quota
    #: Reads what is large beside the loop.
    heavy_work: HeavyWork
    #: Memory for large bodies.
    receiving: Buffers
    decide: Decide
    #: Counts one message that a stranger at this address begins, for all edges. Raises Refusal(RATE_LIMITED).
    take_message: Callable[[str], Awaitable[None]]
    #: None: a send can be taken now. The core is asked.
    why_not_accepting: Callable[[], Awaitable[Refusal | None]]
    #: Where the relay runs on several nodes, this one.
    node: OwnNode | None = None

    @property
    def config(self) -> Config:
        """What is in force at this moment. Ask again the next time."""
        return self.settings.now
