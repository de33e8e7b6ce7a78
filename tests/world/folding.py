"""What the tests of fold share."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from relay.events import (
    AttemptInterrupted,
    AttemptStarted,
    Event,
    KeyIssued,
    KeyRevoked,
    MemberAdded,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageDeferred,
    MessageEvent,
    MessageQueued,
    Notice,
    Outcome,
    Recipient,
    SendAccepted,
)
from spool.record import Record
from tests.world.drafts import DIDS
from tests.world.history_views import SECOND_US, START_US, History, opened


def digests_at_once(records: Sequence[Record]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as views:
        views.apply(records)
        return views.digests()


def events_of(history: History, message_id: int) -> list[tuple[int, Event]]:
    return [
        (seq, event)
        for seq, event in enumerate(history, 1)
        if seq == message_id or (isinstance(event, MessageEvent) and event.message_id == message_id)
    ]


def attempted(history: History, message_id: int) -> list[tuple[int, Event]]:
    """Without what somebody says of it later, which leaves it as it was."""
    own = events_of(history, message_id)
    return [item for item in own if not isinstance(item[1], MessageBounceReported | MessageComplained)]


def queued_of(history: History) -> dict[int, MessageQueued | Notice]:
    return {seq: event for seq, event in enumerate(history, 1) if isinstance(event, MessageQueued | Notice)}


def status_of(history: History, message_id: int) -> str:
    status = "queued"
    for _, event in events_of(history, message_id):
        if isinstance(event, Outcome):
            status = event.TYPE.removeprefix("message.")
    return status


def address_of(event: MessageQueued | Notice) -> str:
    assert event.personal is not None
    return event.personal.address


STORY: History = [
    MemberAdded(did=DIDS[0]),
    KeyIssued(did=DIDS[0], key_id="k", key_hash="0" * 64),
    SendAccepted(
        did=DIDS[0],
        domain="d.example",
        category="bulk",
        recipients=1,
        key_id="k",
        selector_stem="s",
        operator_domain="relay.example",
        operator_stem="s",
        message_id_entropy="e",
    ),
    MessageQueued(
        did=DIDS[0],
        domain="d.example",
        category="bulk",
        index=1,
        next_attempt_at=START_US,
        give_up_at=START_US + SECOND_US,
        personal=Recipient(given="a@example.com", address="a@example.com"),
    ),
    AttemptStarted(did=DIDS[0], message_id=4, attempt=1, next_attempt_at=START_US + 1),
    MessageDeferred(did=DIDS[0], message_id=4, attempt=1, next_attempt_at=START_US + 2),
    AttemptStarted(did=DIDS[0], message_id=4, attempt=2, next_attempt_at=START_US + 3),
    AttemptInterrupted(did=DIDS[0], message_id=4, attempt=2, next_attempt_at=START_US + 3),
    MessageBounced(did=DIDS[0], message_id=4, attempt=0, reason="expired"),
    KeyRevoked(did=DIDS[0], key_id="k"),
]
