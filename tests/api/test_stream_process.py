"""The stream of a real relay: over TCP, through `kill -9` and restarts, with readers that are slow, dead or many."""

from __future__ import annotations

import json
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from relay.api import connection, server
from relay.service import open_relay
from tests.world.http import open_http
from tests.world.mx import open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory
from tools.watch import open_websocket

NOWHERE = "127.0.0.1:9"
UPGRADE = {
    "Host": "relay",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@asynccontextmanager
async def listen(
    address: str, credentials: dict[str, str], cursor: int | None = None, **options: Any
) -> AsyncIterator[WebSocketConnection]:
    query = "" if cursor is None else f"?cursor={cursor}"
    headers = [(name.encode(), value.encode()) for name, value in credentials.items()]
    async with open_websocket(f"ws://{address}/v1/stream{query}", headers, **options) as connection:
        yield connection


async def send(address: str, credentials: dict[str, str], count: int = 1) -> list[int]:
    """One mail to so many; returns the message ids."""
    async with open_http(address) as http:
        to = [f"friend{number}@example.com" for number in range(count)]
        answer = await http.post_send(credentials, to=to, category="transactional")
        assert answer.status == 200, answer
        return [accepted["messageId"] for accepted in answer.json()["accepted"]]


async def all_events(address: str, credentials: dict[str, str]) -> list[Any]:
    events: list[Any] = []
    async with open_http(address) as http:
        while True:
            cursor = events[-1]["seq"] if events else 0
            answer = await http.request("GET", f"/v1/events?cursor={cursor}&limit=1000", credentials)
            page = answer.json()["events"]
            if not page:
                return events
            events += page


async def until_final(listener: WebSocketConnection, ids: list[int]) -> list[Any]:
    """The frames up to the one that makes the last of these messages final."""
    frames, open_ones = [], set(ids)
    while open_ones:
        frames.append(json.loads(await listener.get_message()))
        if frames[-1].get("status") in ("sent", "bounced"):
            open_ones.discard(frames[-1]["messageId"])
    return frames


def test_resumed_across_kills_and_restarts_each_event_comes_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            relay = RelayProcess(make_process_directory(tmp_path / "data", route=mx.address))
            credentials = relay.enrol()
            seen: list[Any] = []
            with relay.running(), trio.fail_after(PATIENCE_SECONDS):
                for end in (relay.kill, relay.stop, relay.kill):
                    cursor = seen[-1]["seq"] if seen else 0
                    async with listen(relay.address, credentials, cursor) as listener:
                        await send(relay.address, credentials, 20)
                        # Somewhere in the middle of it the relay ends.
                        for _ in range(25):
                            seen.append(json.loads(await listener.get_message()))
                        await trio.to_thread.run_sync(end)
                        with pytest.raises(ConnectionClosed):
                            while True:
                                seen.append(json.loads(await listener.get_message()))
                    await trio.to_thread.run_sync(relay.start)
                ids = await send(relay.address, credentials, 1)
                async with listen(relay.address, credentials, seen[-1]["seq"]) as listener:
                    seen += await until_final(listener, ids)
                expected = await all_events(relay.address, credentials)
                assert seen == expected[: len(seen)]
                assert len(seen) > 100

    trio.run(main)


def test_a_stop_is_told_to_every_reader_and_waits_for_none(tmp_path: Path) -> None:
    """One reads, one does not answer the close frame, and one takes nothing at all."""

    async def main() -> None:
        relay = RelayProcess(
            make_process_directory(tmp_path / "data", route=NOWHERE, service="grace_seconds = 120")
        )
        credentials = relay.enrol()
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            async with (
                listen(relay.address, credentials) as listener,
                open_http(relay.address) as mute,
                open_http(relay.address) as deaf,
            ):
                await mute.send_head("GET", "/v1/stream", UPGRADE | credentials)
                await deaf.send_head("GET", "/v1/stream?cursor=0", UPGRADE | credentials)
                await mute.stream.receive_some(1)
                status = []

                async def stop() -> None:
                    status.append(await trio.to_thread.run_sync(relay.stop))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stop)
                    with pytest.raises(ConnectionClosed) as closed:
                        await listener.get_message()
                    assert closed.value.reason.code == 1001
                assert status == [0]
        assert relay.log_lines("service.grace_over") == []
        assert "Traceback" not in relay.output

    trio.run(main)


def test_a_reader_that_stops_reading_costs_only_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            relay = RelayProcess(make_process_directory(tmp_path / "data", route=mx.address))
            credentials = relay.enrol()
            with relay.running(), trio.fail_after(PATIENCE_SECONDS):
                async with (
                    listen(relay.address, credentials, 0) as quick,
                    listen(relay.address, credentials, 0, receive_buffer_size=1024) as slow,
                ):
                    # It has taken one frame, and its queue holds another: it reads no more.
                    first = json.loads(await slow.get_message())
                    seen = await until_final(quick, await send(relay.address, credentials, 50))
                    before = relay.memory_peak_bytes()
                    for _ in range(20):
                        ids = await send(relay.address, credentials, 50)
                        seen += await until_final(quick, ids)
                    assert relay.memory_peak_bytes() - before < 30 << 20
                    late = [first]
                    while late[-1]["seq"] < seen[-1]["seq"]:
                        late.append(json.loads(await slow.get_message()))
                    assert late == seen == await all_events(relay.address, credentials)

    trio.run(main)


