"""What members and strangers change: everything that they cause to be written goes through here.

The invariant: **nothing is written for a member or a stranger without room for it (`relay.space`), and nobody waits
behind another's crowd (`relay.turns`)**: clicks on unsubscribe links go before members' writes, and members take turns.
Mail that comes in takes its turn among them as one more: it can be large, and is nobody's haste.
The operator's orders and the relay's own events go to the store directly.

Returned: durable and in the views. Cancelled: not written. A disk that does not answer: LogStalledError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relay.authentication import check_still
from relay.codec import Recorded
from relay.events import Event
from relay.principals import Asker, Principal
from relay.space import EVENT_BYTES, Claim, Space
from relay.store import Store
from relay.turns import Turns
from spool.views import Snapshot

#: Appends on their way to the log at a time. The log makes one batch of all that wait for it.
APPENDS_MAX = 128


class Writes:
    def __init__(self, store: Store, space: Space) -> None:
        self._store = store
        self._space = space
        self._appends = Turns(APPENDS_MAX)

    async def append(
        self, asker: Asker, events: Sequence[Event], *, size: int = EVENT_BYTES
    ) -> list[Recorded]:
        """Make the events true, together. `size`: what they take on the disk, about. Raises Refusal(QUEUE_FULL)."""
        with self._space.held(asker, size):
            async with self._appends.turn(_party(asker)):
                return await self._store.append(events, patient=False)

    async def decide(
        self,
        asker: Asker,
        decision: Callable[[Snapshot], Sequence[Event]],
        *,
        size: int = EVENT_BYTES,
        claim: Claim | None = None,
    ) -> list[Recorded]:
        """Decide and append, one decision at a time. A member's key and membership are looked at again then. `size` as
        in `append`; `claim` as in `relay.space`.

        Raises Refusal(QUEUE_FULL, AUTH_FAILED or MEMBER_SUSPENDED), or what the decision raises.
        """

        def decide(view: Snapshot) -> Sequence[Event]:
            if isinstance(asker, Principal):
                check_still(view, asker)
            return decision(view)

        with self._space.held(asker, size, claim=claim):
            party = _party(asker) if claim is None else _MAIL
            return await self._store.decide(decide, patient=False, party=party)


#: Whose turn it is when mail comes in: no DID.
_MAIL = "mail"


def _party(asker: Asker) -> str | None:
    """Whose turn it is; None: who goes first."""
    return asker.did if isinstance(asker, Principal) else None
