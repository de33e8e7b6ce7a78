"""The seam of attempts: who decides and records on one side, who composes, signs and talks to receivers on the other.

    Attempts ── Errand ──▶ Carrier        a message, and whom it is for
             ◀── start ───                "may the dot be sent?": `attempt.started` is made durable
             ◀── Carried ─                what it came to

There are two carriers, and one contract (`tests/delivery/test_carriers.py`): `relay.delivery.courier` in the core's own
process, by plain calls, and `relay.couriers.host`, which gives errands to other processes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from relay.codec import Recorded
from relay.delivery.outcomes import Carried
from relay.networks import Family
from relay.views.messages import MessageState


class CourierLost(Exception):
    """The process that carried the message has ended, or was killed, and all that it said before has been heard."""


class Errand(NamedTuple):
    """One message that is to be tried now."""

    state: MessageState
    #: The recipient's.
    domain: str
    #: Its `message.queued`, or the event that a notice begins with.
    queued: Recorded
    #: Families of addresses by which the receiver has refused us before (`relay.delivery.families`).
    refused: tuple[Family, ...] = ()


class Carrier(Protocol):
    """Connections have the scheduler's numbers. One carries one errand at a time, and is opened by its first."""

    @property
    def connections(self) -> int:
        """Open to receivers now."""

    async def carry(self, connection: int, errand: Errand, start: Callable[[], Awaitable[None]]) -> Carried:
        """Compose, sign and try a message.

        `start` is asked for once, when the message is composed, and works beside connecting; the final dot waits until
        it has returned, and then until `Core.before_acting` has. What it raises is raised here, and no dot was sent.

        Cancelled before `start` has returned: Cancelled is raised, and the receiver cannot have the message. From then
        on an outcome is always returned, cancelled or not.

        Raises CourierLost where the carrying process is gone. If `start` has returned by then, nobody knows whether the
        receiver has the message; else it cannot have it.
        """

    async def part(self, connection: int) -> None:
        """Say goodbye on a connection that rests, and close it. Nothing is done where there is none."""

    async def hang_up(self) -> None:
        """Close all connections without a word. What is under way on them ends, and soon."""
