"""Reading and changing a table of the views, against a dict of the same pairs, on the real LMDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool.views import Snapshot, Transaction

TABLE = "table"
#: Few letters, so that bounds are often keys, and prefixes of each other; LMDB has no empty keys.
KEYS = st.text("a\0\xff", min_size=1, max_size=3).map(lambda text: text.encode("latin-1"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lmdb.Environment]:
    directory: Path = tmp_path_factory.mktemp("views")
    with lmdb.open(str(directory), max_dbs=1, sync=False) as environment:
        yield environment


@given(pairs=st.dictionaries(KEYS, st.binary(max_size=2), max_size=12), start=KEYS, stop=KEYS)
def test_what_stands_between_two_keys(
    environment: lmdb.Environment, pairs: dict[bytes, bytes], start: bytes, stop: bytes
) -> None:
    table = environment.open_db(TABLE.encode())
    with environment.begin(write=True) as writing:
        writing.drop(table, delete=False)
        tx = Transaction(writing, {TABLE: table})
        for key, value in pairs.items():
            tx.put(TABLE, key, value)
        tx.write()
    between = sorted((key, value) for key, value in pairs.items() if start <= key < stop)

    with environment.begin() as reading:
        view = Snapshot(reading, {TABLE: table})
        assert list(view.scan(TABLE, start, stop)) == between
        assert list(view.scan(TABLE, start, stop, reverse=True)) == between[::-1]
        assert view.last(TABLE, start, stop) == (between[-1] if between else None)
        assert list(view.scan(TABLE)) == sorted(pairs.items())
        assert view.count(TABLE) == len(pairs)
        under = [(key, value) for key, value in sorted(pairs.items()) if key.startswith(start)]
        assert list(view.scan_prefix(TABLE, start)) == under
        assert list(view.scan_prefix(TABLE, start, reverse=True)) == under[::-1]


#: What a projector does, in any order. There may be many, so that what waits is written in large and small pieces.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=2)),
        st.tuples(st.just("put"), KEYS, st.binary(max_size=2)),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("get"), KEYS, st.none()),
        st.tuples(st.sampled_from(["scan", "keys", "last"]), KEYS, KEYS),
        st.tuples(st.just("count"), KEYS, st.none()),
    ),
    max_size=60,
)


@given(before=st.dictionaries(KEYS, st.binary(max_size=2), max_size=12), steps=STEPS)
def test_a_projector_reads_what_was_put_before_and_the_table_is_what_stands_at_the_end(
    environment: lmdb.Environment, before: dict[bytes, bytes], steps: list[tuple[str, bytes, bytes]]
) -> None:
    table = environment.open_db(TABLE.encode())
    with environment.begin(write=True) as writing:
        writing.drop(table, delete=False)
        for key, value in before.items():
            writing.put(key, value, db=table)
    expected = dict(before)
    with environment.begin(write=True) as writing:
        tx = Transaction(writing, {TABLE: table})
        for step, key, more in steps:
            if step == "put":
                tx.put(TABLE, key, more)
                expected[key] = more
            elif step == "delete":
                tx.delete(TABLE, key)
                expected.pop(key, None)
            elif step == "get":
                assert tx.get(TABLE, key) == expected.get(key)
            elif step == "count":
                assert tx.count(TABLE) == len(expected)
            else:
                between = sorted((each, value) for each, value in expected.items() if key <= each < more)
                if step == "scan":
                    assert list(tx.scan(TABLE, key, more)) == between
                elif step == "keys":
                    assert tx.keys(TABLE, key, more) == [each for each, _ in between]
                else:
                    assert tx.last(TABLE, key, more) == (between[-1] if between else None)
        tx.write()
    with environment.begin() as reading:
        assert list(Snapshot(reading, {TABLE: table}).scan(TABLE)) == sorted(expected.items())
