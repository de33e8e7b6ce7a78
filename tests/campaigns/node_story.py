"""One seed: three whole relays on one log, over a database that fails, and the judgement of what is left.

The relays are those of `tests.world.machines`: their HTTP application, decisions, doors to each other, logs and views,
and, at the one that leads, its deliverer. A random subset of `NODE_FAULTS` is switched on. Clients send at any node,
and ask again at any node, with an Idempotency-Key, until they are answered; readers follow their events page by page,
each page at another node, with the cursor that they have; webhooks hear of all (`tests.campaigns.node_hooks`).

When the trouble is over the world heals, all that was begun ends, and then are judged: what was told against the log,
the receivers against the log (`tests.world.checker`: each attempt has an outcome or is named interrupted before the
next begins, whoever leads), the pages against the log, that all nodes have one log, and that each node's views are a
fold of it. While it lives, `Watch` looks at each receipt, and every read of a status at what that node said before.

A machine that is killed here loses its network and everything in its memory at once, and keeps its disk. One that loses
its power, or all three at once, loses what its log had not synced, too, and its views bear the mark of another boot.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from relay.codec import Recorded
from relay.config import load_config
from relay.events import AttemptInterrupted, NodeLeads
from relay.surroundings import Timeouts
from relay.views import due
from tests.campaigns.node_hooks import WEBHOOKS, NodeHooks
from tests.campaigns.small_relay import _by_its_word
from tests.campaigns.story import MEMORY, Run, _tell
from tests.campaigns.subscriber import expected_of
from tests.campaigns.told import Statuses, breaches_of_sends
from tests.campaigns.watch import Watch, WatchedInternet
from tests.world.checker import breaches, half_accepted
from tests.world.deterministic import run_seeded
from tests.world.machines import Machine, Machines, open_machines
from tests.world.mortal_disk import write_out
from tests.world.outcomes import OUTCOMES_OF, Outcome
from tests.world.relay import DID, DOMAIN
from tests.world.table import FakeTable

NODE_FAULTS: Final = (
    "kill", "stop", "partition", "failover", "cuts", "hung", "settings", "slow", "moods", "crowd", "hooks",
    "power",
)  # fmt: skip
NAMES: Final = ("anna", "bert", "carla")
TROUBLE_SECONDS: Final = 90.0
#: Receivers that hang hold every connection to their site for ten minutes, and what waits behind them takes its turn.
PATIENCE_SECONDS: Final = 3600.0
#: What is decided waits for a database that does not answer, and its record has the time of when it does.
SLACK_US: Final = 60_000_000
#: A client asks somewhere else after it.
ANSWER_SECONDS: Final = 20.0
MOODS: Final = ("tempfail", "disconnect-after-dot-1", "hang-after-dot-1", "421-1", "permfail", "slow")
SETTINGS: Final = """
[reputation]
messages_min = 1000000
"""
#: Who hangs, or defers, is tried again within the trouble, and three machines do not idle for an hour behind it.
TIMEOUTS: Final = Timeouts(final_dot=20)
TABLES: Final = {"webhooks": WEBHOOKS, "retry": "delays_seconds = [5, 20]"}

_OUTCOMES: Final = {
    "cuts": (Outcome.CUT_BEFORE, Outcome.CUT_AFTER, Outcome.LATE),
    "failover": (Outcome.LOST, Outcome.FAILED_OVER, Outcome.LOST_BUT_SHOWN),
    "hung": (Outcome.HUNG, Outcome.WARNED),
    "settings": (Outcome.EMPTIED_BEFORE, Outcome.EMPTIED_MEANWHILE, Outcome.VANISHED),
}


def draw_node_faults(seed: int) -> tuple[str, ...]:
    dice = random.Random(f"faults of nodes {seed}")
    return tuple(fault for fault in NODE_FAULTS if dice.random() < 0.5)


def simulate_nodes(seed: int, *, directory: Path | None = None, faults: Sequence[str] | None = None) -> Run:
    """One seed. `directory`: the machines' directories are kept there. `faults`: these, and not a random subset."""
    run = Run(seed, draw_node_faults(seed) if faults is None else tuple(faults))
    with tempfile.TemporaryDirectory(prefix="nodes-", dir=MEMORY) as name:
        place = Path(name) if directory is None else directory
        place.mkdir(exist_ok=True)
        story = _NodeStory(place, run)
        try:
            run_seeded(story.run, seed)
            story.judge()
        except Exception as error:  # noqa: BLE001  whatever it was, it was no end that a world may have
            run.error = error
            run.breaches.append(f"the world ended with {_tell(error)}")
        for machine in story.all:
            run.log |= {f"{machine.name}/{key}": value for key, value in machine.log_bytes().items()}
            if directory is not None and machine.disk is not None:
                write_out(machine.disk, machine.directory)
    return run


