"""The websockets of one simulated relay: `GET /v1/stream`, held open over all its lives, and judged by the log.

Each member has a listener that resumes with the last `seq` that it has seen, however its connection ended: by a death
of the relay, by its stop, or because it hung up. Now and then one comes without a cursor, hears what is new, and goes.
Some are slow to take a frame.

What a dead process says is heard by nobody: its connections are cut at that moment.
"""

from __future__ import annotations

import json
import random

import trio

from tests.campaigns.people import People, pace
from tests.world.asgi import listen
from tests.world.internet import HOUR, MINUTE
from tests.world.ledger import Heard
from tests.world.machine import Machine
from tests.world.relay import World


class Listeners:
    def __init__(self, machine: Machine, people: People, breaches: list[str], *, seed: int) -> None:
        self._machine = machine
        self._people = people
        self._breaches = breaches
        self._seed = seed
        self._resuming: dict[str, Heard] = {}

    async def live(self) -> None:
        async with trio.open_nursery() as nursery:
            for did in self._people.credentials:
                # Of all that happens to the member, from before its first send.
                self._resuming[did] = heard = Heard(did, begin=0)
                self._people.ledger.heard.append(heard)
                nursery.start_soon(self._resume, heard)
                nursery.start_soon(self._look_in, did)

    async def _resume(self, heard: Heard) -> None:
        dice = random.Random(f"{heard.did} listens {self._seed}")
        while True:
            await trio.sleep(dice.choice((0.0, 1.0, dice.expovariate(1 / (10 * MINUTE * pace())))) + 0.01)
            if self._people.is_over:
                return  # `hear_until` goes on from here
            await self._connect(heard, dice, dice.expovariate(1 / (HOUR * pace())))

    async def _look_in(self, did: str) -> None:
        """Without a cursor, and never again."""
        dice = random.Random(f"{did} looks in {self._seed}")
        while not self._people.is_over:
            await trio.sleep(dice.expovariate(1 / (HOUR * pace())))
            heard = Heard(did, begin=None)
            self._people.ledger.heard.append(heard)
            await self._connect(heard, dice, dice.expovariate(1 / (HOUR * pace())))

    async def hear_until(self, seq: int) -> None:
        """All that has happened up to this event is heard within a minute."""
        for heard in self._resuming.values():
            await self._connect(heard, None, MINUTE)
            heard.whole_until = seq

    def judge(self) -> list[str]:
        """Whether each member was listened to the end; what was heard, `tests.world.promises` looks at."""
        return [
            f"the stream of {did} was not listened to until the end"
            for did in self._people.credentials
            if did not in self._resuming or self._resuming[did].whole_until is None
        ]

    async def _connect(self, heard: Heard, dice: random.Random | None, seconds: float) -> None:
        cursor = heard.frames[-1][0] if heard.frames else heard.begin
        path = "/v1/stream" + ("" if cursor is None else f"?cursor={cursor}")
        is_slow = dice is not None and dice.random() < 0.3

        async def serve(world: World) -> None:
            def opened(begin: int) -> None:
                if self._machine.world is not world:
                    return
                if cursor is not None and begin != cursor:
                    self._breaches.append(f"{path} began at {begin}")
                heard.begin = begin if heard.begin is None else heard.begin

            async def take(text: str) -> None:
                if self._machine.world is not world:
                    return
                event = json.loads(text)
                if "seq" in event:
                    heard.frames.append((event["seq"], event["type"], event["time"]))
                else:
                    self._breaches.append(f"{path} was told {text}")
                if is_slow and dice is not None:
                    await trio.sleep(dice.choice((0.0, 0.01, 5.0, 10 * MINUTE)))

            with trio.move_on_after(seconds):
                headers = self._people.credentials[heard.did]
                status = await listen(world.app, path, headers, opened=opened, frame=take)
                if status not in (101, 503):
                    self._breaches.append(f"{path} was answered {status}")

        await self._machine.ask(serve)
