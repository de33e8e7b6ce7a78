"""A small data directory with a known story, in segments that a few events fill; made without a relay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from relay.codec import encode
from relay.events import (
    AttemptStarted,
    Content,
    Event,
    MemberAdded,
    MessageDeferred,
    MessageQueued,
    MessageSent,
    Recipient,
    RemoteSide,
    SendAccepted,
)
from relay.views import relay_views
from spool import Entry, Log, open_log
from tests.world.spool import clock, inline, salts

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
OTHER = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
#: What a hostile receiver says: a terminal would clear its screen, and show a line that we never wrote.
HOSTILE = "4.7.1 later\x1b[2J\r\n      9  message.sent\x9b2J\u202e\\x1b"


@asynccontextmanager
async def open_small(directory: Path, **options: Any) -> AsyncIterator[Log]:
    """A log with its views, as `relay.store` opens them, but in segments that a few events fill."""
    directory.mkdir(exist_ok=True)
    views = relay_views(directory / "views")
    try:
        async with open_log(
            directory / "log",
            witness=views.open,
            on_recovered=lambda log: views.catch_up(log.reader),
            on_durable=views.apply,
            index=views,
            clock=clock(),
            new_salt=salts(),
            segment_bytes_max=2000,
            batch_bytes_max=1800,
            **options,
        ) as log:
            yield log
    finally:
        views.close()


async def append(log: Log, events: Sequence[Event]) -> None:
    await log.append([encode(event) for event in events])


def send(did: str = DID, recipients: int = 1, subject: str = "Hello") -> list[Event]:
    return [
        SendAccepted(
            did=did,
            domain="yourdomain.com",
            category="bulk",
            recipients=recipients,
            key_id="k1",
            selector_stem="s",
            operator_domain="relay.example",
            operator_stem="o",
            message_id_entropy="e",
            personal=Content(from_address="me@yourdomain.com", subject=subject, text="Hi."),
        ),
        *(
            MessageQueued(
                did=did,
                domain="yourdomain.com",
                category="bulk",
                index=index,
                next_attempt_at=1,
                give_up_at=2,
                personal=Recipient(given=f"r{index}@example.org", address=f"r{index}@example.org"),
            )
            for index in range(1, recipients + 1)
        ),
    ]


def deferred(message_id: int, text: str) -> MessageDeferred:
    return MessageDeferred(
        did=DID,
        message_id=message_id,
        attempt=1,
        code=451,
        enhanced="4.7.1",
        bounce_class="spam_block",
        next_attempt_at=1_700_000_100_000_000,
        personal=RemoteSide(mx="mx.example.org", text=text),
    )


def started(message_id: int, attempt: int) -> AttemptStarted:
    return AttemptStarted(did=DID, message_id=message_id, attempt=attempt, next_attempt_at=3)


#: 1 enrolment, 2-4 a send to two, 5-6 a send by another member, 7-10 what became of message 3.
STORY: list[list[Event]] = [
    [MemberAdded(did=DID)],
    send(recipients=2),
    send(OTHER, subject="Grüße"),
    [started(3, 1)],
    [deferred(3, HOSTILE)],
    [started(3, 2)],
    [MessageSent(did=DID, message_id=3, attempt=2, code=250, personal=RemoteSide(mx="mx.example.org"))],
]


def make(directory: Path, batches: Sequence[Sequence[Event]] = STORY, more: Sequence[Entry] = ()) -> Path:
    async def main() -> None:
        async with open_small(directory, offload=inline) as log:
            for batch in batches:
                await append(log, batch)

    trio.run(main)
    if more:
        trio.run(append_raw, directory, more)
    return directory


async def append_raw(directory: Path, entries: Sequence[Entry]) -> None:
    """What no projector would take."""
    async with open_log(
        directory / "log",
        segment_bytes_max=2000,
        batch_bytes_max=1800,
        clock=lambda: 1_800_000_000_000_000,
        offload=inline,
    ) as log:
        await log.append(entries)
