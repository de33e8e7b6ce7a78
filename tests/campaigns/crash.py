"""A campaign of real crashes: `python -m tests.campaigns.crash --rounds 50 [--seed 1] [--only kill_at_an_operation]`.

One data directory lives through all rounds. In each, clients send while one of the troubles below happens to the relay:
a real process on the real disk, with receivers on real sockets. After each round the log is held against what the
clients were told (`tests.campaigns.life`); every few rounds everything is left to end, and the receivers' records are
held against the log as well. What must hold:

- every message of every 200 is in the log, whole, and ends sent or bounced; what is sent was received;
- a mail received twice has an interrupted attempt, or one without a reply to its dot, to show for it;
- no Idempotency-Key is accepted twice, and a replay is the first answer, byte for byte; what was refused is nowhere;
- sequence numbers have no gap, times never go back, `log verify` finds nothing but, right after a kill, a torn tail;
- the relay starts within 10 s, and exits as SPEC 9 says.

A violation ends the campaign with exit status 1; it prints the seed and keeps the directory. The seed fixes which
troubles come, and when as far as answers and disk operations are counted; not what else the machine is doing then.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from relay.store import VIEWS_DIRECTORY
from tests.campaigns.life import Life, Tally, Violation, open_life

SETTLED_EVERY = 10
ANSWERS_MAX = 40
#: A start makes some twenty changes of the disk, a round under load some hundreds.
OPERATIONS_AT_START_MAX = 25
OPERATIONS_MAX = 150
KILLED = -signal.SIGKILL

Trouble = Callable[[Life], Awaitable[None]]


# ------------------------------------------------------------------------------------------------ the troubles
# Each begins with a running relay and leaves it running or not, as it comes.


async def kill_under_load(life: Life) -> None:
    """kill -9 after so many answers, and at any moment after that."""
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX))
        await trio.sleep(life.dice.uniform(0, 0.05))
        life.relay.kill()


async def kill_at_an_operation(life: Life) -> None:
    """Killed in a certain change of the disk, half of a write done."""
    async with life.load():
        await life.wait_answers(life.dice.randint(0, 5))
        life.arm("die", life.dice.randint(1, OPERATIONS_MAX))
        await life.wait_end(KILLED)
    life.disarm("die")


async def kill_while_starting(life: Life) -> None:
    """Killed under load, then again and again while it recovers; sometimes its views are gone as well."""
    await kill_under_load(life)
    if life.dice.random() < 0.3:
        shutil.rmtree(life.directory / VIEWS_DIRECTORY)
    for _ in range(life.dice.randint(1, 4)):
        if life.dice.random() < 0.6:
            life.arm("die", life.dice.randint(1, OPERATIONS_AT_START_MAX))
            life.relay.launch()
            with trio.move_on_after(4):
                await trio.to_thread.run_sync(life.relay.wait, abandon_on_cancel=True)
        else:
            life.relay.launch()
            await trio.sleep(life.dice.uniform(0, 2))
        life.disarm("die")
        life.relay.kill()


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
    """Every fsync fails, with or without the pages being lost: it ends with 1, and says 200 no more."""
    fault = life.dice.choice(("sync", "pages"))
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX))
        life.arm(fault)
        await life.wait_end(1)
    life.disarm(fault)


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
                life.relay.kill()
                await life.start()
                await life.wait_answers(life.dice.randint(1, ANSWERS_MAX // 2))
            life.clock = before
        await life.wait_answers(1)
        if life.dice.random() < 0.5:
            life.relay.kill()


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
        running = subprocess.Popen(
            [sys.executable, "-m", "relay", "log", "backup", str(life.directory), str(backup)],
            stdout=subprocess.DEVNULL,
        )
        await trio.sleep(life.dice.uniform(0.3, 2))
        if life.dice.random() < 0.6:
            running.kill()
        if life.dice.random() < 0.6:
            life.relay.kill()
        if await trio.to_thread.run_sync(running.wait) not in (0, KILLED):
            raise Violation("a backup beside a relay that is killed does not end well")
    told = dict(life.told)
    await life.command("log", "backup", str(life.directory), str(backup))
    await life.command("log", "restore", str(backup), str(restored))
    life.judge_copy(restored, told)


TROUBLES: dict[Trouble, int] = {
    kill_under_load: 7,
    kill_at_an_operation: 7,
    kill_while_starting: 5,
    stand_still: 1,
    sync_fails: 3,
    clock_jumps: 2,
    a_second_relay: 1,
    stop_in_order: 1,
    kill_during_a_backup: 1,
}


async def fill_the_disk(directory: Path, seed: int) -> Tally:
    """A life of its own on a file system of 48 MB: refused before it is full, then full to the last byte, then again
    with room. Only for root, who can mount."""
    with small_disk(directory) as disk:
        async with open_life(disk / "data", seed) as life:
            dice = life.dice
            filler = disk / "filler"
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
                    life.relay.kill()
            if not life.relay.is_running:
                status = await trio.to_thread.run_sync(life.relay.wait)
                if status not in (1, KILLED):
                    raise Violation(f"on a full disk it exits {status}: {life.relay.output[-2000:]}")
                if dice.random() < 0.5:
                    # It starts if it can, and otherwise says why; in any case it changes nothing for the worse.
                    life.relay.launch()
                    await trio.sleep(2)
                    life.relay.kill()
            filler.unlink()
            await life.judge()
            if not life.relay.is_running:
                await life.start()
            await life.settle()
            return life.tally


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


# ------------------------------------------------------------------------------------------------ the campaign


async def campaign(
    directory: Path, *, rounds: int, seed: int, only: str | None = None
) -> tuple[Tally, Counter[str]]:
    """Run so many rounds below `directory`, which must exist. Raises Violation."""
    dice = random.Random(f"crash {seed}")
    done: Counter[str] = Counter()
    total = Tally()
    troubles = {trouble: share for trouble, share in TROUBLES.items() if only in (None, trouble.__name__)}
    full_disks = [number for number in range(rounds) if number % 25 == 12 or only == fill_the_disk.__name__]
    if full_disks and os.geteuid() != 0:
        print("The disk is never full in this campaign: only root can mount a small one.")
        full_disks = []
    async with open_life(directory / "data", seed) as life:
        for number in range(1, rounds + 1):
            if number - 1 in full_disks:
                name = fill_the_disk.__name__
                total.add(await fill_the_disk(directory / f"small-{number}", seed * 1000 + number))
            else:
                (trouble,) = dice.choices(list(troubles), list(troubles.values()))
                name = trouble.__name__
                await trouble(life)
                await life.judge()
                if not life.relay.is_running:
                    await life.start()
            done[name] += 1
            print(f"round {number}: {name}; {life.tally.answers} answers so far", flush=True)
            if number % SETTLED_EVERY == 0 or number == rounds:
                await life.settle()
                await life.start()
        total.add(life.tally)
    return total, done


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.crash", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    names = [trouble.__name__ for trouble in TROUBLES]
    parser.add_argument("--only", choices=[*names, fill_the_disk.__name__])
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="crash-"))
    begun = time.monotonic()
    try:
        total, done = trio.run(
            lambda: campaign(directory, rounds=options.rounds, seed=options.seed, only=options.only)
        )
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        print(f"seed {options.seed}: broken. What is left of it: {directory}", file=sys.stderr)
        sys.exit(1)
    shutil.rmtree(directory)
    print(f"seed {options.seed}: {options.rounds} rounds in {time.monotonic() - begun:.0f} s, no violation")
    report(total, done)


def report(total: Tally, done: Counter[str]) -> None:
    for name, count in sorted(done.items()):
        print(f"{count:10,}  {name}")
    for name, value in vars(total).items():
        for words, count in value.items() if isinstance(value, Counter) else [(name, value)]:
            print(f"{count:10,.1f}  {words}" if isinstance(count, float) else f"{count:10,}  {words}")


if __name__ == "__main__":
    main()
