"""Backups of a relay that is taking mail, one after the other into the same place, while clients send.

After each, what it holds is restored elsewhere. Every message that a client had been told of before the run began is
there, with its recipient; no send is there in part; log and files verify. In the end the last restored copy is the
log, up to its last sequence number, byte for byte as far as its records go.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import trio

from relay.codec import decode
from relay.events import MessageQueued
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.world.checker import half_accepted
from tests.world.http import open_http
from tests.world.mx import open_mx
from tests.world.process import RelayProcess, make_process_directory

CONNECTIONS = 4
BACKUPS = 2
ANSWERS_BETWEEN = 25
SECONDS_MAX = 240
#: Many pages, so that a backup meets batches that are half written.
TEXT_BYTES = 20_000


def test_every_answer_before_a_backup_is_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            directory = make_process_directory(tmp_path / "data", route=mx.address)
            relay = RelayProcess(directory)
            credentials = relay.enrol()
            with relay.running(), trio.fail_after(SECONDS_MAX):
                load = Load(relay, credentials)
                async with trio.open_nursery() as nursery:
                    for number in range(CONNECTIONS):
                        nursery.start_soon(load.send, number)
                    for number in range(BACKUPS):
                        await load.wait_answers(ANSWERS_BETWEEN * (number + 1))
                        told = dict(load.told)
                        answer = await trio.to_thread.run_sync(back_up, relay, tmp_path / "backup")
                        restored = tmp_path / f"restored-{number}"
                        await trio.to_thread.run_sync(restore, relay, tmp_path / "backup", restored)
                        check(restored, told, answer["lastSeq"])
                    load.stopped = True
                assert await trio.to_thread.run_sync(relay.stop) == 0
            check_is_a_beginning(restored, directory)

    trio.run(main)


class Load:
    """Clients that send until they are stopped, and what they were told."""

    def __init__(self, relay: RelayProcess, credentials: dict[str, str]) -> None:
        #: messageId -> recipient, from every answer that was read.
        self.told: dict[int, str] = {}
        self.stopped = False
        self._relay = relay
        self._credentials = credentials
        self._news = trio.Event()

    async def send(self, number: int) -> None:
        async with open_http(self._relay.address) as http:
            count = 0
            while not self.stopped:
                to = [f"friend-{number}-{count}-{part}@example.com" for part in range(1 + count % 3)]
                answer = await http.post_send(self._credentials, to=to, text="x" * TEXT_BYTES)
                assert answer.status == 200, answer
                self.told.update(
                    (entry["messageId"], entry["recipient"]) for entry in answer.json()["accepted"]
                )
                count += 1
                self._news.set()
                self._news = trio.Event()

    async def wait_answers(self, count: int) -> None:
        while len(self.told) < count:
            await self._news.wait()


def back_up(relay: RelayProcess, backup: Path) -> Any:
    done = relay.run_command("log", "backup", str(relay.directory), str(backup), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def restore(relay: RelayProcess, backup: Path, directory: Path) -> None:
    for arguments in (("verify", str(backup)), ("restore", str(backup), str(directory))):
        done = relay.run_command("log", *arguments, "--json")
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert json.loads(done.stdout)["ok"]


def check(restored: Path, told: dict[int, str], last_seq: int) -> None:
    with LogReader(restored / LOG_DIRECTORY) as reader:
        recorded = [decode(record) for record in reader.read(1)]
    assert [record.seq for record in recorded] == list(range(1, last_seq + 1))
    assert half_accepted(recorded) == []
    queued = {
        record.seq: record.event.personal.address
        for record in recorded
        if isinstance(record.event, MessageQueued) and record.event.personal is not None
    }
    assert told
    assert told.items() <= queued.items()


def check_is_a_beginning(restored: Path, directory: Path) -> None:
    with LogReader(restored / LOG_DIRECTORY) as copy, LogReader(directory / LOG_DIRECTORY) as log:
        records = list(copy.read(1))
        assert records == list(log.read(1, records[-1].seq))
