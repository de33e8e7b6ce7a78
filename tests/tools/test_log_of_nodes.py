"""`log` on a log that several machines have."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from spool import open_log
from tests.tools.test_log import data, events, good, run, segments

__all__ = ["data"]


def test_what_other_machines_have_as_well_is_cut_without_a_copy_and_told_to_nobody(data: Path) -> None:
    async def follow() -> None:
        async with open_log(data / "log", follows=True):
            pass

    trio.run(follow)
    before = events("cat", data)
    assert json.loads(good("repair", data, "--json"))["dropped"] is None
    with segments(data)[-1].open("ab") as file:
        file.write(b"half a record")
    assert "log repair" in run("rebuild", data).output
    assert "received again" in run("verify", data).output
    told = good("repair", data)
    assert "Cut 13 bytes of 1 file, from sequence 11 on" in told
    assert "received again" in told
    assert not (data / "log" / "torn").exists()
    assert events("cat", data) == before
    good("rebuild", data)
    good("verify", data)
