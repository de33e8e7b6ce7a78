"""What one member may use of what all share: writes a minute, reads at work at a time, and what is dear by nature; and
what strangers may who bring mail in.

The invariant: **what a member costs is bounded, and the bound is its own, never shared.** Who asks for more waits for
its own turn, or is told when to come again; nobody else notices. Strangers have a bound for each address, and what they
may have written has one for each domain or mailbox that it is for.

All counters are in memory and end with the process: they bound what is asked now, and decide nothing that stays. (What
must survive a restart, such as warming, is counted from the log.) Members are authenticated before they are counted,
so there are never more counters than members. Of strangers there are COUNTED_MAX: whoever was counted longest ago is
forgotten, which gives him as much as a minute's rest would have.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, TypeVar

import trio

from relay.config import MembersConfig
from relay.config_doors import InboundConfig
from relay.refusals import Refusal
from relay.turns import Turns

#: Reads of one member that are answered at a time; the others wait for their turn.
READS_AT_WORK_MAX = 4
#: Of what is dear: so many of one member a minute (and one at a time), and so many of all at a time.
DEAR_PER_MINUTE = 6
DEAR_AT_WORK_MAX = 8
#: So long one waits for the others.
DEAR_WAIT_SECONDS_MAX = 10.0
#: Between two tests of webhooks of one member, or of the operator.
WEBHOOK_TESTS_SECONDS = 10.0
#: Mails to its owner that a webhook is disabled: as many as a member has webhooks.
WEBHOOK_NOTICES_PER_DAY = 10
#: And comes again, where its own last one is still at work.
DEAR_RETRY_AFTER_SECONDS = 5

#: Addresses of strangers, and what they write to, that are counted at a time.
COUNTED_MAX = 10_000
#: While the disk is nearly full, of the mail for postmaster@ and abuse@ (SPEC 13).
LAST_MAILS_PER_MINUTE = 10

#: What strangers may have written: reports, mail for the operator's mailbox, mail for members.
MailKind = Literal["report", "operator", "member"]


class Quota:
    """Of one relay. Every time is `trio.current_time()`. `limits` are asked for at each use."""

    def __init__(
        self,
        limits: Callable[[], MembersConfig],
        inbound: Callable[[], InboundConfig] = InboundConfig,
    ) -> None:
        self._limits = limits
        self._inbound = inbound
        self._of_address: OrderedDict[str, _Bucket] = OrderedDict()
        self._budgets: OrderedDict[tuple[MailKind, str], _Budget] = OrderedDict()
        self._last_mails: _Bucket | None = None
        self._writes: dict[str, _Bucket] = {}
        self._reads: dict[str, _Reads] = {}
        self._dear: dict[str, _Bucket] = {}
        self._at_dear_work: set[str] = set()
        self._dear_turns = Turns(DEAR_AT_WORK_MAX)
        self._webhook_tests: dict[str, float] = {}
        self._webhook_notices: dict[str, _Bucket] = {}

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

    def count_refused(self, did: str, count: int) -> None:
        """Count writes of the member that were refused elsewhere, as far as it had any left."""
        per_minute, now = self._limits().writes_per_minute, trio.current_time()
        self._writes.setdefault(did, _Bucket(per_minute, now)).drain(per_minute, now, count)

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

    def take_webhook_test(self, did: str) -> None:
        """Count one request to a webhook that somebody wants now, for its owner. Raises Refusal(RATE_LIMITED)."""
        now = trio.current_time()
        wait = self._webhook_tests.get(did, -math.inf) + WEBHOOK_TESTS_SECONDS - now
        if wait > 0:
            raise Refusal(
                "RATE_LIMITED",
                f"a webhook of this owner's was tested less than {WEBHOOK_TESTS_SECONDS:g} seconds ago; wait",
                retry_after_seconds=math.ceil(wait),
            )
        self._webhook_tests[did] = now

    def take_webhook_notice(self, did: str) -> bool:
        """Whether the owner of a webhook may be told once more that it is disabled; it is counted."""
        most, now = WEBHOOK_NOTICES_PER_DAY, trio.current_time()
        bucket = self._webhook_notices.setdefault(did, _Bucket(most, now))
        return not bucket.take(most, now, seconds=24 * 3600)

    # ------------------------------------------------------------------------------------------------ strangers

    def take_message(self, address: str) -> None:
        """Count one message that somebody at this address begins, whatever becomes of it. Raises
        Refusal(RATE_LIMITED)."""
        per_minute = self._inbound().messages_per_minute_per_address
        now = trio.current_time()
        bucket = self._of_address.get(address) or _Bucket(per_minute, now)
        _put(self._of_address, address, bucket)
        wait = bucket.take(per_minute, now)
        if wait:
            raise Refusal(
                "RATE_LIMITED",
                f"your address has begun {per_minute} messages in a minute, the most",
                retry_after_seconds=math.ceil(wait),
            )

    @contextmanager
    def budget(self, kind: MailKind, whom: str, size: int) -> Iterator[Spending]:
        """For what a stranger has written: so many messages an hour and bytes a day of this kind, for this domain or
        mailbox. Raises Refusal(RATE_LIMITED).

        It is taken when the block is entered, so that many at once do not have it all, and given back where the block
        does not say that something was written.
        """
        limits, now = self._inbound(), trio.current_time()
        budget = self._budgets.get((kind, whom)) or _Budget(
            _Bucket(limits.messages_per_hour, now), _Bucket(limits.bytes_per_day, now)
        )
        _put(self._budgets, (kind, whom), budget)
        wait = budget.take(limits, size, now)
        if wait:
            raise Refusal(
                "RATE_LIMITED",
                "so much mail of this kind has come that the rest has to wait",
                retry_after_seconds=math.ceil(wait),
            )
        spending = Spending()
        try:
            yield spending
        finally:
            if not spending.was_written:
                budget.give_back(size)

    def take_last_mail(self) -> bool:
        """Whether one more mail for the postmaster may be written although the disk is nearly full."""
        now = trio.current_time()
        self._last_mails = self._last_mails or _Bucket(LAST_MAILS_PER_MINUTE, now)
        return not self._last_mails.take(LAST_MAILS_PER_MINUTE, now)

    def _forget(self, did: str, reads: _Reads) -> None:
        reads.count -= 1
        if not reads.count:
            del self._reads[did]


class _Reads:
    def __init__(self) -> None:
        self.turns = Turns(READS_AT_WORK_MAX)
        #: At work or waiting.
        self.count = 0


class Spending:
    """What becomes of something that a budget was asked for."""

    was_written = False


class _Budget:
    def __init__(self, messages: _Bucket, octets: _Bucket) -> None:
        self._messages = messages
        self._octets = octets

    def take(self, limits: InboundConfig, size: int, now: float) -> float:
        """Take one message of this size of both; or the seconds until both have it, and nothing is taken."""
        wait = self._messages.take(limits.messages_per_hour, now, seconds=3600)
        if not wait:
            wait = self._octets.take(limits.bytes_per_day, now, size, seconds=24 * 3600)
            if wait:
                self._messages.give_back(1)
        return wait

    def give_back(self, size: int) -> None:
        self._messages.give_back(1)
        self._octets.give_back(size)


class _Bucket:
    """Fills evenly, to as much as a period's worth, which is a minute's unless it is said otherwise."""

    def __init__(self, left: float, at: float) -> None:
        self._left = left
        self._at = at

    def take(self, most: int, now: float, amount: int = 1, *, seconds: int = 60) -> float:
        """Take so much; or the seconds until there is as much. More than it ever holds is taken of a full one, which
        then takes the longer to fill."""
        self._left = min(most, self._left + (now - self._at) * most / seconds)
        self._at = now
        needed = min(amount, most)
        if self._left >= needed:
            self._left -= amount
            return 0.0
        return (needed - self._left) * seconds / most

    def drain(self, most: int, now: float, amount: int) -> None:
        """Take so much, or what there is."""
        self.take(most, now, 0)
        self._left = max(0.0, self._left - amount)

    def give_back(self, amount: int) -> None:
        self._left += amount


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _put(table: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > COUNTED_MAX:
        table.popitem(last=False)
