"""The events that a member sees, in the order of the log: (member, sequence number) -> nothing.

What the stream and `/v1/events` give is a range of this table and the log's records behind it, so that catching up
costs what the member's own events cost, however much the others send.

Which events they are, the class of each says (`STREAMED`): those of all timelines, and what is recorded about the
member, its domains and its suppression list. Left out is what a member knows without being told (its own requests:
`send.accepted`), what is a credential's (`key.*`) and the relay's housekeeping.
"""

from __future__ import annotations

from itertools import islice

from relay.codec import Recorded
from relay.events import OwnedEvent
from relay.views.keys import owned, read_u64, u64
from spool.views import Snapshot, Transaction, prefix_end

_BY_MEMBER = "stream"


class StreamProjector:
    name = "stream"
    version = 1
    tables = (_BY_MEMBER,)
    minds = (OwnedEvent,)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if event.STREAMED:
            assert isinstance(event, OwnedEvent), f"{event.TYPE} is streamed and nobody's"
            tx.put(_BY_MEMBER, owned(event.did) + u64(recorded.seq), b"")


def sequence_numbers(view: Snapshot, did: str, *, after: int, limit: int) -> list[int]:
    """The member's next events behind `after`, at most `limit`."""
    prefix = owned(did)
    found = view.scan(_BY_MEMBER, prefix + u64(after + 1), prefix_end(prefix))
    return [read_u64(key, len(prefix)) for key, _ in islice(found, limit)]
