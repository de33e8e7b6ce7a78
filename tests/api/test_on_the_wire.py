"""A relay is asked by bytes that a client, an attacker or a proxy sends. Each is answered in JSON, or refused in JSON
and the connection ended; a mail is accepted exactly where its client is told so."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.api import connection
from relay.service import Relay, open_relay
from tests.world.http import open_http
from tests.world.orders import order
from tests.world.process import make_process_directory
from tests.world.relay import DID, DOMAIN

MAIL = json.dumps(
    {"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "Hello", "text": "Hi"}
).encode()
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(MAIL)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(MAIL), MAIL)
HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
)


class Asked:
    def __init__(self, relay: Relay, credentials: bytes) -> None:
        self.relay = relay
        self.credentials = credentials

    @property
    def accepted(self) -> int:
        """Mails, up to now."""
        store = self.relay.core.store
        events = (store.get(seq).event for seq in range(1, store.last_seq + 1))
        return sum(event.TYPE == "send.accepted" for event in events)

    def send(self, *fields: bytes, body: bytes = MAIL, line: bytes = b"POST /v1/send HTTP/1.1") -> bytes:
        return b"\r\n".join([line, b"Host: relay", self.credentials, *fields, b"", body])

    async def ask(self, data: bytes, answers: int) -> tuple[list[int], bool]:
        """The statuses of the answers, of which so many are waited for, and whether the connection has ended behind
        them. Each error is the JSON one."""
        async with open_http(self.relay.http_address) as http:
            await http.stream.send_all(data)
            said = b""
            while len(statuses_of(said)) < answers and (part := await http.stream.receive_some(65536)):
                said += part
            # One that has not ended answers this, too, and ends then.
            with suppress(trio.BrokenResourceError):
                await http.stream.send_all(HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            statuses = statuses_of(said + await http.read_to_end())
        has_ended = len(statuses) <= answers
        return statuses if has_ended else statuses[:-1], has_ended


def statuses_of(said: bytes) -> list[int]:
    """Of the answers that are whole."""
    statuses = []
    while b"\r\n\r\n" in said:
        head, _, rest = said.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0"))
        if len(rest) < length:
            break
        body, said = rest[:length], rest[length:]
        status = int(head.split(b" ")[1])
        statuses.append(status)
        if status >= 400:
            answer = json.loads(body)
            assert isinstance(answer["error"], str)
            assert isinstance(answer["code"], str)
    return statuses


@asynccontextmanager
async def asked_relay(directory: Path) -> AsyncIterator[Asked]:
    make_process_directory(directory, route="127.0.0.1:9")
    with trio.fail_after(60):  # below what a connection may rest
        async with open_relay(directory) as relay:
            answer = await order(relay.core, "member_add", did=DID, domains=[DOMAIN], offline=True)
            assert isinstance(answer, dict)
            key = answer["apiKey"]
            yield Asked(relay, f"X-Atmos-DID: {DID}\r\nAuthorization: Bearer {key}".encode())
            await relay.stop()


BEHIND_A_MAIL: list[tuple[list[bytes], bytes, bytes, list[int], bool]] = [
    ([LENGTH], MAIL, HEALTH, [200, 200], False),
    ([LENGTH], MAIL, b"\r\n", [200], False),
    ([LENGTH], MAIL, b"\r\n" + HEALTH, [200, 200], False),
    ([CHUNKED], CHUNKS, b"\r\n" + HEALTH, [200, 200], False),
    # It used to be answered 400, and was sent.
    ([LENGTH, b"Connection: close"], MAIL, b"\r\n", [200], True),
    ([LENGTH, b"Connection: close"], MAIL, HEALTH, [200], True),
    ([LENGTH, b"Connection: close"], MAIL, b"x" * 300_000, [200], True),
    ([CHUNKED, b"Connection: close"], CHUNKS, b"\r\n", [200], True),
]


def test_what_is_behind_a_mail_does_not_spoil_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with asked_relay(tmp_path / "data") as asked:
            for number, (fields, body, behind, statuses, has_ended) in enumerate(BEHIND_A_MAIL, 1):
                data = asked.send(*fields, body=body) + behind
                assert await asked.ask(data, len(statuses)) == (statuses, has_ended)
                assert asked.accepted == number

    trio.run(main)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST http://relay:8025/v1/send HTTP/1.1", 200),
        (b"POST HTTPS://other.example/v1/send HTTP/1.1", 200),
        (b"POST http://relay/v1/send?did=%s HTTP/1.1" % DID.encode(), 200),
        (b"\r\nPOST /v1/send HTTP/1.1", 200),
        (b"POST http:/v1/send HTTP/1.1", 404),
        (b"POST http://u@relay/v1/send HTTP/1.1", 404),
        (b"POST //relay/v1/send HTTP/1.1", 404),
    ],
)
def test_a_target_in_absolute_form_is_as_its_path_alone(tmp_path: Path, line: bytes, status: int) -> None:
    async def main() -> None:
        async with asked_relay(tmp_path / "data") as asked:
            assert await asked.ask(asked.send(LENGTH, line=line), 1) == ([status], False)
            assert asked.accepted == (status == 200)

    trio.run(main)


def test_the_stream_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with asked_relay(tmp_path / "data") as asked:
            line = b"GET http://relay:8025/v1/stream?cursor=0 HTTP/1.1"
            async with open_http(asked.relay.http_address) as http:
                await http.stream.send_all(asked.send(HANDSHAKE, line=line, body=b""))
                said = b""
                while b'"member.added"' not in said:
                    said += await http.stream.receive_some(65536)
                assert said.startswith(b"HTTP/1.1 101 ")
            assert await asked.ask(asked.send(line=line, body=b""), 1) == (
                [400],
                False,
            )  # "ask for an upgrade"

    trio.run(main)


READ_IN_TWO_WAYS: list[tuple[list[bytes], bytes, int]] = [
    ([LENGTH, CHUNKED], CHUNKS, 400),
    ([CHUNKED, b"Content-Length: 0"], CHUNKS, 400),
    ([LENGTH, b"X: y", b" Transfer-Encoding: chunked"], MAIL, 400),
    ([LENGTH, b"X: y\nTransfer-Encoding: chunked"], MAIL, 400),
    ([b"Transfer-Encoding: chunked, chunked"], CHUNKS, 501),
    ([b"Transfer-Encoding: identity", LENGTH], MAIL, 501),
    ([b"Transfer-Encoding : chunked"], CHUNKS, 400),
    ([CHUNKED], CHUNKS[:-2] + b"\n", 400),
    ([CHUNKED], CHUNKS.replace(b"\r\n", b";a\nb\r\n", 1), 400),
    ([LENGTH, b"Content-Length: 1"], MAIL, 400),
    ([LENGTH, b"X: " + b"a" * 20_000], MAIL, 431),
    ([LENGTH, b"X: a\0b"], MAIL, 400),
]


@pytest.mark.parametrize("size", [0, 300_000])
def test_what_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    tmp_path: Path, size: int
) -> None:
    """However much of it there is: the answer arrives."""

    async def main() -> None:
        async with asked_relay(tmp_path / "data") as asked:
            for fields, body, status in READ_IN_TWO_WAYS:
                data = asked.send(*fields, body=body) + b"\r\n" * (size // 2) + asked.send(LENGTH)
                assert await asked.ask(HEALTH + data, 2) == ([200, status], True), (fields, body)
                assert asked.accepted == 0
            metrics = asked.relay.core.metrics_page.own_text().decode()
            assert f'atmos_http_turned_away_total{{why="not_http"}} {len(READ_IN_TWO_WAYS)}.0' in metrics

    trio.run(main)


def test_an_error_in_the_place_of_an_answer_to_head_has_no_body(tmp_path: Path) -> None:
    async def main() -> None:
        async with asked_relay(tmp_path / "data") as asked:
            line = b"HEAD /healthz HTTP/1.1\r\n"
            for fields in (b"Host: relay\r\n" + CHUNKED + b"\r\nContent-Length: 1", b"Host: a/b"):
                async with open_http(asked.relay.http_address) as http:
                    await http.stream.send_all(line + fields + b"\r\n\r\n")
                    head, _, body = (await http.read_to_end()).partition(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 400 ")
                    assert body == b""
            # Nor is what comes behind a HEAD an answer to it.
            async with open_http(asked.relay.http_address) as http:
                await http.stream.send_all(line + b"Host: relay\r\n\r\n" + b"\0")
                said = await http.read_to_end()
                assert said.count(b"HTTP/1.1 ") == 2
                assert json.loads(said.rpartition(b"\r\n\r\n")[2])["code"] == "INVALID_REQUEST"

    trio.run(main)


def test_a_handshake_that_is_none_is_answered_like_any_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with asked_relay(tmp_path / "data") as asked:
            line = b"GET /v1/stream HTTP/1.1"
            for fields in (
                [HANDSHAKE.replace(b"13", b"8")],
                [HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X")],
                [HANDSHAKE.replace(b"Upgrade\r\n", b"\xff, Upgrade\r\n", 1)],
            ):
                data = asked.send(*fields, line=line, body=b"")
                assert await asked.ask(data + HEALTH, 2) == ([400, 200], False)
            # With a body, which is a body, and no frames.
            data = asked.send(HANDSHAKE, b"Content-Length: %d" % len(HEALTH), line=line, body=HEALTH)
            assert await asked.ask(data + HEALTH, 2) == ([400, 200], False)

    trio.run(main)


def test_who_is_refused_and_goes_on_is_not_listened_to_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS_MAX", 0.2)

    async def main() -> None:
        async with asked_relay(tmp_path / "data") as asked, open_http(asked.relay.http_address) as http:
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await http.stream.send_all(b"GET / HTTP/1.1\n\n" * 100)

    trio.run(main)


def test_strangers_write_nothing_into_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that they send is a defect, and each line of a log can be filled up by whoever can make one."""
    asks: list[Any] = [
        b"\x16\x03\x01",
        HEALTH.replace(b"\r\n", b"\n"),
        b"GET /v1/stream HTTP/1.1\r\nHost: relay\r\n" + HANDSHAKE + b"\r\n\r\n" + HEALTH,
        b"POST /v1/send HTTP/1.1\r\nHost: relay\r\n" + CHUNKED + b"\r\n\r\n5\r\nhello0\r\n\r\n",
        HEALTH.replace(b"GET", b"head"),
        b"GET /v1/stream HTTP/1.1\r\nHost: relay\r\n" + HANDSHAKE.replace(b"13", b"\xff") + b"\r\n\r\n",
    ]

    async def main() -> None:
        async with asked_relay(tmp_path / "data") as asked:
            for data in asks:
                async with open_http(asked.relay.http_address) as http:
                    await http.stream.send_all(data)
                    await http.stream.send_eof()
                    await http.read_to_end()

    trio.run(main)
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
