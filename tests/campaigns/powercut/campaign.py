"""The campaign: rounds of troubles, the judgement after each, and the record of it all."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relay.events import ViewsRebuilt
from spool.errors import SpoolError
from tests.campaigns.crash import draw
from tests.campaigns.erasure import read_contents
from tests.campaigns.powercut.disk import FATES
from tests.campaigns.powercut.home import Cuts, Home, open_home
from tests.campaigns.powercut.troubles import DESCRIPTIONS, TROUBLES
from tests.campaigns.tally import Tally

SETTLED_EVERY = 6


@dataclass
class Record:
    """What a campaign has done so far."""

    kind: str
    seed: int
    #: The trouble of the round that is under way.
    name: str = "the first start"
    #: Rounds begun, by trouble.
    rounds: Counter[str] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)
    cuts: Cuts = field(default_factory=Cuts)
    checks: Counter[str] = field(default_factory=Counter)
    suppressed: int = 0
    #: Starts that built the views again, by what they gave as the reason.
    rebuilt: Counter[str] = field(default_factory=Counter)
    sector_bytes: int = 0
    #: What the disk was asked.
    disk: Counter[str] = field(default_factory=Counter)
    #: What keeps this record from being whole.
    notes: list[str] = field(default_factory=list)

    def add(self, home: Home) -> None:
        self.cuts.add(home.cuts)
        self.checks += home.checks
        self.suppressed += len(home.suppressed)
        self.sector_bytes = home.machine.sector_bytes
        self.disk.update(home.machine.counts())
        try:
            home.life.count()
            for item in read_contents(home.life.directory).events:
                if isinstance(item.event, ViewsRebuilt):
                    self.rebuilt[item.event.because.partition(":")[0]] += 1
        except (SpoolError, OSError) as error:
            self.notes.append(f"The log cannot be read to its end: {error}")
        finally:
            self.tally.add(home.life.tally)


def deck_of(only: str | None = None) -> list[str]:
    return [
        trouble.__name__
        for trouble, share in TROUBLES.items()
        for _ in range(share)
        if only in (None, trouble.__name__)
    ]


async def campaign(
    place: Path,
    record: Record,
    *,
    rounds: int,
    deck: Sequence[str],
    plant: str | None = None,
    lies: bool = False,
) -> None:
    """Run so many rounds in `place`, an empty directory. Raises Violation, or MachineError where the machine is broken;
    `record` is right in any case."""
    assert rounds > 0
    cards = draw(random.Random(f"power cut {record.kind} {record.seed}"), deck)
    troubles = {trouble.__name__: trouble for trouble in TROUBLES}
    async with open_home(place, record.kind, record.seed, plant=plant, lies=lies) as home:
        try:
            for number in range(1, rounds + 1):
                name = record.name = next(cards)
                record.rounds[name] += 1
                said = f"{home.life.tally.answers} answers, {home.cuts.moments.total()} cuts so far"
                print(f"round {number}: {name}; {said}", flush=True)
                await troubles[name](home)
                await home.judge()
                if number % SETTLED_EVERY == 0 or number == rounds:
                    await home.life.settle()
                    if number < rounds:
                        await home.life.start()
        finally:
            # Read before the machine goes: afterwards there is no log any more.
            record.add(home)


def report(record: Record) -> str:
    cuts, tally = record.cuts, record.tally
    events, disk = tally.events, record.disk
    lines = ["\nTroubles, by rounds that were begun"]
    lines += [_line(count, f"{name}: {DESCRIPTIONS[name]}") for name, count in record.rounds.most_common()]
    lines += [
        _line(record.rounds.total(), "in all"),
        f"\nThe disk: {record.kind} on sectors of {record.sector_bytes} octets",
        _line(disk["flushes"], "flushes, which came as such from the file system through the loop device"),
        _line(disk["writes"], f"writes, of {disk['bytes_written']:,} octets"),
        "\nCuts",
        _line(cuts.moments.total(), "cuts of the power"),
        *(_line(count, f"of them {moment}") for moment, count in cuts.moments.most_common()),
        *(_line(count, f"of them with the end: {FATES[fate]}") for fate, count in cuts.fates.most_common()),
        _line(
            cuts.writes,
            f"writes were not flushed at those moments, {cuts.bytes:,} octets, of which {cuts.bytes_lost:,} were lost",
        ),
    ]
    lines += ["\nFiles that a cut left otherwise than they had been (nothing may have been promised of them)"]
    lines += [_line(count, f"{kind} {became}") for (kind, became), count in sorted(cuts.files.items())]
    if cuts.unseen:
        lines.append(_line(cuts.unseen, "cuts at which the files could not be looked at"))
    lines += [
        "\nWhat happened",
        _line(tally.answers, f"sends answered 200; {tally.told:,} messages"),
        _line(tally.replays, "of them asked again and answered as before, byte for byte"),
        _line(tally.unanswered, "requests that got no answer, and were sent again until they did"),
        *(_line(count, f"refusals {code}") for code, count in sorted(tally.refusals.items())),
        _line(record.suppressed, "suppressions and clicks that were answered"),
        _line(
            events["message.queued"],
            f"messages in the log: {events['message.sent']:,} sent, {events['message.bounced']:,} bounced",
        ),
        _line(
            events["attempt.started"],
            f"attempts, of which {events['attempt.interrupted']:,} were interrupted",
        ),
        _line(
            tally.received_again.total(),
            "receipts but for each message's first, each with an excuse in the log",
        ),
        _line(events["log.torn_tail_cut"], f"torn tails cut; `log verify` had seen {tally.torn:,}"),
        *(
            _line(count, f"starts that built the views again, because {because}")
            for because, count in sorted(record.rebuilt.items())
        ),
        _line(
            events["payload.erased"],
            f"removals admitted (payload.erased), {tally.payloads_gone:,} payloads gone",
        ),
        _line(tally.frames, f"events that subscribers saw, over {tally.streams:,} connections"),
    ]
    lines += ["\nWhat was checked, and how often"]
    lines += [_line(count, check) for check, count in (tally.checks + record.checks).most_common()]
    return "\n".join(lines + [f"\n{note}" for note in record.notes])


def _line(count: int, words: str) -> str:
    return f"{count:10,}  {words}"
