"""Short lives of relays in a world where everything fails, and whether every promise was kept.

    python -m tests.campaigns.simulate --seeds 5000 --jobs 2
    python -m tests.campaigns.simulate --seed 4711 --keep /tmp/4711

One seed is one relay: two members, three recipient domains, some dozen sends, and a few hours of virtual time. A random
subset of `FAULTS` is switched on (swarm testing: most defects need few kinds of trouble, and hide when there are all).
The whole relay runs: HTTP application, decisions, log, views, deliverer, SMTP. Its log is on a disk that forgets what
was not synced; it is killed, loses power, is stopped and started again (`tests.world.lives`).

When the trouble is over the world heals, and the relay lives until every message is final. Then these look at what is
left: `tests.world.checker` (delivery), `tests.world.promises` (everything else that was promised), `spool.verify` (the
log's bytes), and a fold of the log (the views). While it lives, `Watch` looks at what only the moment shows.

Everything random comes from the seed: **the same seed gives the same log, byte for byte**, crashes and all.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import trio

from relay.administration import COMMANDS
from relay.codec import Recorded, decode
from relay.config import CONFIG_FILE, load_config
from relay.events import AttemptStarted, MessageBounced, MessageSent
from relay.presentation import rfc3339
from relay.refusals import Refusal
from relay.store import VIEWS_DIRECTORY
from relay.tokens import Unsubscribe
from relay.views import due, messages, relay_views
from spool.errors import SpoolError
from spool.reader import LogReader
from spool.verify import verify_log
from tests.world.asgi import call
from tests.world.checker import SLACK_US, breaches
from tests.world.deterministic import make_seeded_directory, run_seeded
from tests.world.internet import DAY, HOUR, MINUTE, Internet, Receipt, Trouble
from tests.world.lives import Death, Machine
from tests.world.mx import ReceivedMessage
from tests.world.promises import Answer, Entry, Ledger, SendRequest, broken_promises
from tests.world.relay import World

FAULTS = (
    # of the machine
    "kill", "power", "stop", "failing-disk", "full-disk", "slow-disk", "clock", "lost-views", "old-views",
    # of the network and of receivers
    "dns", "receivers", "moods", "hang-ups",
    # what people do
    "crowd", "keys", "pauses", "suppressions", "orders", "limits", "reputation", "notifications",
)  # fmt: skip

MEMBERS = {f"did:plc:{letter * 24}": f"{name}.example" for letter, name in (("a", "forum"), ("b", "shop"))}
RECIPIENT_DOMAINS = {
    "one.example": ("mx1.one.example",),
    "two.example": ("mx1.two.example", "mx2.two.example"),
}
MAILBOXES = tuple(
    f"person{number}@{domain}" for number in range(4) for domain in (*RECIPIENT_DOMAINS, "three.example")
)
CATEGORIES = ("bulk", "broadcast", "transactional", "login-link", "verification")
TROUBLE_SECONDS = 3 * HOUR
#: Long after the last give-up time, whatever the clock did.
PATIENCE_SECONDS = 10 * DAY
FREE_BYTES_MIN = 16_384

RETRY = """[retry]
delays_seconds = [60, 300, 900, 1800]
give_up_seconds = 14400
"""
SPOOL = """[spool]
segment_bytes = {segment_bytes}
free_bytes_min = {free_bytes_min}
"""
REPUTATION = """
[reputation]
messages_min = {messages_min}
"""
NO_LIMITS = "tiers = [ { hour = 1000000, day = 1000000 } ]"
SMALL_TIERS = "tiers = [ { until_day = 1, hour = 4, day = 12 }, { hour = 6, day = 20 } ]"

HOST_TROUBLES = (
    "refuses", "silent", "mute", "busy", "throttles", "greylisting", "tempfail", "full", "421", "hang", "reset",
    "garbage", "permfail", "defer-message", "disconnect-after-dot", "hang-after-dot",
)  # fmt: skip
MOODS = (
    "tempfail", "full", "421", "garbage", "reset", "hang", "permfail", "disconnect-in-data", "disconnect-after-dot",
    "hang-after-dot", "refuse-early", "defer-message", "refuse-message", "close-after-message",
)  # fmt: skip


@dataclass
class Run:
    """What is left of one seed."""

    seed: int
    faults: tuple[str, ...] = ()
    breaches: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    #: Every segment of the log, by name, and what is in them.
    log: dict[str, bytes] = field(default_factory=dict)
    recorded: list[Recorded] = field(default_factory=list)
    #: What the relay ended with, where that was no end for a relay.
    error: Exception | None = None


def simulate(seed: int, *, directory: Path | None = None, faults: Sequence[str] | None = None) -> Run:
    """One seed. `directory`: keep everything there; it must not exist yet. `faults`: these, and not a random subset."""
    dice = random.Random(f"world {seed}")
    drawn = [fault for fault in FAULTS if dice.random() < 0.5]
    run = Run(seed, tuple(drawn if faults is None else faults))
    with _directory(directory) as data:
        shutil.copytree(_template(), data)
        _configure(data, run.faults, dice)
        story = _Story(data, run, dice)
        try:
            run_seeded(story.run, seed)
        except Exception as error:  # noqa: BLE001  whatever it was, it was no end that a relay may have
            run.error = error
            run.breaches.append(f"the relay ended with {_innermost(error)!r}")
        story.judge()
    return run


@contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="relay-", dir=memory if memory.exists() else None) as name:
        yield Path(name) / "data"


@cache
def _template() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="relay-template-")) / "data"
    return make_seeded_directory(directory, MEMBERS.values())


def _configure(data: Path, faults: Sequence[str], dice: random.Random) -> None:
    path = data / CONFIG_FILE
    spool = SPOOL.format(
        segment_bytes=dice.choice((4096, 16_384, 1 << 20)),
        free_bytes_min=FREE_BYTES_MIN if "full-disk" in faults else 0,
    )
    text = path.read_text().replace("[retry]\n", RETRY).replace("[spool]\n", spool)
    if "limits" in faults:
        text = text.replace(NO_LIMITS, SMALL_TIERS)
    path.write_text(text + REPUTATION.format(messages_min=3 if "reputation" in faults else 1_000_000))


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class WatchedInternet(Internet):
    """An internet that says at once what a receiver has got."""

    def __init__(self) -> None:
        super().__init__()
        self.on_receipt: list[Callable[[Receipt], None]] = []

    def receive(self, host: str, message: ReceivedMessage, *, confirmed: bool) -> None:
        super().receive(host, message, confirmed=confirmed)
        for observer in self.on_receipt:
            observer(self.receipts[-1])


class Watch:
    """What must hold when a receiver gets a message: its attempt is durable, and it has no final outcome."""

    def __init__(self, found: list[str]) -> None:
        self.found = found
        self._started: Counter[int] = Counter()
        self._received: Counter[int] = Counter()
        self._final: set[int] = set()

    def see(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            match item.event:
                case AttemptStarted(message_id=message_id):
                    self._started[message_id] += 1
                case MessageSent(message_id=message_id) | MessageBounced(message_id=message_id):
                    self._final.add(message_id)

    def receive(self, receipt: Receipt) -> None:
        number = receipt.message_id
        self._received[number] += 1
        if self._received[number] > self._started[number]:
            self.found.append(f"message {number} was handed over before its attempt was durable")
        if number in self._final:
            self.found.append(f"message {number} was handed over, and its outcome was in the log before")


class _Story:
    """One seed, from enrolment until all is final."""

    def __init__(self, directory: Path, run: Run, dice: random.Random) -> None:
        self.directory = directory
        self.result = run
        self.faults = frozenset(run.faults)
        self.dice = dice
        self.ledger = Ledger()
        self.internet = self._make_internet()
        self.credentials: dict[str, dict[str, str]] = {}
        self.machine: Machine
        #: Message ids that clients were told, with whose they are.
        self.known: list[tuple[str, int, str]] = []
        self.clients_done = trio.Event()
        self.is_healed = False
        self.clock_jumps_us = 0

    # ---------------------------------------------------------------- the story

    async def run(self) -> None:
        async with trio.open_nursery() as receivers:
            self.machine = Machine(self.directory, self.internet, receivers, seed=self.result.seed)
            watch = Watch(self.result.breaches)
            self.machine.journal.observers.append(watch.see)
            self.internet.on_receipt.append(watch.receive)
            async with trio.open_nursery() as clients:
                await self._live(self._first_life, clients)
                while trio.current_time() < TROUBLE_SECONDS:
                    await self._between_lives()
                    await self._live(self._troubled_life)
                self._heal()
                for _ in range(3):  # what was planned before the world was healed may end one life yet
                    if await self._live(self._last_life) == "stopped":
                        break
                clients.cancel_scope.cancel()
            receivers.cancel_scope.cancel()

    async def _live(self, story: Callable[..., Any], *arguments: Any) -> str:
        end = await self.machine.live(partial(story, *arguments))
        self.result.ends[end] += 1
        if end == "stopped":
            self._look_at_views()  # while there is mail in them: in the end there is none
        return end

    def _look_at_views(self) -> None:
        for table in _views_that_differ(self.directory, self.machine.write_out()):
            self.result.breaches.append(f"the view {table} is no fold of the log")

    async def _first_life(self, clients: trio.Nursery, world: World) -> None:
        for did, domain in MEMBERS.items():
            self.credentials[did] = await world.enrol(did, domain)
            clients.start_soon(self._follow, did)
        if "notifications" in self.faults:
            for domain in MEMBERS.values():
                await world.command("domain_set_forward", domain=domain, to="person0@three.example")
        clients.start_soon(self._clients)
        if "clock" in self.faults:
            clients.start_soon(self._set_clocks)
        await self._troubled_life(world)

    async def _troubled_life(self, world: World) -> None:
        self._arm()
        left = max(0.0, TROUBLE_SECONDS - trio.current_time())
        if "stop" in self.faults:
            left = min(left, self.dice.expovariate(1 / HOUR))
        with trio.move_on_after(left):
            await trio.sleep_forever()

    async def _last_life(self, world: World) -> None:
        with trio.move_on_after(PATIENCE_SECONDS) as patience:
            await self.clients_done.wait()
            while True:
                with world.core.store.read() as view:
                    if not view.count("waiting"):
                        break
                await self._let_everything_go(world)
                await trio.sleep(10 * MINUTE)
            for did in MEMBERS:
                while await self._read_page(did, 1000):
                    pass
            self._compare_statuses(world)
        if patience.cancelled_caught:
            self.result.breaches.append("there is mail that never ends")

    def _compare_statuses(self, world: World) -> None:
        """What the views say of each message, and what its last event says."""
        outcomes = {
            item.event.message_id: "sent" if isinstance(item.event, MessageSent) else "bounced"
            for item in self.machine.journal.events
            if isinstance(item.event, MessageSent | MessageBounced)
        }
        with world.core.store.read() as view:
            for number, outcome in outcomes.items():
                state = messages.message(view, number)
                if state is None or state.status != outcome:
                    self.result.breaches.append(f"message {number} is {outcome}, and the views say {state}")

    async def _let_everything_go(self, world: World) -> None:
        for domain in await world.command("domain_list"):
            if domain["status"] != "active":
                await world.command("domain_resume", did=domain["did"], domain=domain["domain"])
        for member in await world.command("member_list"):
            if member["status"] != "active":
                await world.command("member_resume", did=member["did"])
        await COMMANDS["queue_release"](world.core, "operator", everything=True, reason="the end")

    # ---------------------------------------------------------------- faults

    def _make_internet(self) -> WatchedInternet:
        internet, dice = WatchedInternet(), self.dice
        sites = {**RECIPIENT_DOMAINS, "three.example": ("mx1.three.example",)}
        for number, (domain, names) in enumerate(sites.items()):
            for name in names:
                host = internet.add_host(name, f"198.41.{number}.{names.index(name) + 1}")
                if "receivers" in self.faults:
                    host.troubles = [_trouble(dice, HOST_TROUBLES) for _ in range(dice.randint(0, 3))]
                if "moods" in self.faults:
                    share = dice.choice((0.1, 0.3, 0.6))
                    host.mood = lambda address, offer, share=share: self._mood(address, offer, share)
            internet.add_domain(domain, *names)
            if "dns" in self.faults:
                internet.dns.troubles[domain] = [
                    _trouble(dice, ("gone", "servfail")) for _ in range(dice.randint(0, 2))
                ]
        return internet

    def _mood(self, address: str, offer: int, share: float) -> str:
        dice = random.Random(f"{self.result.seed} {address} {offer}")
        return "" if self.is_healed or dice.random() > share else dice.choice(MOODS)

    def _arm(self) -> None:
        """Plan how this life ends, if it is to end badly."""
        machine, dice = self.machine, self.dice
        machine.disk_seconds = self._slow_disk if "slow-disk" in self.faults else lambda: 0.0
        if "failing-disk" in self.faults and dice.random() < 0.5:
            machine.disk.fail_at = machine.disk.operations + int(2 ** dice.uniform(0, 7))
        if "full-disk" in self.faults and dice.random() < 0.5:
            room = FREE_BYTES_MIN + dice.randint(-8192, 16_384)
            machine.disk.capacity_bytes = machine.disk.used_bytes() + room
        deaths: list[Death] = [death for death in ("kill", "power") if death in self.faults]  # type: ignore[misc]
        if not deaths or dice.random() < 0.2:
            return
        death = dice.choice(deaths)
        die = partial(machine.die, death)
        match dice.choice(("operation", "operation", "batch", "receipt", "time")):
            case "operation":
                machine.disk.after_operation = _after(int(2 ** dice.uniform(0, 7)), die)
            case "batch":
                observer = _after(int(2 ** dice.uniform(0, 5)), die)
                machine.world.core.store.views.observers.append(lambda recorded: observer())
            case "receipt":
                on_receipt = _after(dice.randint(1, 5), die)
                life = machine.lives
                self.internet.on_receipt.append(
                    lambda receipt: on_receipt() if machine.lives == life else None
                )
            case "time":
                machine.die_after(2 ** dice.uniform(-10, 12), death)

    def _slow_disk(self) -> float:
        return self.dice.choice((0.0, 0.001, 0.05, 0.5, 3.0, 6.0))

    async def _between_lives(self) -> None:
        machine, dice = self.machine, self.dice
        machine.disk.capacity_bytes = None  # the operator has made room
        machine.disk.fail_at = 0
        if "old-views" in self.faults:
            if dice.random() < 0.5:
                machine.bring_back_views()
            elif dice.random() < 0.5:
                machine.keep_views()
        if "lost-views" in self.faults and dice.random() < 0.5:
            machine.lose_views()
        await trio.sleep(dice.choice((0.0, 1.0, 30.0, 600.0)))
        # A death in the middle of the next start, that is in recovery.
        deaths: list[Death] = [death for death in ("kill", "power") if death in self.faults]  # type: ignore[misc]
        if deaths and dice.random() < 0.3:
            machine.disk.after_operation = _after(
                dice.randint(1, 12), partial(machine.die, dice.choice(deaths))
            )
        if "failing-disk" in self.faults and dice.random() < 0.2:
            machine.disk.fail_at = machine.disk.operations + dice.randint(1, 12)

    async def _set_clocks(self) -> None:
        dice = random.Random(f"clock {self.result.seed}")
        while not self.is_healed:
            await trio.sleep(dice.expovariate(1 / HOUR))
            hours = dice.choice((-2.0, -0.1, -0.001, 0.001, 0.1, 2.0, 25.0))
            if not self.is_healed:
                self.machine.clock_offset_us += round(hours * HOUR * 1e6)
                self.clock_jumps_us += abs(round(hours * HOUR * 1e6))

    def _heal(self) -> None:
        self.is_healed = True
        self.internet.dns.troubles.clear()
        for host in self.internet.hosts.values():
            host.troubles.clear()
        self.machine.disk_seconds = lambda: 0.0
        self.machine.disk.capacity_bytes = None
        self.machine.disk.fail_at = 0
        self.machine.disk.after_operation = None

    # ---------------------------------------------------------------- clients and operator

    async def _clients(self) -> None:
        moments = [self.dice.uniform(0, TROUBLE_SECONDS) for _ in range(self.dice.randint(5, 14))]
        if "crowd" in self.faults:
            moment = self.dice.uniform(0, TROUBLE_SECONDS)
            moments += [moment + self.dice.choice((0.0, 0.0, 0.01)) for _ in range(6)]
        async with trio.open_nursery() as nursery:
            for number, moment in enumerate(moments):
                nursery.start_soon(self._client, number, moment)
            for kind, deed, minutes in (
                ("suppressions", self._suppress, 15),
                ("pauses", self._pause, 15),
                ("orders", self._order, 3),
                ("limits", self._set_limits, 15),
            ):
                if kind in self.faults:
                    nursery.start_soon(self._do_often, kind, deed, minutes)
        self.clients_done.set()

    async def _client(self, number: int, moment: float) -> None:
        """One send: asked again, with its key, for as long as nobody has answered; and later once more."""
        dice = random.Random(f"client {self.result.seed} {number}")
        request = self._make_request(number, dice)
        self.ledger.requests.append(request)
        await trio.sleep_until(moment)
        if request.key is not None and dice.random() < 0.3:
            async with trio.open_nursery() as twins:  # two at the same instant
                twins.start_soon(self._post, request, dice)
                twins.start_soon(self._post, request, dice)
        for _ in range(5):
            settled = await self._post(request, dice)
            if settled or request.key is None:
                break
            await trio.sleep(dice.choice((1.0, 20.0, 300.0)))
        if request.key is not None and dice.random() < 0.5:
            await trio.sleep(dice.uniform(0, HOUR))
            await self._post(request, dice)
            await self._post_another_body(request, dice)

    def _make_request(self, number: int, dice: random.Random) -> SendRequest:
        did, domain = dice.choice(list(MEMBERS.items()))
        recipients = dice.sample(MAILBOXES, dice.choice((1, 1, 1, 2, 3)))
        mail = {
            "from": f"hello@{domain}",
            "to": recipients,
            "subject": f"request {number}",
            "text": "word " * dice.choice((1, 100, 700)),
            "category": dice.choice(CATEGORIES),
        }
        key = f"key {number}" if "keys" in self.faults and dice.random() < 0.7 else None
        return SendRequest(number, did, domain, recipients, json.dumps(mail).encode(), key)

    async def _post(self, request: SendRequest, dice: random.Random) -> bool:
        """Whether the answer leaves nothing open."""
        patience = dice.choice((0.001, 1.0, 30.0)) if "hang-ups" in self.faults else 30.0
        answer = await self.machine.ask(
            lambda world: self._http(world, "POST", "/v1/send", request, patience)
        )
        if answer is None or (answer.status == 503 and answer.code != "QUEUE_FULL") or answer.status == 408:
            request.unknown += 1
            return False
        request.answers.append(answer)
        if answer.status == 200:
            for item in json.loads(answer.body)["accepted"]:
                self.known.append((request.did, item["messageId"], item["recipient"]))
                await self._read_back(request, item["messageId"])
        return True

    async def _read_back(self, request: SendRequest, message_id: int) -> None:
        """What was acknowledged can be read at once."""
        answer = await self.machine.ask(
            lambda world: self._http(world, "GET", f"/v1/messages/{message_id}", request, 30.0)
        )
        if answer is not None and answer.status != 200:
            self.result.breaches.append(
                f"message {message_id} was acknowledged and cannot be read ({answer.status})"
            )

    async def _post_another_body(self, request: SendRequest, dice: random.Random) -> None:
        """The same key for another mail: a conflict, unless its 24 hours are over or it was never used."""
        other = SendRequest(
            1000 + request.number,
            request.did,
            request.domain,
            request.recipients,
            request.body.replace(b"request ", b"request 100" if request.number < 10 else b"request 10"),
            request.key,
        )
        self.ledger.requests.append(other)
        await self._post(other, dice)

    async def _http(
        self, world: World, method: str, path: str, request: SendRequest, patience: float
    ) -> Answer | None:
        headers = {"Content-Type": "application/json", **self.credentials[request.did]}
        if request.key is not None:
            headers["Idempotency-Key"] = request.key
        return await self._open(
            world, method, path, headers, request.body if method == "POST" else b"", patience
        )

    async def _open(
        self,
        world: World,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes = b"",
        patience: float = 30.0,
    ) -> Answer | None:
        with trio.move_on_after(patience):
            answer = await call(world.app, method, path, headers, body)
            store = world.core.store
            return Answer(*answer, store.now_us(), store.log.last_seq)
        return None

    async def _follow(self, did: str) -> None:
        """A member that reads on, now and then, from where it was."""
        dice = random.Random(f"{did} follows {self.result.seed}")
        while not self.is_healed:
            await trio.sleep(dice.expovariate(1 / (30 * MINUTE)))
            await self._read_page(did, dice.randint(1, 30))

    async def _read_page(self, did: str, limit: int) -> int:
        """How many events came."""
        followed = self.ledger.followed.setdefault(did, [])
        count = len(followed)
        path = f"/v1/events?cursor={followed[-1][0] if followed else 0}&limit={limit}"
        answer = await self.machine.ask(lambda world: self._open(world, "GET", path, self.credentials[did]))
        if answer is None:
            return 0
        if answer.status != 200:
            self.result.breaches.append(f"{path} was answered {answer.status}: {answer.code}")
            return 0
        if len(followed) != count:
            return 1  # somebody else has read this page meanwhile
        events = json.loads(answer.body)["events"]
        followed += [(event["seq"], event["type"]) for event in events]
        return len(events)

    async def _do_often(self, kind: str, deed: Callable[[random.Random], Any], minutes: float) -> None:
        dice = random.Random(f"{kind} {self.result.seed}")
        while True:
            await trio.sleep(dice.expovariate(1 / (minutes * MINUTE)))
            if self.is_healed:
                return
            await deed(dice)

    async def _suppress(self, dice: random.Random) -> None:
        did = dice.choice(list(MEMBERS))
        address = dice.choice(MAILBOXES)
        headers = {"Content-Type": "application/json", **self.credentials[did]}
        match dice.choice(("post", "delete", "click", "complaint")):
            case "post":
                body = json.dumps({"recipient": address}).encode()
                path = "/v1/suppressions"
                answer = await self.machine.ask(lambda world: self._open(world, "POST", path, headers, body))
                if answer is not None and answer.status in (200, 201):
                    self.ledger.suppressed.append((did, address))
            case "delete" if self.ledger.suppressed:
                did, address = dice.choice(self.ledger.suppressed)
                headers = self.credentials[did]
                path = f"/v1/suppressions/{address}"
                await self.machine.ask(lambda world: self._open(world, "DELETE", path, headers))
            case "click" if self.known:
                did, message_id, recipient = dice.choice(self.known)
                await self._click(Unsubscribe(did, message_id, recipient))
            case "complaint" if self.known:
                did, message_id, recipient = dice.choice(self.known)
                if await self._command("complaint_record", message=message_id) is not None:
                    self.ledger.suppressed.append((did, recipient))

    async def _click(self, link: Unsubscribe) -> None:
        async def click(world: World) -> Answer | None:
            path = f"/u/{world.core.composer.unsubscribe.seal(link)}"
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return await self._open(world, "POST", path, headers, b"List-Unsubscribe=One-Click")

        answer = await self.machine.ask(click)
        if answer is not None and answer.status == 200:
            self.ledger.suppressed.append((link.did, link.recipient))

    async def _pause(self, dice: random.Random) -> None:
        did, domain = dice.choice(list(MEMBERS.items()))
        match dice.choice(("domain_pause", "domain_resume", "member_suspend", "member_resume")):
            case "domain_pause" | "domain_resume" as command:
                await self._command(command, did=did, domain=domain)
            case command:
                await self._command(command, did=did)

    async def _set_limits(self, dice: random.Random) -> None:
        hour = dice.choice((None, 0, 2, 8))
        day = None if hour is None else hour + 5
        await self._command("member_limits", did=dice.choice(list(MEMBERS)), hour=hour, day=day)

    async def _order(self, dice: random.Random) -> None:
        message_id = await self.machine.ask(partial(self._one_that_waits, dice))
        if message_id is None:
            return
        command = dice.choice(("queue_hold", "queue_hold", "queue_release", "queue_cancel", "queue_flush"))
        answer = await self._command(command, "operator", message=[message_id], reason="trouble")
        if answer is not None and answer["done"]["count"]:
            if command == "queue_hold":
                self.ledger.held.append(message_id)
            elif command == "queue_cancel":
                self.ledger.cancelled.append(message_id)

    async def _one_that_waits(self, dice: random.Random, world: World) -> int | None:
        with world.core.store.read() as view:
            ids = [waiting.message_id for waiting in due.waiting_after(view, 0)]
        return dice.choice(ids) if ids else None

    async def _command(self, name: str, *by: str, **arguments: Any) -> Any:
        """The operator's command; None where it was refused or nobody knows."""

        async def carry_out(world: World) -> Any:
            try:
                return await COMMANDS[name](world.core, *by, **arguments)
            except (Refusal, SpoolError):
                return None

        return await self.machine.ask(carry_out)

    # ---------------------------------------------------------------- the judgement

    def judge(self) -> None:
        run, found = self.result, self.result.breaches
        log = self.machine.write_out()
        run.log = {path.name: path.read_bytes() for path in sorted(log.glob("*.seg"))}
        if run.error is not None:
            return  # it never came to its end, so that the rest would say so again in many words
        found += self.machine.journal.breaches
        found += self.internet.violations()
        found += [f"log verify: {problem}" for problem in verify_log(log).problems]
        found += [
            f"the view {name} is no fold of the log" for name in _views_that_differ(self.directory, log)
        ]
        with LogReader(log) as reader:
            entries = _in_batches(reader)
        recorded = run.recorded = [entry.recorded for entry in entries]
        run.events = Counter(item.event.TYPE for item in recorded)
        if recorded != self.machine.journal.events:
            found.append("the log is not what was acknowledged event by event")
        config = load_config(self.directory)
        slack_us = SLACK_US + self.clock_jumps_us + (60_000_000 if "slow-disk" in self.faults else 0)
        found += breaches(
            recorded,
            config,
            receipts=self.internet.receipts,
            connections_max=self.internet.connections_max.values(),
            slack_us=slack_us,
        )
        found += broken_promises(entries, config, self.ledger, self.internet.receipts)


