"""Short lives of machines that have one log, in each of which other statements to the database go wrong; and a judge.

A *fate* says what becomes of which statement of which machine. `fates_after` enumerates: from a life in which all was
well to all in which one thing goes wrong, and from each of those to all in which one more does, later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from spool import Entry, LogPoisonedError
from spool.durability import Verdict
from spool.errors import LogDeposedError
from tests.world.disk import FakeDisk
from tests.world.outcomes import OUTCOMES_OF, Outcome
from tests.world.replicated import Node, assert_is_beginning, entries_of
from tests.world.servers import Plant
from tests.world.spool import group, read_all
from tests.world.table import FakeDatabase, FakeTable

OPERATOR_SECONDS = 30.0

#: Whose statement, and which of them, from 1.
Place = tuple[str, int]
Fate = Mapping[Place, Outcome]


@dataclass
class Life:
    fate: Fate
    plants: frozenset[Plant] = frozenset()
    #: What becomes of a statement of this kind of which the fate says nothing.
    choose: Callable[[str], Outcome] = lambda name: Outcome.ANSWERED
    database: FakeDatabase = field(init=False)
    #: The statements that could have gone wrong, in the order in which they came.
    places: list[tuple[Place, str]] = field(default_factory=list)
    #: What became of which append.
    told: dict[int, str] = field(default_factory=dict)
    leaders: list[Node] = field(default_factory=list)
    disks: dict[str, FakeDisk] = field(default_factory=dict)
    #: Set when the statement at this place begins.
    awaited: dict[Place, trio.Event] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.database = FakeDatabase(plants=self.plants)
        self.database.choose = self._choose

    def disk(self, name: str) -> FakeDisk:
        return self.disks.setdefault(name, FakeDisk())

    def _choose(self, number: int, name: str, table: FakeTable) -> Outcome:
        self._counts[table.name] += 1
        place = table.name, self._counts[table.name]
        self.places.append((place, name))
        if place in self.awaited:
            self.awaited[place].set()
        if place not in self.fate:
            return self.choose(name)
        outcome = self.fate[place]
        # In another life the statement at this place may be another one.
        return outcome if outcome in OUTCOMES_OF[name] else Outcome.ANSWERED

    async def operate(self) -> None:
        """The operator comes each half minute."""
        while True:
            await trio.sleep(OPERATOR_SECONDS)
            self.database.mend()

    async def append(self, node: Node, number: int) -> None:
        """One append, of two records. Raises what ends the leader."""
        self.told[number] = "unknown"
        try:
            await node.log.append(group(number, 2, 10))
        except LogDeposedError:
            self.told[number] = "deposed"
            raise
        except LogPoisonedError:
            raise
        self.told[number] = "durable"

    def judge(self) -> Sequence[Entry]:
        """What is in the table at last, if no promise was broken."""
        self.database.mend()
        rows = self.database.shown.rows
        there = entries_of(rows)
        assert len(there) == len(set(there)), "something is there twice"
        for number, told in self.told.items():
            is_there = [entry in there for entry in group(number, 2, 10)]
            assert all(is_there) or not any(is_there), "a half of an append is there"
            if told == "durable":
                assert all(is_there), f"append {number} was acknowledged, and is lost"
            if told == "deposed":
                assert not any(is_there), f"append {number} was said not to be there, and is"
        chains = {row.chain for row in rows}
        for leader in self.leaders:
            for chain, verdict in leader.leading.verdicts.items():
                assert (chain in chains) == (verdict is Verdict.DURABLE)
        for disk in self.disks.values():
            assert_is_beginning(read_all(disk), rows)
        return there


def fates_after(
    life: Life, *, names: Collection[str] = ("anna",), without: Collection[str] = ()
) -> Iterator[Fate]:
    """This life's, and one thing more that goes wrong behind what did, with a statement of one of these machines; but
    not with statements of these kinds."""
    places = [place for place, _ in life.places]
    begin = max((places.index(place) for place in life.fate if place in places), default=-1) + 1
    for place, name in life.places[begin:]:
        if place[0] not in names or name in without:
            continue
        for outcome in OUTCOMES_OF[name]:
            if outcome is not Outcome.ANSWERED:
                yield {**life.fate, place: outcome}