def test_a_reader_that_says_nothing_to_pings_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PING_SECONDS", 0.1)
    # So long this process may stand still, and the one that answers is not taken for silent.
    monkeypatch.setattr(connection, "SILENT_SECONDS_MAX", 5.0)
    directory = make_process_directory(tmp_path / "data", route=NOWHERE)
    credentials = RelayProcess(directory).enrol()

    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with open_relay(directory) as relay, open_http(relay.http_address) as mute:
                async with listen(relay.http_address, credentials) as alive:
                    await mute.send_head("GET", "/v1/stream", UPGRADE | credentials)
                    assert b"\x89\x00" in await mute.read_to_end()  # a ping
                    await send(relay.http_address, credentials)
                    assert json.loads(await alive.get_message())["type"] == "message.queued"
                await relay.stop()

    trio.run(main)


def test_what_a_client_may_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSE_SECONDS_MAX", 0.2)
    directory = make_process_directory(tmp_path / "data", route=NOWHERE)
    credentials = RelayProcess(directory).enrol()

    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with open_relay(directory) as relay:
                address = relay.http_address
                # A message that is too large, from one who hangs up when told so, and from one who does not.
                async with listen(address, credentials) as loud:
                    await loud.send_message("x" * 5000)
                    with pytest.raises(ConnectionClosed) as closed:
                        await loud.get_message()
                    assert closed.value.reason.code == 1009
                async with open_http(address) as http:
                    await http.send_head("GET", "/v1/stream", UPGRADE | credentials)
                    await read_until(http.stream, b"\r\n\r\n")
                    await http.stream.send_all(b"\x82\xfe\x20\x00" + bytes(4) + bytes(0x2000))
                    assert b"\x88\x02\x03\xf1" in await http.read_to_end()  # close, 1009
                # Compression, which would cost 300 KB for each and can be a bomb.
                async with open_http(address) as http:
                    offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
                    await http.send_head("GET", "/v1/stream", UPGRADE | credentials | offer)
                    head = bytes(await http.stream.receive_some(65536)).lower()
                    assert b"101 switching protocols" in head or head.startswith(b"http/1.1 101")
                    assert b"atmos-cursor: " in head
                    assert b"sec-websocket-extensions" not in head
                async with open_http(address) as http:
                    await http.send_head("GET", "/v1/stream", UPGRADE)
                    answer = await http.read_answer()
                    assert (answer.status, answer.code) == (400, "AUTH_REQUIRED")
                await relay.stop()

    trio.run(main)


@pytest.mark.parametrize("path", ["/v1/stream", "/nowhere", "/v1/send"])
def test_who_talks_before_the_upgrade_harms_nobody_else(tmp_path: Path, path: str) -> None:
    """Hypercorn answers such a client twice, which its HTTP/1.1 does not let it do."""

    async def main() -> None:
        relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
        credentials = relay.enrol()
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            for headers in (UPGRADE, UPGRADE | credentials):
                async with open_http(relay.address) as http:
                    head = f"GET {path} HTTP/1.1\r\n".encode()
                    head += b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
                    await http.stream.send_all(head + b"\r\n" + b"\x81\x80" + bytes(4))
                    await http.read_to_end()
            await send(relay.address, credentials)
            assert relay.is_running

    trio.run(main)


def test_readers_that_go_away_leave_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
        credentials = relay.enrol()
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            async with open_http(relay.address) as http:
                await http.request("GET", "/healthz")  # so that its own connection is counted
                before = relay.open_files()
                for _ in range(3):
                    async with AsyncExitStack() as stack:
                        for _ in range(50):
                            raw = await stack.enter_async_context(open_http(relay.address))
                            await raw.send_head("GET", "/v1/stream", UPGRADE | credentials)
                            await raw.stream.receive_some(1)
                await trio.to_thread.run_sync(relay.wait_open_files, before)
                metrics = (await http.request("GET", "/metrics")).body.decode()
                assert "atmos_streams_open 0.0" in metrics

    trio.run(main)


def test_a_thousand_idle_readers(tmp_path: Path) -> None:
    """All are told of the one event that there is, and the relay serves others meanwhile."""
    count = 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * count:
        pytest.skip("not so many files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count), hard))

    async def main() -> None:
        directory = make_process_directory(
            tmp_path / "data", route=NOWHERE, http=f"streams_per_member_max = {count}"
        )
        relay = RelayProcess(directory)
        credentials = relay.enrol()
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            before = relay.memory_peak_bytes()
            async with AsyncExitStack() as stack:
                readers = []
                for _ in range(count):
                    raw = await stack.enter_async_context(open_http(relay.address))
                    await raw.send_head("GET", "/v1/stream", UPGRADE | credentials)
                    readers.append(raw.stream)
                for reader in readers:
                    await read_until(reader, b"\r\n\r\n")
                assert (relay.memory_peak_bytes() - before) / count < 200 << 10
                (message_id,) = await send(relay.address, credentials)
                told = f'"messageId":{message_id}'.encode()
                for reader in readers:
                    await read_until(reader, told)
            assert await trio.to_thread.run_sync(relay.stop) == 0

    try:
        trio.run(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def read_until(stream: trio.SocketStream, wanted: bytes) -> None:
    data = b""
    while wanted not in data:
        part = await stream.receive_some(65536)
        assert part, data
        data += part
