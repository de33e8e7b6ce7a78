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
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import trio

from relay.codec import Recorded
from relay.config import load_config
from relay.events import (
    AttemptInterrupted,
    MessageBounced,
    MessageQueued,
    MessageSent,
    PayloadErased,
    SendAccepted,
)
from tests.campaigns.erasure import Erasures, read_contents
from tests.campaigns.small_relay import (
    HOSTS,
    MEMBERS,
    MOODS,
    NO_PAUSES,
    _by_its_word,
    _enrolled,
    _refuse,
    waited_for_a_core,
)
from tests.campaigns.subscriber import Subscriber
from tests.campaigns.tally import CLOCK_SLACK_US, RECIPIENTS_MAX, Send, Start, Tally, Violation
from tests.world.checker import breaches, half_accepted
from tests.world.http import NoAnswerError, open_http
from tests.world.internet import Internet
from tests.world.mx_options import MxOptions
from tests.world.process import PATIENCE_SECONDS, RelayProcess
from tests.world.sabotage import file_of_failure
from tests.world.self_signed import self_signed_context

CONNECTIONS = 6
KILLED = -signal.SIGKILL
#: What can be broken of the relay in a campaign of crashes.
SABOTAGED = ("sync", "pages", "directory", "clock", "die")
#: What chose the moment of a kill -9.
ANY_MOMENT, IN_A_CHANGE = "at any moment", "in a change of the disk"
#: SPEC 12.
#: What counts is the time of its own: less what it stood ready and other processes had the cores.
START_SECONDS_MAX = 10.0
#: Nothing here takes nearly that long; it is what tells a hanging relay.
ROUND_SECONDS_MAX = 120.0
SETTLE_SECONDS_MAX = 120.0
#: And some more, for the relay looks at whole days.
DAY_SECONDS = 25 * 3600


