"""What one member may use of what all share: writes a minute, reads at work at a time, and what is dear by nature.

The invariant: **what a member costs is bounded, and the bound is its own, never shared.** Who asks for more waits for
its own turn, or is told when to come again; nobody else notices.

All counters are in memory and end with the process: they bound what is asked now, and decide nothing that stays. (What
must survive a restart, such as warming, is counted from the log.) Members are authenticated before they are counted,
so there are never more counters than members.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from relay.config import MembersConfig
from relay.refusals import Refusal
from relay.turns import Turns

#: Reads of one member that are answered at a time; the others wait for their turn.
READS_AT_WORK_MAX = 4
#: Of what is dear: so many of one member a minute (and one at a time), and so many of all at a time.
DEAR_PER_MINUTE = 6
DEAR_AT_WORK_MAX = 8
#: So long one waits for the others.
DEAR_WAIT_SECONDS_MAX = 10.0
#: And comes again, where its own last one is still at work.
DEAR_RETRY_AFTER_SECONDS = 5


class Quota:
    """Of one relay. Every time is `trio.current_time()`. `limits` are asked for at each use."""

    def __init__(self, limits: Callable[[], MembersConfig]) -> None:
        self._limits = limits
        self._writes: dict[str, _Bucket] = {}
        self._reads: dict[str, _Reads] = {}
        self._dear: dict[str, _Bucket] = {}
        self._at_dear_work: set[str] = set()
        self._dear_turns = Turns(DEAR_AT_WORK_MAX)

    def take_write(self, did: str) -> None:
        """Count one write of the member, whatever becomes of it. Raises Refusal(RATE_LIMITED) where it has had all of
        its `writes_per_minute`."""
        per_minute = self._limits().writes_per_minute
        now = trio.current_time()
        bucket = self._writes.get(did)
        if bucket is None:
            bucket = self._writes[did] = _Bucket(per_minute, now)
        wait = bucket.take(per_minute, now)
        if wait:
            raise Refusal(
                "RATE_LIMITED",
                f"you have made {per_minute} changes in a minute, the most ([members] writes_per_minute); "
                "refused ones count, too",
                retry_after_seconds=math.ceil(wait),
            )

    async def begin_read(self, did: str) -> None:
        """Wait until fewer than READS_AT_WORK_MAX of the member's reads are at work. `end_read` ends it."""
        reads = self._reads.get(did)
        if reads is None:
            reads = self._reads[did] = _Reads()
        reads.count += 1
        try:
            await reads.turns.acquire(did)
        except BaseException:
            self._forget(did, reads)
            raise

    def end_read(self, did: str) -> None:
        reads = self._reads[did]
        reads.turns.release()
        self._forget(did, reads)

    @asynccontextmanager
    async def dear_work(self, did: str) -> AsyncIterator[None]:
        """For what takes long by nature: looking at the DNS of a domain, making keys for one. One at a time of a
        member's, DEAR_PER_MINUTE in a minute, and DEAR_AT_WORK_MAX of all at a time, by turns.

        Raises Refusal(RATE_LIMITED), or TEMPORARILY_UNAVAILABLE where its turn does not come in time.
        """
        if did in self._at_dear_work:
            raise Refusal(
                "RATE_LIMITED",
                "your last request to verify or enrol a domain is still at work; wait for its answer",
                retry_after_seconds=DEAR_RETRY_AFTER_SECONDS,
            )
        now = trio.current_time()
        wait = self._dear.setdefault(did, _Bucket(DEAR_PER_MINUTE, now)).take(DEAR_PER_MINUTE, now)
        if wait:
            raise Refusal(
                "RATE_LIMITED",
                f"you have verified or enrolled domains {DEAR_PER_MINUTE} times in a minute, the most",
                retry_after_seconds=math.ceil(wait),
            )
        self._at_dear_work.add(did)
        try:
            with trio.move_on_after(DEAR_WAIT_SECONDS_MAX) as patience:
                await self._dear_turns.acquire(did)
            if patience.cancelled_caught:
                raise Refusal(
                    "TEMPORARILY_UNAVAILABLE",
                    "the relay looks at the DNS of many domains now; try again later",
                    retry_after_seconds=DEAR_RETRY_AFTER_SECONDS,
                )
            try:
                yield
            finally:
                self._dear_turns.release()
        finally:
            self._at_dear_work.discard(did)

    def _forget(self, did: str, reads: _Reads) -> None:
        reads.count -= 1
        if not reads.count:
            del self._reads[did]


class _Reads:
    def __init__(self) -> None:
        self.turns = Turns(READS_AT_WORK_MAX)
        #: At work or waiting.
        self.count = 0


class _Bucket:
    """Fills evenly, to as much as a minute's worth."""

    def __init__(self, left: float, at: float) -> None:
        self._left = left
        self._at = at

    def take(self, per_minute: int, now: float) -> float:
        """Take one; or the seconds until there is one."""
        self._left = min(per_minute, self._left + (now - self._at) * per_minute / 60)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) * 60 / per_minute
