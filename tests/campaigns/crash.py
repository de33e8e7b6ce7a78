"""A campaign of real crashes: `python -m tests.campaigns.crash --rounds 50 [--seed 1] [--only kill_at_an_operation]`.

One data directory lives through all rounds. In each, clients send and subscribers follow the stream while one of the
troubles below happens to the relay: a real process on the real disk, with receivers on real sockets. After each round
the log is held against what the clients were told (`tests.campaigns.life`); every few rounds everything is left to end,
and the receivers' records and the streams are held against the log as well. What must hold:

- every message of every 200 is in the log, whole, and ends sent or bounced; what is sent was received;
- a mail received twice has an interrupted attempt, or one without a reply to its dot, to show for it;
- no Idempotency-Key is accepted twice, and a replay is the first answer, byte for byte; what was refused is nowhere;
- sequence numbers have no gap, times never go back, `log verify` finds nothing but, right after a kill, a torn tail;
- a subscriber that reconnects with its cursor sees each event of its member once, in the order of the log;
- what `payload.erased` admits is gone in the end, nothing else is at any moment, and skeletons stay;
- the relay starts within 10 s, and exits as SPEC 9 says. The time that its main thread stood ready while others had the
  cores is not its own, and does not count; waiting for the disk does.

Troubles are drawn like cards: from a shuffled deck in which each of them is, again and again. So each comes up in as
many rounds as the deck has cards. A violation ends the campaign with exit status 1; it says how to repeat the campaign
and keeps the directory. Ctrl-C (or SIGTERM) ends it with 130. It says what it has done in any case. The seed fixes
which troubles come, and when as far as answers and disk operations are counted; not what else the machine is doing.
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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from relay.file_names import VIEWS_DIRECTORY
from spool.errors import SpoolError
from tests.campaigns.life import KILLED, Life, Tally, Violation, open_life
from tests.campaigns.subscriber import leaves

SETTLED_EVERY = 10
ANSWERS_MAX = 40
#: A start makes some twenty changes of the disk, a round under load some hundreds.
OPERATIONS_AT_START_MAX = 25
OPERATIONS_MAX = 150
#: Two for the event, six to seal the open segment, and then some six for each segment that is written anew.
OPERATIONS_IN_REMOVAL_MAX = 25

Trouble = Callable[[Life], Awaitable[None]]


# ------------------------------------------------------------------------------------------------ the troubles
# Each begins with a running relay and leaves it running or not, as it comes.


async def kill_under_load(life: Life) -> None:
    """kill -9 after so many answers, and at any moment after that."""
    async with life.load():
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX))
        await trio.sleep(life.dice.uniform(0, 0.05))
        life.kill()


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


async def fill_the_disk(directory: Path, record: Record, number: int) -> None:
    """Its own life on 48 MB: refused before they are full, then full to the last byte, then with room again.

    Only for root, who can mount.
    """
    with small_disk(directory) as disk:
        async with open_life(disk / "data", record.seed * 1000 + number) as life:
            try:
                await fill_and_free(life, disk / "filler")
            finally:
                record.add(life)


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


def can_mount() -> bool:
    """Root can, but for the root of a container."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as name:
        try:
            with small_disk(Path(name) / "disk"):
                return True
        except subprocess.CalledProcessError:
            return False


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


#: The deck that rounds are drawn from, without `fill_the_disk`, which has a life of its own: one card is its.
TROUBLES: dict[Trouble, int] = {
    kill_under_load: 5,
    kill_at_an_operation: 5,
    kill_while_starting: 3,
    kill_during_retention: 2,
    kill_during_a_backup: 2,
    sync_fails: 2,
    clock_jumps: 2,
    stand_still: 1,
    a_second_relay: 1,
    stop_in_order: 1,
}
#: In the summary.
DESCRIPTIONS = {
    trouble.__name__: (trouble.__doc__ or "").split("\n")[0] for trouble in (*TROUBLES, fill_the_disk)
}


# ------------------------------------------------------------------------------------------------ the campaign


@dataclass
class Record:
    """What a campaign has done so far."""

    seed: int
    #: The trouble of the round that is under way.
    name: str = "the first start"
    #: Rounds begun, by trouble.
    rounds: Counter[str] = field(default_factory=Counter)
    #: Rounds in which the relay was killed (-9), once or more often.
    rounds_with_kill: int = 0
    total: Tally = field(default_factory=Tally)
    #: What keeps this record from being whole.
    notes: list[str] = field(default_factory=list)

    def add(self, life: Life) -> None:
        try:
            life.count()
        except (SpoolError, OSError) as error:
            self.notes.append(f"The log of {life.directory} cannot be read to its end: {error}")
        finally:
            self.total.add(life.tally)


def deck_of(*, may_mount: bool, only: str | None = None, each: bool = False) -> list[str]:
    """The cards that rounds are drawn from: names of troubles. `each`: one of each kind."""
    shares = {trouble.__name__: share for trouble, share in TROUBLES.items()}
    if may_mount:
        shares[fill_the_disk.__name__] = 1
    return [
        name for name, share in shares.items() for _ in range(1 if each else share) if only in (None, name)
    ]


def draw(dice: random.Random, deck: Sequence[str]) -> Iterator[str]:
    """For ever: the deck, shuffled, and shuffled again."""
    while True:
        yield from dice.sample(deck, len(deck))


