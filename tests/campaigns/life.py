"""The life of one data directory: real relay processes one after the other, clients that remember, and the judgement.

    async with open_life(path, seed=7) as life:
        async with life.load():          # clients send, and go on whatever happens to the relay
            await life.wait_answers(40)
            life.relay.kill()
        await life.start()
        await life.judge()               # raises Violation
        await life.settle()              # everything ends; the receivers' records are judged too

The process is `tests.campaigns.served`, the clients are `tests.campaigns.clients`; here everything is put together
and judged.

The receivers are `tests.world.internet` hosts on real sockets: one plain, one with STARTTLS, one that hangs up after
three messages and knows no PIPELINING. Some recipients misbehave by their magic words; each of them relents.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from relay.codec import Recorded
from relay.config import load_config
from relay.events import (
    AttemptInterrupted,
    AttemptStarted,
    MessageBounced,
    MessageQueued,
    MessageSent,
    Outcome,
    Recipient,
)
from tests.campaigns.clients import Clients
from tests.campaigns.crash_hook import CrashHook
from tests.campaigns.erasure import read_contents
from tests.campaigns.served import SABOTAGED
from tests.campaigns.small_relay import (
    HOSTS,
    MEMBERS,
    NO_PAUSES,
    _by_its_word,
    _enrolled,
    _refuse,
)
from tests.campaigns.subscriber import Subscriber
from tests.campaigns.tally import CLOCK_SLACK_US, Violation
from tests.campaigns.told import accepted_keys, breaches_of_sends, key_of
from tests.world.checker import breaches, half_accepted
from tests.world.internet import Internet
from tests.world.mx_options import MxOptions
from tests.world.process import configure
from tests.world.self_signed import self_signed_context

SETTLE_SECONDS_MAX = 120.0
#: It takes milliseconds; this is what tells "at once" from "at the next start", on a machine that is busy.
NAMED_SECONDS_MAX = 60.0


class Life(Clients):
    """See the module. Made by `open_life`."""

    def __init__(
        self,
        directory: Path,
        internet: Internet,
        seed: int,
        *,
        beside: Path | None = None,
        parts: Sequence[str] = SABOTAGED,
    ) -> None:
        super().__init__(directory, seed, beside=beside, parts=parts)
        self.internet = internet
        self.subscribers: list[Subscriber] = []
        self.hook = CrashHook(seed, lambda: self.relay.pid)

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
            _refuse(self.hook.breaches(contents.events, all_told=False))
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
        _refuse(self.hook.breaches(contents.events, all_told=True))
        self.tally.checks["what the webhook was told held against the log"] += 1
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
        if not self.hook.has_been_told(events):
            found.append("the webhook is told everything")
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
        _refuse(breaches_of_sends(events, told))
        cancelled = {
            item.event.message_id
            for item in events
            if isinstance(item.event, MessageBounced) and item.event.reason == "cancelled"
        }
        if not self.cancelled <= cancelled:
            raise Violation(f"said to be cancelled, and not so: {sorted(self.cancelled - cancelled)}")
        keys = accepted_keys(events)
        for send in self._sends:
            if send.refused and key_of(send) in keys:
                raise Violation(f"refused, and accepted all the same: {send}")

    def judge_copy(self, directory: Path, told: dict[int, tuple[str, str]]) -> None:
        """Whether a restored backup has all that was told before it was made."""
        copy = read_contents(directory)
        self._judge_events(copy.events, told)
        _refuse(self.erasures.breaches_of_copy(copy))
        self.tally.checks["a backup restored, and held against what clients were told"] += 1

    def attempts_under_way(self) -> dict[int, int]:
        """By message, the attempt that has begun and has no outcome, as the log has them at this moment. Without those
        at a receiver that hangs: whoever carries them may live, and wait."""
        under_way: dict[int, int] = {}
        hanging: set[int] = set()
        for seq, _, event in self.erasures.read().events:
            match event:
                case MessageQueued(personal=Recipient(given=given)) if given.startswith("hang"):
                    hanging.add(seq)
                case AttemptStarted():
                    under_way[event.message_id] = event.attempt
                case Outcome() | AttemptInterrupted():
                    under_way.pop(event.message_id, None)
        return {message_id: attempt for message_id, attempt in under_way.items() if message_id not in hanging}

    async def settled_attempts_under_way(self) -> dict[int, int]:
        """As `attempts_under_way`, when two looks agree: what couriers that stand still have said before is heard."""
        seen = await trio.to_thread.run_sync(self.attempts_under_way)
        while True:
            await trio.sleep(0.05)
            before, seen = seen, await trio.to_thread.run_sync(self.attempts_under_way)
            if seen == before:
                return seen

    async def wait_outcomes(self, attempts: Mapping[int, int]) -> None:
        """Wait until the log says what became of these attempts. Raises Violation where it does not, soon."""
        with trio.move_on_after(NAMED_SECONDS_MAX) as patience:
            while True:
                now = await trio.to_thread.run_sync(self.attempts_under_way)
                left = {one for one, attempt in attempts.items() if now.get(one) == attempt}
                if not left:
                    break
                await trio.sleep(0.1)
        if patience.cancelled_caught:
            raise Violation(
                f"{NAMED_SECONDS_MAX:.0f} s after their courier was killed, attempts have no outcome: {left}"
            )
        self.tally.checks["the attempts of couriers that were killed held against the log"] += 1

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
        tally.hook_requests = self.hook.requests
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
    processes: Mapping[str, int] | None = None,
    bug: str | None = None,
) -> AsyncIterator[Life]:
    """A fresh data directory with its members, its relay running, and its receivers. `before_start` is called when the
    directory is there. `processes`: how many children the relay has, by role. `bug`: as in
    `plant`."""
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
        configure(directory, service="".join(f"{role}s = {n}\n" for role, n in (processes or {}).items()))
        life = Life(directory, internet, seed, beside=beside, parts=parts)
        life.credentials = credentials
        life.processes = processes or {}
        if bug is not None:
            life.plant(bug)
        listening, *_ = MEMBERS
        await life.hook.open(nursery, directory, listening)
        before_start()
        try:
            await life.start()
            await life.hook.add(life.relay.address, life.credentials[listening])
            for did, credentials in life.credentials.items():
                life.subscribers.append(Subscriber(life.relay, did, credentials))
                nursery.start_soon(life.subscribers[-1].read)
            yield life
        finally:
            life.relay.kill()
        nursery.cancel_scope.cancel()
