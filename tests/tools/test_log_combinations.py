"""Strip, erase, backup, restore, export, replay, audit and the API: one after the other, and beside each other.

Each has its own tests. Here is what must hold where they meet.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import lmdb
import trio

from relay.codec import decode
from relay.events import LogStripped
from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.views import PROJECTORS
from spool.verify.verify import verify
from spool.views import MAP_BYTES
from tests.world.directories import names_in
from tests.world.erasing import FRIEND, erase, events, relay_with_mail
from tests.world.operator import answer, good
from tests.world.process import PATIENCE_SECONDS, RelayProcess
from tests.world.relay import DOMAIN, World, open_world, run
from tools.log.export import without_personal_data


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
            "import os, signal, spool.erasure, spool.strip\n"
            "spool.strip.RECORDS_PER_PAUSE = 1\n"
            "spool.erasure._let_others_work = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
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


def test_a_message_is_looked_at_from_everywhere_before_and_after_its_erasure(tmp_path: Path) -> None:
    """Backup, export, replay, diff, audit, the API as of then, and what is restored, of messages erased since:
    what happened is told as before, and nobody's data are in it, nor left behind anywhere."""
    directory, backup, old_backup, export = (tmp_path / name for name in ("data", "backup", "old", "export"))
    # A bounce that does not suppress: a suppression that holds keeps its address.
    friend, gone, secret = "tempfail-1@friend.example", "blocklisted@friend.example", "Only for you"
    texts = (friend, gone, secret)
    moments: list[int] = []
    ids: list[int] = []
    told: dict[str, Any] = {}

    async def main() -> None:
        async with open_world(directory) as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="owner@elsewhere.example")
            ids.append(await world.send(to=friend, subject=secret))
            await world.until(ids[0], "deferred")
            moments.append(world.core.store.last_seq)
            ids.append(await world.send(to=gone, subject=secret))
            _, shared = await world.post_send(to=[friend, "other@example.com"], subject="For both")
            ids.extend(entry["messageId"] for entry in shared["accepted"])
            for message_id in ids:
                await world.until_final(message_id)
            await trio.sleep(3600)
            moments.append(world.core.store.last_seq)

            before = await look(world)
            good("log", "backup", directory, backup)
            good("log", "backup", directory, old_backup)
            good("log", "export", directory, "--output", export)
            for address in (friend, gone):
                assert (await erase(world, recipient=address))["stillNamed"] == {}
            after = await look(world)
            assert bare(after) == bare(before)
            assert not any(text in json.dumps(after) for text in texts)
            assert all(text in json.dumps(before) for text in texts)
            told["after"] = after

    async def look(world: World) -> dict[str, Any]:
        asked = {f"/v1/messages/{i}?asOf={m}" for i in ids for m in moments if i < m}
        answers = {path: await world.request("GET", path) for path in sorted(asked)}
        assert {status for status, _, _ in answers.values()} == {200}
        status, page, _ = await world.request("GET", "/v1/events?limit=1000")
        assert status == 200
        return {
            "asOf": {path: answer for path, (_, answer, _) in answers.items()},
            "events": page["events"],
            **read(directory),
        }

    def read(directory: Path) -> dict[str, Any]:
        views = [
            word for view in ("messages", "due", "statuses", "days", "counters") for word in ("--view", view)
        ]
        return {
            "replay": [answer("log", "replay", directory, "--until", m, *views) for m in moments],
            "diff": answer("log", "diff", directory, *moments),
            "audit": [told_by_audit(directory, message_id) for message_id in ids],
        }

    run(main)
    # The export goes on behind what it has; a new one has the same events.
    good("log", "export", directory, "--output", export)
    good("log", "export", directory, "--output", tmp_path / "new")
    lines = [path.read_text().splitlines() for path in (export, tmp_path / "new")]
    assert [without_personal_data(line) for line in lines[0]] == [
        without_personal_data(line) for line in lines[1]
    ]
    assert not any(text in line for line in lines[1] for text in texts)
    # What has been erased leaves the backup, and what is made of that tells the same.
    good("log", "backup", directory, backup)
    export.unlink()
    assert {name.split("/")[0] for text in texts for name in names_in(tmp_path, text)} == {"old"}
    good("log", "restore", backup, tmp_path / "restored", "--hold")
    assert answer("log", "verify", tmp_path / "restored")["ok"]
    assert all(
        read(tmp_path / "restored")[name] == told["after"][name] for name in ("replay", "diff", "audit")
    )
    # What was erased since the old one was made is back with it, and can be erased once more.
    good("log", "restore", old_backup, tmp_path / "again")
    assert names_in(tmp_path / "again", secret) != []
    for address in (friend, gone):
        good("log", "erase", tmp_path / "again", "--recipient", address, "--reason", "once more")
    assert [names_in(tmp_path / "again", text) for text in texts] == [[], [], []]


def told_by_audit(directory: Path, message_id: int) -> Any:
    """With an exit status that says that nothing contradicts the log."""
    return {
        name: value for name, value in answer("log", "audit", directory, message_id).items() if name in TOLD
    }


TOLD = ("messageId", "status", "category", "acceptedAt", "attempts")
#: What retention may take from an answer.
PERSONAL = {"recipient", "subject", "from", "replyTo", "text", "mx", "mxAddress", "recipientDomain", "tls"}


def bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: bare(item) for name, item in value.items() if name not in PERSONAL}
    return [bare(item) for item in value] if isinstance(value, list) else value
