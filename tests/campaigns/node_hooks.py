"""The program behind the webhooks of a member whose relay runs on three machines, and what it holds against them.

It adds two, at any node: one is told everything, each event by itself, the other some of it, in batches, and that one
is paused, resumed, and told again, at any node. Where a machine takes the lead, what the one before had not written
down comes once more, and nothing else comes twice (`tests.world.webhook_promises`, where a life is what one leads).
**And nobody tells anything once another machine leads**: a request that comes from one which led before is a breach,
whatever it brings.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import lmdb
import trio

from relay.codec import Recorded
from relay.events import NodeLeads
from tests.world.machines import Machine, Machines
from tests.world.relay import DID, virtual_clock
from tests.world.webhook_listener import CUT, HANG, Endpoint, Knock, Listener
from tests.world.webhook_promises import broken_webhook_promises

HOST, ADDRESS, PORT = "hook.example", "93.184.215.15", 8080
#: Of `relay.toml`.
WEBHOOKS: Final = f'allow = ["{DID} {HOST}:{PORT}"]\n'
WANTED: Final = (
    {"batch": 1, "from": 0},
    {"batch": 20, "from": 0, "types": ["message.queued", "message.sent", "message.bounced"]},
)
#: What the first try of a request may be answered; the next one is taken.
STATUSES: Final = (*[200] * 6, 500, 503, 429, HANG, CUT)
#: So many events come into the log before an order that is in it has stopped what was about to go.
ON_ITS_WAY: Final = 5
ORDERS: Final = ("pause", "resume", "resume", "replay")

#: Method, path, and what else the request has: which machine answered, with what. None: nobody did.
Ask = Callable[..., Awaitable[tuple[Machine, int, Any] | None]]


class NodeHooks:
    def __init__(
        self,
        machines: Machines,
        ask: Ask,
        see_new: Callable[[], Sequence[Recorded]],
        breaches: list[str],
        *,
        seed: int,
        is_moody: Callable[[], bool],
    ) -> None:
        """`see_new`: all that has become true so far. `is_moody`: endpoints are."""
        self._machines = machines
        self._ask = ask
        self._see_new = see_new
        self._breaches = breaches
        self._seed = seed
        self._is_moody = is_moody
        self._endpoints: dict[str, Endpoint] = {}
        self._asked: Counter[tuple[str, int, bool]] = Counter()
        #: Who led last, and from which epoch on: of the first so many events.
        self._led: tuple[str, int] = ("", 0)
        self._seen = 0
        machines.services[ADDRESS, PORT] = self._serve
        machines.dns.addresses[HOST] = [ADDRESS]

    async def live(self) -> None:
        """Until cancelled."""
        dice = random.Random(f"hooks {self._seed}")
        _, other = [await self._add(wanted, dice) for wanted in WANTED]
        while True:
            await trio.sleep(dice.expovariate(1 / 15))
            if self._is_moody():
                await self._order(other, dice.choice(ORDERS), dice)

    async def _add(self, wanted: dict[str, Any], dice: random.Random) -> Endpoint:
        """Until somebody says that it is there. Of another that nobody told of, its URL is nobody's."""
        while True:
            number = self._asked.total()
            self._asked["add", number, False] += 1
            body = {**wanted, "url": f"http://{HOST}:{PORT}/{number}"}
            answered = await self._ask(
                dice, "POST", "/v1/webhooks", headers=self._machines.credentials, json=body
            )
            if answered is not None and answered[1] == 201:
                made = answered[2]
                return self._endpoints.setdefault(
                    made["webhookId"], Endpoint(made["webhookId"], [made["secret"]])
                )
            if answered is not None and answered[1] != 503:
                self._breaches.append(f"a webhook was answered {answered[1:]}")
            await trio.sleep(dice.uniform(0.1, 2))

    async def _order(self, endpoint: Endpoint, order: str, dice: random.Random) -> None:
        body: dict[str, Any] = {}
        told = [seq for knock in endpoint.knocks for seq in knock.seqs]
        if order == "replay":
            begin = dice.choice(told[-30:] or [1]) - 1
            body = {"json": {"from": begin, "to": begin + dice.randint(1, 20)}}
        path = f"/v1/webhooks/{endpoint.webhook_id}/{order}"
        answered = await self._ask(dice, "POST", path, headers=self._machines.credentials, **body)
        # What is to be told again is all of the past, and the webhook is active.
        may = (200, 400, 409, 503) if order == "replay" else (200, 503)
        if answered is not None and answered[1] not in may:
            self._breaches.append(f"{order} was answered {answered[1:]}")

    # ---------------------------------------------------------------- what comes

    async def _serve(self, machine: Machine, stream: trio.abc.Stream) -> None:
        """One connection of one machine, which leads, or did."""
        try:
            life = self._epoch_of(machine)
        except lmdb.Error:
            return  # it ends, and its store is closed
        listener = Listener(
            self._answer,
            stranger=lambda path: 503,
            now=lambda: virtual_clock() / 1e6,
            moment=lambda: (life, machine.seq),
        )
        listener.endpoints, listener.breaches = self._endpoints, self._breaches
        listener.on_knock.append(lambda endpoint, knock: self._look(machine, knock))
        await listener.serve(stream)

    def _epoch_of(self, machine: Machine) -> int:
        """Of its last lead, as its own log has it."""
        store = machine.world.core.store
        own = [
            item.event.epoch
            for item in map(store.get, range(1, store.last_seq + 1))
            if isinstance(item.event, NodeLeads) and item.event.node == machine.name
        ]
        return max(own, default=0)

    def _look(self, machine: Machine, knock: Knock) -> None:
        """As it comes."""
        events = self._see_new()
        for item in events[self._seen :]:
            if isinstance(item.event, NodeLeads):
                self._led = item.event.node, item.event.epoch
        self._seen = len(events)
        if self._led != (machine.name, knock.life):
            self._breaches.append(
                f"{machine.name}, which led with epoch {knock.life}, told {knock.seqs} while {self._led} led"
            )

    def _answer(self, endpoint: Endpoint, knock: Knock) -> int:
        key = endpoint.webhook_id, knock.seqs[0], knock.is_replay
        self._asked[key] += 1
        if not self._is_moody() or self._asked[key] > 1:
            return 200
        return random.Random(f"{self._seed} {knock.seqs[0]} {knock.is_replay}").choice(STATUSES)

    # ---------------------------------------------------------------- the judgement

    async def has_told_all(self, events: Sequence[Recorded], dice: random.Random) -> bool:
        """When nobody is moody any more. What is paused goes on."""
        if len(self._endpoints) < len(WANTED):
            return False
        missing = [
            endpoint
            for endpoint in self._endpoints.values()
            if broken_webhook_promises(events, endpoint, whole_until=events[-1].seq, only_whole=True)
        ]
        for endpoint in missing:
            await self._order(endpoint, "resume", dice)
        return not missing

    def judge(self, events: Sequence[Recorded]) -> list[str]:
        found: list[str] = []
        for endpoint in self._endpoints.values():
            found += broken_webhook_promises(
                events, endpoint, whole_until=events[-1].seq, on_its_way=ON_ITS_WAY
            )
        return found

    @property
    def requests(self) -> int:
        return sum(len(endpoint.knocks) for endpoint in self._endpoints.values())
