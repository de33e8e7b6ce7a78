"""`atmos-relay log …` on real logs: what it prints, what it refuses, and that reading changes nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cbor2
import lmdb
import pytest
import trio
from click.testing import CliRunner, Result

from relay.codec import encode
from relay.events import (
    MemberAdded,
)
from relay.views import relay_views
from spool import Entry
from spool.segment import FOOTER_BYTES
from tests.world.process import PATIENCE_SECONDS
from tests.world.small_log import DID, HOSTILE, OTHER, STORY, append, append_raw, make, open_small, send
from tools.cli import cli, expected_errors
from tools.output import printable

# --------------------------------------------------------------------------------------------- a data directory


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["log", *map(str, arguments)])


def good(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def events(*arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in good(*arguments, "--json").splitlines()]


def seqs(*arguments: object) -> list[int]:
    return [event["seq"] for event in events(*arguments)]


def files(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Everything there but the lock files: whoever takes a lock, or reads a live LMDB, writes down that it does."""
    return {
        str(path.relative_to(directory)): (
            path.stat().st_mtime_ns,
            b"" if path.is_dir() else path.read_bytes(),
        )
        for path in directory.rglob("*")
        if path.name not in ("lock", "lock.mdb")
    }


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "log").glob("*.seg"))


# ------------------------------------------------------------------------------------------------ inspect, cat


def test_inspect_lists_the_segments(data: Path) -> None:
    found = json.loads(good("inspect", data, "--json"))
    listed = found["segments"]
    assert [row["file"] for row in listed] == [path.name for path in segments(data)]
    assert len(listed) > 1
    assert [row["sealed"] for row in listed] == [True] * (len(listed) - 1) + [False]
    assert sum(row["records"] for row in listed) == found["records"] == 10
    assert [row["bytes"] for row in listed] == [path.stat().st_size for path in segments(data)]
    assert (listed[0]["firstSeq"], listed[-1]["lastSeq"]) == (1, 10)
    assert not any(row["stripped"] for row in listed)
    assert "10 records" in good("inspect", data)


def test_cat_prints_one_object_a_line(data: Path) -> None:
    found = events("cat", data)
    assert [event["seq"] for event in found] == list(range(1, 11))
    assert found[0] == {
        "seq": 1,
        "time": found[0]["time"],
        "type": "member.added",
        "version": 2,
        "did": DID,
        "messageId": None,
        "data": {"did": DID},
    }
    assert found[0]["time"].endswith("Z")
    assert [event["messageId"] for event in found] == [None, None, 3, 4, None, 6, 3, 3, 3, 3]
    assert found[7]["data"]["personal"]["text"] == HOSTILE
    assert found[4]["data"]["personal"]["subject"] == "Grüße"


def test_cat_selects(data: Path) -> None:
    times = [event["time"] for event in events("cat", data)]
    assert seqs("cat", data, "--from", 3, "--to", 5) == [3, 4, 5]
    assert seqs("cat", data, "--from", 9) == [9, 10]
    assert seqs("cat", data, "--from", 11) == []
    assert seqs("cat", data, "--to", 1) == [1]
    for begin in range(10):
        for end in range(begin, 10):
            wanted = [seq + 1 for seq in range(10) if times[begin] <= times[seq] <= times[end]]
            assert seqs("cat", data, "--from", times[begin], "--to", times[end]) == wanted
    assert seqs("cat", data, "--type", "attempt.started", "--type", "message.sent") == [7, 9, 10]
    assert seqs("cat", data, "--did", OTHER) == [5, 6]
    assert seqs("cat", data, "--message", 3) == [2, 3, 7, 8, 9, 10]
    assert seqs("cat", data, "--message", 4) == [2, 4]
    assert seqs("cat", data, "--message", 3, "--type", "attempt.started", "--to", 8) == [7]


def test_times_may_have_any_offset_but_must_have_one(data: Path) -> None:
    time = events("cat", data)[4]["time"]
    assert time.endswith("Z")
    with_offset = f"{time[:11]}{(int(time[11:13]) + 1) % 24:02d}{time[13:-1]}+01:00"
    assert 5 in seqs("cat", data, "--from", with_offset)
    for bad in ("yesterday", "2025-01-07T10:11:12", "-1", "٣"):
        assert run("cat", data, f"--from={bad}").exit_code == 2


