"""A campaign of real crashes: `python -m tests.campaigns.crash --rounds 50 [--seed 1] [--only kill_at_an_operation]`.

One data directory lives through all rounds. In each, clients send and subscribers follow the stream while one of the
troubles below happens to the relay: a real process on the real disk, with receivers on real sockets. After each round
the log is held against what the clients were told (`tests.campaigns.life`); every few rounds everything is left to end,
and the receivers' records and the streams are held against the log as well. What must hold:

- every message of every 200 is in the log, whole, and ends sent or bounced; what is sent was received;
- a mail received twice has an interrupted attempt, or one without a reply to its dot, to show for it;
- no Idempotency-Key is accepted twice, and a replay is the first answer, byte for byte; what was refused is nowhere;
- sequence numbers have no gap, times never go back, `log verify` finds nothing but, right after a kill, a torn tail;
- a scheduled mail is not sent before its time, and one that its member has cancelled never;
- a webhook's endpoint is told each event of its member in the order of the log, but for the tail that comes again after
  a kill;
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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from spool.errors import SpoolError
from tests.campaigns.crash_troubles import (
    a_second_relay,
    clock_jumps,
    fill_and_free,
    kill_a_courier,
    kill_an_edge,
    kill_at_an_operation,
    kill_during_a_backup,
    kill_during_retention,
    kill_under_attack,
    kill_under_load,
    kill_while_starting,
    small_disk,
    stand_still,
    stop_a_worker,
    stop_in_order,
    sync_fails,
)
from tests.campaigns.life import Life, open_life
from tests.campaigns.subscriber import leaves
from tests.campaigns.tally import Tally

SETTLED_EVERY = 10

Trouble = Callable[[Life], Awaitable[None]]


# ------------------------------------------------------------------------------------------------ the troubles
# Each begins with a running relay and leaves it running or not, as it comes.


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


#: The deck that rounds are drawn from, without `fill_the_disk`, which has a life of its own: one card is its.
TROUBLES: dict[Trouble, int] = {
    kill_under_load: 5,
    kill_under_attack: 1,
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
#: What comes to them where the relay has children, by role.
OF_EDGES: dict[Trouble, int] = {kill_an_edge: 6}
OF_COURIERS: dict[Trouble, int] = {kill_a_courier: 6}
OF_BOTH: dict[Trouble, int] = {stop_a_worker: 2}
_ALL = TROUBLES | OF_EDGES | OF_COURIERS | OF_BOTH
#: In the summary.
DESCRIPTIONS = {
    trouble.__name__: (trouble.__doc__ or "").split("\n")[0] for trouble in (*_ALL, fill_the_disk)
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


def deck_of(
    *,
    may_mount: bool,
    only: str | None = None,
    each: bool = False,
    processes: Mapping[str, int] | None = None,
) -> list[str]:
    """The cards that rounds are drawn from: names of troubles. `each`: one of each kind. `processes`: how many children
    the relay has, by role."""
    troubles = dict(TROUBLES)
    for role, more in (("edge", OF_EDGES), ("courier", OF_COURIERS)):
        if processes and processes.get(role):
            troubles |= more | OF_BOTH
    shares = {trouble.__name__: share for trouble, share in troubles.items()}
    if may_mount:
        shares[fill_the_disk.__name__] = 1
    return [
        name for name, share in shares.items() for _ in range(1 if each else share) if only in (None, name)
    ]


def draw(dice: random.Random, deck: Sequence[str]) -> Iterator[str]:
    """For ever: the deck, shuffled, and shuffled again."""
    while True:
        yield from dice.sample(deck, len(deck))


async def campaign(
    directory: Path,
    record: Record,
    *,
    rounds: int,
    deck: Sequence[str],
    processes: Mapping[str, int] | None = None,
    bug: str | None = None,
) -> None:
    """Run so many rounds below `directory`, which must exist. Raises Violation; `record` is right in any case.

    `processes`: how many children the relay has, by role. `bug`: one of `tests.campaigns.bugs_of_processes`.
    """
    assert rounds > 0
    cards = draw(random.Random(f"crash {record.seed}"), deck)
    troubles = {trouble.__name__: trouble for trouble in _ALL}
    async with open_life(directory / "data", record.seed, processes=processes, bug=bug) as life:
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
    every_role = {"edge": 1, "courier": 1}
    parser.add_argument("--only", choices=deck_of(may_mount=may_mount, each=True, processes=every_role))
    parser.add_argument("--edges", type=int, default=0, help="processes that answer clients")
    parser.add_argument("--couriers", type=int, default=0, help="processes that deliver")
    parser.add_argument("--each", action="store_true", help="the deck has one card of each trouble")
    options = parser.parse_args()
    processes = {"edge": options.edges, "courier": options.couriers}
    deck = deck_of(may_mount=may_mount, only=options.only, each=options.each, processes=processes)
    if not deck:
        parser.error(f"--only {options.only} needs --edges or --couriers")
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
        trio.run(lambda: campaign(directory, record, rounds=options.rounds, deck=deck, processes=processes))
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
        *(_line(count, what) for what, count in sorted(total.worker_signals.items())),
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
        _line(total.hook_requests, "requests that the webhook's endpoint got"),
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
