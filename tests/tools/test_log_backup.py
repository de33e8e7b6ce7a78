"""`log backup`, `log restore` and `log export`: as an operator meets them, on real directories."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.events import AttemptInterrupted, MemberAdded
from relay.file_names import LOG_DIRECTORY
from spool import LogReader, Record
from tests.world.operator import answer, command, good
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import open_world, run
from tests.world.small_log import DID, STORY, append, make, open_small
from tools.cli import expected_errors
from tools.log.event_text import as_json, show
from tools.log.export import without_personal_data

DOCS = Path(__file__).parent.parent.parent / "docs" / "BACKUP.md"


def refused(*arguments: object) -> str:
    """The sentence that is said."""
    result = command(*arguments)
    if isinstance(result.exception, SystemExit):
        assert result.exit_code == 1
        return result.output
    assert isinstance(result.exception, expected_errors()), result.exception
    return str(result.exception)


def records(directory: Path) -> list[Record]:
    with LogReader(directory / LOG_DIRECTORY) as reader:
        return list(reader.read(1))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def modes(directory: Path) -> set[str]:
    paths = [directory, *directory.rglob("*")]
    return {("d" if path.is_dir() else "f") + f"{stat.S_IMODE(path.stat().st_mode):04o}" for path in paths}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory with a log and views, and nothing else."""
    return make(tmp_path / "data")


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """A whole data directory: a message was sent, one was being tried when the relay died, one waits."""

    async def main() -> None:
        async with open_world(tmp_path / "busy", stop=False) as world:
            await world.until_final(await world.send())
            await world.until(await world.send(to="tempfail-9@example.com"), "deferred")
            await world.send(to="hang-after-dot-1@example.com")
            await wait_all_tasks_blocked()
            # Beside the running relay, which does not notice.
            before = world.core.store.last_seq
            assert answer("log", "backup", tmp_path / "busy", tmp_path / "backup")["lastSeq"] == before

    run(main)
    return tmp_path / "busy"


# ------------------------------------------------------------------------------------------ backup and restore


def test_what_is_restored_is_what_was_backed_up(busy: Path, tmp_path: Path) -> None:
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    told = answer("log", "backup", busy, backup)
    assert told["secrets"] is True
    assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.\d{6}Z", told["madeAt"])
    back = answer("log", "restore", backup, restored)
    assert back["ok"]
    assert back["waiting"] == 2
    assert (back["lastSeq"], back["records"]) == (told["lastSeq"], told["lastSeq"])
    assert records(restored) == records(busy)[: told["lastSeq"]]
    for name in ("relay.toml", "pepper", *(str(key.relative_to(busy)) for key in busy.glob("keys/*/*.pem"))):
        assert (restored / name).read_bytes() == (busy / name).read_bytes()
    assert modes(backup) == modes(restored) == {"d0700", "f0600"}
    assert "not empty" in refused("log", "restore", backup, restored)
    assert not list(restored.glob("restore.*"))