def test_there_is_no_such_message(data: Path) -> None:
    for message_id in (2, 11):
        result = run("cat", data, "--message", message_id)
        assert isinstance(result.exception, expected_errors())  # told as a sentence
        assert f"sequence {message_id}" in str(result.exception)


def test_lines_tell_the_story_and_no_stranger_writes_on_the_terminal(data: Path) -> None:
    lines = good("cat", data).splitlines()
    assert len(lines) == 10
    assert all(line.isprintable() for line in lines)
    assert 'sends to 2 recipients from me@yourdomain.com: "Hello" (bulk)' in lines[1]
    assert lines[2].endswith(f"message 3 to r1@example.org is queued (bulk, for {DID})")
    assert lines[4].endswith('"Grüße" (bulk)')
    assert "message 3: deferred (spam_block) at attempt 1, mx.example.org: 451 4.7.1" in lines[7]
    assert r"later\x1b[2J\r\n      9  message.sent\x9b2J\u202e\\x1b" in lines[7]
    assert lines[9].endswith("message 3: sent at attempt 2 in the clear, mx.example.org: 250")
    assert all(line.isascii() and line.isprintable() for line in good("cat", data, "--json").splitlines())


def test_printable_says_the_same_of_no_two_texts() -> None:
    texts = ["\x1b", "\\x1b", "\\\\x1b", "\n", "\\n", "\x85", "\u2028", "é", "\U0001f600", "\udcff"]
    assert len({printable(text) for text in texts}) == len(texts)
    assert printable("é 😀") == "é 😀"


def test_events_of_a_newer_relay_and_no_events_at_all_are_shown_raw(tmp_path: Path) -> None:
    strange = {
        "type": "moon.landed",
        "v": 7,
        "did": DID,
        "bytes": b"\x01\xff",
        "nan": float("nan"),
        5: [None, True],
    }
    data = make(
        tmp_path / "data",
        STORY[:1],
        [
            Entry(cbor2.dumps(strange)),
            Entry(cbor2.dumps({"type": "message.sent", "v": 99, "message_id": "x"})),
            Entry(b"\xff not CBOR \x1b[2J"),
            Entry(cbor2.dumps([1, 2])),
        ],
    )
    found = events("cat", data)
    assert found[1]["type"] == "moon.landed"
    assert found[1]["version"] == 7
    assert found[1]["did"] == DID
    assert found[1]["data"] == {"did": DID, "bytes": "01ff", "nan": "nan", "5": [None, True]}
    assert found[2]["messageId"] is None
    assert [event["type"] for event in found[3:]] == ["(not an event)"] * 2
    lines = good("cat", data).splitlines()
    assert "version 7" in lines[1]
    assert all(line.isprintable() for line in lines)
    verdict = json.loads(run("verify", data, "--json").output)
    assert verdict["problems"] == []  # nothing is wrong with the bytes


def test_what_is_whole_is_printed_before_the_damage_is_told(data: Path) -> None:
    damage(segments(data)[1], 100)
    result = run("cat", data, "--json")
    assert isinstance(result.exception, expected_errors())
    assert [json.loads(line)["seq"] for line in result.output.splitlines()] == list(
        range(1, int(segments(data)[1].stem))
    )


# ------------------------------------------------------------------------------------------------ tail


def test_tail_prints_the_last_ones(data: Path) -> None:
    assert seqs("tail", data) == list(range(1, 11))
    assert seqs("tail", data, "--lines", 3) == [8, 9, 10]
    assert seqs("tail", data, "-n", 0) == []
    assert seqs("tail", data, "-n", 100) == list(range(1, 11))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "relay", "log", *map(str, arguments)]


async def read_line(stream: trio.abc.ReceiveStream, rest: bytearray) -> bytes:
    while b"\n" not in rest:
        rest += await stream.receive_some()
    line, _, after = bytes(rest).partition(b"\n")
    rest[:] = after
    return line


