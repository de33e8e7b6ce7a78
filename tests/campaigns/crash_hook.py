"""The webhook of one member in `make crash`: its endpoint lives through all that happens to the relay, and remembers.

It speaks HTTP on loopback, where the configuration lets this member's webhooks go. Now and then it refuses a request,
or closes the connection instead of answering. What it was told is held against the log as that of the simulated world
is (`tests.world.webhook_promises`); which process told it is known by its number.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from relay.codec import Recorded
from relay.config import CONFIG_FILE
from tests.world.http import open_http
from tests.world.webhook_listener import CUT, Endpoint, Knock, Listener
from tests.world.webhook_promises import broken_webhook_promises


class CrashHook:
    def __init__(self, seed: int, process: Callable[[], int]) -> None:
        """`process`: the number of the relay's process that runs, or ran last."""
        self._seed = seed
        self._asked: Counter[int] = Counter()
        self._listener = Listener(self._answer, stranger=lambda path: 503, moment=lambda: (process(), 0))
        self._port = 0

    @property
    def requests(self) -> int:
        return sum(len(endpoint.knocks) for endpoint in self._listener.endpoints.values())

    async def open(self, nursery: trio.Nursery, directory: Path, did: str) -> None:
        """Listen, and let the member's webhooks come here: before the relay is started."""
        listeners = await nursery.start(partial(trio.serve_tcp, self._listener.serve, 0, host="127.0.0.1"))
        self._port = listeners[0].socket.getsockname()[1]
        path = directory / CONFIG_FILE
        allow = f'allow = ["{did} 127.0.0.1:{self._port}"]\n'
        text = path.read_text()
        assert "\n[webhooks]\n" in text
        path.write_text(text.replace("\n[webhooks]\n", f"\n[webhooks]\n{allow}"))

    async def add(self, address: str, credentials: dict[str, str]) -> None:
        """To a relay that serves and whose clients do nothing yet."""
        body = {"url": f"http://127.0.0.1:{self._port}/", "from": 0, "batch": 20}
        headers = {**credentials, "Content-Type": "application/json"}
        async with open_http(address) as http:
            answer = await http.request("POST", "/v1/webhooks", headers, json.dumps(body).encode())
        assert answer.status == 201, answer
        made = json.loads(answer.body)
        self._listener.endpoint(made["webhookId"], made["secret"])

    def _answer(self, endpoint: Endpoint, knock: Knock) -> int:
        first = knock.seqs[0]
        self._asked[first] += 1
        dice = random.Random(f"{self._seed} {first} {self._asked[first]}").random()
        return CUT if dice < 0.01 else 500 if dice < 0.03 else 200

    def breaches(self, events: Sequence[Recorded], *, all_told: bool) -> list[str]:
        """What came that should not have, or not so; and what did not come, where `all_told`."""
        found = list(self._listener.breaches)
        for endpoint in self._listener.endpoints.values():
            whole_until = events[-1].seq if all_told else None
            found += broken_webhook_promises(events, endpoint, whole_until=whole_until)
        return found

    def has_been_told(self, events: Sequence[Recorded]) -> bool:
        return not any(
            broken_webhook_promises(events, endpoint, whole_until=events[-1].seq, only_whole=True)
            for endpoint in self._listener.endpoints.values()
        )
