"""Three real relays on one log, three servers of PostgreSQL, a proxy on each path between them, and those who use them,
at any node.

    async with open_nodes_life(directory, servers, seed=7) as life:
        async with life.load():
            await life.wait_answers(20)
            life.kill(life.leader())
        await life.recover()
        await life.settle()

Clients send at any node with Idempotency-Keys, ask again wherever they like when they were not answered, and read what
became of their messages at all nodes. Subscribers follow the stream at one node for some seconds, and then at another,
with the cursor that they have. A supervisor starts every process again that ends.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from relay.codec import Recorded
from relay.config import CONFIG_FILE, load_config
from relay.events import (
    AttemptInterrupted,
    MessageBounced,
    MessageQueued,
    MessageSent,
    NodeLeads,
)
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.campaigns.erasure import read_contents
from tests.campaigns.small_relay import HOSTS, MEMBERS, MOODS, NO_PAUSES, SETTINGS, _by_its_word, _refuse
from tests.campaigns.subscriber import Subscriber
from tests.campaigns.tally import CLOCK_SLACK_US, RECIPIENTS_MAX, Send, Violation
from tests.campaigns.told import Statuses, Told, accepted_keys, breaches_of_sends, hear, key_of
from tests.world.checker import breaches, half_accepted
from tests.world.http import NoAnswerError, open_http
from tests.world.internet import Internet
from tests.world.mx_options import MxOptions
from tests.world.network import Network, open_network
from tests.world.node_processes import NAMES, NodeProcesses
from tests.world.postgres import Servers
from tests.world.process import RelayProcess, configure
from tests.world.self_signed import self_signed_context

CONNECTIONS: Final = 6
#: A client asks somewhere else after it.
ANSWER_SECONDS_MAX: Final = 10.0
#: On a machine that is busy; it is what tells relays that never come back.
RECOVERY_SECONDS_MAX: Final = 120.0
SETTLE_SECONDS_MAX: Final = 240.0
#: What a relay's process may end with that nobody has stopped: it is to be begun again, as a follower, or at all.
BEGIN_AGAIN: Final = (75, 1)


class NodesLife:
    #: With these statuses a client asks again.
    ask_again: frozenset[int] = frozenset({503})

    def __init__(
        self, nodes: NodeProcesses, servers: Servers, network: Network, internet: Internet, seed: int
    ) -> None:
        self.nodes = nodes
        self.servers = servers
        self.network = network
        self.internet = internet
        self.dice = random.Random(f"nodes {seed}")
        self.credentials: dict[str, dict[str, str]] = {}
        self.subscribers: list[_Wanderer] = []
        self.happened: Counter[str] = Counter()
        self.answers = 0
        #: How many edges, and how many couriers, each relay has that is started now.
        self.children = 0
        self.told: Told = {}
        self._statuses = Statuses()
        self._unsettled: deque[Send] = deque()
        self._settled: deque[Send] = deque(maxlen=100)
        self._answered = trio.Event()
        self._loading = False
        self._is_ending = False
        self._killed: set[int] = set()

    # ------------------------------------------------------------------------------------------------ the nodes

    def leader(self) -> RelayProcess:
        """Who was the last to say so."""
        lines = [
            (int(line["epoch"]), node) for node in self.nodes.all for line in node.log_lines("node.leads")
        ]
        return max(lines, key=lambda line: line[0])[1]

    def follower(self) -> RelayProcess:
        """Any of them."""
        return self.dice.choice([node for node in self.nodes.all if node is not self.leader()])

    def kill(self, node: RelayProcess) -> None:
        if node.is_running:
            self._killed.add(node.pid)
            node.kill()

    def give_children(self, count: int) -> None:
        """So many edges and couriers each, when it is started next."""
        self.children = count
        for node in self.nodes.all:
            configure(node.directory, service=f"edges = {count}\ncouriers = {count}")

    def kill_children(self, node: RelayProcess, role: str) -> int:
        """How many there were."""
        children = node.workers(role)
        for pid in children:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        return len(children)

    async def supervise(self) -> None:
        """Start again whatever has ended, as a supervisor does."""
        while not self._is_ending:
            for node in self.nodes.all:
                if not node.is_running and not self._is_ending:
                    self._note_end(node)
                    node.launch()
            await trio.sleep(0.2)

    def _note_end(self, node: RelayProcess) -> None:
        if node.pid in self._killed:
            return
        status = node.wait()
        self.happened[f"a relay ended with {status}"] += 1
        if status not in BEGIN_AGAIN:
            raise Violation(f"{node.directory.name} ended with {status}: {node.output[-3000:]}")

    def addresses(self) -> list[tuple[RelayProcess, str]]:
        """Of those that serve."""
        found = []
        for node in self.nodes.all:
            path = node.directory / "http.address"
            text = path.read_text() if path.exists() else ""
            if text.endswith("\n") and node.is_running:
                found.append((node, text.strip()))
        return found

    def any_address(self) -> tuple[RelayProcess, str] | None:
        addresses = self.addresses()
        return self.dice.choice(addresses) if addresses else None

    # ------------------------------------------------------------------------------------------------ who uses them

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        self._loading = True
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(self._client)
            try:
                yield
            finally:
                self._loading = False

    async def wait_answers(self, count: int) -> None:
        """For so many more 200s to sends that had none. Raises Violation where they do not come."""
        goal = self.answers + count
        with trio.move_on_after(RECOVERY_SECONDS_MAX) as patience:
            while self.answers < goal:
                await self._answered.wait()
        if patience.cancelled_caught:
            said = "\n".join(f"== {node.directory.name}\n{node.output[-1500:]}" for node in self.nodes.all)
            raise Violation(f"nobody accepts anything for {RECOVERY_SECONDS_MAX:.0f} s: {said}")

    async def _client(self) -> None:
        while self._loading:
            place = self.any_address()
            if place is None:
                await trio.sleep(0.1)
                continue
            node, address = place
            try:
                async with open_http(address) as http:
                    for _ in range(self.dice.randint(1, 20)):
                        if not self._loading or http.is_over:
                            break
                        if self.told and self.dice.random() < 0.3:
                            await self._look(http, node)
                        else:
                            await self._send(http, self._next_send())
            except (NoAnswerError, OSError, trio.BrokenResourceError):
                self.happened["requests that nobody answered"] += 1
                await trio.sleep(0.05)

    def _next_send(self) -> Send:
        if self._unsettled and self.dice.random() < 0.5:
            return self._unsettled.popleft()
        if self._settled and self.dice.random() < 0.1:
            return self.dice.choice(self._settled)
        did = self.dice.choice(list(MEMBERS))
        # A receiver that hangs is waited for as long as SMTP has it, which is longer than any round.
        moods = [mood for mood in MOODS if not mood.startswith("hang")]
        recipients = [
            f"{self.dice.choices(moods, [MOODS[mood] for mood in moods])[0]}+{self.dice.getrandbits(48):012x}"
            f"@{self.dice.choice(list(HOSTS))}"
            for _ in range(self.dice.randint(1, RECIPIENTS_MAX))
        ]
        mail = {
            "from": f"you@{MEMBERS[did]}",
            "to": recipients,
            "subject": "Hello",
            "text": "x" * self.dice.choice((20, 2000, 20_000)),
            "category": self.dice.choice(("bulk", "transactional")),
        }
        return Send(did, f"{self.dice.getrandbits(64):016x}", json.dumps(mail).encode(), recipients)

    async def _send(self, http: Any, send: Send) -> None:
        headers = {
            **self.credentials[send.did],
            "Content-Type": "application/json",
            "Idempotency-Key": send.key,
        }
        answer = None
        try:
            with trio.move_on_after(ANSWER_SECONDS_MAX):
                answer = await http.request("POST", "/v1/send", headers, send.body)
        finally:
            if answer is None and send.answer is None:
                self._unsettled.append(send)
        if answer is None:
            raise NoAnswerError
        if answer.status in self.ask_again:
            self.happened[f"{answer.status} {answer.code if answer.is_json else 'of a balancer'}"] += 1
            if send.answer is None:
                self._unsettled.append(send)
            await trio.sleep(0.1)
        elif answer.status != 200:
            raise Violation(f"{send} was answered {answer}")
        else:
            self._settle(send, answer.body)

    def _settle(self, send: Send, body: bytes) -> None:
        if not hear(self.told, send, body):
            self.happened["replays, at any node"] += 1
            return
        self._settled.append(send)
        self.answers += 1
        self._answered.set()
        self._answered = trio.Event()

    async def _look(self, http: Any, node: RelayProcess) -> None:
        """What became of a message, at any node: it is there, and what is final stays."""
        message_id = self.dice.choice(list(self.told))
        did, _ = self.told[message_id]
        answer = None
        with trio.move_on_after(ANSWER_SECONDS_MAX):
            answer = await http.request("GET", f"/v1/messages/{message_id}", self.credentials[did])
        if answer is None:
            raise NoAnswerError
        if answer.status in self.ask_again:
            self.happened[f"reads answered {answer.status}"] += 1
            return
        if answer.status != 200:
            raise Violation(f"message {message_id} was accepted, and at {node.directory.name} it is {answer}")
        self.happened["statuses read"] += 1
        self.note_status(node, message_id, answer.json()["status"])

    def note_status(self, node: RelayProcess, message_id: int, status: str) -> None:
        """As it was read there. Another node may be a moment behind, and one that was begun again, too."""
        _refuse(self._statuses.read((node.directory.name, node.pid), message_id, status))

    # ------------------------------------------------------------------------------------------------ the judgement

    async def recover(self) -> None:
        """All is mended: somebody leads and accepts soon, and no node has what another has not."""
        self.network.mend()
        await trio.to_thread.run_sync(self.servers.mend)
        async with self.load():
            await self.wait_answers(3)
        await trio.to_thread.run_sync(self.compare_logs)

    def compare_logs(self) -> None:
        """As far as each goes; the nodes may be running."""
        logs = []
        for node in self.nodes.all:
            with LogReader(node.directory / LOG_DIRECTORY) as reader:
                logs.append([record.chain for record in reader.read(1)])
        longest = max(logs, key=len)
        for node, log in zip(self.nodes.all, logs, strict=True):
            if log != longest[: len(log)]:
                raise Violation(f"the log of {node.directory.name} is not the beginning of the longest one")
        self.happened["logs of all nodes compared"] += 1

    async def settle(self) -> None:
        """Every message ends; then all nodes are stopped, and everything is held against everything."""
        beside = trio.to_thread.run_sync
        with trio.move_on_after(SETTLE_SECONDS_MAX) as patience:
            while True:
                events = (await beside(read_contents, self.leader().directory)).events
                open_ends = self._open_ends(events)
                if not open_ends:
                    break
                await trio.sleep(1)
        if patience.cancelled_caught:
            raise Violation(f"not within {SETTLE_SECONDS_MAX:.0f} s: {'; '.join(open_ends)}")
        # One that has hardly begun dies of SIGTERM.
        while len(self.addresses()) < len(self.nodes.all):  # noqa: ASYNC110  another process tells nobody
            await trio.sleep(0.1)
        self._is_ending = True
        for node in self.nodes.all:
            if node.is_running:
                node.terminate()
        for node in self.nodes.all:
            status = await beside(node.wait)
            if status not in (0, *BEGIN_AGAIN):
                raise Violation(f"{node.directory.name} was stopped, and ended with {status}")
        await beside(self.compare_logs)
        for node in self.nodes.all:
            done = await beside(node.run_command, "log", "verify", str(node.directory), "--json")
            if done.returncode:
                raise Violation(f"log verify of {node.directory.name}: {done.stdout} {done.stderr}")
        longest = max(
            [(await beside(read_contents, node.directory)).events for node in self.nodes.all], key=len
        )
        self._judge(longest)

    def _open_ends(self, events: list[Recorded]) -> list[str]:
        queued = {item.seq for item in events if isinstance(item.event, MessageQueued)}
        ended = {
            item.event.message_id for item in events if isinstance(item.event, MessageSent | MessageBounced)
        }
        found = [f"messages end: {sorted(queued - ended)[:5]}"] if queued - ended else []
        found += [f"{one.did} hears all" for one in self.subscribers if not one.has_seen_all(events)]
        return found

    def _judge(self, events: list[Recorded]) -> None:
        _refuse(half_accepted(events))
        _refuse(breaches_of_sends(events, self.told))
        keys = accepted_keys(events)
        unknown = [send.key for send in self._settled if key_of(send) not in keys]
        if unknown:
            raise Violation(f"accepted, and not in the log: {unknown}")
        for subscriber in self.subscribers:
            _refuse(subscriber.breaches(events, all_seen=True))
        config = load_config(self.nodes.all[0].directory)
        _refuse(
            breaches(
                events,
                config,
                receipts=self.internet.receipts,
                slack_us=CLOCK_SLACK_US,
                back_us=CLOCK_SLACK_US,
            )
        )
        _refuse(self.internet.violations())
        self.happened["times that somebody took the lead"] += sum(
            isinstance(item.event, NodeLeads) for item in events
        )
        self.happened["attempts interrupted"] += sum(
            isinstance(item.event, AttemptInterrupted) for item in events
        )
        self.happened["messages told of"] += len(self.told)
        self.happened["frames of streams"] += sum(len(one.seen) for one in self.subscribers)
        self.happened["connections of streams"] += sum(one.connections for one in self.subscribers)

    def signal(self, node: RelayProcess, number: signal.Signals) -> None:
        if node.is_running:
            os.kill(node.pid, number)


Life = TypeVar("Life", bound=NodesLife)


class _Wanderer(Subscriber):
    """At one node for some seconds, and then at another."""

    def __init__(self, life: NodesLife, did: str, credentials: dict[str, str]) -> None:
        super().__init__(life.nodes.all[0], did, credentials)
        self._life = life
        self._dice = random.Random(f"wanderer {did}")

    async def _read_one_connection(self) -> None:
        place = self._life.any_address()
        if place is None:
            return
        self._relay, self._relay.address = place
        with trio.move_on_after(self._dice.uniform(0.5, 6)):
            await super()._read_one_connection()


@asynccontextmanager
async def open_nodes_life(
    directory: Path,
    servers: Servers,
    *,
    seed: int,
    children: int = 0,
    life_of: type[Life] = NodesLife,
) -> AsyncIterator[Life]:
    """`children`: of each relay, so many edges and so many couriers. `life_of`: who uses them, and how."""
    internet = Internet()
    options = {
        "plain": MxOptions(),
        "tls": MxOptions(tls=self_signed_context()),
        "picky": MxOptions(pipelining=False, messages_per_session=3),
    }
    beside = trio.to_thread.run_sync
    async with open_network(servers, NAMES) as network, trio.open_nursery() as nursery:
        routes = []
        for number, (domain, name) in enumerate(HOSTS.items(), 1):
            host = internet.add_host(name, f"198.41.0.{number}", options[name])
            host.mood = _by_its_word(host)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, host.serve, listeners)
            routes.append(f'"{domain}" = "127.0.0.1:{listeners[0].socket.getsockname()[1]}"')
        nodes = await beside(
            lambda: NodeProcesses(directory, servers, route="127.0.0.1:9", network=network, **SETTINGS)
        )
        for node in nodes.all:
            path = node.directory / CONFIG_FILE
            text = path.read_text().replace('{ "*" = "127.0.0.1:9" }', f"{{ {', '.join(routes)} }}")
            path.write_text(text + NO_PAUSES)
        life = life_of(nodes, servers, network, internet, seed)
        life.give_children(children)
        try:
            for node in nodes.all:
                await beside(node.start)
            leader = await beside(nodes.wait_led)
            for did, domain in MEMBERS.items():
                life.credentials[did] = await beside(leader.enrol, did, domain)
            nursery.start_soon(life.supervise)
            for did, credentials in life.credentials.items():
                life.subscribers.append(_Wanderer(life, did, credentials))
                nursery.start_soon(life.subscribers[-1].read)
            yield life
        finally:
            life._is_ending = True
            for node in nodes.all:
                life.signal(node, signal.SIGCONT)
                node.kill()
        nursery.cancel_scope.cancel()
