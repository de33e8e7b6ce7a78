"""A member's own program behind a webhook: it checks every signature itself, remembers what came, and answers as it is
told to.

    listener = Listener(answer=lambda knock: 200)
    endpoint = listener.endpoint(webhook_id, secret)
    await listener.serve(stream)             # HTTP/1.1 with keep-alive, on whatever stream (TLS or not)

`answer` is asked of each request for the status to answer with; or for HANG (it never answers) or CUT (it closes the
connection without an answer). What is wrong with a request as such (its signature, its headers, a body that is not what
the headers say, a second request while the first is not answered) is a sentence in `breaches`. Whether the right things
came, in the right order, `tests.world.webhook_promises` judges by `Endpoint.knocks`.

The verification is the one of Standard Webhooks 1.0.0, written anew: HMAC-SHA256 of `id.timestamp.body` with the secret
behind `whsec_`, in base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.abc

HANG, CUT = -1, 0
#: What a request says how old it is at most, by the clock that the listener was given.
TOLERANCE_SECONDS = 300
BODY_BYTES_MAX = 1 << 20


@dataclass
class Knock:
    """One request that came."""

    #: The sequence numbers of the events in it, in their order.
    seqs: list[int]
    types: list[str]
    is_replay: bool
    #: Which life of the relay it came from, and the last event of its log then.
    life: int
    log_seq: int
    at: float
    #: What was answered; HANG and CUT are no answer.
    status: int = HANG
    #: The answer was written before the connection ended.
    is_answered: bool = False

    @property
    def was_taken(self) -> bool:
        return 200 <= self.status < 300


@dataclass
class Endpoint:
    """What one webhook's URL has got."""

    webhook_id: str
    #: Those that sign now; after a rotation the new one and the one before.
    secrets: list[str]
    #: A rotation was not answered: perhaps a secret signs that nobody was told.
    has_unknown_secret: bool = False
    knocks: list[Knock] = field(default_factory=list)
    #: Requests that are being answered, by the life that they came from. Where another machine leads now, the one
    #: before may wait for an answer yet.
    open: Counter[int] = field(default_factory=Counter)
    #: Tests that came: they have no place in the order.
    tests: int = 0


