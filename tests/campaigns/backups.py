"""Backups of one simulated relay: taken at any moment of its lives and between them, broken off, and restored.

A run is one step here: nobody else gets on meanwhile, but the disk may fail or fill up in the middle, or the machine
die (`tests/service/test_backup_under_load.py` has a real process that writes beside it). It goes to the relay's own
disk, which forgets what was not synced.

Whatever has happened, what is restored is the beginning of the log, and has at least all that had been acknowledged
when the last run that ended began. Whose payloads are gone from it is what it says itself (`tests.world.payloads`). A
log whose sync has failed is not copied before a relay has started again: of what can still be read of it a run would
take for durable what is not (see the track record).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import trio

from relay.codec import Recorded, decode
from relay.file_names import LOG_DIRECTORY
from spool.backup.backup import back_up
from spool.backup.restore import restore
from spool.errors import BackupError, CorruptionError
from spool.reader import LogReader
from tests.campaigns.people import pace
from tests.world.internet import MINUTE
from tests.world.machine import Machine, at_call
from tests.world.payloads import without_payload


class Backups:
    def __init__(
        self, machine: Machine, breaches: list[str], deaths: Sequence[Callable[[], None]], *, seed: int
    ) -> None:
        """`deaths`: of the machine, one of which may come in the middle of a run."""
        self._machine = machine
        self._deaths = deaths
        self._breaches = breaches
        self._dice = random.Random(f"backups {seed}")
        self._directory = machine.directory.parent / "backup"
        #: What must be in it; None: no run has ended yet.
        self._acknowledged: int | None = None
        #: What was restored, each time.
        self.restored: list[list[Recorded]] = []

    async def live(self, is_over: Callable[[], bool]) -> None:
        while True:
            await trio.sleep(self._dice.expovariate(1 / (10 * MINUTE * pace())))
            if is_over():
                return
            self.take()
            if self._dice.random() < 0.5:
                self.restore()

    def take(self) -> None:
        if self._machine.is_log_in_doubt:
            return
        acknowledged = len(self._machine.journal.events)
        disk = self._machine.disk
        planned = disk.after_operation
        if self._deaths and self._machine.world is not None and self._dice.random() < 0.15:
            disk.after_operation = at_call(self._dice.randint(1, 16), self._dice.choice(self._deaths))
        try:
            back_up(
                self._machine.directory,
                self._directory,
                log=LOG_DIRECTORY,
                disk=disk,
                clock=lambda: 0,
            )
        except OSError:
            return  # the disk is full, or fails, or its machine is dead
        except (BackupError, CorruptionError) as error:
            self._breaches.append(f"no backup: {error}")
            return
        finally:
            disk.after_operation = planned
        if not disk.is_dead:
            self._acknowledged = acknowledged

    def restore(self) -> None:
        """From what a loss of power at this moment would leave of the disk."""
        if self._acknowledged is None:
            return
        disk, directory = self._machine.disk.crash(frozenset()), self._directory.parent / "restored"
        try:
            restore(self._directory, directory, log=LOG_DIRECTORY, disk=disk)
            with LogReader(directory / LOG_DIRECTORY, disk=disk) as reader:
                restored = [decode(record) for record in reader.read(1)]
        except (BackupError, CorruptionError) as error:
            self._breaches.append(f"the backup cannot be restored: {error}")
            return
        if len(restored) < self._acknowledged:
            self._breaches.append(
                f"the backup has {len(restored)} events, and {self._acknowledged} had been acknowledged"
            )
        self.restored.append(restored)

    def judge(self, log: Sequence[Recorded]) -> list[str]:
        """What was restored at any time, and what the log is in the end."""
        skeletons = [without_payload(item) for item in log]
        return [
            f"a backup of {len(restored)} events is not how the log begins"
            for restored in self.restored
            if [without_payload(item) for item in restored] != skeletons[: len(restored)]
        ]
