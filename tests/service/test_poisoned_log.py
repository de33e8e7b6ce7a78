"""A failed fsync: no 200 ever again from this process, nothing more is delivered, it ends with an error; and on a
good disk nothing that was acknowledged is missing."""

from pathlib import Path

import pytest
import trio

from relay.codec import decode
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.world.held import open_held_mx
from tests.world.http import Answer, HttpConnection, NoAnswerError, open_http
from tests.world.mx import open_mx
from tests.world.process import EDGES, PATIENCE_SECONDS, RelayProcess, make_process_directory

CLIENTS = 8


@pytest.mark.parametrize(("part", "edges"), [("sync", EDGES), ("pages", EDGES), ("sync", 2)])
def test_a_failed_fsync_ends_the_relay_and_loses_nothing(tmp_path: Path, part: str, edges: int) -> None:
    broken = tmp_path / "broken"

    async def main() -> None:
        async with open_mx() as mx:
            directory = make_process_directory(
                tmp_path / "data",
                route=mx.address,
                retry="delays_seconds = [1]",
                service=f"edges = {edges}",
            )
            relay = sabotaged(directory, part, broken)
            credentials = relay.enrol()
            with relay.running(), trio.fail_after(PATIENCE_SECONDS):
                async with open_http(relay.address) as http:
                    acknowledged = await http.post_send(credentials, to="before@example.com")
                    assert acknowledged.status == 200
                    message_id = acknowledged.json()["accepted"][0]["messageId"]
                    await wait_sent(http, credentials, message_id)
                broken.touch()
                answers = await send_at_once(relay, credentials)
                # Who came while there was a process was told; the others found none.
                assert len(answers) > 0
                assert {(answer.status, answer.code) for answer in answers} == {
                    (503, "TEMPORARILY_UNAVAILABLE")
                }
                assert await trio.to_thread.run_sync(relay.wait) == 1
                assert "the log is poisoned" in relay.output
                assert len(mx.messages) == 1
                # Whoever comes now finds nobody: there is no process left that could say 200.
                assert await send_at_once(relay, credentials) == []

                broken.unlink()
                await trio.to_thread.run_sync(relay.start)
                async with open_http(relay.address) as http:
                    kept = await http.request("GET", f"/v1/messages/{message_id}", credentials)
                    assert kept.status == 200
                    assert kept.json()["recipient"] == "before@example.com"
                    assert (await http.post_send(credentials, to="after@example.com")).status == 200
                while ("after@example.com",) not in [message.rcpt_to for message in mx.messages]:
                    await mx.wait_messages(len(mx.messages) + 1)
                assert await trio.to_thread.run_sync(relay.stop) == 0
            assert mx.violations == []

    trio.run(main)


def test_a_delivery_whose_outcome_cannot_be_written_is_repeated(tmp_path: Path) -> None:
    """The receiver says 250, the disk does not take it: the one window in which a mail is delivered twice."""
    broken = tmp_path / "broken"

    async def main() -> None:
        async with open_held_mx() as mx:
            directory = make_process_directory(
                tmp_path / "data", route=mx.address, retry="delays_seconds = [1]"
            )
            relay = sabotaged(directory, "pages", broken)
            credentials = relay.enrol()
            with relay.running(), trio.fail_after(PATIENCE_SECONDS):
                async with open_http(relay.address) as http:
                    assert (await http.post_send(credentials)).status == 200
                await mx.wait_messages(1)
                broken.touch()
                mx.let_go.set()
                assert await trio.to_thread.run_sync(relay.wait) == 1
                broken.unlink()
                await trio.to_thread.run_sync(relay.start)
                first, second = await mx.wait_messages(2)
                assert first.data == second.data
                assert await trio.to_thread.run_sync(relay.stop) == 0
            assert mx.violations == []

    trio.run(main)
    with LogReader(tmp_path / "data" / LOG_DIRECTORY) as reader:
        types = [decode(record).event.TYPE for record in reader.read(1)]
    assert types[types.index("send.accepted") :] == [
        "send.accepted",
        "message.queued",
        "attempt.started",
        "attempt.interrupted",
        "attempt.started",
        "message.sent",
    ]


@pytest.mark.parametrize("edges", [EDGES, 1])
def test_a_receiver_that_hangs_does_not_keep_a_poisoned_relay(tmp_path: Path, edges: int) -> None:
    """It has the whole message and never answers; its deadline is minutes away."""
    broken = tmp_path / "broken"

    async def main() -> None:
        async with open_held_mx() as mx:
            directory = make_process_directory(
                tmp_path / "data", route=mx.address, service=f"edges = {edges}"
            )
            relay = sabotaged(directory, "sync", broken)
            credentials = relay.enrol()
            with relay.running(), trio.fail_after(PATIENCE_SECONDS):
                async with open_http(relay.address) as http:
                    assert (await http.post_send(credentials)).status == 200
                    await mx.wait_messages(1)
                    broken.touch()
                    answer = await http.post_send(credentials)
                    assert (answer.status, answer.code) == (503, "TEMPORARILY_UNAVAILABLE")
                assert await trio.to_thread.run_sync(relay.wait) == 1

    trio.run(main)


def sabotaged(directory: Path, part: str, broken: Path) -> RelayProcess:
    return RelayProcess(directory, command=("-m", "tests.world.sabotage", part, str(broken)))


async def wait_sent(http: HttpConnection, credentials: dict[str, str], message_id: int) -> None:
    """Wait until the log has it, too. Polls: the API has no way to wait."""
    while True:
        message = (await http.request("GET", f"/v1/messages/{message_id}", credentials)).json()
        if message["status"] == "sent":
            return
        await trio.sleep(0.01)


async def send_at_once(relay: RelayProcess, credentials: dict[str, str]) -> list[Answer]:
    """What so many clients are answered, each on a connection of its own; no answer is none."""
    answers: list[Answer] = []

    async def client(number: int) -> None:
        try:
            async with open_http(relay.address) as http:
                answers.append(await http.post_send(credentials, to=f"during-{number}@example.com"))
        except (NoAnswerError, OSError):
            pass

    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(client, number)
    return answers
