"""A refusal need not wait for the body. What comes after it on the same connection is answered, or the connection is
closed: never is a client left waiting."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from relay.api import request
from relay.service import Relay, open_relay
from tests.world.http import open_http
from tests.world.orders import order
from tests.world.process import make_process_directory
from tests.world.relay import DID, DOMAIN

#: member.added, domain.added, key.issued
ENROLMENT_EVENTS = 3
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n"
#: Nobody's: a body is refused before it is read.
STRANGER = {"X-Atmos-DID": "did:plc:zzzzzzzzzzzzzzzzzzzzzzzz", "Authorization": "Bearer atmos_wrong"}


@asynccontextmanager
async def listening_relay(directory: Path) -> AsyncIterator[Relay]:
    """In the test's process, so that its limits can be lowered, on a real port."""
    make_process_directory(directory, route="127.0.0.1:9")
    with trio.fail_after(60):
        async with open_relay(directory) as relay:
            yield relay
            await relay.stop()


async def enrol(relay: Relay) -> dict[str, str]:
    answer = await order(relay.core, "member_add", did=DID, domains=[DOMAIN], offline=True)
    assert isinstance(answer, dict)
    return {"X-Atmos-DID": DID, "Authorization": f"Bearer {answer['apiKey']}"}


def request_head(length: int) -> dict[str, str]:
    return {"Host": "relay", "Content-Length": str(length), **STRANGER}


def test_the_rest_arrives_and_the_connection_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "REST_OF_REQUEST_SECONDS_MAX", 30.0)
    body = b"x" * 300_000

    async def main() -> None:
        async with listening_relay(tmp_path / "data") as relay, open_http(relay.http_address) as http:
            await http.send_head("POST", "/v1/send", request_head(len(body)))
            await http.stream.send_all(body[:100_000])
            refused = await http.read_answer()
            assert (refused.status, refused.code) == (401, "AUTH_FAILED")
            await http.send_rest(body[100_000:])
            healthy = await http.request("GET", "/healthz")
            assert healthy.status == 200

    trio.run(main)


def test_the_rest_does_not_arrive_and_the_connection_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "REST_OF_REQUEST_SECONDS_MAX", 0.1)

    async def main() -> None:
        async with listening_relay(tmp_path / "data") as relay, open_http(relay.http_address) as http:
            await http.send_head("POST", "/v1/send", request_head(300_000))
            assert (await http.read_answer()).status == 401
            await http.read_to_end()

    trio.run(main)


def test_a_body_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However steadily it drips: what is limited is the whole, not each pause."""
    monkeypatch.setattr(request, "BODY_SECONDS_MAX", 0.3)
    monkeypatch.setattr(request, "REST_OF_REQUEST_SECONDS_MAX", 0.1)

    async def main() -> None:
        async with listening_relay(tmp_path / "data") as relay:
            enrolled = await enrol(relay)
            async with open_http(relay.http_address) as http, trio.open_nursery() as nursery:
                await http.send_head("POST", "/v1/send", {**request_head(300_000), **enrolled})

                async def drip() -> None:
                    try:
                        while True:
                            await http.stream.send_all(b"x")
                            await trio.sleep(0.01)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        pass

                nursery.start_soon(drip)
                answer = await http.read_answer()
                assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")
                await http.read_to_end()
            assert relay.core.store.last_seq == ENROLMENT_EVENTS

    trio.run(main)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02 garbage\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"EHLO mx.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: relay\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/send HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n",
    ],
)
def test_garbage_behind_a_request_costs_only_itself(tmp_path: Path, garbage: bytes) -> None:
    async def main() -> None:
        async with listening_relay(tmp_path / "data") as relay:
            async with open_http(relay.http_address) as http:
                await http.stream.send_all(HEALTH + HEALTH + garbage)
                data = await http.read_to_end()
            first, second, third = data.split(b"HTTP/1.1 ")[1:]
            assert [answer[:3] for answer in (first, second, third)] == [b"200", b"200", b"400"]
            async with open_http(relay.http_address) as http:
                assert (await http.request("GET", "/healthz")).status == 200

    trio.run(main)


@pytest.mark.parametrize("target", ["http://[/", "?x", "//[x", "*", "/%ff%00"])
def test_a_target_that_is_no_url_is_not_found(tmp_path: Path, target: str) -> None:
    async def main() -> None:
        async with listening_relay(tmp_path / "data") as relay, open_http(relay.http_address) as http:
            answer = await http.request("GET", target)
            assert (answer.status, answer.code) == (404, "NOT_FOUND")
            assert (await http.request("GET", "/healthz")).status == 200

    trio.run(main)


def test_a_client_that_hangs_up_in_the_body_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with listening_relay(tmp_path / "data") as relay:
            enrolled = await enrol(relay)
            async with open_http(relay.http_address) as http:
                await http.send_head("POST", "/v1/send", {**request_head(1000), **enrolled})
                await http.stream.send_all(b'{"from": "you@yourdomain.com", ')
                await http.stream.send_eof()
                assert b" 200 " not in await http.read_to_end()
            assert relay.core.store.last_seq == ENROLMENT_EVENTS

    trio.run(main)


def test_a_request_that_breaks_off_is_not_accepted(tmp_path: Path) -> None:
    """Not even where what has arrived would be a mail: its client cannot know, and with an Idempotency-Key could not
    send the whole any more."""

    async def main() -> None:
        async with listening_relay(tmp_path / "data") as relay:
            credentials = await enrol(relay)
            mail = json.dumps(
                {"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "Hello", "text": "Hi"}
            ).encode()
            headers = {"Host": "relay", "Content-Length": str(len(mail) + 1), **credentials}
            async with open_http(relay.http_address) as http:
                await http.send_head("POST", "/v1/send", headers)
                await http.stream.send_all(mail)
                await http.stream.send_eof()
                while await http.stream.receive_some(4096):
                    pass
            async with open_http(relay.http_address) as http:
                accepted = await http.post_send(credentials)
                assert accepted.json()["accepted"][0]["messageId"] == ENROLMENT_EVENTS + 2

    trio.run(main)
