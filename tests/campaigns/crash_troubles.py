"""What happens to a relay in a round of `make crash`: each function does one trouble, and waits until it is over."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from relay.file_names import VIEWS_DIRECTORY
from tests.campaigns.life import Life
from tests.campaigns.served import KILLED
from tests.campaigns.tally import Violation
from tests.world.attack import KINDS, Member, attacked

#: A start makes some twenty changes of the disk, a round under load some hundreds.
ANSWERS_MAX = 40
OPERATIONS_AT_START_MAX = 25
OPERATIONS_MAX = 150
#: How often a courier is looked at until it is in the midst of an attempt.
AIMS_MAX = 20
STRANGERS_OF_A_ROUND = 200
#: Of an attack, what are sends that the relay accepts.
ACCEPTED = ("a megabyte", "spaces", "header values")
#: Two for the event, six to seal the open segment, and then some six for each segment that is written anew.
OPERATIONS_IN_REMOVAL_MAX = 25


async def kill_under_load(life: Life) -> None:
    """kill -9 after so many answers, and at any moment after that."""
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX))
        await trio.sleep(life.dice.uniform(0, 0.05))
        life.kill()


async def kill_under_attack(life: Life) -> None:
    """kill -9 while members read, suppress and flood all they can, and strangers hold the door."""
    members = [Member("nobody.example", headers) for headers in life.credentials.values()]
    # Not what would be accepted: the campaign answers for every send.
    kinds = [kind for kind in KINDS if kind not in ACCEPTED]
    with attacked(life.relay.address, members, strangers=STRANGERS_OF_A_ROUND, kinds=kinds):
        await kill_under_load(life)


async def kill_at_an_operation(life: Life) -> None:
    """Killed in a certain change of the disk, half of a write done."""
    async with life.load():
        await life.wait_answers(life.dice.randint(0, 5))
        life.arm("die", life.dice.randint(1, OPERATIONS_MAX))
        await life.wait_end(KILLED)
    life.disarm("die")


async def kill_an_edge(life: Life) -> None:
    """kill -9 of edges under load: what was answered is true, and others serve. Sometimes the relay dies, too."""
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
        killed = life.signal_workers("edge", signal.SIGKILL, life.dice.randint(1, 2), life.dice)
        if life.dice.random() < 0.3:
            await trio.sleep(life.dice.uniform(0, 0.5))
            life.kill()
            return
        await life.wait_workers("edge", without=killed)
        await life.wait_answers(1)


async def kill_a_courier(life: Life) -> None:
    """kill -9 of couriers under load: their attempts are named at once, and the mail goes on with others."""
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX))
        for aims_left in reversed(range(AIMS_MAX)):
            # What a stopped courier has begun stays begun, while the log is read.
            with life.held_workers("courier"):
                under_way = await life.settled_attempts_under_way()
                if under_way or not aims_left:
                    count = life.dice.randint(1, 2)
                    killed = life.signal_workers("courier", signal.SIGKILL, count, life.dice)
                    break
            await trio.sleep(life.dice.uniform(0, 0.1))
        if len(killed) == life.processes["courier"]:
            await life.wait_outcomes(under_way)
        await life.wait_workers("courier", without=killed)
        await life.wait_answers(1)


async def stop_a_worker(life: Life) -> None:
    """SIGSTOP of an edge or a courier, for good: the relay goes on, kills it, and has another."""
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
        role = life.dice.choice([role for role, count in life.processes.items() if count])
        stopped = life.signal_workers(role, signal.SIGSTOP, 1, life.dice)
        await life.wait_workers(role, without=stopped)
        await life.wait_answers(1)


async def kill_while_starting(life: Life) -> None:
    """Killed under load, then again and again while it recovers; sometimes its views are gone as well."""
    await kill_under_load(life)
    if life.dice.random() < 0.3:
        shutil.rmtree(life.directory / VIEWS_DIRECTORY)
    await kill_starts(life, life.dice.randint(1, 4))


async def kill_starts(life: Life, count: int) -> None:
    for _ in range(count):
        if life.dice.random() < 0.6:
            life.arm("die", life.dice.randint(1, OPERATIONS_AT_START_MAX))
            life.launch()
            with trio.move_on_after(4):
                await trio.to_thread.run_sync(life.relay.wait, abandon_on_cancel=True)
        else:
            life.launch()
            await trio.sleep(life.dice.uniform(0, 2))
        life.disarm("die")
        if not life.relay.is_running:
            await life.wait_end(KILLED)
        life.kill()


async def stand_still(life: Life) -> None:
    """SIGSTOP for seconds, then SIGCONT: it goes on as if nothing had been."""
    async with life.load():
        for _ in range(2):
            await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
            life.signal(signal.SIGSTOP)
            await trio.sleep(life.dice.uniform(0.1, 2))
            life.signal(signal.SIGCONT)
        await life.wait_answers(1)


async def sync_fails(life: Life) -> None:
    """Every fsync fails, with or without the pages being lost, or of directories only: it ends with 1, without a 200.

    It is by lost pages that the requests that were under way are judged: whoever was told of one misses it.
    """
    faults = ["sync", "pages"]
    if not life.erasures.is_owed:
        # A removal that cannot sync its directory is put off, and the relay goes on. This is about the log's writer.
        faults.append("directory")
    fault = life.dice.choice(faults)
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX))
        life.arm(fault)
        await life.wait_end(1)
    life.disarm(fault)
    life.judge_silence(fault)


async def clock_jumps(life: Life) -> None:
    """Forward for good, by up to an hour; or back by an hour, and then right again. Sometimes killed, too."""
    before = float(life.clock)
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
        if life.dice.random() < 0.5:
            life.clock = before + life.dice.uniform(0, 3600)
            await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
        else:
            life.clock = before - 3600
            await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
            if life.dice.random() < 0.5:
                life.kill()
                await life.start()
                await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
            life.clock = before
        await life.wait_answers(1)
        if life.dice.random() < 0.5:
            life.kill()


async def a_second_relay(life: Life) -> None:
    """It says who is there, and goes; the first does not notice. The same for a command that wants the log alone."""
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
        said = await life.command("serve", str(life.directory), good=False)
        if f"(pid {life.relay.pid})" not in said:
            raise Violation(f"a second relay says {said!r}")
        await life.command("log", "rebuild", str(life.directory), good=False)
        await life.wait_answers(1)


async def stop_in_order(life: Life) -> None:
    """SIGTERM under load: exit status 0."""
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX))
        await life.stop()


async def kill_during_a_backup(life: Life) -> None:
    """`log backup` runs beside the load; it, the relay or both are killed. The next one goes on, and is restored."""
    backup, restored = (life.directory.with_name(name) for name in ("backup", "restored"))
    shutil.rmtree(restored, ignore_errors=True)
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
        running = life.launch_command("log", "backup", str(life.directory), str(backup))
        await trio.sleep(life.dice.uniform(0.3, 2))
        if life.dice.random() < 0.6:
            running.kill()
        if life.dice.random() < 0.6:
            life.kill()
        await life.wait_command(running, 0, KILLED)
    told = dict(life.told)
    await life.command("log", "backup", str(life.directory), str(backup))
    await life.command("log", "restore", str(backup), str(restored))
    life.judge_copy(restored, told)


async def kill_during_retention(life: Life) -> None:
    """Payloads are stripped or erased; who does it is killed, relay or command. The next start does the rest."""
    async with life.load():
        await life.wait_answers(life.dice.randint(5, ANSWERS_MAX))
    by_time = life.dice.random() < 0.5
    if by_time:
        await life.stop()
        await life.let_a_day_pass()
    for _ in range(life.dice.randint(1, 3)):
        words = (
            ["strip", str(life.directory), "--older-than", "1"] if by_time else await life.order_to_erase()
        )
        await life.dice.choice((kill_remover, kill_order_at_an_operation, kill_order_under_load))(life, words)
        await kill_starts(life, life.dice.choice((0, 0, 1, 2)))
        await life.judge()


async def kill_remover(life: Life, words: list[str]) -> None:
    """No relay runs, so the command removes by itself; it is killed in a certain change of the disk."""
    life.kill()
    life.arm("die", life.dice.randint(1, OPERATIONS_IN_REMOVAL_MAX))
    await life.wait_removal(life.launch_command("log", *words, dies=True), words, 0, 1, KILLED)
    life.disarm("die")


async def kill_order_at_an_operation(life: Life, words: list[str]) -> None:
    """The relay removes, and little else; it is killed in a certain change of the disk."""
    if not life.relay.is_running:
        await life.start()
    life.arm("die", life.dice.randint(1, OPERATIONS_IN_REMOVAL_MAX))
    await life.wait_removal(life.launch_command("log", *words), words, 0, 1)
    if not life.relay.is_running:
        await life.wait_end(KILLED)
    life.kill()
    life.disarm("die")


async def kill_order_under_load(life: Life, words: list[str]) -> None:
    """The relay removes while clients send; it is killed at some moment, and the command perhaps."""
    if not life.relay.is_running:
        await life.start()
    async with life.load():
        await life.wait_answers(1)
        command = life.launch_command("log", *words)
        await trio.sleep(life.dice.uniform(0.3, 2))
        if life.dice.random() < 0.3:
            command.kill()
        life.kill()
        await life.wait_removal(command, words, 0, 1, KILLED)


async def fill_and_free(life: Life, filler: Path) -> None:
    dice = life.dice
    async with life.load():
        await life.wait_answers(dice.randint(5, ANSWERS_MAX))
        fill(filler, leave=dice.randint(5_000_000, 7_900_000))
        await life.wait_refusals("QUEUE_FULL", 3)
        filler.unlink()
        await life.wait_answers(dice.randint(1, ANSWERS_MAX))
        # Faster than the relay can look: the reserve is gone before it knows.
        fill(filler, leave=dice.choice((0, 4096, 40_000, 400_000)))
        await trio.sleep(dice.uniform(0, 1))
        if life.relay.is_running and dice.random() < 0.5:
            life.kill()
    if not life.relay.is_running:
        status = await trio.to_thread.run_sync(life.relay.wait)
        if status not in (1, KILLED):
            raise Violation(f"on a full disk it exits {status}: {life.relay.output[-2000:]}")
        if dice.random() < 0.5:
            # It starts if it can, and otherwise says why; in any case it changes nothing for the worse.
            life.launch()
            await trio.sleep(2)
            life.kill()
    filler.unlink()
    if life.relay.is_running:
        await life.stop(1)  # it may have met the full disk a moment ago
    await life.judge()
    await life.start()
    await life.settle()


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(file: Path, *, leave: int) -> None:
    """Write until only so many bytes are free, or until the relay, which writes as well, has made it fuller."""
    status = os.statvfs(file.parent)
    size = status.f_bavail * status.f_frsize - leave
    with file.open("wb") as output:
        try:
            os.posix_fallocate(output.fileno(), 0, max(size, 1))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
