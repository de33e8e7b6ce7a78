"""One data directory on a disk that forgets, and what was acknowledged to it.

    async with open_home(place, "xfs", seed=7) as home:
        async with home.load():
            await home.life.wait_answers(20)
            await home.wait_cut(flushes=60, writes=200, seconds=2)
            await home.lose_power()      # everybody is killed, the disk forgets, the machine is on again
        await home.judge()               # raises Violation

`home.life` is the crash campaign's, with its clients, receivers, subscribers and judge. What is held against the relay
besides: each suppression that was answered, by a member or by a click, stands; each erasure is one; each member and key
can do what it was given for; each backup can be restored to what it had to hold.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import trio

from relay.codec import Recorded
from relay.events import LogStripped, PayloadErased, RecipientSuppressed, TornTailCut
from relay.file_names import LOG_DIRECTORY
from relay.message.keys import load_pepper
from relay.message.tokens import Unsubscribe, UnsubscribeTokens
from spool.directory import TORN_NAME
from tests.campaigns.erasure import read_contents
from tests.campaigns.life import Life, open_life
from tests.campaigns.powercut.after import Seen, changes, look
from tests.campaigns.powercut.disk import FATES
from tests.campaigns.powercut.machine import Machine, MachineError
from tests.campaigns.powercut.weather import blow
from tests.campaigns.small_relay import MEMBERS
from tests.campaigns.tally import Violation
from tests.world.http import NoAnswerError, open_http
from tests.world.process import wait_until

#: What chooses the moment of a cut.
ANY_TIME, AT_FLUSH, AFTER_FLUSH, AT_WRITE = (
    "at any time",
    "at a flush, before it is done",
    "at a flush, when it is done and nobody has been told",
    "at a write",
)
MOMENTS: Final = (ANY_TIME, AT_FLUSH, AFTER_FLUSH, AT_WRITE)
COMMAND_ENDED: Final = "right after a command had ended"
#: Where no more is flushed or written than this, the power goes all the same.
CUT_SECONDS_MAX: Final = 4.0
#: Nothing here takes nearly that long.
COMMAND_SECONDS_MAX: Final = 60.0
#: For a look at files while no write is answered: one who looks may have to wait for one who writes.
LOOK_SECONDS_MAX: Final = 1.0
#: What of the relay, and of its commands, can be broken here.
PARTS: Final = ("clock", "no-fdatasync", "no-fsync", "no-directory-sync")


class Suppressed(NamedTuple):
    did: str
    address: str
    #: The event that it was answered with, where that was said.
    seq: int | None


class Ended(NamedTuple):
    """How a command ended, by itself or with the power."""

    #: It had said that it was done: exit status 0.
    acknowledged: bool
    output: str

    def json(self) -> Any:
        return json.loads(self.output)


@dataclass
class Cuts:
    """What the cuts were."""

    moments: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    #: Writes in the disk's cache at those moments, octets in it, and octets that were lost.
    writes: int = 0
    bytes: int = 0
    bytes_lost: int = 0
    #: By kind of file and what became of it.
    files: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Looks at the files that were not possible: somebody held the directory.
    unseen: int = 0

    def add(self, other: Cuts) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Home:
    """See the module. Made by `open_home`."""

    def __init__(self, machine: Machine, life: Life, seed: int) -> None:
        self.machine = machine
        self.life = life
        #: What troubles choose. The load has dice of its own: it throws them as often as the machine is fast.
        self.dice = random.Random(f"power cut {seed}")
        self._load_dice = random.Random(f"load {seed}")
        self.cuts = Cuts()
        #: What was answered 200 or 201, and so must be in force.
        self.suppressed: list[Suppressed] = []
        #: Erasures that were said to be done.
        self.erased: list[int] = []
        #: DID and API key of each member that was enrolled, or key that was issued.
        self.keys: list[tuple[str, str]] = []
        #: What the last backup that was said to be done must hold; None: there was none.
        self.in_backup: dict[int, tuple[str, str]] | None = None
        self.checks: Counter[str] = Counter()
        self._tokens = UnsubscribeTokens(load_pepper(life.directory).unsubscribe_key)
        self._number = 0
        self._weather: list[trio.CancelScope] = []

    @property
    def root(self) -> Path:
        """Where the disk is mounted."""
        return self.machine.root

    def new_number(self) -> int:
        self._number += 1
        return self._number

    # ------------------------------------------------------------------------------------------ the load

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Clients send, members suppress, people click, and the kernel writes back when it likes."""
        async with self.life.load(), trio.open_nursery() as nursery:
            nursery.start_soon(self._suppress)
            nursery.start_soon(self._click)
            nursery.start_soon(self.weather)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()

    async def weather(self) -> None:
        """Until the power goes."""
        with trio.CancelScope() as scope:
            self._weather.append(scope)
            await blow(self.life.directory, self.dice.getrandbits(32))

    async def _suppress(self) -> None:
        while True:
            did = self._load_dice.choice(list(MEMBERS))
            address = f"nobody+{self._load_dice.getrandbits(48):012x}@plain.example"
            headers = {**self.life.credentials[did], "Content-Type": "application/json"}
            answer = await self._ask(
                "POST", "/v1/suppressions", headers, json.dumps({"recipient": address}).encode()
            )
            if answer is not None and answer.status in (200, 201):
                self.suppressed.append(Suppressed(did, address, answer.json()["seq"]))
            await trio.sleep(self._load_dice.expovariate(20))

    async def _click(self) -> None:
        while True:
            if self.life.told:
                message_id = self._load_dice.choice(list(self.life.told))
                did, address = self.life.told[message_id]
                token = self._tokens.seal(Unsubscribe(did, message_id, address))
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                answer = await self._ask("POST", f"/u/{token}", headers, b"List-Unsubscribe=One-Click")
                if answer is not None and answer.status == 200:
                    self.suppressed.append(Suppressed(did, address, None))
            await trio.sleep(self._load_dice.expovariate(10))

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Any:
        """None where nobody answers."""
        try:
            async with open_http(self.life.relay.address) as http:
                return await http.request(method, path, headers, body)
        except (NoAnswerError, OSError):
            return None

    # ------------------------------------------------------------------------------------------ the cut

    async def wait_cut(self, *, flushes: int, writes: int, seconds: float, moment: str | None = None) -> None:
        """Choose a moment, at most so many flushes, writes or seconds from now, and wait for it: from then on nothing
        that is written is answered."""
        moment = moment or self.dice.choice(MOMENTS)
        if moment == ANY_TIME:
            await trio.sleep(self.dice.uniform(0, seconds))
            self.machine.cut()
        else:
            # Small numbers more often: what comes late in something depends on how long it took to get there.
            count = self.dice.randint(1, self.dice.randint(1, writes if moment == AT_WRITE else flushes))
            op = "write" if moment == AT_WRITE else "flush"
            self.machine.arm(op, count, afterwards=moment == AFTER_FLUSH)
            with trio.move_on_after(CUT_SECONDS_MAX) as patience:
                await self.machine.wait_cut()
            if patience.cancelled_caught:
                moment = ANY_TIME
                self.machine.cut()
        self.cuts.moments[moment] += 1

    async def run_until_cut(
        self, *words: str, flushes: int, writes: int, seconds: float, allowed: tuple[int, ...] = (0,)
    ) -> Ended:
        """A command, and the power goes while it runs, or right after it has ended. Then `lose_power` has been done.

        Raises Violation where it ends by itself with an exit status that is not `allowed`.
        """
        begun = self.life.faults / "begun"
        begun.unlink(missing_ok=True)
        with (
            (self.life.faults / "output").open("w+b") as output,
            (self.life.faults / "errors").open("w+b") as errors,
        ):
            process = subprocess.Popen(
                [sys.executable, *self.life.sabotage, "begun", str(begun), *words],
                stdout=output,
                stderr=errors,
            )
            try:
                # Most of its time a command reads its modules.
                await trio.to_thread.run_sync(
                    wait_until,
                    lambda: begun.exists() or process.poll() is not None,
                    lambda: f"{words} begins",
                )
                ended = await self._race(process, flushes, writes, seconds)
                before = process.poll() if ended else None
                await self.lose_power(process)
            finally:
                process.kill()
            output.seek(0)
            errors.seek(0)
            said = output.read().decode()
            if before is not None and before not in allowed:
                raise Violation(
                    f"{' '.join(words)} exits {before}: {said}{errors.read().decode(errors='replace')}"
                )
        return Ended(process.returncode == 0, said)

    async def _race(
        self, process: subprocess.Popen[bytes], flushes: int, writes: int, seconds: float
    ) -> bool:
        """Whether the command had ended before the power went."""
        ended = False
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal ended
                try:
                    # One that is left behind ends when `lose_power` kills the command.
                    await trio.to_thread.run_sync(process.wait, COMMAND_SECONDS_MAX, abandon_on_cancel=True)
                except subprocess.TimeoutExpired as error:
                    raise Violation(str(error)) from None
                ended = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            if self.dice.random() < 0.5:
                await trio.sleep_forever()
            await self.wait_cut(flushes=flushes, writes=writes, seconds=seconds)
            nursery.cancel_scope.cancel()
        if ended:
            self.machine.cut()
            self.cuts.moments[COMMAND_ENDED] += 1
        return ended

    async def lose_power(self, *commands: subprocess.Popen[bytes]) -> None:
        """After `wait_cut`. The machine is on again afterwards; nobody runs on it."""
        life, machine = self.life, self.machine
        while self._weather:
            self._weather.pop().cancel()
        before = await self._look()
        if life.relay.is_running:
            life.signal(signal.SIGKILL)
        for command in commands:
            command.kill()
        machine.fail()
        await trio.to_thread.run_sync(life.kill)
        for command in commands:
            await trio.to_thread.run_sync(command.wait, COMMAND_SECONDS_MAX)
        life.lost_power(in_a_command=bool(commands))
        await trio.to_thread.run_sync(machine.switch_off)
        fate = self.dice.choice(list(FATES))
        loss = machine.survive(fate, self.dice.getrandbits(32))
        self.cuts.fates[fate] += 1
        self.cuts.writes += loss.writes
        self.cuts.bytes += loss.bytes
        self.cuts.bytes_lost += loss.bytes_lost
        await trio.to_thread.run_sync(self._switch_on)
        if before is not None:
            self.cuts.files += changes(before, look(self.root))

    def _switch_on(self) -> None:
        """With a look of the file system's own checker at what its recovery has made of the disk."""
        self.machine.switch_on()
        self.machine.switch_off()
        damage = self.machine.check()
        if damage is not None:
            raise MachineError(f"the file system did not survive: {damage}")
        self.machine.switch_on()
        self.checks["the file system's own checker, after its recovery"] += 1

    async def _look(self) -> Seen | None:
        """At the files as the kernel shows them; None where that takes too long: somebody holds a directory, and
        waits for the disk."""
        seen: Seen | None = None
        with trio.move_on_after(LOOK_SECONDS_MAX):
            seen = await trio.to_thread.run_sync(look, self.root, abandon_on_cancel=True)
        self.cuts.unseen += seen is None
        return seen

    # ------------------------------------------------------------------------------------------ the judgement

    async def judge(self) -> None:
        """The log that is found, the start on it, and what the relay then says. It runs afterwards."""
        life = self.life
        assert not life.relay.is_running
        await life.judge()
        await trio.to_thread.run_sync(self._judge_log)
        await life.start()
        await life.verify()
        await self._judge_answers()

    def _judge_log(self) -> None:
        events = read_contents(self.life.directory).events
        self._judge_torn_copies(events)
        in_force = {
            (item.event.did, item.event.personal.address): item.seq
            for item in events
            if isinstance(item.event, RecipientSuppressed) and item.event.personal is not None
        }
        seqs = {item.seq for item in events if isinstance(item.event, RecipientSuppressed)}
        lost = [
            entry
            for entry in self.suppressed
            if (entry.did, entry.address) not in in_force or not (entry.seq is None or entry.seq in seqs)
        ]
        if lost:
            raise Violation(f"these were told to be suppressed, and the log does not have it: {lost}")
        self.checks["suppressions that were acknowledged, held against the log"] += 1
        for message_id in self.erased:
            found = self.life.erasures.hear(message_id)
            if found:
                raise Violation("\n".join(found))
            self.checks["erasures that were acknowledged, held against the log"] += 1
        self.erased.clear()

    def _judge_torn_copies(self, events: list[Recorded]) -> None:
        """What the log says was cut and kept is there, unless a removal may have taken it."""
        for item in reversed(events):
            if isinstance(item.event, PayloadErased | LogStripped):
                break
            if isinstance(item.event, TornTailCut):
                stem = f"{Path(item.event.segment).stem}-{item.event.offset}."
                folder = self.life.directory / LOG_DIRECTORY / TORN_NAME
                sizes = [path.stat().st_size for path in folder.glob(f"{stem}*bytes")]
                if item.event.bytes_cut not in sizes:
                    raise Violation(f"{item.event} has no copy: {sizes}")
                self.checks["copies of torn tails, held against the log"] += 1

    async def _judge_answers(self) -> None:
        """Whether the relay that has started knows what was acknowledged before."""
        for did, credentials in self.life.credentials.items():
            listed: set[str] = set()
            after = ""
            while True:
                answer = await self._ask("GET", f"/v1/suppressions?limit=200{after}", credentials)
                if answer is None or answer.status != 200:
                    raise Violation(f"the list of suppressions was answered {answer}")
                page = answer.json()
                listed |= {entry["recipient"] for entry in page["suppressions"]}
                if page["next"] is None:
                    break
                after = f"&after={page['next']}"
            missing = {entry.address for entry in self.suppressed if entry.did == did} - listed
            if missing:
                raise Violation(f"{did} had suppressed these, and its list does not have them: {missing}")
        self.checks["suppressions that were acknowledged, held against the relay's list"] += 1
        for did, key in self.keys:
            headers = {"X-Atmos-DID": did, "Authorization": f"Bearer {key}"}
            answer = await self._ask("GET", "/v1/messages", headers)
            if answer is None or answer.status != 200:
                raise Violation(f"{did} was given a key, and it is answered {answer}")
            self.checks["keys that were given, used"] += 1


@asynccontextmanager
async def open_home(
    place: Path, kind: str, seed: int, *, plant: str | None = None, lies: bool = False
) -> AsyncIterator[Home]:
    """A machine with a file system of that kind and a relay that runs on it. `plant`: a part of `tests.world.sabotage`
    that is broken from the beginning; `lies`: the disk says that it has flushed, and has not."""
    dice = random.Random(f"machine {seed}")
    with Machine(place, kind, dice, lies=lies) as machine:
        machine.switch_on()
        beside = place / "beside"
        beside.mkdir()

        def begin() -> None:
            machine.sync()  # that the directory was made is not what this is about
            if plant is not None:
                (beside / "data.faults" / plant).touch()

        async with open_life(
            machine.root / "data", seed, beside=beside, parts=PARTS, before_start=begin
        ) as life:
            home = Home(machine, life, seed)
            try:
                yield home
            finally:
                # Whoever hangs in a write would never end.
                machine.cut()
                if life.relay.is_running:
                    life.signal(signal.SIGKILL)
                machine.fail()
