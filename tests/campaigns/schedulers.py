"""Members of a simulated relay who choose when their mail goes out, think better of it, and send many at a time.

- A send may name a time: soon, much later, or a moment ago, which means now.
- What they were told of they cancel or move, one message at a time; now and then both at the same instant, or the same
  twice.
- With an Idempotency-Key or without, several sends go as one batch, which is asked again as a single one is.

What is acknowledged goes into the `Ledger`. What is refused must be refused because the message cannot be had any more.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from relay.times import rfc3339
from tests.world.internet import HOUR, MINUTE
from tests.world.ledger import Answer, Ledger, SendRequest
from tests.world.machine import Machine
from tests.world.relay import World, virtual_clock

#: From when a send is made, in seconds. The first is past, by less than what is taken for now.
AHEAD_SECONDS = (-30.0, 1.0, 90.0, 10 * MINUTE, HOUR, 5 * HOUR, 30 * HOUR)
#: Why cancelling and moving may be refused: it was tried, or is being tried; its time would be full; its member may do
#: nothing now.
REFUSALS = ("NOT_CANCELLABLE", "RATE_LIMITED", "MEMBER_SUSPENDED")
#: By code, what a refusal in a batch would have been alone.
STATUSES = {
    "RATE_LIMITED": 429, "DOMAIN_UNVERIFIED": 403, "DOMAIN_PAUSED": 403, "MEMBER_SUSPENDED": 403,
    "TEMPORARILY_UNAVAILABLE": 503, "QUEUE_FULL": 503, "IDEMPOTENCY_CONFLICT": 422, "INVALID_REQUEST": 400,
}  # fmt: skip

Open = Callable[..., Awaitable[Answer | None]]


def choose_time(mail: dict[str, Any], moment: float, dice: random.Random) -> int | None:
    """Perhaps the mail, which is sent at that moment, names a time. The time that is in its event, then."""
    if dice.random() < 0.4:
        return None
    ahead = dice.choice(AHEAD_SECONDS)
    at_us = virtual_clock() + round((moment - trio.current_time() + ahead) * 1e6)
    mail["scheduledAt"] = rfc3339(at_us)
    return at_us if ahead > 0 else None


def converse(mail: dict[str, Any], recipients: list[str], dice: random.Random) -> None:
    """Perhaps its recipients see each other, but for one whom nobody sees; and what it is, and has, is said."""
    if dice.random() < 0.3:
        mail |= {"tag": "spring.2026", "metadata": {"order": str(dice.randint(1, 9))}}
    bulk = mail["category"] in ("bulk", "broadcast")
    if len(recipients) > 1 and not bulk and dice.random() < 0.5:
        mail["to"], mail["cc"] = recipients[0], recipients[1:2]
        mail["bcc"] = recipients[2:]


class Schedulers:
    def __init__(
        self,
        machine: Machine,
        ledger: Ledger,
        open_path: Open,
        credentials: dict[str, dict[str, str]],
        known: list[tuple[str, int, str]],
        breaches: list[str],
        *,
        keeps_time: bool,
    ) -> None:
        """`open_path`: makes a request to a world. `known`: message ids that clients were told, with whose they are."""
        self._machine = machine
        self._ledger = ledger
        self._open = open_path
        self._credentials = credentials
        self._known = known
        self._breaches = breaches
        #: What may be answered, beside 200, and 503 where nobody knows. A clock that is set makes times past.
        self._refusals = REFUSALS if keeps_time else (*REFUSALS, "INVALID_REQUEST")
        self._keeps_time = keeps_time

    async def change_mind(self, dice: random.Random) -> None:
        """About a message, often one of the last."""
        if not self._known:
            return
        did, message_id, _ = dice.choice(self._known[-6:] if dice.random() < 0.7 else self._known)
        ahead = dice.choice((*AHEAD_SECONDS[1:], 0.0))
        deeds = dice.choice(("cancel", "cancel", "move", "move", "both", "twice"))
        async with trio.open_nursery() as at_once:
            if deeds in ("cancel", "both", "twice"):
                at_once.start_soon(self._cancel, did, message_id)
            if deeds == "twice":
                at_once.start_soon(self._cancel, did, message_id)
            if deeds in ("move", "both"):
                at_once.start_soon(self._move, did, message_id, ahead)

    async def think_better(self, request: SendRequest, dice: random.Random) -> None:
        """Of a mail that was just accepted: at once, or in the very moment in which it goes out."""
        ids = [
            message_id for did, message_id, _ in self._known[-len(request.recipients) :] if did == request.did
        ]
        if not ids or dice.random() < 0.5:
            return
        if request.scheduled_at is not None:
            seconds = (request.scheduled_at - virtual_clock() - self._machine.clock_offset_us) / 1e6
            await trio.sleep(max(0.0, seconds))
        await trio.sleep(dice.choice((0.0, 0.001, 0.05, 1.0, 10.0)))
        message_id = dice.choice(ids)
        await dice.choice((self._cancel, self._cancel, self._delay))(request.did, message_id)

    async def _delay(self, did: str, message_id: int) -> None:
        await self._move(did, message_id, HOUR)

    async def _cancel(self, did: str, message_id: int) -> None:
        path = f"/v1/messages/{message_id}/cancel"
        answer = await self._ask(did, "POST", path, b"")
        if answer is not None and answer.status == 200:
            self._ledger.cancelled.append(message_id)
            if json.loads(answer.body)["status"] != "bounced":
                self._breaches.append(f"message {message_id} is cancelled, and said to be {answer.body!r}")

    async def _move(self, did: str, message_id: int, ahead: float) -> None:
        # By the relay's clock, which people read in its answers.
        at_us = virtual_clock() + self._machine.clock_offset_us + round(ahead * 1e6)
        body = json.dumps({"scheduledAt": rfc3339(at_us)}).encode()
        answer = await self._ask(did, "PATCH", f"/v1/messages/{message_id}", body)
        # What is a second ahead may be past when it is decided.
        if answer is not None and answer.status == 200 and ahead > MINUTE and self._keeps_time:
            self._ledger.moved.append((message_id, at_us))

    async def _ask(self, did: str, method: str, path: str, body: bytes) -> Answer | None:
        headers = (
            {"Content-Type": "application/json", **self._credentials[did]} if body else self._credentials[did]
        )

        async def ask(world: World) -> Answer | None:
            return await self._open(world, method, path, headers, body)

        answer = await self._machine.ask(ask)
        if answer is not None and answer.status not in (200, 503) and answer.code not in self._refusals:
            self._breaches.append(f"{method} {path} was answered {answer.status}: {answer.code}")
        return answer

    async def post_batch(self, requests: list[SendRequest], key: str | None, patience: float) -> bool:
        """Sends of one member in one request. What each was answered is noted with it; whether nothing is left open."""
        headers = {"Content-Type": "application/json", **self._credentials[requests[0].did]}
        if key is not None:
            headers["Idempotency-Key"] = key
        body = b'{"messages":[%b]}' % b",".join(request.body for request in requests)

        async def ask(world: World) -> Answer | None:
            return await self._open(world, "POST", "/v1/batch", headers, body, patience)

        answer = await self._machine.ask(ask)
        if answer is None or answer.status in (408, 503):
            for request in requests:
                request.unknown += 1
            return False
        if answer.status != 200:
            for request in requests:
                request.answers.append(answer)
            return True
        results = json.loads(answer.body)["results"]
        if len(results) != len(requests):
            self._breaches.append(f"a batch of {len(requests)} was answered {len(results)} times")
        settled = True
        for request, result in zip(requests, results, strict=False):
            status = STATUSES[result["code"]] if "code" in result else 200
            if status == 503 and result["code"] != "QUEUE_FULL":
                request.unknown += 1
                settled = False
                continue
            request.answers.append(answer._replace(status=status, body=json.dumps(result).encode()))
            if status == 200:
                told = [(request.did, item["messageId"], item["recipient"]) for item in result["accepted"]]
                self._known += told
        return settled