def test_modes_do_not_depend_on_the_umask(data: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        good("log", "backup", data, tmp_path / "backup")
        good("log", "restore", tmp_path / "backup", tmp_path / "restored")
    finally:
        os.umask(before)
    assert modes(tmp_path / "backup") == modes(tmp_path / "restored") == {"d0700", "f0600"}


def test_a_restored_relay_sends_what_waited(busy: Path, tmp_path: Path) -> None:
    told = good("log", "restore", tmp_path / "backup", tmp_path / "restored")
    assert "2 messages are waiting" in told
    assert "--hold" in told

    async def main() -> None:
        async with open_world(tmp_path / "restored", enrol=False) as world:
            assert sum(isinstance(event, AttemptInterrupted) for event in world.events()) == 1
            await trio.sleep(86_400)
            assert {message.rcpt_to for message in world.mx.messages} >= {("hang-after-dot-1@example.com",)}

    run(main)


def test_held_mail_is_kept_back_until_it_is_released(busy: Path, tmp_path: Path) -> None:
    restored = tmp_path / "restored"
    told = good("log", "restore", tmp_path / "backup", restored, "--hold")
    assert "2 messages are held" in told

    async def main() -> None:
        async with open_world(restored, enrol=False) as world:
            await trio.sleep(86_400)
            assert world.mx.commands == []
            queue = await world.command("queue_list")
            assert sum(site["held"] for site in queue["sites"]) == 2
            await world.command("queue_release", by="root", everything=True)
            queue = await world.command("queue_list")
            assert sum(site["held"] for site in queue["sites"]) == 0

    run(main)


def test_nothing_is_sent_before_a_restore_that_holds_has_held(
    busy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore that is broken off when all files are there and the mail is not held yet must be gone on with."""
    backup, restored = tmp_path / "backup", tmp_path / "restored"

    async def broken_off(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("relay.operator.queue_orders.queue_hold", broken_off)
        assert command("log", "restore", backup, restored, "--hold").exit_code != 0
    before = contents(restored)
    for words in (
        ["serve"],
        ["queue", "hold", "--all", "--reason", "x"],
        ["log", "rebuild"],
        ["log", "repair"],
    ):
        group, *rest = words
        words = [group, restored] if group == "serve" else [group, rest[0], restored, *rest[1:]]
        assert "has not ended" in refused(*words), words
    assert contents(restored) == before
    assert answer("log", "restore", backup, restored, "--hold")["held"]
    assert not list(restored.glob("restore.*"))
    assert sum(site["held"] for site in answer("queue", "list", restored)["sites"]) == 2
    assert answer("log", "verify", restored)["ok"]


def test_a_full_disk_under_the_views_is_a_sentence(busy: Path, tmp_path: Path) -> None:
    """LMDB's errors are nobody else's. A limit of the file size stands for the disk: the log is smaller than it."""
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    script += "from tools.cli import main; main()"
    words = ["log", "restore", str(tmp_path / "backup"), str(tmp_path / "restored"), "--hold"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Is the disk full?" in done.stderr
    assert "2 messages are held" in good(*words)


def test_only_what_has_changed_is_copied(data: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    first = answer("log", "backup", data, backup)
    assert first["kept"] == 0
    inodes = {path.name: path.stat().st_ino for path in (backup / "log").iterdir()}

    async def main() -> None:
        async with open_small(data) as log:
            for batch in STORY[1:4]:
                await append(log, batch)

    trio.run(main)
    second = answer("log", "backup", data, backup)
    assert second["kept"] == len(inodes) - 1
    assert second["lastSeq"] > first["lastSeq"]
    after = {path.name: path.stat().st_ino for path in (backup / "log").iterdir()}
    changed = {name for name in after if after[name] != inodes.get(name)}
    assert {f"log/{name}" for name in changed} == set(second["copied"])
    assert sorted(inodes)[-1] in changed
    third = answer("log", "backup", data, backup)
    assert (third["copied"], third["bytesCopied"]) == ([], 0)
    assert "unchanged" in good("log", "backup", data, backup)


def test_the_data_directory_is_only_read(data: Path, tmp_path: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in data.rglob("*")}
    good("log", "backup", data, tmp_path / "backup")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in data.rglob("*")} == before


def test_secrets_can_be_left_out(busy: Path, tmp_path: Path) -> None:
    public, restored = tmp_path / "public", tmp_path / "restored"
    told = good("log", "backup", busy, public, "--without-secrets")
    assert "holds no secrets" in told
    assert not (public / "keys").exists()
    assert not (public / "pepper").exists()
    good("log", "verify", public)
    assert "no secrets" in refused("log", "restore", public, restored, "--hold")
    assert not restored.exists()
    assert "cannot be served before" in good("log", "restore", public, restored)
    assert "holds secrets already" in refused("log", "backup", busy, tmp_path / "backup", "--without-secrets")


def test_places_that_make_no_sense_are_refused(data: Path, tmp_path: Path) -> None:
    before = contents(data)
    assert "is inside of" in refused("log", "backup", data, data / "backup")
    assert "is inside of" in refused("log", "backup", data, data)
    (tmp_path / "link").symlink_to(data)
    assert "is inside of" in refused("log", "backup", data, tmp_path / "link" / "backup")
    assert "not empty, and no backup" in refused("log", "backup", data, tmp_path)
    assert "holds no log" in refused("log", "backup", tmp_path / "nothing", tmp_path / "backup")
    assert "no manifest" in refused("log", "restore", data, tmp_path / "restored")
    assert contents(data) == before
    assert not (tmp_path / "restored").exists()
    good("log", "backup", data, tmp_path / "backup")
    other = make(tmp_path / "other", [[MemberAdded(did="did:plc:zzzzzzzzzzzzzzzzzzzzzzzz")]] * 12)
    assert "another log" in refused("log", "backup", other, tmp_path / "backup")
    good("log", "verify", tmp_path / "backup")


def test_a_backup_is_not_served(busy: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    before = contents(backup)
    for words in (
        ["serve", backup],
        ["queue", "hold", backup, "--all", "--reason", "x"],
        ["log", "rebuild", backup],
        ["log", "repair", backup],
    ):
        assert "is a backup" in refused(*words)
    assert contents(backup) == before
    good("queue", "list", backup)


def test_damage_in_a_backup_is_found_and_named(data: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    good("log", "backup", data, backup)
    good("log", "verify", backup)
    victim = sorted((backup / "log").glob("*.seg"))[1]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:150] + bytes([whole[150] ^ 4]) + whole[151:])
    result = command("log", "verify", backup)
    assert result.exit_code == 1
    assert f"segment {victim.name} offset" in result.output
    assert f"{victim} is damaged: its SHA-256" in result.output
    report = json.loads(command("log", "verify", backup, "--json").stdout)
    assert not report["ok"]
    assert {problem["file"] for problem in report["problems"]} == {victim.name, f"log/{victim.name}"}
    assert victim.name in refused("log", "restore", backup, tmp_path / "restored")
    # Gone on with, once the file is put right: without it the next run copies it anew.
    victim.unlink()
    assert answer("log", "backup", data, backup)["copied"] == [f"log/{victim.name}"]
    good("log", "verify", backup)
    assert "unfinished restore" in refused("log", "restore", backup, tmp_path / "restored")
    good("log", "restore", backup, tmp_path / "again")


def test_a_full_disk_is_named(data: Path) -> None:
    told = refused("log", "backup", data, "/dev/full/backup")
    assert "/dev/full" in told


@pytest.mark.parametrize("reading", [("log", "cat"), ("log", "inspect"), ("log", "tail"), ("log", "verify")])
def test_reading_commands_work_on_a_backup_and_change_nothing(
    data: Path, tmp_path: Path, reading: tuple[str, ...]
) -> None:
    backup = tmp_path / "backup"
    good("log", "backup", data, backup)
    before = contents(backup)
    told = good(*reading, backup)
    if reading != ("log", "verify"):
        assert told == good(*reading, data)
    assert contents(backup) == before


def test_progress_is_for_terminals(data: Path, tmp_path: Path) -> None:
    result = command("log", "backup", data, tmp_path / "backup")
    assert result.stderr == ""
    leader, follower = os.openpty()
    shown = subprocess.Popen(
        [sys.executable, "-m", "relay", "log", "backup", str(data), str(tmp_path / "other")],
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    assert shown.wait(PATIENCE_SECONDS) == 0
    os.close(follower)
    assert b"backing up: 100 %" in os.read(leader, 65536)
    os.close(leader)


#: The command, but that it is killed (-9) when it is about to sync for the so manyth time.
KILLED_AT_SYNC = """
import os, signal, sys

sync = os.fsync
left = int(sys.argv.pop(1))

def fsync(handle):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(handle)

os.fsync = fsync
from tools.cli import main

main()
"""
SYNCS = 16


def test_runs_that_are_always_killed_get_to_the_end(tmp_path: Path) -> None:
    """None of them lives long enough to do it all, so one must go on where the one before it was killed."""
    data = make(tmp_path / "data", STORY + [[MemberAdded(did=DID)] * 5] * 40)
    assert len(list((data / "log").glob("*.seg"))) > SYNCS
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    assert kill_until_done("backup", data, backup) >= 1
    good("log", "verify", backup)
    assert kill_until_done("restore", backup, restored) >= 1
    assert records(restored) == records(data)


def kill_until_done(name: str, source: Path, target: Path) -> int:
    """How many runs were killed."""
    for kills in range(20):
        done = subprocess.run(
            [sys.executable, "-c", KILLED_AT_SYNC, str(SYNCS), "log", name, str(source), str(target)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        if done.returncode == 0:
            return kills
        assert done.returncode == -signal.SIGKILL, done.stderr
    raise AssertionError(f"{name} never ends")


# ------------------------------------------------------------------------------------------------------ export


def test_export_prints_what_cat_does(data: Path) -> None:
    for options in ([], ["--type", "message.queued"], ["--message", "3"], ["--from", "4", "--to", "7"]):
        assert good("log", "export", data, *options) == good("log", "cat", data, *options, "--json")


@pytest.mark.parametrize("options", [[], ["--type", "message.queued"], ["--message", "3"], ["--did", DID]])
def test_an_export_goes_on_behind_its_last_whole_line(data: Path, tmp_path: Path, options: list[str]) -> None:
    expected = good("log", "cat", data, *options, "--json").encode()
    output = tmp_path / "events.jsonl"
    # Cut at every line end, and around each.
    ends = [0, *(match.end() for match in re.finditer(b"\n", expected))]
    for cut in sorted(
        {max(end + by, 0) for end in ends for by in (-1, 0, 1, 40) if end + by <= len(expected)}
    ):
        output.write_bytes(expected[:cut])
        good("log", "export", data, *options, "--output", output)
        assert output.read_bytes() == expected, cut
    output.unlink()
    good("log", "export", data, *options, "--output", output)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert output.read_bytes() == expected


def test_an_export_into_a_strange_file_is_refused(data: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", [[MemberAdded(did="did:plc:zzzzzzzzzzzzzzzzzzzzzzzz")]] * 12)
    output = tmp_path / "events.jsonl"
    good("log", "export", other, "--output", output)
    strange = [
        output.read_bytes(),
        b"a letter\n",
        b"a letter",
        b'{"seq": 1}\n',
        b"[]\n",
        b'{"seq": 99}\n',
        b"\0\n",
    ]
    for content in strange:
        output.write_bytes(content)
        assert "does not end with an event of this log" in refused(
            "log", "export", data, "--output", output
        ), content
        assert output.read_bytes() == content
    output.unlink()
    good("log", "export", data, "--output", output, "--type", "message.sent")
    assert "does not end" in refused("log", "export", data, "--output", output, "--type", "attempt.started")


def test_a_stripped_payload_is_shown_as_such_and_can_be_gone_on_behind(data: Path, tmp_path: Path) -> None:
    record = next(record for record in records(data) if record.payload is not None)
    before = as_json(show(record))
    after = as_json(show(record._replace(payload=None, stripped=True)))
    assert json.loads(after)["stripped"] is True
    assert "stripped" not in json.loads(before)
    assert without_personal_data(before) == without_personal_data(after)


def test_an_export_that_nobody_reads_is_quiet(data: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m relay log export {data} | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


# --------------------------------------------------------------------------------------------------- the manual


def test_the_manual_tells_what_works(busy: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) >= 10
    (tmp_path / "backup").rename(tmp_path / "relay")
    (tmp_path / "backup").mkdir()
    for line in lines:
        program, *words = line.split()
        assert program == "atmos-relay"
        places = {"/srv/relay": busy, "/srv/restored": tmp_path / "restored"}
        named = [str(places.get(word, word.replace("/backup/", f"{tmp_path}/backup/"))) for word in words]
        result = command(*named)
        # `doctor` finds what is to be found on a machine that is no mail server.
        assert result.exit_code == 0 or words[0] == "doctor", (line, result.output, result.exception)