class _NodeStory:
    def __init__(self, directory: Path, run: Run) -> None:
        self.directory = directory
        self.result = run
        self.faults = frozenset(run.faults)
        self.dice = random.Random(f"nodes {run.seed}")
        self.internet = WatchedInternet()
        self.machines: Machines
        #: When they have begun.
        self.all: Sequence[Machine] = ()
        self.hooks: NodeHooks
        self.is_healed = False
        self.events: list[Recorded] = []
        # Who begins to lead before it serves delivers, too, and its log is looked at when it serves.
        self.watch = Watch(run.breaches, lambda: self.machines.leader() is None)
        #: messageId -> recipient, of every 200.
        self.told: dict[int, str] = {}
        self.pages: list[list[tuple[int, str, int | None]]] = [[], []]
        self._statuses = Statuses()
        self._lives: Counter[str] = Counter()
        self._outcomes_dice = random.Random(f"outcomes {run.seed}")

    async def run(self) -> None:
        host = self.internet.add_host("mx1.example.com", "198.41.0.1")
        host.mood = _by_its_word(host)
        self.internet.on_receipt.append(lambda receipt: (self._see_new(), self.watch.receive(receipt)))
        async with open_machines(
            self.directory, *NAMES, settings=SETTINGS, tables=TABLES, timeouts=TIMEOUTS, disks_forget=True
        ) as self.machines:
            machines = self.machines
            self.all = machines.all
            machines.mx = host  # type: ignore[assignment]
            for machine in machines.all:
                machine.world.mx = host
            machines.database.choose = self._choose
            if "slow" in self.faults:
                machines.database.latency_seconds = self.dice.choice((0.001, 0.02, 0.1))
            self.hooks = NodeHooks(
                machines,
                self._ask,
                self._see_new,
                self.result.breaches,
                seed=self.result.seed,
                is_moody=lambda: "hooks" in self.faults and not self.is_healed,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._supervise)
                nursery.start_soon(self._operate)
                nursery.start_soon(self.hooks.live)
                for fault in ("kill", "power", "stop", "partition", "failover"):
                    if fault in self.faults:
                        nursery.start_soon(self._trouble, fault)
                for number in range(len(self.pages)):
                    nursery.start_soon(self._read_pages, number)
                async with trio.open_nursery() as clients:
                    for number in range(6 if "crowd" in self.faults else 2):
                        clients.start_soon(self._client, number)
                    await trio.sleep(TROUBLE_SECONDS)
                    self._heal()
                with trio.move_on_after(PATIENCE_SECONDS) as patience:
                    await self._end()
                if patience.cancelled_caught:
                    self.result.breaches.append("there is mail that never ends, or a page that never comes")
                nursery.cancel_scope.cancel()
            self._see_new()
        self.result.events += Counter(item.event.TYPE for item in self.events)

    # ---------------------------------------------------------------- trouble

    def _choose(self, number: int, name: str, table: FakeTable) -> Outcome:
        dice, kinds = self._outcomes_dice, [fault for fault in _OUTCOMES if fault in self.faults]
        if (
            self.is_healed
            or not kinds
            or dice.random() >= (0.02 if name in ("append", "take_head") else 0.001)
        ):
            return Outcome.ANSWERED
        outcome = dice.choice(_OUTCOMES[dice.choice(kinds)])
        if outcome not in OUTCOMES_OF[name]:
            return Outcome.ANSWERED
        self.result.happened[f"{name}: {outcome.name}"] += 1
        return outcome

    async def _trouble(self, fault: str) -> None:
        dice = random.Random(f"{fault} {self.result.seed}")
        while True:
            await trio.sleep(dice.expovariate(1 / 25))
            if self.is_healed:
                return
            machine = dice.choice(self.machines.all)
            leading = self.machines.leader()
            if leading is not None and dice.random() < 0.6:
                machine = leading
            if not machine.is_up:
                continue
            self.result.happened[fault] += 1
            match fault:
                case "kill":
                    self._lives[machine.name] += 1
                    machine.kill()
                case "power":
                    for one in self.machines.all if dice.random() < 0.2 else [machine]:
                        if one.is_up:
                            self._lives[one.name] += 1
                            one.lose_power()
                case "stop":
                    with trio.move_on_after(60):
                        await machine.stop()
                case "partition":
                    machine.table.cut_off()
                    await trio.sleep(dice.choice((1.0, 5.0, 30.0)) * dice.random())
                    machine.table.rejoin()
                case "failover":
                    self.machines.database.servers.fail_over(old_comes_back=dice.random() < 0.3)

    async def _supervise(self) -> None:
        dice = random.Random(f"supervisor {self.result.seed}")
        while True:
            await trio.sleep(dice.uniform(0.2, 2))
            for machine in self.machines.all:
                if not machine.is_up:
                    self.result.ends[type(machine.ended_by).__name__] += 1
                    self._lives[machine.name] += 1
                    await machine.begin()
                    machine.world.mx = self.machines.mx

    async def _operate(self) -> None:
        dice = random.Random(f"operator {self.result.seed}")
        while True:
            await trio.sleep(dice.expovariate(1 / 12))
            self.machines.database.mend()

    def _heal(self) -> None:
        self.is_healed = True
        self.machines.database.mend()
        self.machines.database.latency_seconds = 0.0
        for machine in self.machines.all:
            machine.table.rejoin()

    # ---------------------------------------------------------------- who uses them

    async def _ask(
        self, dice: random.Random, method: str, path: str, **arguments: Any
    ) -> tuple[Machine, int, Any] | None:
        """At any node. None: nobody answered."""
        machine = dice.choice(self.machines.all)
        life = self._lives[machine.name]
        if not machine.is_up:
            return None
        answer = None
        with trio.move_on_after(ANSWER_SECONDS):
            answer = await machine.world.request(method, path, **arguments)
        if answer is None or self._lives[machine.name] != life or not machine.is_up:
            return None
        self.result.answers[f"{method} {answer[0]}"] += 1
        return machine, answer[0], answer[1]

    async def _client(self, number: int) -> None:
        dice = random.Random(f"client {number} {self.result.seed}")
        count = 0
        while not self.is_healed:
            await trio.sleep(dice.expovariate(1 / 6))
            count += 1
            mood = dice.choice(MOODS) if "moods" in self.faults and dice.random() < 0.4 else "friend"
            to = f"{mood}+{number}-{count}@example.com"
            await self._send_until_answered(dice, f"key-{number}-{count}", to)
            await self._look(dice)

    async def _send_until_answered(self, dice: random.Random, key: str, to: str) -> None:
        headers = {**self.machines.credentials, "Idempotency-Key": key}
        mail = {"from": f"you@{DOMAIN}", "to": to, "subject": "Hello", "text": "Hi\n"}
        first: Any = None
        while True:
            answered = await self._ask(dice, "POST", "/v1/send", headers=headers, json=mail)
            if answered is None or answered[1] == 503:
                await trio.sleep(dice.uniform(0.1, 2))
                continue
            machine, status, body = answered
            if status != 200:
                self.result.breaches.append(f"a send to {to} was answered {status} at {machine.name}: {body}")
                return
            if first is not None and body["accepted"] != first:
                self.result.breaches.append(f"{key} was answered {first}, and then {body['accepted']}")
            first = body["accepted"]
            (accepted,) = first
            self.told[accepted["messageId"]] = to
            if dice.random() < 0.8:
                return

    async def _look(self, dice: random.Random) -> None:
        if not self.told:
            return
        number = dice.choice(list(self.told))
        answered = await self._ask(dice, "GET", f"/v1/messages/{number}", headers=self.machines.credentials)
        if answered is None or answered[1] == 503:
            return
        machine, status, body = answered
        if status != 200:
            self.result.breaches.append(
                f"message {number} was accepted, and at {machine.name} it is {status}"
            )
            return
        process = machine.name, self._lives[machine.name]
        self.result.breaches += self._statuses.read(process, number, body["status"])

    async def _read_pages(self, number: int) -> None:
        dice = random.Random(f"reader {number} {self.result.seed}")
        while True:
            await trio.sleep(dice.uniform(0.2, 3))
            seen = self.pages[number]
            path = f"/v1/events?cursor={seen[-1][0] if seen else 0}&limit={dice.choice((1, 10, 100))}"
            answered = await self._ask(dice, "GET", path, headers=self.machines.credentials)
            if answered is None or answered[1] == 503:
                continue
            machine, status, body = answered
            if status != 200:
                self.result.breaches.append(f"{path} was answered {status} at {machine.name}: {body}")
                return
            seen += [(one["seq"], one["type"], one.get("messageId")) for one in body["events"]]

    # ---------------------------------------------------------------- the end

    def _see_new(self) -> Sequence[Recorded]:
        """What has become true, at whoever has most."""
        before = len(self.events)
        up = [machine for machine in self.machines.all if machine.is_up]
        for machine in up:
            store = machine.world.core.store
            self.events += [store.get(seq) for seq in range(len(self.events) + 1, store.last_seq + 1)]
        self.watch.see(self.events[before:])
        return self.events

    async def _end(self) -> None:
        while True:
            await trio.sleep(5)
            leader = self.machines.leader()
            if leader is None or not all(machine.is_up for machine in self.machines.all):
                continue
            with leader.world.core.store.read() as view:
                if view.count("waiting") or due.earliest(view) is not None:
                    continue
            self._see_new()
            wanted = len(expected_of(self.events, DID))
            are_level = all(machine.seq == leader.seq for machine in self.machines.all)
            if not (are_level and all(len(seen) >= wanted for seen in self.pages)):
                continue
            if await self.hooks.has_told_all(self.events, self.dice):
                return

    def judge(self) -> None:
        found = self.result.breaches
        found += self.watch.found if self.watch.found is not found else []
        found += half_accepted(self.events)
        found += self.hooks.judge(self.events)
        found += breaches(
            self.events,
            load_config(self.directory / NAMES[0]),
            receipts=self.internet.receipts,
            slack_us=SLACK_US,
        )
        found += breaches_of_sends(self.events, {one: (DID, to) for one, to in self.told.items()})
        expected = expected_of(self.events, DID)
        for seen in self.pages:
            if seen != expected[: len(seen)]:
                found.append("a reader did not get exactly its events, from whichever nodes they came")
        epochs = [item.event.epoch for item in self.events if isinstance(item.event, NodeLeads)]
        if epochs != sorted(set(epochs)):
            found.append(f"leaders' epochs are {epochs}")
        self.result.happened["times that somebody took the lead"] += len(epochs)
        self.result.happened["requests to webhooks"] += self.hooks.requests
        self.result.happened["attempts interrupted"] += sum(
            isinstance(item.event, AttemptInterrupted) for item in self.events
        )
