"""kill -9 under load, again and again: webhooks are told everything, in the order of the log.

Mail is sent and delivered meanwhile; the endpoints answer 500 now and then, hang up, and are slow; a secret is rotated.
In the end, of a member's webhook, of one with a filter and of the operator's:

- within one life of the relay each event that was taken is followed by the log's very next one for that webhook;
- a new life begins at most one behind what was taken before, so nothing is left out; what comes again has its old id;
- every request verifies with the library of Standard Webhooks, by the secret that was shown.

For a campaign: `KILL_ROUNDS=100 KILL_SEED=7 python -m pytest tests/service/test_webhooks_killed.py`.
"""

from __future__ import annotations

import json
import os
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from standardwebhooks import Webhook

from relay.codec import Recorded, decode
from relay.events import OwnedEvent, WebhookProgressed
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.service.test_kill_under_load import ROUND_SECONDS_MAX, Clients
from tests.world.http import open_http
from tests.world.mx import open_mx
from tests.world.process import RelayProcess, make_process_directory
from tests.world.relay import DID
from tests.world.webhooks import Endpoint, Receiver, Request

ROUNDS = int(os.environ.get("KILL_ROUNDS", "3"))
SEED = int(os.environ.get("KILL_SEED", "1"))
KINDS: dict[str, dict[str, Any]] = {
    "member": {},
    "filtered": {"types": ["message.sent"], "batch": 7, "ed25519": True},
    "operator": {"batch": 20},
}


class Senders(Clients):
    """Of small mails, one each: what is told of them is what this is about."""

    def _recipients(self) -> list[str]:
        return super()._recipients()[:1]


class Hook:
    """One endpoint, and what it took, in which life of the relay."""

    def __init__(self, kind: str, relay: RelayProcess, dice: random.Random) -> None:
        self.kind = kind
        self.relay = relay
        self.dice = dice
        self.webhook_id = ""
        #: Each, and since when whatever is signed is signed with it: seconds of the wall clock.
        self.secrets: list[tuple[float, str]] = []
        #: (the relay's process, sequence number)
        self.taken: list[tuple[int, int]] = []
        self.ids: dict[int, str] = {}
        self.is_calm = False

    async def answer(self, request: Request) -> int | bytes:
        headers = request.headers
        for since, secret in self.secrets:
            # What was signed before may have been on its way for a while.
            if int(headers["webhook-timestamp"]) > since:
                Webhook(secret).verify(request.body, headers)
        # It may come before the answer that says the webhook's own.
        assert request.id == f"{self.webhook_id or request.id.partition('.')[0]}.{request.told[-1]}"
        life = self.relay.pid
        fate = 1.0 if self.is_calm else self.dice.random()
        # Each costs five seconds.
        if fate < 0.0005:
            return 500
        if fate < 0.001:
            return b"HTTP/1.1 2"
        await trio.sleep(self.dice.random() * 0.003)
        if len(request.told) == 1:
            assert self.ids.setdefault(request.told[-1], request.id) == request.id
        self.taken += [(life, seq) for seq in request.told]
        return 204


