"""Who minds which events: each projector says it (`minds`), and is asked for no others.

A projector that minded an event and did not say so would be passed over in silence, and its tables would be a lie. So
what they say is held against what they do, with events of each class; and whole histories are folded once more as
plainly as can be: each projector is given each event, and each row is written at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest
from hypothesis import given

from relay.codec import Recorded, decode
from relay.events import EVENT_TYPES, Content, Event, RecipientSuppressed, SendAccepted
from relay.views import PROJECTORS
from relay.views.stream import StreamProjector
from spool.record import Record
from spool.views import Projector, Snapshot, Transaction
from spool.views.projecting import Minding
from spool.views.snapshot import MAP_BYTES, TABLES_MAX
from tests.golden_events.literals import EVENTS
from tests.world.folding import digests_at_once
from tests.world.histories import histories, repeatable_and_few
from tests.world.history_views import History, records_of


def some_of(kind: type[Event]) -> Iterator[Event]:
    """With a value in every field, as the newest version has it; then with each field as it is at its least, one at a
    time: which events of its class a projector minds may hang on any of them."""
    full = EVENTS[kind.TYPE, kind.VERSION]
    yield full
    for field in msgspec.structs.fields(kind):
        value = getattr(full, field.name)
        if field.default is not msgspec.NODEFAULT:
            yield msgspec.structs.replace(full, **{field.name: field.default})
        elif isinstance(value, int):
            yield msgspec.structs.replace(full, **{field.name: 0})
    if isinstance(full, SendAccepted):
        own = Content(from_address="ann@member.example", headers=[("Message-ID", "<1@member.example>")])
        yield msgspec.structs.replace(full, personal=own)
    if isinstance(full, RecipientSuppressed):
        yield msgspec.structs.replace(full, reason="unsubscribe")


class Touched(Exception):
    """The projector has asked for a row, or would change one."""


class Untouchable:
    """In place of a transaction."""

    def __getattr__(self, name: str) -> Any:
        raise Touched(name)


def does_nothing_with(projector: Projector[Recorded], event: Event) -> bool:
    try:
        projector.apply(Untouchable(), Recorded(448, 1_764_000_000_000_000, event))  # type: ignore[arg-type]
    except Touched:
        return False
    return True


@pytest.mark.parametrize("projector", PROJECTORS, ids=lambda projector: projector.name)
@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=lambda kind: kind.TYPE)
def test_a_projector_does_nothing_with_events_that_it_does_not_mind(
    projector: Projector[Recorded], kind: type[Event]
) -> None:
    if not issubclass(kind, projector.minds):
        assert all(does_nothing_with(projector, event) for event in some_of(kind))


@pytest.mark.parametrize("projector", PROJECTORS, ids=lambda projector: projector.name)
def test_each_class_that_a_projector_names_is_one_that_it_minds(projector: Projector[Recorded]) -> None:
    """Or the test above would hold of a projector that names all there are."""
    for named in projector.minds:
        kinds = [kind for kind in EVENT_TYPES.values() if issubclass(kind, named)]
        events = [event for kind in kinds for event in some_of(kind)]
        assert not all(does_nothing_with(projector, event) for event in events), named


def test_an_event_goes_to_who_minds_it_in_the_order_of_the_projectors() -> None:
    minding = Minding(PROJECTORS)
    for kind in EVENT_TYPES.values():
        expected = [projector.apply for projector in PROJECTORS if issubclass(kind, projector.minds)]
        assert list(minding[kind]) == expected
    assert StreamProjector.name not in [apply.__self__.name for apply in minding[Event]]  # type: ignore[attr-defined]


class AtOnce(Transaction):
    """As a transaction would be that keeps nothing in memory."""

    def put(self, table: str, key: bytes, value: bytes) -> None:
        super().put(table, key, value)
        self.write()

    def delete(self, table: str, key: bytes) -> None:
        super().delete(table, key)
        self.write()


def folded_plainly(directory: Path, records: Sequence[Record]) -> dict[str, str]:
    with lmdb.open(str(directory), map_size=MAP_BYTES, max_dbs=TABLES_MAX, sync=False) as env:
        tables = {
            table: env.open_db(table.encode()) for projector in PROJECTORS for table in projector.tables
        }
        for record in records:
            with env.begin(write=True) as txn:
                for projector in PROJECTORS:
                    projector.apply(AtOnce(txn, tables), decode(record))
        with env.begin() as txn:
            return {table: Snapshot(txn, tables).digest(table) for table in tables}


@repeatable_and_few
@given(histories())
def test_as_if_each_projector_saw_each_event_and_wrote_at_once(
    tmp_path_factory: pytest.TempPathFactory, history: History
) -> None:
    records = records_of(history)
    plainly = folded_plainly(tmp_path_factory.mktemp("plainly"), records)
    assert digests_at_once(records).items() >= plainly.items()
