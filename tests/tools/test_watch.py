"""`atmos-relay watch`: each event printed once, through kills and restarts, and refusals told as sentences."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import requests
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Request, TextMessage

from tests.world.mx import open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory, wait_until
from tests.world.relay import DID
from tools.watch import RefusedError, as_line, stream_url
from tools.watch import Watch as StreamWatch

NOWHERE = "127.0.0.1:9"
#: The command, but that it says when it knows where its stream begins. That the relay has opened one is too early.
TELLS_ITS_BEGIN = """
import sys
import tools.watch
begin = tools.watch._begin
def told(connection):
    cursor = begin(connection)
    print("begins at", cursor, file=sys.stderr, flush=True)
    return cursor
tools.watch._begin = told
from tools.cli import main
main()
"""


class Watch:
    """The command, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], output: Path, errors: Path) -> None:
        self.process = process
        self._output = output
        self._errors = errors

    def lines(self) -> list[str]:
        """Those that are whole: it may be writing one."""
        return self._output.read_text().rpartition("\n")[0].splitlines()

    def errors(self) -> str:
        return self._errors.read_text()

    def wait_lines(self, count: int) -> list[str]:
        wait_until(
            lambda: len(self.lines()) >= count, lambda: f"{count} lines. {self.lines()} {self.errors()}"
        )
        return self.lines()

    def wait(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def watching(
    directory: Path, base_url: str, key: str, *options: str, command: Sequence[str] = ("-m", "relay")
) -> Iterator[Watch]:
    output, errors = directory / "watch.out", directory / "watch.err"
    with output.open("w") as out, errors.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, *command, "watch", base_url, *options],
            stdout=out,
            stderr=err,
            text=True,
            env={**os.environ, "ATMOS_DID": DID, "ATMOS_KEY": key},
        )
        try:
            yield Watch(process, output, errors)
        finally:
            process.kill()
            process.wait()


def send(relay: RelayProcess, credentials: dict[str, str]) -> None:
    mail = {"from": "you@yourdomain.com", "to": "friend@example.com", "subject": "x", "text": "x"}
    answer = requests.post(
        f"http://{relay.address}/v1/send", json=mail, headers=credentials, timeout=PATIENCE_SECONDS
    )
    assert answer.status_code == 200


def key_of(credentials: dict[str, str]) -> str:
    return credentials["Authorization"].removeprefix("Bearer ")


def fix_port(relay: RelayProcess) -> None:
    """Whoever reconnects looks where the relay was."""
    path = relay.directory / "relay.toml"
    path.write_text(path.read_text().replace("127.0.0.1:0", relay.address))


