"""SIGTERM: nothing new is accepted, what is under way is finished within the grace time, and nothing is lost."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from relay.codec import decode
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.world.held import HeldMx, open_held_mx
from tests.world.http import HttpConnection, NoAnswerError, open_http
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory


@asynccontextmanager
async def delivery_under_way(
    directory: Path, grace_seconds: int
) -> AsyncIterator[tuple[RelayProcess, HeldMx, HttpConnection, dict[str, str], int]]:
    """A relay whose receiver has the message and has not said so: relay, receiver, the connection on which it was
    sent, the member's credentials, and the message's id."""
    async with open_held_mx() as mx:
        make_process_directory(
            directory,
            route=mx.address,
            service=f"grace_seconds = {grace_seconds}",
            retry="delays_seconds = [1]",
        )
        relay = RelayProcess(directory)
        credentials = relay.enrol()
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            async with open_http(relay.address) as http:
                answer = await http.post_send(credentials)
                assert answer.status == 200, answer
                await mx.wait_messages(1)
                yield relay, mx, http, credentials, answer.json()["accepted"][0]["messageId"]
        assert mx.violations == []


def test_a_delivery_under_way_is_finished(tmp_path: Path) -> None:
    async def main() -> None:
        async with delivery_under_way(tmp_path / "data", grace_seconds=60) as (
            relay,
            mx,
            http,
            credentials,
            _,
        ):
            relay.terminate()
            await trio.to_thread.run_sync(relay.wait_logged, "service.stopping")
            await wait_refused(relay.address)
            with pytest.raises(NoAnswerError):  # kept alive, but no longer served
                await http.post_send(credentials)
            assert relay.is_running
            mx.let_go.set()
            assert await trio.to_thread.run_sync(relay.wait) == 0
            assert relay.log_lines("service.grace_over") == []
            assert len(mx.messages) == 1

    trio.run(main)
    assert mail_events(tmp_path / "data") == [
        "send.accepted",
        "message.queued",
        "attempt.started",
        "message.sent",
    ]


def test_a_delivery_that_hangs_is_abandoned_and_repeated_with_the_same_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        async with delivery_under_way(tmp_path / "data", grace_seconds=1) as (relay, mx, _, _, _):
            assert await trio.to_thread.run_sync(relay.stop) == 0
            assert len(relay.log_lines("service.grace_over")) == 1
            assert mail_events(tmp_path / "data")[-1] == "attempt.interrupted"
            mx.let_go.set()
            await trio.to_thread.run_sync(relay.start)
            first, second = await mx.wait_messages(2)
            assert second == replace(first, session=second.session)
            assert await trio.to_thread.run_sync(relay.stop) == 0

    trio.run(main)
    assert mail_events(tmp_path / "data") == [
        "send.accepted",
        "message.queued",
        "attempt.started",
        "attempt.interrupted",
        "attempt.started",
        "message.sent",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_asks_twice_gets_the_same_orderly_end(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        async with delivery_under_way(tmp_path / "data", grace_seconds=60) as (relay, mx, _, _, _):
            relay.terminate()
            await trio.to_thread.run_sync(relay.wait_logged, "service.stopping")
            os.kill(relay.pid, number)
            mx.let_go.set()
            assert await trio.to_thread.run_sync(relay.wait) == 0
            assert len(relay.log_lines("service.stopped")) == 1

    trio.run(main)
    assert mail_events(tmp_path / "data")[-1] == "message.sent"


def test_an_idle_relay_stops_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    with relay.running():
        assert relay.stop() == 0
    assert not (tmp_path / "data" / "http.address").exists()
    assert not (tmp_path / "data" / "admin.sock").exists()
    assert [line["event"] for line in relay.log_lines("service.stopped")] == ["service.stopped"]


async def wait_refused(address: str) -> None:
    """Wait until nobody listens there. Polls: nothing tells a client that it would be refused."""
    while True:
        try:
            async with open_http(address):
                await trio.sleep(0.01)
        except OSError:
            return


def mail_events(directory: Path) -> list[str]:
    """The types of all events from the first send on."""
    with LogReader(directory / LOG_DIRECTORY) as reader:
        types = [decode(record).event.TYPE for record in reader.read(1)]
    return types[types.index("send.accepted") :]
