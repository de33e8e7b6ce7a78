"""Strip, erase, backup, restore, export, replay, audit and the API: one after the other, and beside each other.

Each has its own tests. Here is what must hold where they meet.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lmdb

from relay.codec import decode
from relay.events import LogStripped
from relay.store import LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.views import PROJECTORS
from spool.verify import verify
from spool.views import MAP_BYTES
from tests.test_retention import names_in
from tests.test_retention_commands import FRIEND, events, relay_with_mail
from tests.world.process import PATIENCE_SECONDS, RelayProcess


def test_an_erasure_while_the_log_is_verified_is_no_damage(tmp_path: Path) -> None:
    """The views were seen before it, the log is folded after it."""

    def then(relay: RelayProcess, ids: list[int]) -> None:
        looks = 0

        def progress(what: str, done: int, total: int) -> None:
            nonlocal looks
            if what != "checking the log" or done != total:
                return
            looks += 1
            if looks <= 2:
                relay.command("log", "erase", "--message", str(ids[looks]), "--reason", "x")

        directory = relay.directory
        log, views = directory / LOG_DIRECTORY, directory / VIEWS_DIRECTORY
        verdict = verify(log, views, PROJECTORS, decode, progress=progress)
        assert verdict.ok, [view for view in verdict.views if not view.ok]
        assert looks > 1
        assert sum(isinstance(event, LogStripped) for event in events(relay)) == min(looks, 2)
        # What differs for good is found, beside a writer as well.
        with lmdb.open(str(views), max_dbs=64, map_size=MAP_BYTES) as env:
            table = env.open_db(b"status_counts")
            with env.begin(write=True, db=table) as txn:
                txn.put(b"sent", (7).to_bytes(8, "big"))
        assert not verify(log, views, PROJECTORS, decode).ok

    relay_with_mail(tmp_path, then)


def test_ctrl_c_in_the_middle_of_an_erasure_is_no_defect_and_the_next_start_does_the_rest(
    tmp_path: Path,
) -> None:
    def then(relay: RelayProcess, ids: list[int]) -> None:
        assert relay.stop() == 0
        # As if the terminal sent it while the first segment is rewritten, by a thread.
        script = (
            "import os, signal, spool.strip, relay.retention\n"
            "spool.strip.RECORDS_PER_PAUSE = 1\n"
            "relay.retention._let_others_work = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
            "from tools.cli import main\n"
            "main()\n"
        )
        words = ["log", "erase", str(relay.directory), "--recipient", FRIEND, "--reason", "x"]
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert done.returncode == 130, done.stderr
        assert "Traceback" not in done.stderr
        relay.start()
        relay.wait_until(lambda: names_in(relay.directory, FRIEND) == [], "erases the rest")
        assert relay.stop() == 0
        relay.command("log", "verify")

    relay_with_mail(tmp_path, then)
