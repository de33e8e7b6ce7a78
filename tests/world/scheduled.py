"""What the tests of scheduled mail share."""

from __future__ import annotations

from email import message_from_bytes
from email.utils import parsedate_to_datetime
from typing import Any

from relay.file_names import LOG_DIRECTORY
from relay.past.audit import audit
from relay.times import SECOND_US, rfc3339
from spool.reader import LogReader
from tests.world.relay import World

HOUR = 3600
DAY = 24 * HOUR


def in_seconds(world: World, seconds: float) -> str:
    """That time from now on, as a client writes it."""
    return rfc3339(world.core.store.now_us() + round(seconds * SECOND_US))


async def schedule(world: World, seconds: float, **fields: Any) -> int:
    return await world.send(scheduledAt=in_seconds(world, seconds), **fields)


async def cancel(world: World, message_id: int, **arguments: Any) -> tuple[int, Any]:
    status, answer, _ = await world.request("POST", f"/v1/messages/{message_id}/cancel", **arguments)
    return status, answer


async def move(world: World, message_id: int, to: str, **arguments: Any) -> tuple[int, Any]:
    status, answer, _ = await world.request(
        "PATCH", f"/v1/messages/{message_id}", json={"scheduledAt": to}, **arguments
    )
    return status, answer


def date_us(message: bytes) -> int:
    """What its Date says."""
    date = parsedate_to_datetime(str(message_from_bytes(message)["Date"]))
    return int(date.timestamp()) * SECOND_US


def signed_at(message: bytes) -> set[int]:
    """The `t=` of its signatures, in seconds."""
    values = message_from_bytes(message).get_all("DKIM-Signature") or []
    tags = [tag.strip() for value in values for tag in str(value).split(";")]
    return {int(tag[2:]) for tag in tags if tag.startswith("t=")}


def has_other_bytes(world: World, message_id: int) -> bool:
    """Whether its audit finds that an attempt sent other bytes than those that its events give."""
    directory = world.core.directory
    with LogReader(directory / LOG_DIRECTORY) as reader:
        found = audit(directory, reader, message_id)
    assert found.compositions, "nothing was sent"
    return bool(found.problems)