class Life:
    """See the module. Made by `open_life`.

    `beside`: where everything stands that is not the relay's own, if not beside the directory. `parts`: what of the
    relay can be broken (`tests.world.sabotage`).
    """

    def __init__(
        self,
        directory: Path,
        internet: Internet,
        seed: int,
        *,
        beside: Path | None = None,
        parts: Sequence[str] = SABOTAGED,
    ) -> None:
        self.directory = directory
        self.internet = internet
        self.dice = random.Random(f"life {seed}")
        self.tally = Tally()
        beside = beside or directory.parent
        self.faults = beside / (directory.name + ".faults")
        self.faults.mkdir()
        #: What is run in the place of the relay's own command.
        self.sabotage = ["-m", "tests.world.sabotage"]
        for part in parts:
            self.sabotage += [part, str(self.faults / part)]
        self.relay = RelayProcess(directory, command=self.sabotage)
        self.relay.output_file = beside / self.relay.output_file.name
        self.credentials: dict[str, dict[str, str]] = {}
        #: messageId -> member and recipient, of every 200.
        self.told: dict[int, tuple[str, str]] = {}
        self.subscribers: list[Subscriber] = []
        self.erasures = Erasures(directory)
        self._send_of: dict[int, Send] = {}
        self._sends: list[Send] = []
        self._unsettled: deque[Send] = deque()
        self._settled: deque[Send] = deque(maxlen=200)
        self._answered = trio.Event()
        #: When the last request began that has got a 200 of its own, by the monotonic clock.
        self._accepted_begun = 0.0
        self._loading = False
        self._clock = 0.0
        #: Nobody has written to the directory since a relay ended in order.
        self._is_in_order = False
        #: The machine has lost its power since a relay last began to start.
        self.power_was_cut = False

    # ------------------------------------------------------------------------------------------------ the process

    async def start(self) -> None:
        """Start the relay. Raises Violation where it is not ready within the time of SPEC 12."""
        begun = time.monotonic()
        self._is_in_order = self.power_was_cut = False
        await trio.to_thread.run_sync(self.relay.start)
        start = Start(time.monotonic() - begun, waited_for_a_core(self.relay.pid))
        self.tally.starts.append(start)
        if start.own_seconds > START_SECONDS_MAX:
            load = os.getloadavg()[0]
            raise Violation(
                f"it took {start.own_seconds:.1f} s of its own to start: {start}, load {load:.1f}"
            )

    def launch(self) -> None:
        """Begin to start it, and wait for nothing."""
        self._is_in_order = self.power_was_cut = False
        self.relay.launch()

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self.relay.is_running:
            self.tally.kills[ANY_MOMENT] += 1
        self.relay.kill()

    def lost_power(self, *, in_a_command: bool) -> None:
        """The machine has; whoever ran is gone. `in_a_command`: one that may have been writing."""
        self.power_was_cut = True
        if in_a_command:
            self._is_in_order = False

    async def stop(self, *allowed: int) -> None:
        """In order; `allowed` exit statuses of a relay that may be ending by itself already."""
        status = await trio.to_thread.run_sync(self.relay.stop)
        if status not in (0, *allowed):
            raise Violation(f"stopped in order, it exits {status}: {self.relay.output[-2000:]}")
        self._is_in_order = status == 0

    async def wait_end(self, *allowed: int) -> None:
        """Wait until the relay has ended by itself, with one of these exit statuses."""
        status = await trio.to_thread.run_sync(self.relay.wait)
        if status not in allowed:
            raise Violation(f"it exits {status}: {self.relay.output[-2000:]}")
        if status == KILLED:
            self.tally.kills[IN_A_CHANGE] += 1

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.relay.pid, number)

    def arm(self, fault: str, value: object = "") -> None:
        """Break a part of the relay (`tests.world.sabotage`) until `disarm`. By rename: it is there whole or not."""
        written = self.faults / "new"
        written.write_text(str(value))
        written.rename(self.faults / fault)

    def disarm(self, fault: str) -> None:
        (self.faults / fault).unlink(missing_ok=True)

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

    def launch_command(self, *arguments: str, dies: bool = False) -> subprocess.Popen[str]:
        """Begin `atmos-relay ...` and wait for nothing. `dies`: as `arm("die", n)` says."""
        command = ["-m", "tests.world.sabotage", "die", str(self.faults / "die")] if dies else ["-m", "relay"]
        return subprocess.Popen(
            [sys.executable, *command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def wait_command(self, command: subprocess.Popen[str], *allowed: int) -> int:
        """Its exit status, which must be one of these. It must not end by an exception that nobody thought of."""
        try:
            _, said = await trio.to_thread.run_sync(lambda: command.communicate(timeout=PATIENCE_SECONDS))
        except subprocess.TimeoutExpired:
            command.kill()
            raise Violation(f"{command.args!r} does not end within {PATIENCE_SECONDS:.0f} s") from None
        if command.returncode == KILLED:
            self._is_in_order = False
            in_a_change = "tests.world.sabotage" in command.args
            self.tally.command_kills[IN_A_CHANGE if in_a_change else ANY_MOMENT] += 1
        if command.returncode not in allowed or "Traceback" in said:
            raise Violation(f"{command.args!r} exits {command.returncode}: {said}")
        return command.returncode

    async def wait_removal(self, command: subprocess.Popen[str], words: list[str], *allowed: int) -> None:
        """The same of a command that was launched with the `words` of an order to remove: it must be true what it says.

        Of an order by recipient that is 0 even where the message is not over, and waits.
        """
        status = await self.wait_command(command, *allowed)
        if status == 0 and "--message" in words:
            message_id = int(words[words.index("--message") + 1])
            _refuse(await trio.to_thread.run_sync(self.erasures.hear, message_id))
            self.tally.checks["an erasure that was acknowledged held against the log"] += 1

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
        elif answer.status != 200:
            raise Violation(f"{send} was answered {answer}")
        else:
            replayed = answer.headers.get("idempotent-replayed") == "true"
            if not replayed:
                self._accepted_begun = max(self._accepted_begun, begun)
            self._settle(send, answer.body, replayed=replayed)
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
            self._send_of[entry["messageId"]] = send
        self.tally.told += len(accepted)
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

    # ------------------------------------------------------------------------------------------------ the judgement

    async def judge(self) -> None:
        """Whether the log has all that was told, whole, and nothing that was refused. The relay may be running.

        After a loss of power it may not: of what is read from the log of one that runs, the end may not be durable.
        """
        told = dict(self.told)
        contents = await trio.to_thread.run_sync(self.erasures.read)
        self._judge_events(contents.events, told)
        _refuse(self.erasures.breaches(contents))
        config = load_config(self.directory)
        _refuse(
            breaches(
                contents.events, config, all_final=False, slack_us=CLOCK_SLACK_US, back_us=CLOCK_SLACK_US
            )
        )
        self.tally.checks["the log held against what clients were told"] += 1
        if not self.relay.is_running:
            # Whatever it has shown is in the log that it left; while it runs it may show what came after we read.
            self._judge_streams(contents.events, all_seen=False)
        await self.verify()

    async def settle(self) -> None:
        """Let every message end, what is to be erased go, and subscribers see all; then the receivers, the streams and
        the log must agree, and everything verifies.

        The relay is stopped in order and started until then: only so do receivers that hang let go of an attempt.
        """
        with trio.move_on_after(SETTLE_SECONDS_MAX) as patience:
            while True:
                await self.stop()
                contents = await trio.to_thread.run_sync(self.erasures.read)
                open_ends = self._open_ends(contents.events)
                if not open_ends:
                    break
                await self.start()
                await trio.sleep(3)  # a time for attempts, long enough for a retry
        if patience.cancelled_caught:
            raise Violation(f"not within {SETTLE_SECONDS_MAX:.0f} s: {'; '.join(open_ends)}")
        self._judge_events(contents.events, self.told)
        _refuse(self.erasures.breaches(contents))
        self._judge_streams(contents.events, all_seen=True)
        config = load_config(self.directory)
        receipts = self.internet.receipts
        _refuse(
            breaches(
                contents.events, config, receipts=receipts, slack_us=CLOCK_SLACK_US, back_us=CLOCK_SLACK_US
            )
        )
        _refuse(self.internet.violations())
        await self.command("log", "verify", str(self.directory))
        self.tally.checks["everything ended, and the log held against the receivers and the streams"] += 1

    def _open_ends(self, events: list[Recorded]) -> list[str]:
        """What there is still to come."""
        queued = sum(isinstance(item.event, MessageQueued) for item in events)
        ended = sum(isinstance(item.event, MessageSent | MessageBounced) for item in events)
        found = [] if ended == queued else [f"{queued - ended} messages end"]
        if self.erasures.is_owed:
            found.append("what payload.erased admits is gone")
        found += [
            f"the stream of {subscriber.did} has shown everything"
            for subscriber in self.subscribers
            if not subscriber.has_seen_all(events)
        ]
        return found

    def _judge_streams(self, events: list[Recorded], *, all_seen: bool) -> None:
        for subscriber in self.subscribers:
            _refuse(subscriber.breaches(events, all_seen=all_seen))
        self.tally.checks["each subscriber's stream held against the log"] += 1

    def _judge_events(self, events: list[Recorded], told: dict[int, tuple[str, str]]) -> None:
        if [item.seq for item in events] != list(range(1, len(events) + 1)):
            raise Violation("the sequence has a gap")
        times = [item.time_us for item in events]
        if times != sorted(times):
            raise Violation("time goes back within the log")
        _refuse(half_accepted(events))
        erased = {
            number
            for item in events
            if isinstance(item.event, PayloadErased)
            for number in item.event.message_ids
        }
        queued = {
            item.seq: (item.event.did, item.event.personal.given)
            for item in events
            if isinstance(item.event, MessageQueued) and item.event.personal is not None
        }
        # Of what was erased the skeleton must be there.
        queued |= {
            item.seq: told[item.seq]
            for item in events
            if isinstance(item.event, MessageQueued)
            and item.event.personal is None
            and item.seq in erased & told.keys()
            and item.event.did == told[item.seq][0]
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
        copy = read_contents(directory)
        self._judge_events(copy.events, told)
        _refuse(self.erasures.breaches_of_copy(copy))
        self.tally.checks["a backup restored, and held against what clients were told"] += 1

    async def verify(self) -> None:
        """What `log verify` says; raises Violation.

        Where the last relay or command was killed, or ended by an error, the tail may be torn and views be absent.
        Where the power was cut, views may be such as the next start knows that it must not open. While payloads are
        owed a running relay's index may have the old offsets of a segment that was rewritten, which readers notice
        (`spool.views`). Nothing else may be wrong.
        """
        done = await trio.to_thread.run_sync(
            lambda: self.relay.run_command("log", "verify", str(self.directory), "--json")
        )
        verdict = json.loads(done.stdout)
        problems = [problem["problem"] for problem in verdict["problems"]]
        problems += [f"view {view['name']}: {view['problem']}" for view in verdict["views"] if not view["ok"]]
        is_broken_off = not self.relay.is_running and not self._is_in_order
        is_moving = self.relay.is_running and self.erasures.is_owed
        torn = [problem for problem in problems if is_broken_off and problem.startswith("torn tail")]
        views = [
            problem
            for problem in problems
            if (is_broken_off and problem.startswith("view ") and "absent" in problem)
            or (
                self.power_was_cut and problem.startswith("view ") and "the next start builds them" in problem
            )
            or (is_moving and problem.startswith("view index: key "))
        ]
        self.tally.torn += bool(torn)
        self.tally.checks["`log verify`"] += 1
        if len(problems) > len(torn) + len(views) or (not problems) != (done.returncode == 0):
            raise Violation(f"log verify exits {done.returncode}: {problems}")

    def count(self) -> None:
        """Fill the tally with what the log, the receivers and the subscribers know, in place of what it had of that."""
        contents = read_contents(self.directory)
        tally, events = self.tally, contents.events
        tally.events = Counter(item.event.TYPE for item in events)
        tally.payloads_gone = len(contents.stripped)
        tally.frames = sum(len(subscriber.seen) for subscriber in self.subscribers)
        tally.streams = sum(subscriber.connections for subscriber in self.subscribers)
        interrupted = {item.event.message_id for item in events if isinstance(item.event, AttemptInterrupted)}
        receipts = Counter(receipt.message_id for receipt in self.internet.receipts)
        tally.received_again = Counter()
        for message_id, count in receipts.items():
            excuse = "an interrupted attempt" if message_id in interrupted else "no reply to its dot"
            tally.received_again[excuse] += count - 1


@asynccontextmanager
async def open_life(
    directory: Path,
    seed: int,
    *,
    beside: Path | None = None,
    parts: Sequence[str] = SABOTAGED,
    before_start: Callable[[], None] = lambda: None,
) -> AsyncIterator[Life]:
    """A fresh data directory with its members, its relay running, and its receivers. `before_start` is called when the
    directory is there."""
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
        template, credentials = await trio.to_thread.run_sync(_enrolled)
        shutil.copytree(template, directory)
        path = directory / "relay.toml"
        text = path.read_text().replace('{ "*" = "127.0.0.1:9" }', f"{{ {', '.join(routes)} }}")
        path.write_text(text + NO_PAUSES)
        life = Life(directory, internet, seed, beside=beside, parts=parts)
        life.credentials = credentials
        before_start()
        try:
            await life.start()
            for did, credentials in life.credentials.items():
                life.subscribers.append(Subscriber(life.relay, did, credentials))
                nursery.start_soon(life.subscribers[-1].read)
            yield life
        finally:
            life.relay.kill()
        nursery.cancel_scope.cancel()
