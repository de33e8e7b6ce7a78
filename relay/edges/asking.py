"""The edge's side of the channel to the core: what `relay.edge` has of a core, for who stands in another process.

The contract is that of the plain call (`relay.edge.Decide`): returned: durable and in the views of every process;
cancelled: not written (the channel asks, and waits for the answer); what the core refuses is raised here as it was
there. One thing more can happen. Where the core ends meanwhile, nobody knows what became of it, and this process ends
in the same moment (`relay.processes.worker`): whoever asks waits for that, so that a client sees a closed connection,
and no answer that may be wrong.

*Writes are counted twice.* Here, so that one edge alone bounds what it does for a member; and by the core, which counts
again what is handed in, so that `writes_per_minute` is exact for what is written, whatever edges it comes by. What was
counted here and never handed in (a body that is refused, a replay, a mail that is broken off) is told to the core when
it is two looks old: no request takes as long as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from types import NoneType
from typing import Any, Final

import msgspec
import trio

from relay.config import MembersConfig
from relay.config_doors import InboundConfig
from relay.edge import DecisionFailedError
from relay.edges import words
from relay.elsewhere import OwnNode, Role
from relay.principals import Asker, Operator, Principal
from relay.processes.channel import Channel, ChannelClosed
from relay.quota import Quota
from relay.refusals import Refusal
from relay.registry import DECISIONS
from relay.stream_places import Places, TicketUse

#: So often what came to nothing is looked at. A request takes 8 s at most; a mail over SMTP that takes longer than two
#: of these from MAIL to its end may be counted twice.
LOOK_SECONDS: Final = 10.0
#: That this node leads holds for so long from when it was told, which is four times as long as it is told again.
LEADS_SECONDS_MAX: Final = 2.0

_encode: Final = msgspec.msgpack.Encoder().encode


class AskedCore:
    """The core, as an edge in another process has it."""

    def __init__(self, channel: Channel, quota: EdgeQuota) -> None:
        self._channel = channel
        self._quota = quota

    async def decide(self, name: str, arguments: msgspec.Struct, asker: Asker) -> Any:
        """See the module docstring."""
        assert not isinstance(asker, Operator), "an edge takes no orders"
        found = DECISIONS[name]
        member = asker if isinstance(asker, Principal) else None
        if member is not None and not found.reads:
            self._quota.hand_in(member.did)
        try:
            return await self._call(words.Decide(name, msgspec.Raw(_encode(arguments)), member), found.answer)
        except Refusal as refusal:
            if refusal.code == "INTERNAL_ERROR":
                raise DecisionFailedError(refusal.message) from None
            raise

    async def take_message(self, address: str) -> None:
        """Raises Refusal(RATE_LIMITED)."""
        await self._call(words.TakeMessage(address), NoneType)

    async def why_not_accepting(self) -> Refusal | None:
        why = await self._call(words.WhyNotAccepting(), _MaybeWhy)
        return None if why is None else Refusal(why[0], why[1], retry_after_seconds=why[2])

    async def catch_up(self) -> None:
        """Raises Refusal(TEMPORARILY_UNAVAILABLE)."""
        await self._call(words.CatchUp(), NoneType)

    async def metrics_page(self) -> bytes:
        page: bytes = await self._call(words.MetricsPage(), bytes)
        return page

    async def tell_refused(self) -> None:
        """Until cancelled: tell the core what was counted and came to nothing."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            writes = self._quota.came_to_nothing()
            if writes:
                self._channel.tell(words.Refused(writes))

    async def _call(self, question: msgspec.Struct, answer: Any) -> Any:
        return await _asked(self._channel, question, answer)


class ToldNode(OwnNode):
    """The node to which an edge belongs, as the core tells of it."""

    def __init__(self, told: words.NodeIs, catch_up: Callable[[], Awaitable[None]]) -> None:
        self._catch_up = catch_up
        self.hear(told)

    def hear(self, told: words.NodeIs) -> None:
        self._told = told
        self._told_at = trio.current_time()

    @property
    def role(self) -> Role:
        return self._told.role

    @property
    def lag_seconds(self) -> float:
        """What was told, and how long ago that was. Who leads tells again before it may not any more; a core that
        stands still tells nothing."""
        since = trio.current_time() - self._told_at
        if self._told.role == "leader" and not self._told.lag_seconds and since <= LEADS_SECONDS_MAX:
            return 0.0
        return self._told.lag_seconds + since

    @property
    def trouble(self) -> str | None:
        return self._told.trouble

    @property
    def is_unfit(self) -> bool:
        return self._told.is_unfit

    async def catch_up(self) -> None:
        await self._catch_up()


class CarriedPlaces(Places):
    """Places of streams, which the core counts."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def take(self, did: str, ticket: TicketUse | None, session: str | None = None) -> float | None:
        left: float | None = await _asked(self._channel, words.TakePlace(did, ticket, session), float | None)
        return left

    def leave(self, did: str) -> None:
        self._channel.tell(words.LeavePlace(did))


class EdgeQuota(Quota):
    """Of one edge. See the module docstring on writes."""

    def __init__(
        self,
        limits: Callable[[], MembersConfig],
        inbound: Callable[[], InboundConfig] = InboundConfig,
    ) -> None:
        super().__init__(limits, inbound)
        #: Counted since the last look, and before it; what was handed in is taken out.
        self._young: Counter[str] = Counter()
        self._old: Counter[str] = Counter()

    def take_write(self, did: str) -> None:
        super().take_write(did)
        self._young[did] += 1

    def hand_in(self, did: str) -> None:
        """One that was counted goes to the core, which counts it."""
        for counted in (self._old, self._young):
            if did in counted:
                counted[did] -= 1
                if not counted[did]:
                    del counted[did]
                return

    def came_to_nothing(self) -> dict[str, int]:
        """What was counted before the last look and has not been handed in since. Each is given once."""
        nothing, self._old, self._young = dict(self._old), self._young, Counter()
        return nothing


async def _asked(channel: Channel, question: msgspec.Struct, answer: Any) -> Any:
    try:
        return await channel.call(question, answer)
    except ChannelClosed:
        await trio.sleep_forever()


_MaybeWhy: Final[Any] = words.Why | None
