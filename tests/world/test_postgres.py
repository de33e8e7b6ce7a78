"""Servers of the tests' own are gone when who started them is, even one that was killed, with stopped servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.world.postgres import open_servers, require_postgres
from tests.world.process import PATIENCE_SECONDS, wait_until

#: Starts three, stops one, says where they are, and never ends.
STARTS = """
import sys
from tests.world.postgres import open_servers
with open_servers() as servers:
    servers.standbys[0].stop()
    if sys.argv[1] == "nobody's":  # as Patroni's are
        for server in servers.all:
            server._reaper.ended(server._process.pid)
    print(servers.primary.directory.parent, flush=True)
    input()
"""
ROOT = Path(__file__).parent.parent.parent


def processes_in(directory: str) -> list[str]:
    """Whose arguments name it: the first process of each server, from which the others come."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if directory.encode() in words and b"reaper" not in words:
            found.append(path.parent.name)
    return found


def memory_of(directory: Path) -> set[str]:
    """Which segments of shared memory its servers have."""
    return {path.read_text().splitlines()[6].split()[1] for path in directory.glob("*/postmaster.pid")}


def memory() -> set[str]:
    """All of this machine's."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


@pytest.mark.parametrize("whose", ["its", "nobody's"])
def test_a_killed_test_leaves_neither_processes_nor_files_nor_memory(whose: str) -> None:
    require_postgres()
    with subprocess.Popen(
        [sys.executable, "-c", STARTS, whose],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as test:
        assert test.stdout is not None
        directory = test.stdout.readline().strip()
        assert len(processes_in(directory)) == 3
        held = memory_of(Path(directory))
        assert len(held) == 3
        assert held <= memory()
        test.kill()
        test.wait(PATIENCE_SECONDS)
    wait_until(lambda: not Path(directory).exists(), lambda: f"{directory} is gone")
    wait_until(lambda: not processes_in(directory), lambda: f"no process of {directory} is left")
    assert not held & memory()


def test_a_killed_test_leaves_no_program_that_nobody_here_wrote() -> None:
    starts = """
import os, sys
from tests.world.daemon import open_daemon_directory, running
with open_daemon_directory("reaped", owner=os.geteuid()) as directory:
    alone = "import signal; signal.pause()"
    both = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {alone!r}, sys.argv[1]])"
    with running([sys.executable, "-c", both, str(directory)], directory, ready=lambda: True):
        print(directory, flush=True)
        input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", starts], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as test:
        assert test.stdout is not None
        directory = test.stdout.readline().strip()
        wait_until(lambda: len(processes_in(directory)) == 2, lambda: "it and its child run")
        test.kill()
        test.wait(PATIENCE_SECONDS)
    wait_until(lambda: not processes_in(directory), lambda: f"no process of {directory} is left")
    wait_until(lambda: not Path(directory).exists(), lambda: f"{directory} is gone")


def test_a_server_that_is_killed_leaves_no_memory() -> None:
    with open_servers() as servers:
        held = memory_of(servers.primary.directory.parent)
        servers.primary.kill()
        # It goes with the last of the processes that had it, and these are nobody's children any more.
        wait_until(lambda: len(held & memory()) == 2, lambda: "that of the server that was killed is gone")
    wait_until(lambda: not held & memory(), lambda: "that of all three is gone")


def test_a_standby_that_lost_its_primary_follows_the_new_one_and_the_old_one_is_made_anew() -> None:
    with open_servers() as servers:
        old = servers.primary
        new = servers.fail_over()
        assert new is not old
        servers.wait_replicating()
        old.start()
        assert old.execute("SELECT pg_is_in_recovery()") == [(False,)]
        servers.mend()
        assert old.execute("SELECT pg_is_in_recovery()") == [(True,)]
        assert len(servers.senders()) == 2
