"""What `log cat` says of mail that is given another time: by its member, or by the operator."""

from __future__ import annotations

import pytest

from relay.codec import encode
from relay.events import MessageRescheduled
from relay.times import parse_rfc3339
from spool.record import Record
from tests.golden_events.facts import DID
from tools.log.event_text import as_line, show

AT = "2026-12-24T18:00:00.000000Z"


@pytest.mark.parametrize(
    ("fields", "by"),
    [({"key_id": "k3v7"}, "its member, key k3v7"), ({"by": "postmaster"}, "postmaster")],
)
def test_who_has_given_it_which_time(fields: dict[str, str], by: str) -> None:
    event = MessageRescheduled(did=DID, message_id=447, next_attempt_at=parse_rfc3339(AT), **fields)  # type: ignore[arg-type]
    record = Record(448, 0, 0, True, *encode(event), bytes(32), bytes(32), False, 1, 448)
    assert as_line(show(record)).endswith(f"message 447: rescheduled by {by}; next at {AT}")
