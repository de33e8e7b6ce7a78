"""The programs behind the webhooks of one simulated relay: HTTPS in memory, over all its lives, judged by the log.

Each member adds a webhook when it is enrolled, and later others, with types, in batches, from a place of the past; it
pauses and resumes them, has events told again, changes their secrets, removes them. What it was not told of, because
the relay died, it knows nothing of: an endpoint of nobody answers 410.

The endpoints answer now well, now badly, or not at all. Some refuse a certain event each time that it comes, so that
after a day it is skipped. Once the world is healed they take everything, and must have everything.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence

import trio

from relay.codec import Recorded
from relay.events import WebhookProgressed
from relay.views import webhooks
from tests.campaigns.people import MEMBERS, People, pace
from tests.campaigns.sites import site_certificates
from tests.world.internet import HOUR, MINUTE, Internet
from tests.world.ledger import Answer
from tests.world.machine import Machine
from tests.world.relay import World, virtual_clock
from tests.world.webhook_listener import CUT, HANG, Endpoint, Knock, Listener
from tests.world.webhook_promises import broken_webhook_promises

HOST, ADDRESS = "hook.example", "93.184.215.15"
STATUSES = (*[200] * 14, 500, 503, 404, 429, 301, HANG, CUT)
#: What makes a relay answer that what is asked cannot be done, beside 503.
REFUSALS = ("MEMBER_SUSPENDED", "CONFLICT", "RATE_LIMITED", "NOT_FOUND", "INVALID_REQUEST")
#: So many events come into the log before an order that is in it has stopped what was about to go.
ON_ITS_WAY = 5
#: The longest back-off and a bit.
HEARD_SECONDS_MAX = 2 * HOUR


class Hooks:
    def __init__(
        self,
        machine: Machine,
        people: People,
        internet: Internet,
        breaches: list[str],
        *,
        seed: int,
        keeps_time: bool,
    ) -> None:
        self._machine = machine
        self._people = people
        self._breaches = breaches
        self._seed = seed
        self._keeps_time = keeps_time
        self._is_calm = random.Random(f"hooks {seed}").random() < 0.3
        self._count = 0
        self._log_seq = 0
        #: What came from a relay that is being started: nobody sees yet how far its log is.
        self._unseen: list[Knock] = []
        self._asked: Counter[tuple[str, int]] = Counter()
        #: URL -> whether its member waits to be told of it yet.
        self._wanted: dict[str, bool] = {}
        self._of: dict[str, str] = {}
        self._removed: set[str] = set()
        self._heard_until: int | None = None
        self.listener = Listener(
            self._answer,
            stranger=self._answer_of_nobody,
            now=self._now if keeps_time else None,
            moment=self._moment,
        )
        self.listener.on_knock.append(self._note)
        machine.journal.observers.append(self._see)
        authority, self._server = site_certificates()
        internet.trust = authority.trust
        internet.services[ADDRESS, 443] = self._serve
        internet.dns.addresses[HOST] = [ADDRESS]

    async def live(self) -> None:
        async with trio.open_nursery() as nursery:
            for did in MEMBERS:
                nursery.start_soon(self._live_with, did)

    async def _live_with(self, did: str) -> None:
        dice = random.Random(f"hooks of {did} {self._seed}")
        await self._add(did, dice, begin=0)
        while True:
            await trio.sleep(dice.expovariate(1 / (8 * MINUTE * pace())))
            if self._people.is_over:
                return
            own = [webhook_id for webhook_id, owner in self._of.items() if owner == did]
            if not own or (len(own) < 2 and dice.random() < 0.2):
                await self._add(did, dice, begin=dice.choice((0, None)))
                continue
            await self._order(did, dice.choice(own), dice)

    async def _add(self, did: str, dice: random.Random, *, begin: int | None) -> None:
        self._count += 1
        path = f"/hook/{self._count}"
        wanted = {
            "url": f"https://{HOST}{path}",
            "types": dice.choice((None, None, ["message.queued", "message.sent", "attempt.started"])),
            "batch": dice.choice((1, 3, 100)),
            "from": begin,
        }
        self._wanted[path] = True
        answer = await self._ask(did, "POST", "/v1/webhooks", wanted)
        self._wanted[path] = False
        if answer is not None and answer.status == 201:
            made = json.loads(answer.body)
            self.listener.endpoint(made["webhookId"], made["secret"])
            self._of[made["webhookId"]] = did

    async def _order(self, did: str, webhook_id: str, dice: random.Random) -> None:
        path = f"/v1/webhooks/{webhook_id}"
        order = dice.choice(
            ("pause", "resume", "resume", "resume", "rotate", "replay", "replay", "test", "remove")
        )
        match order:
            case "remove":
                if dice.random() < 0.3:
                    self._removed.add(webhook_id)  # whether or not it is told so
                    self._of.pop(webhook_id)
                    await self._ask(did, "DELETE", path, None)
            case "replay":
                told = [seq for knock in self.listener.endpoints[webhook_id].knocks for seq in knock.seqs]
                begin = dice.choice(told[-100:] or [0]) - dice.choice((0, 1, 5))
                end = None if dice.random() < 0.2 else begin + dice.randint(1, 40)
                begin = 0 if dice.random() < 0.1 else max(0, begin)
                await self._ask(did, "POST", f"{path}/replay", {"from": begin, "to": end})
            case "rotate":
                await self._rotate(did, webhook_id)
            case _:
                await self._ask(did, "POST", f"{path}/{order}", None)

    async def _rotate(self, did: str, webhook_id: str) -> None:
        """Until somebody answers: until then nobody knows which secret signs."""
        endpoint = self.listener.endpoints[webhook_id]
        while not self._people.is_over:
            endpoint.has_unknown_secret = True
            answer = await self._ask(did, "POST", f"/v1/webhooks/{webhook_id}/rotate", None)
            if answer is not None and answer.status == 200:
                endpoint.secrets.insert(0, json.loads(answer.body)["secret"])
            if answer is not None and answer.status != 503:
                # Of a rotation before it, whose answer was lost, nothing signs any more, or all that was known does.
                endpoint.has_unknown_secret = answer.status != 200 and endpoint.has_unknown_secret
                return
            await trio.sleep(MINUTE)

    async def _ask(self, did: str, method: str, path: str, body: object) -> Answer | None:
        headers = dict(self._people.credentials[did])
        if body is not None:
            headers["Content-Type"] = "application/json"

        async def ask(world: World) -> Answer | None:
            octets = b"" if body is None else json.dumps(body).encode()
            return await self._people.open_path(world, method, path, headers, octets)

        answer = await self._machine.ask(ask)
        if answer is not None and answer.status not in (200, 201, 503) and answer.code not in REFUSALS:
            self._breaches.append(f"{method} {path} was answered {answer.status}: {answer.code}")
        return answer

    # ---------------------------------------------------------------- the endpoints

    async def _serve(self, transport: trio.abc.Stream) -> None:
        stream = trio.SSLStream(transport, self._server, server_side=True, https_compatible=True)
        await self.listener.serve(stream)

    def _answer(self, endpoint: Endpoint, knock: Knock) -> int:
        if self._people.is_over or self._is_calm:
            return 200
        first = knock.seqs[0]
        self._asked[endpoint.webhook_id, first] += 1
        if any(
            random.Random(f"{self._seed} {endpoint.webhook_id} {seq}").random() < 0.02 for seq in knock.seqs
        ):
            return 400  # it will never like this one
        dice = random.Random(
            f"{self._seed} {endpoint.webhook_id} {first} {self._asked[endpoint.webhook_id, first]}"
        )
        return 410 if dice.random() < 0.01 else dice.choice(STATUSES)

    def _answer_of_nobody(self, path: str) -> int:
        return 503 if self._wanted.get(path) else 410

    def _now(self) -> float:
        return virtual_clock() / 1e6

    def _note(self, endpoint: Endpoint, knock: Knock) -> None:
        if self._machine.is_starting:
            self._unseen.append(knock)

    def _see(self, recorded: Sequence[Recorded]) -> None:
        for knock in self._unseen:
            knock.log_seq = len(self._machine.journal.events)
        self._unseen.clear()

    def _moment(self) -> tuple[int, int]:
        world = self._machine.world
        if world is not None:
            self._log_seq = world.core.store.last_seq
        return self._machine.lives, self._log_seq

    # ---------------------------------------------------------------- the judgement

    async def hear_until(self, world: World, seq: int) -> None:
        """All go on, and take what has happened up to this event."""
        with trio.move_on_after(HEARD_SECONDS_MAX):
            while True:
                with world.core.store.read() as view:
                    states = [webhooks.webhook(view, webhook_id) for webhook_id in self._of]
                for state in states:
                    if state is not None and state.status != "active":
                        await self._ask(state.did, "POST", f"/v1/webhooks/{state.webhook_id}/resume", None)
                if all(self._has_heard(world, webhook_id, seq) for webhook_id in self._of):
                    break
                await trio.sleep(MINUTE)
        self._heard_until = seq

    def _has_heard(self, world: World, webhook_id: str, seq: int) -> bool:
        events = [world.core.store.get(number) for number in range(1, seq + 1)]
        endpoint = self.listener.endpoints[webhook_id]
        return not broken_webhook_promises(events, endpoint, whole_until=seq, only_whole=True)

    def judge(self, log: Sequence[Recorded], *, clock_us: int) -> list[str]:
        """`clock_us`: by so much the relay's clock was set, in all."""
        found = list(self.listener.breaches)
        if self._heard_until is None:
            found.append("nobody has listened to webhooks until the end")
        for webhook_id, endpoint in self.listener.endpoints.items():
            whole_until = None if webhook_id in self._removed else self._heard_until
            found += broken_webhook_promises(
                log, endpoint, whole_until=whole_until, on_its_way=ON_ITS_WAY, clock_us=clock_us
            )
        if self._keeps_time:
            found += self._judge_progress(log)
        return found

    def _judge_progress(self, log: Sequence[Recorded]) -> list[str]:
        """Once in a minute at most, and when a life ends."""
        written: Counter[str] = Counter(
            item.event.webhook_id for item in log if isinstance(item.event, WebhookProgressed)
        )
        minutes = (log[-1].time_us - log[0].time_us) / 60e6
        return [
            f"{webhook_id} has {count} webhook.progressed in {minutes:.0f} minutes and {self._machine.lives} lives"
            for webhook_id, count in written.items()
            if count > minutes + 2 * self._machine.lives
        ]
