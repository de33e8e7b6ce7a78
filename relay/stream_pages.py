"""Reading a member's events: what the stream and `/v1/events` share.

A cursor is a sequence number of the whole log: "I have seen everything up to here". 0 has seen nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from relay.data_directory import LogToRead, ReadableStore
from relay.refusals import invalid
from relay.stream_events import Labels, StreamEvent, labels_of, stream_event
from relay.views.stream import sequence_numbers

FUTURE_CURSOR = "the cursor is beyond the last event of this relay; is it another relay's?"
OUTDATED_CURSOR = "events behind the cursor are kept no more; this begins with the oldest that is"


def parse_cursor(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise invalid("cursor", "expected a sequence number: the `seq` of the last event that you have seen")
    return int(text)


def is_future(store: LogToRead, cursor: int) -> bool:
    return cursor > store.last_seq


def kept_from(store: LogToRead) -> int:
    """The oldest cursor behind which everything is kept."""
    return store.first_seq() - 1


def events_after(store: LogToRead, did: str, cursor: int, *, limit: int) -> list[StreamEvent]:
    """The member's next events. It reads the log in the caller's thread, so ask for few at a time."""
    with store.read() as view:
        numbers = sequence_numbers(view, did, after=cursor, limit=limit)
    return stream_events(store, numbers)


def stream_events(store: ReadableStore, numbers: Iterable[int]) -> list[StreamEvent]:
    """These events of the log, as they are streamed."""

    @cache
    def labels(message_id: int) -> Labels:
        return labels_of(store.get(message_id))

    return [stream_event(store.get(number), labels) for number in numbers]