def test_it_prints_each_event_once_across_kills_and_restarts(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
    credentials = relay.enrol()
    with relay.running():
        fix_port(relay)
        with watching(
            tmp_path, f"http://{relay.address}", key_of(credentials), "--json", "--cursor", "0"
        ) as watch:
            watch.wait_lines(2)
            for end in (relay.kill, relay.stop):
                send(relay, credentials)
                end()
                relay.start()
                send(relay, credentials)
                last = events(relay, credentials)[-1]["seq"]
                wait_until(
                    lambda last=last: json.loads(watch.lines()[-1])["seq"] >= last,  # type: ignore[misc]
                    watch.errors,
                )
            watch.process.send_signal(signal.SIGINT)
            assert watch.wait() == 0
            seen = [json.loads(line) for line in watch.lines()]
            assert "Traceback" not in watch.errors()
            assert "again in" in watch.errors()
        assert seen == events(relay, credentials)[: len(seen)]


def events(relay: RelayProcess, credentials: dict[str, str]) -> list[Any]:
    answer = requests.get(
        f"http://{relay.address}/v1/events?limit=1000", headers=credentials, timeout=PATIENCE_SECONDS
    )
    found: list[Any] = answer.json()["events"]
    return found


def test_from_now_it_misses_nothing_even_before_the_first_event(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
    credentials = relay.enrol()
    with relay.running():
        fix_port(relay)
        with watching(
            tmp_path,
            f"http://{relay.address}",
            key_of(credentials),
            "--json",
            command=("-c", TELLS_ITS_BEGIN),
        ) as watch:
            wait_until(lambda: "begins at" in watch.errors(), watch.errors)
            relay.kill()
            relay.command("member", "suspend", "--did", DID)  # while nobody listens
            relay.start()
            (line,) = watch.wait_lines(1)
            assert json.loads(line)["type"] == "member.suspended"


def metrics(relay: RelayProcess) -> str:
    return requests.get(f"http://{relay.address}/metrics", timeout=PATIENCE_SECONDS).text


def test_a_revoked_key_and_a_wrong_one_and_a_cursor_of_the_future(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
    credentials = relay.enrol()
    with relay.running():
        url, key = f"http://{relay.address}", key_of(credentials)
        with watching(tmp_path, url, key) as watch:
            wait_until(lambda: "atmos_streams_open 1.0" in metrics(relay), watch.errors)
            (listed,) = json.loads(relay.command("key", "list", "--json"))
            relay.command("key", "revoke", "--did", DID, "--key-id", listed["keyId"])
            assert watch.wait() == 1
            assert watch.errors() == "Error: the API key that opened this stream was revoked\n"
        with watching(tmp_path, url, key) as watch:
            assert watch.wait() == 1
            assert watch.errors().startswith("Error: AUTH_FAILED: ")
        key = json.loads(relay.command("key", "issue", "--did", DID, "--json"))["apiKey"]
        with watching(tmp_path, url, key, "--cursor", "1000000") as watch:
            assert watch.wait() == 1
            assert watch.errors().startswith("Error: FutureCursor: ")
        with watching(tmp_path, f"{url}/elsewhere", key) as watch:
            assert watch.wait() == 1
            assert watch.errors().startswith("Error: NOT_FOUND: ")
        for arguments in ((url, "--cursor", "-1"), ("ftp://relay.example",), (url, "--did", "x")):
            done = subprocess.run(
                [sys.executable, "-m", "relay", "watch", *arguments],
                env={**os.environ, "ATMOS_DID": DID, "ATMOS_KEY": key},
                capture_output=True,
                timeout=PATIENCE_SECONDS,
            )
            assert done.returncode == 2


def test_a_ping_while_it_closes_hides_nothing() -> None:
    """The refusal is read, the close is on its way, and there comes a ping, which cannot be answered any more."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            server = WSConnection(ConnectionType.SERVER)
            events: list[Event] = []
            while not any(isinstance(event, CloseConnection) for event in events):
                server.receive_data(await stream.receive_some())
                events += server.events()
                if isinstance(events[-1], Request):
                    refusal = json.dumps({"error": "FutureCursor", "message": "not yet"})
                    await stream.send_all(server.send(AcceptConnection()))
                    await stream.send_all(server.send(TextMessage(refusal)))
            await stream.send_all(bytes([0x89, 0]) + server.send(events[-1].response()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/v1/stream"
            with pytest.RaisesGroup(
                pytest.RaisesExc(RefusedError, match="FutureCursor"), flatten_subgroups=True
            ):
                await StreamWatch(url, [], 1, as_json=False).run()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_lines_for_people_end_with_who_reads_them(tmp_path: Path) -> None:
    """`watch | head -3`: the pipe is closed while the stream is quiet."""

    async def main() -> None:
        async with open_mx() as mx:
            relay = RelayProcess(make_process_directory(tmp_path / "data", route=mx.address))
            credentials = relay.enrol()
            with relay.running():
                await trio.to_thread.run_sync(watch_head, relay, credentials)

    def watch_head(relay: RelayProcess, credentials: dict[str, str]) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "relay", "watch", f"http://{relay.address}", "--cursor", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ATMOS_DID": DID, "ATMOS_KEY": key_of(credentials)},
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            lines = [process.stdout.readline() for _ in range(2)]
            send(relay, credentials)
            lines += [process.stdout.readline() for _ in range(3)]
            process.stdout.close()
            assert process.wait(PATIENCE_SECONDS) == 0
            assert process.stderr.read() == ""
        assert "member.added" in lines[0]
        assert "domain.added" in lines[1]
        assert "yourdomain.com" in lines[1]
        assert "to friend@example.com: queued" in lines[2]
        assert "attempt 1" in lines[3]
        assert "sent" in lines[4]

    trio.run(main)


def test_what_strangers_wrote_moves_no_cursor() -> None:
    line = as_line(
        {
            "seq": 7,
            "time": "2026-01-01T00:00:00.000000Z",
            "type": "message.deferred",
            "messageId": 5,
            "recipient": "a@b.example",
            "status": "deferred",
            "attempt": 2,
            "reply": {"code": 451, "enhanced": None, "text": "later\x1b[2J\u202e\n"},
            "nextAttemptAt": "2026-01-01T00:05:00.000000Z",
        }
    )
    assert line == (
        "      7  2026-01-01T00:00:00.000000Z  message.deferred      message 5 to a@b.example: deferred, attempt 2, "
        '451 "later\\x1b[2J\\u202e\\n", next at 2026-01-01T00:05:00.000000Z'
    )


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://relay.example", "wss://relay.example/v1/stream"),
        ("http://127.0.0.1:8025/", "ws://127.0.0.1:8025/v1/stream"),
        ("wss://relay.example:444/mail", "wss://relay.example:444/mail/v1/stream"),
        ("ws://[::1]:8025", "ws://[::1]:8025/v1/stream"),
    ],
)
def test_addresses(base_url: str, expected: str) -> None:
    assert stream_url(base_url) == expected


@pytest.mark.parametrize(
    "base_url",
    ["relay.example", "https://", "ftp://x", "http://a:b@c", "http://a?b", "http://a#b", "http://a:99999"],
)
def test_what_is_no_address(base_url: str) -> None:
    with pytest.raises(click.BadParameter):
        stream_url(base_url)
