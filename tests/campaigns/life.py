"""The life of one data directory: real relay processes one after the other, clients that remember, and the judgement.

    async with open_life(path, seed=7) as life:
        async with life.load():          # clients send, and go on whatever happens to the relay
            await life.wait_answers(40)
            life.relay.kill()
        await life.start()
        await life.judge()               # raises Violation
        await life.settle()              # everything ends; the receivers' records are judged too

What the clients hold against the relay is what they were told. Each send has an Idempotency-Key of its own. A send
that was not answered, or answered 503, is sent again with its key until it is answered; one that was answered is
sometimes sent again, and the answer must be the first, byte for byte.

The receivers are `tests.world.internet` hosts on real sockets: one plain, one with STARTTLS, one that hangs up after
three messages and knows no PIPELINING. Some recipients misbehave by their magic words; each of them relents.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import trio

from relay.codec import Recorded, decode
from relay.config import load_config
from relay.events import MessageBounced, MessageQueued, MessageSent, SendAccepted
from relay.store import LOG_DIRECTORY
from spool.reader import LogReader
from tests.test_kill_under_load import check_nothing_is_half_accepted
from tests.world.checker import breaches
from tests.world.http import NoAnswerError, open_http
from tests.world.internet import Host, Internet
from tests.world.mx import Mx, MxOptions, self_signed_context
from tests.world.process import RelayProcess, make_process_directory

MEMBERS = {f"did:plc:{letter * 24}": f"{name}.example" for letter, name in (("a", "forum"), ("b", "shop"))}
CONNECTIONS = 6
RECIPIENTS_MAX = 4
#: SPEC 12. Also true of a machine with more to do.
START_SECONDS_MAX = 10.0
#: Nothing here takes nearly that long; it is what tells a hanging relay.
ROUND_SECONDS_MAX = 120.0
SETTLE_SECONDS_MAX = 120.0
#: How far clocks jump and processes stand still, so that times between events say nothing.
CLOCK_SLACK_US = 24 * 3600 * 1_000_000

#: What a recipient may be, and how often in a hundred. Those with a count relent after it.
MOODS = {
    "friend": 72, "tempfail": 4, "permfail": 4, "disconnect-in-data-1": 2, "disconnect-after-dot-1": 3,
    "defer-message-1": 2, "refuse-message": 2, "421-1": 1, "garbage-1": 1, "reset-1": 2, "refuse-early": 1,
    "close-after-message": 2, "slow": 2, "hang-1": 1, "hang-after-dot-1": 1,
}  # fmt: skip
HOSTS = {"plain.example": "plain", "tls.example": "tls", "picky.example": "picky"}
SETTINGS = {
    "retry": "delays_seconds = [1]",
    # So that rotation happens all the time.
    "spool": "segment_bytes = 300000\nfree_bytes_min = 8000000",
    "service": "grace_seconds = 2",
}
#: Rates are not what this is about.
NO_PAUSES = "\n[reputation]\nmessages_min = 1000000\n"


class Violation(AssertionError):
    """The relay has broken a promise."""


@dataclass
class Send:
    did: str
    key: str
    body: bytes
    recipients: list[str]
    #: The 200 that was read to its end.
    answer: bytes | None = None
    #: Answered 503 QUEUE_FULL, and not sent again since: the log must not know it.
    refused: bool = False


@dataclass
class Tally:
    """What has happened, for the record."""

    answers: int = 0
    replays: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    starts: int = 0
    start_seconds_max: float = 0.0
    torn: int = 0
    messages: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    received_again: int = 0

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            if name == "start_seconds_max":
                self.start_seconds_max = max(self.start_seconds_max, value)
            else:
                setattr(self, name, getattr(self, name) + value)


class Life:
    """See the module. Made by `open_life`."""

    def __init__(self, directory: Path, internet: Internet, seed: int) -> None:
        self.directory = directory
        self.internet = internet
        self.dice = random.Random(f"life {seed}")
        self.tally = Tally()
        self.faults = directory.with_name(directory.name + ".faults")
        self.faults.mkdir()
        command = ["-m", "tests.world.sabotage"]
        for part in ("sync", "pages", "clock", "die"):
            command += [part, str(self.faults / part)]
        self.relay = RelayProcess(directory, command=command)
        self.credentials: dict[str, dict[str, str]] = {}
        #: messageId -> member and recipient, of every 200.
        self.told: dict[int, tuple[str, str]] = {}
        self._sends: list[Send] = []
        self._unsettled: deque[Send] = deque()
        self._settled: deque[Send] = deque(maxlen=200)
        self._answered = trio.Event()
        self._loading = False
        self._clock = 0.0

    # ------------------------------------------------------------------------------------------------ the process

    async def start(self) -> None:
        """Start the relay. Raises Violation where it is not ready within the time of SPEC 12."""
        begun = time.monotonic()
        await trio.to_thread.run_sync(self.relay.start)
        seconds = time.monotonic() - begun
        self.tally.starts += 1
        self.tally.start_seconds_max = max(self.tally.start_seconds_max, seconds)
        if seconds > START_SECONDS_MAX:
            raise Violation(f"it took {seconds:.1f} s to start")

    async def stop(self) -> None:
        status = await trio.to_thread.run_sync(self.relay.stop)
        if status != 0:
            raise Violation(f"stopped in order, it exits {status}")

    async def wait_end(self, *allowed: int) -> None:
        """Wait until the relay has ended by itself, with one of these exit statuses."""
        status = await trio.to_thread.run_sync(self.relay.wait)
        if status not in allowed:
            raise Violation(f"it exits {status}: {self.relay.output[-2000:]}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.relay.pid, number)

    def arm(self, fault: str, value: object = "") -> None:
        """Break a part of the relay (`tests.world.sabotage`) until `disarm`. By rename: it is there whole or not."""
        written = self.faults / "new"
        written.write_text(str(value))
        written.rename(self.faults / fault)

    def disarm(self, fault: str) -> None:
        (self.faults / fault).unlink(missing_ok=True)

    @property
    def clock(self) -> float:
        """By how many seconds the relay's clock is off."""
        return self._clock

    @clock.setter
    def clock(self, seconds: float) -> None:
        self._clock = seconds
        self.arm("clock", seconds)

    async def command(self, *arguments: str, good: bool = True) -> str:
        """Run `atmos-relay ...`; its exit status must be 0, or 1 where not `good`."""
        done = await trio.to_thread.run_sync(lambda: self.relay.run_command(*arguments))
        if done.returncode != (0 if good else 1):
            raise Violation(f"{' '.join(arguments)} exits {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + ("" if good else done.stderr)

    # ------------------------------------------------------------------------------------------------ the clients

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
                    while self._loading:
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
        send = Send(did, f"{self.dice.getrandbits(64):016x}", json.dumps(mail).encode(), recipients)
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
        elif answer.status != 200:
            raise Violation(f"{send} was answered {answer}")
        else:
            self._settle(send, answer.body, replayed=answer.headers.get("idempotent-replayed") == "true")
            self._news()

    def _settle(self, send: Send, body: bytes, *, replayed: bool) -> None:
        self.tally.replays += replayed
        if send.answer is not None:
            if not (replayed and body == send.answer):
                raise Violation(f"{send.key} was answered {send.answer!r}, and then {body!r}")
            return
        accepted = json.loads(body)["accepted"]
        if [entry["recipient"] for entry in accepted] != send.recipients:
            raise Violation(f"{send} was answered {body!r}")
        send.answer = body
        self.tally.answers += 1
        for entry in accepted:
            if entry["messageId"] in self.told:
                raise Violation(f"message id {entry['messageId']} was given twice")
            self.told[entry["messageId"]] = (send.did, entry["recipient"])
        self._settled.append(send)

    # ------------------------------------------------------------------------------------------------ the judgement

    async def judge(self) -> None:
        """Whether the log has all that was told, whole, and nothing that was refused. The relay may be running."""
        told = dict(self.told)
        events = await trio.to_thread.run_sync(read_log, self.directory)
        self._judge_events(events, told)
        config = load_config(self.directory)
        _refuse(breaches(events, config, all_final=False, slack_us=CLOCK_SLACK_US))
        await self._verify()

    async def settle(self) -> None:
        """Let every message end; then the receivers and the log must agree, and everything verifies.

        The relay is stopped in order and started until then: only so do receivers that hang let go of an attempt.
        """
        with trio.fail_after(SETTLE_SECONDS_MAX):
            while True:
                await self.stop()
                if self._all_final():
                    break
                await self.start()
                await trio.sleep(3)  # a time for attempts, long enough for a retry
        events = read_log(self.directory)
        self._judge_events(events, self.told)
        config = load_config(self.directory)
        _refuse(breaches(events, config, receipts=self.internet.receipts, slack_us=CLOCK_SLACK_US))
        _refuse(self.internet.violations())
        await self.command("log", "verify", str(self.directory))
        self._count(events)

    def _all_final(self) -> bool:
        events = [item.event for item in read_log(self.directory)]
        ended = sum(isinstance(event, MessageSent | MessageBounced) for event in events)
        return ended == sum(isinstance(event, MessageQueued) for event in events)

    def _judge_events(self, events: list[Recorded], told: dict[int, tuple[str, str]]) -> None:
        if [item.seq for item in events] != list(range(1, len(events) + 1)):
            raise Violation("the sequence has a gap")
        times = [item.time_us for item in events]
        if times != sorted(times):
            raise Violation("time goes back within the log")
        check_nothing_is_half_accepted([item.event for item in events])
        queued = {
            item.seq: (item.event.did, item.event.personal.given)
            for item in events
            if isinstance(item.event, MessageQueued) and item.event.personal is not None
        }
        lost = [(message_id, who) for message_id, who in told.items() if queued.get(message_id) != who]
        if lost:
            raise Violation(f"a client was told of these, and the log does not have them: {lost}")
        keys = Counter(
            (item.event.did, item.event.idempotency_key)
            for item in events
            if isinstance(item.event, SendAccepted)
        )
        doubled = [key for key, count in keys.items() if count > 1]
        if doubled:
            raise Violation(f"accepted more than once with one Idempotency-Key: {doubled}")
        for send in self._sends:
            if send.refused and (send.did, sha256(send.key.encode()).hexdigest()) in keys:
                raise Violation(f"refused, and accepted all the same: {send}")

    def judge_copy(self, directory: Path, told: dict[int, tuple[str, str]]) -> None:
        """Whether a restored backup has all that was told before it was made."""
        self._judge_events(read_log(directory), told)

    async def _verify(self) -> None:
        """Right after a kill the tail may be torn, and nothing else may be wrong."""
        done = await trio.to_thread.run_sync(
            lambda: self.relay.run_command("log", "verify", str(self.directory), "--json")
        )
        verdict = json.loads(done.stdout)
        problems = [problem["problem"] for problem in verdict["problems"]]
        problems += [f"view {view['name']}: {view['problem']}" for view in verdict["views"] if not view["ok"]]
        torn = [problem for problem in problems if "torn" in problem and not self.relay.is_running]
        views = [problem for problem in problems if problem.startswith("view ") and "absent" in problem]
        self.tally.torn += bool(torn)
        if len(problems) > len(torn) + len(views) or (not problems) != (done.returncode == 0):
            raise Violation(f"log verify exits {done.returncode}: {problems}")

    def _count(self, events: list[Recorded]) -> None:
        self.tally.messages = sum(isinstance(item.event, MessageQueued) for item in events)
        self.tally.outcomes = Counter(item.event.TYPE for item in events)
        receipts = Counter(receipt.message_id for receipt in self.internet.receipts)
        self.tally.received_again = sum(count - 1 for count in receipts.values())


@asynccontextmanager
async def open_life(directory: Path, seed: int) -> AsyncIterator[Life]:
    """A fresh data directory with its members, its relay running, and its receivers."""
    internet = Internet()
    options = {
        "plain": MxOptions(),
        "tls": MxOptions(tls=self_signed_context()),
        "picky": MxOptions(pipelining=False, messages_per_session=3),
    }
    async with trio.open_nursery() as nursery:
        routes = []
        for number, (domain, name) in enumerate(HOSTS.items(), 1):
            host = internet.add_host(name, f"198.41.0.{number}", options[name])
            host.mood = _by_its_word(host)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, host.serve, listeners)
            routes.append(f'"{domain}" = "127.0.0.1:{listeners[0].socket.getsockname()[1]}"')
        make_process_directory(directory, route="127.0.0.1:9", **SETTINGS)
        path = directory / "relay.toml"
        text = path.read_text().replace('{ "*" = "127.0.0.1:9" }', f"{{ {', '.join(routes)} }}")
        path.write_text(text + NO_PAUSES)
        life = Life(directory, internet, seed)
        for did, domain in MEMBERS.items():
            life.credentials[did] = await trio.to_thread.run_sync(life.relay.enrol, did, domain)
        try:
            await life.start()
            yield life
        finally:
            life.relay.kill()
        nursery.cancel_scope.cancel()


def read_log(directory: Path) -> list[Recorded]:
    with LogReader(directory / LOG_DIRECTORY) as reader:
        return [decode(record) for record in reader.read(1)]


def _by_its_word(host: Host) -> Any:
    return lambda address, offer: Mx.misbehaviour(host, address)


def _refuse(sentences: list[str]) -> None:
    if sentences:
        raise Violation("\n".join(sentences))