async def campaign(directory: Path, record: Record, *, rounds: int, deck: Sequence[str]) -> None:
    """Run so many rounds below `directory`, which must exist. Raises Violation; `record` is right in any case."""
    assert rounds > 0
    cards = draw(random.Random(f"crash {record.seed}"), deck)
    troubles = {trouble.__name__: trouble for trouble in TROUBLES}
    async with open_life(directory / "data", record.seed) as life:
        try:
            for number in range(1, rounds + 1):
                name = record.name = next(cards)
                record.rounds[name] += 1
                kills = (record.total.kills + life.tally.kills).total()
                print(f"round {number}: {name}; {life.tally.answers} answers so far", flush=True)
                if name == fill_the_disk.__name__:
                    await fill_the_disk(directory / f"small-{number}", record, number)
                else:
                    await troubles[name](life)
                    await life.judge()
                    if not life.relay.is_running:
                        await life.start()
                record.rounds_with_kill += (record.total.kills + life.tally.kills).total() > kills
                if number % SETTLED_EVERY == 0 or number == rounds:
                    await life.settle()
                    await life.start()
        finally:
            record.add(life)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.crash", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rounds", type=at_least_one, default=50)
    parser.add_argument("--seed", type=int, default=1)
    may_mount = can_mount()
    parser.add_argument("--only", choices=deck_of(may_mount=may_mount, each=True))
    parser.add_argument("--each", action="store_true", help="the deck has one card of each trouble")
    options = parser.parse_args()
    deck = deck_of(may_mount=may_mount, only=options.only, each=options.each)
    signal.signal(signal.SIGTERM, interrupt)
    # A shell has its jobs in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="crash-"))
    record = Record(options.seed)
    if not may_mount:
        record.notes.append("The disk was never full: only root can mount a small one.")
    begun = time.monotonic()
    status, broken = 0, ""
    try:
        trio.run(lambda: campaign(directory, record, rounds=options.rounds, deck=deck))
    except BaseException as error:  # noqa: BLE001
        status = 130 if is_interrupt(error) else 1
        if status == 1:
            traceback.print_exc()
            broken = "; ".join(str(inner) or repr(inner) for inner in leaves(BaseExceptionGroup("", [error])))
    sys.stderr.flush()
    done = record.rounds.total()
    print(
        f"\nSeed {options.seed}: {done} of {options.rounds} rounds in {time.monotonic() - begun:,.0f} s, load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. "
        + {0: "No violation.", 1: "VIOLATION.", 130: "Stopped. No violation until then."}[status]
    )
    if status == 1:
        print(f"In round {done} ({record.name}): {broken}")
        print(f"What is left of it: {directory}. To repeat it: {' '.join(sys.orig_argv)}")
    else:
        shutil.rmtree(directory)
    print(report(record))
    sys.exit(status)


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: a campaign of no rounds proves nothing")
    return number


def interrupt(_number: int, _frame: object) -> None:
    """SIGTERM is as Ctrl-C. `timeout` sends it twice, to the process and to its group; one is enough."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)


def is_interrupt(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(is_interrupt(inner) for inner in error.exceptions)
    return isinstance(error, KeyboardInterrupt)


def report(record: Record) -> str:
    total = record.total
    lines = ["\nTroubles, by rounds that were begun"]
    lines += [_line(count, f"{name}: {DESCRIPTIONS[name]}") for name, count in record.rounds.most_common()]
    lines += [
        _line(record.rounds.total(), "in all"),
        "\nkill -9",
        _line(record.rounds_with_kill, "rounds in which the relay was killed, once or more often"),
        _line(total.kills.total(), "kills of the relay"),
        *(_line(count, f"of them {moment}") for moment, count in sorted(total.kills.items())),
        _line(total.command_kills.total(), "kills of a command that backs up or removes"),
        *(_line(count, f"of them {moment}") for moment, count in sorted(total.command_kills.items())),
    ]
    events = total.events
    lines += [
        "\nWhat happened",
        _line(total.answers, f"sends answered 200; {total.told:,} messages"),
        _line(total.replays, "of them asked again and answered as before, byte for byte"),
        _line(total.unanswered, "requests that got no answer, and were sent again until they did"),
        *(_line(count, f"refusals {code}") for code, count in sorted(total.refusals.items())),
        _line(
            events["message.queued"],
            f"messages in the log: {events['message.sent']:,} sent, {events['message.bounced']:,} bounced",
        ),
        _line(
            events["attempt.started"],
            f"attempts, of which {events['attempt.interrupted']:,} were interrupted",
        ),
        *(
            _line(count, f"receipts but for each message's first; their excuse: {excuse}")
            for excuse, count in sorted(total.received_again.items())
        ),
        _line(events["log.torn_tail_cut"], f"torn tails cut; `log verify` had seen {total.torn:,}"),
        _line(
            events["payload.erased"],
            f"removals admitted (payload.erased), {total.payloads_gone:,} payloads gone, "
            f"{events['log.stripped']:,} log.stripped",
        ),
        _line(total.frames, f"events that subscribers saw, over {total.streams:,} connections"),
    ]
    if total.starts:
        longest = max(total.starts, key=lambda start: start.own_seconds)
        lines.append(
            _line(
                len(total.starts),
                f"starts: median {total.start_seconds_median:.1f} s, longest {longest.own_seconds:.1f} s, without what "
                f"other processes had the cores (the longest by the wall clock: "
                f"{max(start.seconds for start in total.starts):.1f} s)",
            )
        )
    lines += ["\nWhat was checked, and how often"]
    lines += [_line(count, check) for check, count in total.checks.most_common()]
    return "\n".join(lines + [f"\n{note}" for note in record.notes])


def _line(count: int, words: str) -> str:
    return f"{count:10,}  {words}"


if __name__ == "__main__":
    main()
