"""Who has led from which event on, where a relay runs on several machines. Of the last KEPT_MAX times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from relay.codec import Recorded
from relay.events import NodeLeads
from relay.views.keys import u64
from spool.views import Snapshot, Transaction

KEPT_MAX: Final = 100

#: seq of the `node.leads` -> who
_LEADERS = "leaders"


class Leader(msgspec.Struct, array_like=True):
    #: Of the first event that it appended.
    seq: int
    since: int
    node: str
    epoch: int
    #: Where other nodes reach it.
    address: str


_leader = msgspec.msgpack.Decoder(Leader)
_encode = msgspec.msgpack.Encoder().encode


class NodesProjector:
    name = "nodes"
    version = 1
    tables = (_LEADERS,)
    minds = (NodeLeads,)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, NodeLeads):
            leader = Leader(recorded.seq, recorded.time_us, event.node, event.epoch, event.address)
            tx.put(_LEADERS, u64(recorded.seq), _encode(leader))
            kept = [key for key, _ in tx.scan(_LEADERS)]
            for key in kept[:-KEPT_MAX]:
                tx.delete(_LEADERS, key)


def leaders(view: Snapshot) -> Iterator[Leader]:
    """Who has led, the last one first."""
    for _, value in view.scan(_LEADERS, reverse=True):
        yield _leader.decode(value)


def leader(view: Snapshot) -> Leader | None:
    """Who led last, as far as this machine's log tells; None: nobody, it is a relay of one machine."""
    return next(leaders(view), None)
