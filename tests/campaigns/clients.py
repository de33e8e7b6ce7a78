"""The clients of a relay that may die at any moment: they remember what they were told, and hold it against the relay.

Each send has an Idempotency-Key of its own. A send that was not answered, or answered 503, is sent again with its key
until it is answered; one that was answered is sometimes sent again, and the answer must be the first, byte for byte:
else Violation.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from relay.times import rfc3339
from tests.campaigns.served import SABOTAGED, Served
from tests.campaigns.small_relay import (
    HOSTS,
    MEMBERS,
    MOODS,
)
from tests.campaigns.tally import RECIPIENTS_MAX, Send, Violation
from tests.campaigns.told import Told, hear
from tests.world.http import NoAnswerError, open_http
from tests.world.sabotage import file_of_failure

CONNECTIONS = 6
#: Nothing here takes nearly that long; it is what tells a hanging relay.
ROUND_SECONDS_MAX = 120.0
#: And some more, for the relay looks at whole days.
DAY_SECONDS = 25 * 3600


class Clients(Served):
    """Those of the relay that is served. See the module."""

    def __init__(
        self, directory: Path, seed: int, *, beside: Path | None = None, parts: Sequence[str] = SABOTAGED
    ) -> None:
        super().__init__(directory, beside=beside, parts=parts)
        self.dice = random.Random(f"life {seed}")
        self.credentials: dict[str, dict[str, str]] = {}
        self.told: Told = {}
        #: Messages of which clients were told that they are cancelled.
        self.cancelled: set[int] = set()
        self._send_of: dict[int, Send] = {}
        self._sends: list[Send] = []
        self._unsettled: deque[Send] = deque()
        self._settled: deque[Send] = deque(maxlen=200)
        self._answered = trio.Event()
        #: When the last request began that has got a 200 of its own, by the monotonic clock.
        self._accepted_begun = 0.0
        self._loading = False

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Clients send as long as the block runs; then each reads the answer that it waits for, if one comes."""
        self._loading = True
        with trio.fail_after(ROUND_SECONDS_MAX):
            async with trio.open_nursery() as nursery:
                for _ in range(CONNECTIONS):
                    nursery.start_soon(self._client)
                try:
                    yield
                finally:
                    self._loading = False

    async def wait_answers(self, count: int) -> None:
        """Wait for so many more 200s to sends that had none."""
        goal = self.tally.answers + count
        while self.tally.answers < goal:
            await self._answered.wait()

    async def wait_refusals(self, code: str, count: int) -> None:
        """Wait for so many more 503s with this code."""
        goal = self.tally.refusals[code] + count
        while self.tally.refusals[code] < goal:
            await self._answered.wait()

    def _news(self) -> None:
        self._answered.set()
        self._answered = trio.Event()

    async def _client(self) -> None:
        while self._loading:
            try:
                async with open_http(self.relay.address) as http:
                    while self._loading and not http.is_over:
                        await self._send(http, self._next_send())
            except (NoAnswerError, OSError):
                await trio.sleep(0.05)  # as a client does where nobody answers

    def _next_send(self) -> Send:
        if self._unsettled and self.dice.random() < 0.5:
            return self._unsettled.popleft()
        if self._settled and self.dice.random() < 0.05:
            return self.dice.choice(self._settled)
        return self._new_send()

    def _new_send(self) -> Send:
        did = self.dice.choice(list(MEMBERS))
        recipients = [self._recipient() for _ in range(self.dice.randint(1, RECIPIENTS_MAX))]
        size = self.dice.choice((20, 200, 2000, 2000, 20_000))
        mail = {
            "from": f"you@{MEMBERS[did]}",
            "to": recipients,
            "subject": "Hello",
            "text": "".join(self.dice.choice((".", "x", "é", "\n", "\r", "\n.\r\n")) for _ in range(size))
            + "x",
            "category": self.dice.choice(("bulk", "transactional", "broadcast")),
        }
        is_scheduled = self.dice.random() < 0.1
        if is_scheduled:
            at = time.time() + self.clock + self.dice.uniform(0.5, 3)
            mail["scheduledAt"] = rfc3339(round(at * 1e6))
        send = Send(did, f"{self.dice.getrandbits(64):016x}", json.dumps(mail).encode(), recipients)
        send.scheduled = is_scheduled
        self._sends.append(send)
        return send

    def _recipient(self) -> str:
        """Nobody is written to twice."""
        (mood,) = self.dice.choices(list(MOODS), list(MOODS.values()))
        return f"{mood}+{self.dice.getrandbits(48):012x}@{self.dice.choice(list(HOSTS))}"

    async def _send(self, http: Any, send: Send) -> None:
        send.refused = False
        headers = {
            **self.credentials[send.did],
            "Content-Type": "application/json",
            "Idempotency-Key": send.key,
        }
        begun = time.monotonic()
        try:
            answer = await http.request("POST", "/v1/send", headers, send.body)
        except (NoAnswerError, OSError):
            self.tally.unanswered += 1
            if send.answer is None:
                self._unsettled.append(send)
            raise
        if answer.status == 503 and answer.code in ("TEMPORARILY_UNAVAILABLE", "QUEUE_FULL"):
            self.tally.refusals[answer.code] += 1
            self._news()
            if send.answer is None:
                # Had an earlier try been accepted, this one would have been answered as it was.
                send.refused = answer.code == "QUEUE_FULL"
                self._unsettled.append(send)
            await trio.sleep(0.05)
        elif answer.status == 422 and answer.code == "IDEMPOTENCY_CONFLICT" and send.erasing:
            self.tally.refusals["IDEMPOTENCY_CONFLICT, for its data are erased"] += 1
        elif answer.status == 400 and send.scheduled and send.answer is None:
            # Had an earlier try been accepted, this one would have been answered as it was.
            self.tally.refusals["INVALID_REQUEST, for its time is past"] += 1
            send.refused = True
            self._news()
        elif answer.status != 200:
            raise Violation(f"{send} was answered {answer}")
        else:
            replayed = answer.headers.get("idempotent-replayed") == "true"
            if not replayed:
                self._accepted_begun = max(self._accepted_begun, begun)
            self._settle(send, answer.body, replayed=replayed)
            self._news()
            # A relay that stops closes the connection behind its answer: then nobody is asked.
            if send.scheduled and not replayed and not http.is_over and self.dice.random() < 0.5:
                await self._cancel_one(http, send)

    async def _cancel_one(self, http: Any, send: Send) -> None:
        """Of the messages of a send that waits; it may be too late."""
        message_id = self.dice.choice([number for number, of in self._send_of.items() if of is send])
        await trio.sleep(self.dice.choice((0.0, 0.5, 2.0)))
        answer = await http.request("POST", f"/v1/messages/{message_id}/cancel", self.credentials[send.did])
        if answer.status == 200:
            self.cancelled.add(message_id)
        elif answer.code not in ("NOT_CANCELLABLE", "TEMPORARILY_UNAVAILABLE", "QUEUE_FULL"):
            raise Violation(f"cancelling {message_id} was answered {answer}")

    def _settle(self, send: Send, body: bytes, *, replayed: bool) -> None:
        self.tally.replays += replayed
        if send.answer is not None and not replayed:
            raise Violation(f"{send.key} was answered anew: {body!r}")
        new = hear(self.told, send, body)
        if not new:
            return
        self.tally.answers += 1
        self._send_of.update(dict.fromkeys(new, send))
        self.tally.told += len(new)
        self._settled.append(send)

    async def order_to_erase(self, *, look: bool = True) -> list[str]:
        """The words of an order that has one message erased, by its number or by its recipient. `look`: at the log,
        before its payload is gone."""
        if look:
            await trio.to_thread.run_sync(self.erasures.see_new)
        message_id = self.dice.choice(list(self.told))
        self._send_of[message_id].erasing = True
        which = ["--message", str(message_id)]
        if self.dice.random() < 0.5:
            which = ["--recipient", self.told[message_id][1]]
        return ["erase", str(self.directory), *which, "--reason", "a campaign"]

    async def let_a_day_pass(self) -> None:
        """Only while the relay does not run. Keys are forgotten after a day, so none is used again."""
        assert not self.relay.is_running
        await trio.to_thread.run_sync(self.erasures.see_new)
        self.clock += DAY_SECONDS
        self._settled.clear()
        self._unsettled.clear()

    def judge_silence(self, fault: str) -> None:
        """Whether no send that was begun after the first sync that failed was answered 200. The load is over."""
        file = file_of_failure(self.faults / fault)
        failed = float(file.read_text())
        file.unlink()
        if self._accepted_begun > failed:
            raise Violation(
                f"a send was answered 200 that began {self._accepted_begun - failed:.3f} s after a sync had failed"
            )
        self.tally.checks["no 200 after a sync that failed"] += 1
