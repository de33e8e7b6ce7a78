"""Reading a table of the views, against a sorted list of the same pairs, on the real LMDB."""

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
        for key, value in pairs.items():
            Transaction(writing, {TABLE: table}).put(TABLE, key, value)
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
