"""A member's own program on the websocket stream: it reads, reconnects with its cursor, and remembers what came.

The contract that it holds the relay to (`docs/STREAM.md`): **with the `seq` of the last frame as its next cursor, a
reader gets each of its member's events once, in the order of the log, whatever broke in between.** It is connected
whenever a relay runs, so every kill cuts it off somewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected

from relay.codec import Recorded
from tests.world.process import RelayProcess
from tests.world.promises import STREAMED
from tools.watch import open_websocket

RECONNECT_SECONDS = 0.1
Seen = tuple[int, str, int | None]


class Subscriber:
    def __init__(self, relay: RelayProcess, did: str, credentials: dict[str, str]) -> None:
        self.did = did
        #: (sequence number, type, message id) of each frame, in the order in which they came.
        self.seen: list[Seen] = []
        #: How many connections were made.
        self.connections = 0
        self._relay = relay
        self._headers = [(name.encode(), value.encode()) for name, value in credentials.items()]

    @property
    def cursor(self) -> int:
        return self.seen[-1][0] if self.seen else 0

    async def read(self) -> None:
        """For ever; raises ConnectionRejected where the relay would say the same again."""
        while True:
            try:
                await self._read_one_connection()
            except* (OSError, trio.BrokenResourceError, trio.TooSlowError, ConnectionClosed):
                pass  # the relay is gone, or stands still: that is what this is about
            except* ConnectionRejected as group:
                if any(error.status_code < 500 for error in leaves(group)):
                    raise
            await trio.sleep(RECONNECT_SECONDS)

    async def _read_one_connection(self) -> None:
        url = f"ws://{self._relay.address}/v1/stream?cursor={self.cursor}"
        async with open_websocket(url, self._headers) as connection:
            self.connections += 1
            while True:
                frame = json.loads(await connection.get_message())
                self.seen.append((frame["seq"], frame["type"], frame.get("messageId")))

    def breaches(self, events: Iterable[Recorded], *, all_seen: bool) -> list[str]:
        """What came that should not have, or not so; and what did not come, where `all_seen`."""
        expected = expected_of(events, self.did)
        seen = list(self.seen)
        for number, (came, should) in enumerate(zip(seen, expected, strict=False), 1):
            if came != should:
                return [f"frame {number} of the stream of {self.did} is {came}, and the log says {should}"]
        if len(seen) > len(expected):
            return [f"the stream of {self.did} showed {seen[len(expected)]}, which the log does not have"]
        if all_seen and len(seen) < len(expected):
            return [f"the stream of {self.did} never showed {expected[len(seen)]}"]
        return []

    def has_seen_all(self, events: Iterable[Recorded]) -> bool:
        return len(self.seen) >= len(expected_of(events, self.did))


def expected_of(events: Iterable[Recorded], did: str) -> list[Seen]:
    return [
        (item.seq, item.event.TYPE, _message_id(item))
        for item in events
        if getattr(item.event, "did", None) == did and item.event.TYPE.split(".")[0] in STREAMED
    ]


def _message_id(item: Recorded) -> int | None:
    if item.event.TYPE in ("message.queued", "dsn.queued", "webhook_notice.queued", "alarm.queued"):
        return item.seq
    found: int | None = getattr(item.event, "message_id", None)
    return found


def leaves(group: BaseExceptionGroup[Any]) -> list[Any]:
    found: list[Any] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
