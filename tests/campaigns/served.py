"""The relay of one data directory as a process among others: started, killed, broken in parts, ordered about.

`Served` knows how each process ended, so that its judge (`tests.campaigns.life`) knows what may be unfinished. What a
command says of itself must be true, and it never ends by an exception that nobody thought of: else Violation.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from tests.campaigns.erasure import Erasures
from tests.campaigns.small_relay import (
    _refuse,
    waited_for_a_core,
)
from tests.campaigns.tally import Start, Tally, Violation
from tests.world.process import PATIENCE_SECONDS, RelayProcess

KILLED = -signal.SIGKILL
#: What can be broken of the relay in a campaign of crashes.
SABOTAGED = ("sync", "pages", "directory", "clock", "die")
#: What chose the moment of a kill -9.
ANY_MOMENT, IN_A_CHANGE = "at any moment", "in a change of the disk"
#: SPEC 12.
#: What counts is the time of its own: less what it stood ready and other processes had the cores.
START_SECONDS_MAX = 10.0


class Served:
    """See the module.

    `beside`: where everything stands that is not the relay's own, if not beside the directory. `parts`: what of the
    relay can be broken (`tests.world.sabotage`).
    """

    def __init__(
        self, directory: Path, *, beside: Path | None = None, parts: Sequence[str] = SABOTAGED
    ) -> None:
        self.directory = directory
        self.tally = Tally()
        beside = beside or directory.parent
        self.faults = beside / (directory.name + ".faults")
        self.faults.mkdir()
        #: What is run in the place of the relay's own command.
        self.sabotage = ["-m", "tests.world.sabotage"]
        for part in parts:
            self.sabotage += [part, str(self.faults / part)]
        #: How many children the relay has, by role; none: it does everything itself.
        self.processes: Mapping[str, int] = {}
        self.relay = RelayProcess(directory, command=self.sabotage)
        self.relay.output_file = beside / self.relay.output_file.name
        self.erasures = Erasures(directory)
        self._clock = 0.0
        #: Nobody has written to the directory since a relay ended in order.
        self._is_in_order = False
        #: The machine has lost its power since a relay last began to start.
        self.power_was_cut = False

    def plant(self, bug: str) -> None:
        """Run relays with this bug (`tests.campaigns.bugs_of_processes`) from now on."""
        self.sabotage[:2] = ["-m", "tests.campaigns.bugs_of_processes", bug]
        relay = RelayProcess(self.directory, command=self.sabotage)
        relay.output_file, self.relay = self.relay.output_file, relay

    async def start(self) -> None:
        """Start the relay. Raises Violation where it is not ready within the time of SPEC 12."""
        begun = time.monotonic()
        self._is_in_order = self.power_was_cut = False
        await trio.to_thread.run_sync(self.relay.start)
        # It serves when an edge does, which begins when the relay has done its own part.
        waited = waited_for_a_core(self.relay.pid)
        waited += max(map(waited_for_a_core, self.relay.workers("edge")), default=0.0)
        start = Start(time.monotonic() - begun, waited)
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

    def signal_workers(self, role: str, number: signal.Signals, count: int, dice: random.Random) -> list[int]:
        """Send a signal to so many of the relay's children of this role, any of them; whom it was sent to."""
        workers = self.relay.workers(role)
        chosen = dice.sample(workers, min(count, len(workers)))
        for pid in chosen:
            # The relay reaps its children, so another process may have the number by now, in theory.
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                self.tally.worker_signals[f"{number.name} of {role}s"] += 1
        return chosen

    @contextmanager
    def held_workers(self, role: str) -> Iterator[None]:
        """All of the relay's children of this role stand still in the block. It may kill them."""
        held = self.relay.workers(role)
        try:
            for pid in held:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in held:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def wait_workers(self, role: str, *, without: Collection[int] = ()) -> None:
        """Wait until the relay has as many children of this role as it should, and none of these among them."""

        def is_so() -> bool:
            workers = self.relay.workers(role)
            return len(workers) == self.processes[role] and not set(workers) & set(without)

        await trio.to_thread.run_sync(self.relay.wait_until, is_so, f"has its {role}s again")

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