def _views_that_differ(directory: Path, log: Path) -> list[str]:
    """The tables in which the relay's last views differ from a fresh fold of the log."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        fresh, last = relay_views(Path(name) / "fresh"), relay_views(directory / VIEWS_DIRECTORY)
        fresh.open()
        with LogReader(log) as reader:
            fresh.catch_up(reader)
        last.open()
        expected, found = fresh.digests(), last.digests()
        fresh.close()
        last.close()
    return [table for table in expected if expected[table] != found[table]]


def _in_batches(reader: LogReader) -> list[Entry]:
    entries: list[Entry] = []
    batch, batch_seq = 0, 0
    for record in reader.read(1):
        if record.batch_seq != batch_seq:
            batch, batch_seq = batch + 1, record.batch_seq
        entries.append(Entry(decode(record), batch))
    return entries


def _trouble(dice: random.Random, kinds: Sequence[str]) -> Trouble:
    begin = dice.uniform(0, TROUBLE_SECONDS)
    length = dice.choice((MINUTE, 10 * MINUTE, HOUR, DAY))
    return Trouble(dice.choice(kinds), begin, begin + length, count=dice.choice((1, 2, 600)))


def _after(count: int, act: Callable[[], None]) -> Callable[[], None]:
    """Something to be called; at the `count`-th call, counted from 1, it acts, and never again."""

    def call() -> None:
        nonlocal count
        count -= 1
        if count == 0:
            act()

    return call


# ------------------------------------------------------------------------------------------------ the campaign


@dataclass
class Totals:
    seeds: int = 0
    violations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def add(self, run: Run) -> None:
        self.seeds += 1
        self.violations += bool(run.breaches)
        self.faults.update(run.faults)
        self.ends += run.ends
        self.events += run.events


def _run(seed: int) -> Run:
    logging.disable(logging.CRITICAL)  # a relay in trouble has much to say
    run = simulate(seed)
    run.log, run.recorded, run.error = {}, [], None  # not through the pipe
    return run


def campaign(seeds: Sequence[int], *, jobs: int = 1) -> Totals:
    """Run them all, and print each that breaks a promise as soon as it has."""
    totals = Totals()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for run in pool.imap_unordered(_run, seeds, chunksize=8):
            totals.add(run)
            if run.breaches:
                print_breaches(run)
            if totals.seeds % 500 == 0:
                print(f"{totals.seeds:,} of {len(seeds):,} seeds", flush=True)
    return totals


def print_breaches(run: Run) -> None:
    print(f"seed {run.seed} ({' '.join(run.faults)})")
    for sentence in run.breaches[:10]:
        print(f"    {sentence}")
    if len(run.breaches) > 10:
        print(f"    and {len(run.breaches) - 10} more")
    print(f"    again: python -m tests.campaigns.simulate --seed {run.seed} --keep DIR", flush=True)


def tell(run: Run) -> None:
    """The story of one seed, as its log has it."""
    for seq, time_us, event in run.recorded:
        about = getattr(event, "message_id", None) or getattr(event, "did", "")
        details = [
            f"{name}={value}"
            for name in ("attempt", "code", "reason", "because", "status", "recipients", "category", "domain")
            if (value := getattr(event, name, None)) is not None
        ]
        print(f"{seq:>5} {rfc3339(time_us)} {event.TYPE} {about} {' '.join(details)}")
    if run.error is not None:
        traceback.print_exception(run.error)
    if run.breaches:
        print_breaches(run)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.simulate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--from", type=int, default=1, dest="first", metavar="S", help="the first seed")
    parser.add_argument("--seed", type=int, help="this seed only, and tell its story")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="with --seed: keep its data directory here")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    begun = time.perf_counter()
    totals = Totals()
    if options.seed is None:
        totals = campaign(range(options.first, options.first + options.seeds), jobs=options.jobs)
    else:
        run = simulate(options.seed, directory=options.keep)
        totals.add(run)
        tell(run)
    seconds = time.perf_counter() - begun
    print(f"{totals.seeds:,} seeds in {seconds:.1f} s, {totals.violations} with a broken promise")
    for title, counts in (
        ("lives that ended", totals.ends),
        ("faults", totals.faults),
        ("events", totals.events),
    ):
        print(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))
    sys.exit(1 if totals.violations else 0)


if __name__ == "__main__":
    main()
