"""The relay's views: one module each, holding the table layout, the fold that fills it and the questions it answers.

A fold is a pure function of its tables and the event (see `spool.views.Projector`), and is given only the events that
it minds. `PROJECTORS` is their order: some ask `messages` for the message that an event is about, so that one comes
before them.

May import the words, `codec` and `spool`'s tables. A fold must never decide, nor depend on anything but the log: the
same log gives the same tables, byte for byte, whenever it is folded. Whoever changes what a fold makes of a log that
exists gives it the next `version`, so that its tables are built anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from relay.codec import Recorded, decode
from relay.views.alarms import AlarmsProjector
from relay.views.calls import CallsProjector
from relay.views.console import ConsoleProjector
from relay.views.due import DueProjector
from relay.views.handles import HandlesProjector
from relay.views.idempotency import IdempotencyProjector
from relay.views.listings import ListingsProjector
from relay.views.members import MembersProjector
from relay.views.message_ids import MessageIdsProjector
from relay.views.messages import MessagesProjector
from relay.views.nodes import NodesProjector
from relay.views.peppers import PeppersProjector
from relay.views.provider_reports import ProviderReportsProjector
from relay.views.received import ReceivedProjector
from relay.views.reputation import ReputationProjector
from relay.views.retention import RetentionProjector
from relay.views.signing_keys import SigningKeysProjector
from relay.views.stream import StreamProjector
from relay.views.suppressions import SuppressionsProjector
from relay.views.traffic import TrafficProjector
from relay.views.warming import WarmingProjector
from relay.views.webhooks import WebhooksProjector
from spool.record import Record
from spool.views import (
    Projector,
    ReadingViews,
    Snapshot,
    Views,
    open_reading_views,
    open_settled_views,
    open_temporary,
)

PROJECTORS: tuple[Projector[Recorded], ...] = (
    MembersProjector(),
    # Before `messages`: it sees each message as it was before the event.
    TrafficProjector(),
    MessagesProjector(),
    DueProjector(),
    WarmingProjector(),
    SuppressionsProjector(),
    IdempotencyProjector(),
    ReputationProjector(),
    CallsProjector(),
    StreamProjector(),
    RetentionProjector(),
    SigningKeysProjector(),
    PeppersProjector(),
    HandlesProjector(),
    MessageIdsProjector(),
    ReceivedProjector(),
    ProviderReportsProjector(),
    WebhooksProjector(),
    ListingsProjector(),
    AlarmsProjector(),
    ConsoleProjector(),
    NodesProjector(),
)

__all__ = [
    "PROJECTORS",
    "open_relay_views_to_read",
    "open_settled_relay_views",
    "open_temporary_views",
    "relay_views",
]


def relay_views(directory: Path, decode: Callable[[Record], Recorded] = decode) -> Views[Recorded]:
    """The relay's views below `directory`, not yet opened."""
    return Views(directory, PROJECTORS, decode)


def open_relay_views_to_read(directory: Path) -> AbstractContextManager[ReadingViews]:
    """The views below `directory` of a relay that another process runs: see `spool.views.open_reading_views`."""
    return open_reading_views(directory, PROJECTORS)


def open_settled_relay_views(directory: Path, log_directory: Path) -> AbstractContextManager[Snapshot | None]:
    """The views below `directory` of a relay that does not run: see `spool.views.open_settled_views`."""
    return open_settled_views(directory, log_directory, PROJECTORS)


@contextmanager
def open_temporary_views(decode: Callable[[Record], Recorded] = decode) -> Iterator[Views[Recorded]]:
    """Empty views of their own, for whoever folds a log without touching its directory. They are gone when the block
    ends, or the process."""
    with open_temporary(PROJECTORS, decode) as views:
        yield views
