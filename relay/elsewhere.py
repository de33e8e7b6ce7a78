"""Who decides in the place of a core that may not: where a relay runs on several machines, the node that leads.

A core of one machine has nobody of the kind. Where there are several, each has a `relay.nodes.forwarding`, whether it
leads or follows, and asks it at each use, because that can change.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from relay.principals import Asker
from relay.refusals import Refusal
from relay.registry import Decision

Role = Literal["leader", "follower"]


class OwnNode(Protocol):
    """What an edge knows of the node at which it answers."""

    @property
    def role(self) -> Role: ...

    @property
    def lag_seconds(self) -> float:
        """So old is what is answered here, at most: since then this node is not known to have had all that the leader
        had acknowledged. 0: it leads, and is sure of it. Infinite: it never was."""

    @property
    def trouble(self) -> str | None:
        """What is wrong with this node, or the database, in a sentence for the operator."""

    @property
    def is_unfit(self) -> bool:
        """The log here is not the one that all nodes have agreed on, or lacks what it cannot get from the database any
        more: no member is answered from it."""

    async def catch_up(self) -> None:
        """Until the views here have all that was acknowledged by any node before this was called.

        For what is not known here, and may be known already: a key, a message, a cursor. Raises
        Refusal(TEMPORARILY_UNAVAILABLE) where nobody leads who could say so, or where it takes too long: then nobody
        can be told that it does not exist.
        """


class Elsewhere(Protocol):
    """Decides for this core. Each raises what the same call of a core raises, and Refusal(TEMPORARILY_UNAVAILABLE)
    where nobody leads, or where it was asked and has not answered: what became of it is not known then."""

    def concerns(self, found: Decision, arguments: msgspec.Struct, asker: Asker) -> bool:
        """Whether this is not for this node to decide."""

    async def decide(self, found: Decision, arguments: msgspec.Struct, asker: Asker) -> Any:
        """As `relay.edge.Decide`."""

    @property
    def follows(self) -> bool:
        """Whether another node has to be asked for anything."""

    async def take_message(self, address: str) -> None: ...

    async def why_not_accepting(self) -> Refusal | None: ...
