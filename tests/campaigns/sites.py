"""The members' own web sites in one simulated internet, where their unsubscribe URLs lead: HTTPS, in memory.

`HOST` answers now well, now badly, or not at all, and always well once the world is healed. `INSIDE` is a name that
somebody has given an address of a private network: nobody may ever come there, and calls of it are given up.
Every request that comes is looked at, and what the log says of calls is held against what was answered.
"""

from __future__ import annotations

import random
import ssl
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

import trio

from relay.codec import Recorded
from relay.events import SendAccepted, UnsubscribeCalled
from tests.world.https import Authority, Stream, serve_https
from tests.world.internet import Internet

HOST, ADDRESS = "list.example", "93.184.215.14"
INSIDE, INSIDE_ADDRESS = "inside.example", "10.0.0.1"
BODY = b"List-Unsubscribe=One-Click"
MOODS = ("200", "200", "500", "302", "hang", "cut")


@cache
def site_certificates() -> tuple[Authority, ssl.SSLContext]:
    """Who vouches for all sites of members, and what they show: those here, and those behind webhooks."""
    authority = Authority()
    return authority, authority.certificate(HOST, "hook.example")


class Sites:
    def __init__(
        self, internet: Internet, breaches: list[str], is_healed: Callable[[], bool], *, seed: int
    ) -> None:
        self._breaches = breaches
        self._is_healed = is_healed
        self._seed = seed
        self._asked: Counter[str] = Counter()
        #: How often (path, status) was answered.
        self._answered: Counter[tuple[str, int]] = Counter()
        authority, self._server = site_certificates()
        internet.trust = authority.trust
        internet.services[ADDRESS, 443] = self._serve
        internet.dns.addresses[HOST] = [ADDRESS]
        internet.dns.addresses[INSIDE] = [INSIDE_ADDRESS]

    async def _serve(self, transport: trio.abc.Stream) -> None:
        await serve_https(transport, self._server, self._answer)

    async def _answer(self, stream: Stream, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
        if (method, body) != ("POST", BODY):
            self._breaches.append(f"{path} was asked for by {method} with {body!r}")
        self._asked[path] += 1
        mood = random.Random(f"{self._seed} {path} {self._asked[path]}").choice(MOODS)
        if self._is_healed():
            mood = "200"
        if mood == "hang":
            await trio.sleep_forever()
        if mood == "cut":
            return
        self._answered[path, int(mood)] += 1
        location = f"Location: https://{INSIDE}/\r\n" if mood == "302" else ""
        await stream.send_all(f"HTTP/1.1 {mood} So\r\n{location}Content-Length: 0\r\n\r\n".encode())

    def judge(self, log: Iterable[Recorded]) -> list[str]:
        """What calls are said to have been answered, and were not."""
        paths: dict[int, str] = {}
        said: Counter[tuple[str, int]] = Counter()
        for item in log:
            match item.event:
                case SendAccepted(recipients=recipients, personal=content):
                    url = content.unsubscribe_url if content is not None else None
                    if url is not None:
                        messages = range(item.seq + 1, item.seq + 1 + recipients)
                        paths.update(dict.fromkeys(messages, url.removeprefix(f"https://{HOST}")))
                case UnsubscribeCalled(message_id=message_id, status=int(status)):
                    said[paths[message_id], status] += 1
        return [
            f"{path} is said to have answered {status} {count} times, and did {self._answered[path, status]} times"
            for (path, status), count in said.items()
            if count > self._answered[path, status]
        ]
