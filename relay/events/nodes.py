"""What is recorded of the machines that a relay runs on, where it has several."""

from __future__ import annotations

from relay.events.base import RelayEvent


class NodeLeads(RelayEvent, frozen=True, kw_only=True, omit_defaults=True):
    """From here on this machine appends, and everything that acts on the world runs there. It is the first event that
    it appends. What is in the log before it, the machine had applied."""

    TYPE = "node.leads"
    STREAMED = False
    #: Its name in its `node.toml`.
    node: str
    #: Of the table's head (`spool.replicated.table`) when this was made: higher than that of everybody before.
    epoch: int
    #: Where the other nodes reach it.
    address: str