class Listener:
    def __init__(
        self,
        answer: Callable[[Endpoint, Knock], int] = lambda endpoint, knock: 200,
        *,
        stranger: Callable[[str], int] | None = None,
        now: Callable[[], float] | None = None,
        moment: Callable[[], tuple[int, int]] = lambda: (1, 0),
    ) -> None:
        """`stranger`: what a path is answered for a webhook that nobody here knows of; None: there is none such. `now`:
        a clock that timestamps must agree with; None: nobody knows which. `moment`: the number of the relay's life and
        the last sequence number of its log."""
        self.endpoints: dict[str, Endpoint] = {}
        self.breaches: list[str] = []
        self.connections = 0
        #: Called with each request after it was looked at, before it is answered.
        self.on_knock: list[Callable[[Endpoint, Knock], None]] = []
        self._answer = answer
        self._stranger = stranger
        self._now = now
        self._moment = moment

    def endpoint(self, webhook_id: str, secret: str) -> Endpoint:
        found = self.endpoints[webhook_id] = Endpoint(webhook_id, [secret])
        return found

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection, until either side closes it."""
        self.connections += 1
        # A request may be read when the process that sent it is dead, and the next one runs: it is of its connection's.
        life, _ = self._moment()
        rest = b""
        try:
            while True:
                head, body, rest = await _read_request(stream, rest)
                if not head or not await self._take(stream, head, body, life):
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the relay may die in the middle
        finally:
            await trio.aclose_forcefully(stream)

    async def _take(self, stream: trio.abc.Stream, head: bytes, body: bytes, life: int) -> bool:
        """Whether the connection goes on."""
        line, *lines = head.decode("ascii").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
        }
        endpoint, knock = self._look_at(line, headers, body, life)
        if endpoint is None:
            status = 404 if self._stranger is None else self._stranger(line.split(" ")[1])
            await _say(stream, status)
            return True
        if knock is None:
            endpoint.tests += 1
            await _say(stream, 200)
            return True
        if endpoint.open[life]:
            self.breaches.append(f"{endpoint.webhook_id}: {knock.seqs} came while a request was not answered")
        endpoint.knocks.append(knock)
        endpoint.open[life] += 1
        try:
            for observer in self.on_knock:
                observer(endpoint, knock)
            knock.status = self._answer(endpoint, knock)
            if knock.status == HANG:
                await trio.sleep_forever()
            if knock.status == CUT:
                return False
            await _say(stream, knock.status)
            knock.is_answered = True
            return True
        finally:
            endpoint.open[life] -= 1

    def _look_at(
        self, line: str, headers: dict[str, str], body: bytes, life: int
    ) -> tuple[Endpoint | None, Knock | None]:
        full_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        webhook_id, _, number = full_id.partition(".")
        endpoint = self.endpoints.get(webhook_id)
        if endpoint is None:
            if self._stranger is None:
                self.breaches.append(f"{full_id!r} is of no webhook that there is")
            return None, None
        wrong = f"{full_id}: "
        if not line.startswith("POST /"):
            self.breaches.append(wrong + f"it came by {line!r}")
        if not endpoint.has_unknown_secret and not is_signed(
            endpoint.secrets, full_id, stamp, body, headers.get("webhook-signature", "")
        ):
            self.breaches.append(wrong + "no signature of it is right")
        if self._now is not None and abs(self._now() - int(stamp)) > TOLERANCE_SECONDS:
            self.breaches.append(wrong + f"it says that it is of {stamp}, and it is {self._now():.0f}")
        said = json.loads(body)
        if said["type"] == "webhook.test":
            return endpoint, None
        is_replay = headers.get("atmos-replay") == "true"
        events = said["data"]["events"] if said["type"] == "batch" else [said["data"]]
        knock = Knock(
            [event["seq"] for event in events],
            [event["type"] for event in events],
            is_replay,
            life,
            self._moment()[1],
            trio.current_time(),
        )
        last = knock.seqs[-1] if knock.seqs else None
        if [number, headers.get("atmos-cursor")] != [str(last)] * 2:
            self.breaches.append(
                wrong + f"its cursor is {headers.get('atmos-cursor')}, and it brings {knock.seqs}"
            )
        if said["type"] == "batch":
            if said["data"]["cursor"] != last:
                self.breaches.append(wrong + f"its body says cursor {said['data']['cursor']}")
        elif said["type"] != knock.types[0]:
            self.breaches.append(wrong + f"it is called {said['type']}, and is {knock.types[0]}")
        return endpoint, knock


async def _say(stream: trio.abc.Stream, status: int) -> None:
    await stream.send_all(f"HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n".encode())


def is_signed(secrets: list[str], full_id: str, stamp: str, body: bytes, signatures: str) -> bool:
    """Whether one of the signatures is right by one of the secrets (Standard Webhooks 1.0.0)."""
    given = [
        value for version, _, value in (one.partition(",") for one in signatures.split()) if version == "v1"
    ]
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        digest = hmac.new(key, f"{full_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
        if base64.b64encode(digest).decode() in given:
            return True
    return False


async def _read_request(stream: trio.abc.Stream, rest: bytes) -> tuple[bytes, bytes, bytes]:
    """Head, body, and what came behind; an empty head is the end."""
    while b"\r\n\r\n" not in rest:
        part = bytes(await stream.receive_some(65536))
        if not part:
            return b"", b"", b""
        rest += part
    head, _, rest = rest.partition(b"\r\n\r\n")
    size = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            size = int(value)
    if size > BODY_BYTES_MAX:
        raise trio.BrokenResourceError(f"a body of {size} octets")
    while len(rest) < size:
        part = bytes(await stream.receive_some(65536))
        if not part:
            return b"", b"", b""
        rest += part
    return head, rest[:size], rest[size:]


def tell(knock: Knock) -> dict[str, Any]:
    """For whoever has to find out what went wrong."""
    return {"seqs": knock.seqs, "status": knock.status, "life": knock.life, "replay": knock.is_replay}