def test_tail_follows_a_live_log_across_rotations_until_ctrl_c(data: Path) -> None:
    async def main() -> None:
        async with open_small(data) as log:
            with trio.fail_after(PATIENCE_SECONDS):
                process = await trio.lowlevel.open_process(
                    command("tail", data, "-f", "-n", 1, "--json"), stdout=subprocess.PIPE
                )
                assert process.stdout is not None
                rest = bytearray()
                assert json.loads(await read_line(process.stdout, rest))["seq"] == 10
                before = len(segments(data))
                for number in range(8):
                    await append(log, send(subject=f"Number {number}" * 30))
                    for _ in range(2):
                        event = json.loads(await read_line(process.stdout, rest))
                    assert event["seq"] == log.last_seq
                assert len(segments(data)) > before + 2
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 0

    trio.run(main)


def test_tail_ends_quietly_with_whoever_reads_it(data: Path) -> None:
    """Even when nothing is ever written any more."""

    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            process = await trio.lowlevel.open_process(
                command("tail", data, "-f", "-n", 1), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            assert process.stdout is not None
            assert process.stderr is not None
            await read_line(process.stdout, bytearray())
            await process.stdout.aclose()
            assert await process.wait() == 0
            assert await process.stderr.receive_some() == b""

    trio.run(main)


def test_cat_ends_quietly_with_whoever_reads_it(tmp_path: Path) -> None:
    data = make(tmp_path / "data", [send(subject="long " * 200) for _ in range(80)])  # more than a pipe holds
    process = subprocess.Popen(command("cat", data, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


# ------------------------------------------------------------------------------------------------ verify


def damage(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    path.write_bytes(content)


def tear(data: Path) -> None:
    """Leave another batch half written behind what the views have seen, as a crash would."""
    trio.run(append_raw, data, [encode(MemberAdded(did=OTHER))])
    path = segments(data)[-1]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 30)


def test_verify_of_a_good_directory(data: Path) -> None:
    verdict = json.loads(good("verify", data, "--json"))
    assert verdict["ok"] is True
    assert verdict["records"] == 10
    assert verdict["problems"] == []
    names = [view["name"] for view in verdict["views"]]
    assert names == ["meta", *relay_views(data / "views").table_names]
    assert all(view["ok"] for view in verdict["views"])
    assert "nothing is damaged" in good("verify", data)


def test_verify_names_the_damage_and_exits_1(data: Path) -> None:
    path = segments(data)[0]
    damage(path, path.stat().st_size - FOOTER_BYTES + 20)
    result = run("verify", data, "--json")
    assert result.exit_code == 1
    verdict = json.loads(result.output)
    assert verdict["ok"] is False
    (problem,) = verdict["problems"]
    assert problem["file"] == path.name
    assert problem["offset"] == path.stat().st_size - FOOTER_BYTES
    assert problem["seq"] == int(segments(data)[1].stem)
    assert problem["part"] == "footer"
    result = run("verify", data)
    assert result.exit_code == 1
    assert (
        f"segment {path.name} offset {problem['offset']} sequence {problem['seq']}, footer: " in result.output
    )


def test_verify_names_the_view_that_differs(data: Path) -> None:
    with lmdb.open(str(data / "views"), max_dbs=64, map_size=1 << 26) as env:
        db = env.open_db(b"status_counts")
        with env.begin(write=True, db=db) as txn:
            txn.put(b"sent", (7).to_bytes(8, "big"))
    result = run("verify", data, "--json")
    assert result.exit_code == 1
    verdict = json.loads(result.output)
    assert verdict["problems"] == []
    (view,) = [view for view in verdict["views"] if not view["ok"]]
    assert view["name"] == "status_counts"
    assert b"sent".hex() in view["problem"]
    assert "log rebuild" in run("verify", data).output
    good("rebuild", data)
    good("verify", data)


def test_verify_says_torn(data: Path) -> None:
    tear(data)
    result = run("verify", data, "--json")
    assert result.exit_code == 1
    (problem,) = json.loads(result.output)["problems"]
    assert "torn" in problem["problem"]
    assert problem["seq"] == 11


def test_verify_beside_a_writer(data: Path) -> None:
    """In a process of its own, while another appends all the time."""

    async def main() -> None:
        async with open_small(data) as log, trio.open_nursery() as nursery:

            async def write() -> None:
                while True:
                    await append(log, send(subject="busy " * 40))

            nursery.start_soon(write)
            with trio.fail_after(PATIENCE_SECONDS):
                for _ in range(2):
                    answer = await trio.run_process(
                        command("verify", data, "--json"), capture_stdout=True, check=False
                    )
                    verdict = json.loads(answer.stdout)
                    assert (answer.returncode, verdict["ok"], verdict["problems"]) == (0, True, [])
                    assert verdict["records"] >= 10
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_reading_changes_nothing_and_works_on_a_read_only_copy(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("lock.mdb", "lock"))
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = files(copy)
    for arguments in (
        ["inspect"],
        ["cat"],
        ["cat", "--message", "3"],
        ["tail"],
        ["verify"],
        ["verify", "--json"],
    ):
        good(arguments[0], copy, *arguments[1:])
    assert files(copy) == before
    assert not list(copy.rglob("lock*"))


# ------------------------------------------------------------------------------------------------ rebuild, repair


def test_rebuild_gives_equal_views(data: Path) -> None:
    told = good("rebuild", data)
    assert "10 records" in told
    assert told.count("equal") == len(relay_views(data / "views").table_names) + 1
    assert "differs" not in told
    shutil.rmtree(data / "views")
    assert "absent" in good("rebuild", data)
    good("verify", data)
    assert not (data / "views.new").exists()


def test_rebuild_and_repair_refuse_while_a_relay_runs(data: Path) -> None:
    async def main() -> None:
        async with open_small(data):
            before = files(data)
            for name in ("rebuild", "repair"):
                result = await trio.to_thread.run_sync(run, name, data)
                assert isinstance(result.exception, expected_errors())
                assert "another process (a relay, or a command such as log erase) holds" in str(
                    result.exception
                )
            assert files(data) == before

    trio.run(main)


def test_rebuild_keeps_the_only_witness_of_a_damaged_log(data: Path) -> None:
    """Without the old views the damage at the end would look torn, and be cut."""
    path = segments(data)[-1]
    damage(path, path.stat().st_size - 1)
    before = files(data)
    result = run("rebuild", data)
    assert isinstance(result.exception, expected_errors())
    assert files(data) == before
    verdict = json.loads(run("verify", data, "--json").output)
    assert not any("torn" in problem["problem"] for problem in verdict["problems"])


def test_rebuild_leaves_the_old_views_where_an_event_is_unknown(tmp_path: Path) -> None:
    data = make(tmp_path / "data", STORY[:1], [Entry(cbor2.dumps({"type": "moon.landed", "v": 1}))])
    before = files(data)
    result = run("rebuild", data)
    assert "moon.landed" in str(result.exception)
    assert files(data) == before
    assert not (data / "views.new").exists()


def test_repair_cuts_a_torn_tail_and_keeps_a_copy(data: Path) -> None:
    tear(data)
    assert "log repair" in run("rebuild", data).output
    torn = segments(data)[-1].read_bytes()
    told = good("repair", data)
    (copy,) = (data / "log" / "torn").iterdir()
    assert str(copy) in told
    assert torn.endswith(copy.read_bytes())
    assert f"Cut {copy.stat().st_size} bytes" in told
    assert "cannot be ruled out" not in told
    good("verify", data)
    assert "Nothing is torn" in good("repair", data)


def test_repair_says_when_loss_cannot_be_ruled_out(data: Path) -> None:
    tear(data)
    shutil.rmtree(data / "views")
    assert "cannot be ruled out" in good("repair", data)
    told = events("cat", data)[-1]
    assert (told["type"], told["data"]["loss_ruled_out"]) == ("log.torn_tail_cut", False)


def test_repair_refuses_everything_else_and_changes_nothing(data: Path) -> None:
    for path, offset in (
        (segments(data)[0], 200),
        (segments(data)[-1], segments(data)[-1].stat().st_size - 1),
    ):
        damage(path, offset)
        before = files(data)
        result = run("repair", data)
        assert result.exit_code == 1
        assert f"segment {path.name} offset" in result.output
        assert "nothing was changed" in result.output
        assert files(data) == before
        damage(path, offset)


def test_a_directory_without_a_log_is_told_in_a_sentence(tmp_path: Path) -> None:
    for name in ("inspect", "cat", "tail", "verify", "rebuild", "repair"):
        result = run(name, tmp_path)
        assert result.exit_code == 1
        assert "holds no log" in result.output
        assert list(tmp_path.iterdir()) == []
        assert run(name).exit_code == 2
