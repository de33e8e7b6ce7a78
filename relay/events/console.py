"""What is recorded of the browser's console itself."""

from __future__ import annotations

from relay.events.base import RelayEvent


class ConsoleEpochRaised(RelayEvent, frozen=True, kw_only=True, omit_defaults=True):
    """All sessions that were begun before this are over: they carry a smaller number."""

    TYPE = "console.epoch_raised"
    STREAMED = False
    #: Grows by one; 0 before the first.
    epoch: int
    by: str
