"""`atmos-relay log …` on a log that other machines have as well: what is not whole at its end is not lost."""

from __future__ import annotations

import json
from pathlib import Path

import trio
from click.testing import CliRunner, Result

from spool import open_log
from tests.world.small_log import make
from tools.cli import cli


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["log", *map(str, arguments)])


def good(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_it_is_cut_without_a_copy_and_told_to_nobody(tmp_path: Path) -> None:
    data = make(tmp_path / "data")

    async def follow() -> None:
        async with open_log(data / "log", follows=True):
            pass

    trio.run(follow)
    before = good("cat", data)
    assert json.loads(good("repair", data, "--json"))["dropped"] is None
    with max((data / "log").glob("*.seg")).open("ab") as file:
        file.write(b"half a record")
    assert "log repair" in run("rebuild", data).output
    assert "received again" in run("verify", data).output
    told = good("repair", data)
    assert "Cut 13 bytes of 1 file, from sequence 11 on" in told
    assert "received again" in told
    assert not (data / "log" / "torn").exists()
    assert good("cat", data) == before
    good("rebuild", data)
    good("verify", data)