# Its own limit ends it before, with more to say.
@pytest.mark.timeout(ROUND_SECONDS_MAX * (ROUNDS + 5))
def test_webhooks_are_told_everything_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        dice = random.Random(SEED)
        receiver = Receiver()
        async with open_mx() as mx, trio.open_nursery() as nursery:
            listeners: list[trio.SocketListener] = await nursery.start(
                partial(trio.serve_tcp, receiver.serve, 0, host="127.0.0.1")
            )
            port = listeners[0].socket.getsockname()[1]
            directory = make_process_directory(
                tmp_path / "data",
                route=mx.address,
                retry="delays_seconds = [1]",
                webhooks=f'allow = ["127.0.0.1:{port}", "{DID} 127.0.0.1:{port}"]',
            )
            relay = RelayProcess(directory)
            hooks = {kind: Hook(kind, relay, dice) for kind in KINDS}
            clients = Senders(relay, relay.enrol())
            with relay.running(), trio.fail_after(ROUND_SECONDS_MAX * (ROUNDS + 3)):
                for hook in hooks.values():
                    receiver.endpoints[f"/{hook.kind}"] = Endpoint(hook.kind, DID, hook.answer)
                    await _add(relay, clients, hook, f"http://127.0.0.1:{port}/{hook.kind}")
                for round_ in range(ROUNDS):
                    await clients.send_until_killed()
                    await trio.to_thread.run_sync(relay.start)
                    if round_ == 0:
                        await _rotate(relay, clients, hooks["member"])
                for hook in hooks.values():
                    hook.is_calm = True
                told = await _wait_told(directory, hooks)
                assert await trio.to_thread.run_sync(relay.stop) == 0
            nursery.cancel_scope.cancel()
        for kind, hook in hooks.items():
            _judge(kind, hook, told[kind])
        with LogReader(directory / LOG_DIRECTORY) as reader:
            events = [decode(record).event for record in reader.read(1)]
        assert any(isinstance(event, WebhookProgressed) for event in events)

    trio.run(main)


async def _add(relay: RelayProcess, clients: Clients, hook: Hook, url: str) -> None:
    if hook.kind == "operator":
        added = partial(
            relay.command, "webhook", "add", "--url", url, "--from", "0", "--batch", "20", "--json"
        )
        made = json.loads(await trio.to_thread.run_sync(added))
    else:
        body = json.dumps({"url": url, "from": 0, **KINDS[hook.kind]}).encode()
        async with open_http(relay.address) as http:
            headers = {**clients.credentials, "Content-Type": "application/json"}
            answer = await http.request("POST", "/v1/webhooks", headers, body)
        assert answer.status == 201, answer
        made = answer.json()
    hook.webhook_id = made["webhookId"]
    hook.secrets.append((0, made["secret"]))


async def _rotate(relay: RelayProcess, clients: Clients, hook: Hook) -> None:
    """From its answer on both sign, so a receiver that knows either is content."""
    async with open_http(relay.address) as http:
        path = f"/v1/webhooks/{hook.webhook_id}/rotate"
        answer = await http.request("POST", path, clients.credentials)
    assert answer.status == 200, answer
    hook.secrets.append((time.time(), answer.json()["secret"]))


async def _wait_told(directory: Path, hooks: dict[str, Hook]) -> dict[str, list[int]]:
    """Until each has the last event that is there for it; what there is for each."""

    def read() -> list[Recorded]:
        with LogReader(directory / LOG_DIRECTORY) as reader:
            return [decode(record) for record in reader.read(1)]

    while True:
        recorded = await trio.to_thread.run_sync(read)
        streamed = [item for item in recorded if item.event.STREAMED]
        told = {
            "operator": [item.seq for item in streamed],
            "member": [
                item.seq for item in streamed if isinstance(item.event, OwnedEvent) and item.event.did == DID
            ],
            "filtered": [item.seq for item in streamed if item.event.TYPE == "message.sent"],
        }
        if all(hook.taken and hook.taken[-1][1] == told[kind][-1] for kind, hook in hooks.items()):
            return told
        await trio.sleep(1)


def _judge(kind: str, hook: Hook, log: list[int]) -> None:
    index = {seq: number for number, seq in enumerate(log)}
    furthest = -1
    life = -1
    again = 0
    for at, seq in hook.taken:
        assert seq in index, f"{kind} was told of {seq}, which is not for it"
        here = index[seq]
        if at != life:
            assert here <= furthest + 1, f"{kind}: something is left out before {seq}"
            life, last = at, here - 1
        assert here == last + 1, f"{kind}: {seq} came out of order"
        again += here <= furthest
        furthest, last = max(furthest, here), here
    assert furthest == len(log) - 1
