"""A client asks and asks and reads no answer. It keeps neither a connection for ever nor the relay from ending."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from relay.api import connection
from relay.service import open_relay
from tests.world.http import HttpConnection, NoAnswerError, open_http
from tests.world.process import RelayProcess, make_process_directory

QUESTIONS = b"GET /openapi.json HTTP/1.1\r\nHost: relay\r\n\r\n" * 100
NOWHERE = "127.0.0.1:9"


async def ask_until_stuck(client: HttpConnection) -> None:
    """Send until neither side can say another word: the relay waits for room, and so reads no more."""
    client.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    stuck = False
    while not stuck:
        with trio.move_on_after(1) as patience:
            await client.stream.send_all(QUESTIONS)
        stuck = patience.cancelled_caught


def test_it_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_SECONDS_MAX", 0.5)
    directory = make_process_directory(tmp_path / "data", route=NOWHERE)

    async def main() -> None:
        with trio.fail_after(60):
            async with open_relay(directory) as relay, open_http(relay.http_address) as client:
                with pytest.raises(trio.BrokenResourceError):
                    while True:
                        await client.stream.send_all(QUESTIONS)
                async with open_http(relay.http_address) as another:
                    assert (await another.request("GET", "/healthz")).status == 200
                await relay.stop()

    trio.run(main)


def test_the_relay_ends_in_spite_of_it(tmp_path: Path) -> None:
    relay = RelayProcess(
        make_process_directory(tmp_path / "data", route=NOWHERE, service="grace_seconds = 1")
    )

    async def main() -> None:
        with relay.running():
            async with open_http(relay.address) as client:
                await ask_until_stuck(client)
                assert await trio.to_thread.run_sync(relay.stop) == 0

    trio.run(main)


def test_a_relay_whose_log_is_poisoned_ends_in_spite_of_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    relay = RelayProcess(
        make_process_directory(tmp_path / "data", route=NOWHERE),
        command=("-m", "tests.world.sabotage", "sync", str(broken)),
    )
    credentials = relay.enrol()

    async def main() -> None:
        with relay.running():
            async with open_http(relay.address) as client, open_http(relay.address) as sender:
                await ask_until_stuck(client)
                broken.touch()
                with suppress(NoAnswerError):
                    assert (await sender.post_send(credentials)).status == 503
                assert await trio.to_thread.run_sync(relay.wait) == 1

    trio.run(main)


def test_clients_that_reset_while_they_are_answered_leave_no_sockets_open(tmp_path: Path) -> None:
    """A hundred questions each, gone after the first words of the first answer."""
    clients = 100
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))

    async def ask_and_reset() -> None:
        async with open_http(relay.address) as client:
            await client.stream.send_all(QUESTIONS)
            await client.stream.receive_some(10)
            client.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def main() -> None:
        with relay.running():
            before = relay.open_files()
            for _ in range(clients):
                await ask_and_reset()
            await trio.to_thread.run_sync(relay.wait_open_files, before + clients // 2)
            assert await trio.to_thread.run_sync(relay.stop) == 0

    trio.run(main)
