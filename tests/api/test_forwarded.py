"""Whose request it is that a proxy forwards: X-Forwarded-For is believed where a trusted proxy sends it, and from its
right end only. That address is in the event of a send, and has the limit that its own connections would have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relay.api import request
from relay.api.clients import PROXIES_MAX, Clients
from relay.events import SendAccepted
from relay.networks import parse_address
from relay.service import Relay, open_relay
from tests.world.http import HttpConnection, NoAnswerError, open_http
from tests.world.orders import order
from tests.world.process import PATIENCE_SECONDS, make_process_directory
from tests.world.relay import DID, DOMAIN, open_world, run

CLIENTS = Clients(lambda: ("127.0.0.0/8", "::1", "10.0.0.0/8", "2001:db8:ffff::/48"))
STRANGER = "203.0.113.7"
MAIL = {"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "Hello", "text": "Hi\n"}


def whose(peer: str, *fields: str | bytes) -> str | None:
    scope: Any = {
        "client": (peer, 50000),
        "headers": [
            (b"host", b"relay"),
            *(
                (b"x-forwarded-for", field if isinstance(field, bytes) else field.encode())
                for field in fields
            ),
        ],
    }
    client = CLIENTS.of(scope)
    assert client is not None
    assert scope["client"][0] in (client.address, peer)
    return client.address


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ([], "127.0.0.1"),
        ([STRANGER], STRANGER),
        # Whatever the stranger has sent stands to the left.
        ([f"198.51.100.1, {STRANGER}"], STRANGER),
        ([f"127.0.0.1, {STRANGER}"], STRANGER),
        ([f"nonsense, {STRANGER}"], STRANGER),
        ([f"{'198.51.100.1, ' * 500}{STRANGER}"], STRANGER),
        # A field of its own is what some proxies add.
        (["198.51.100.1", STRANGER], STRANGER),
        # Proxies one behind the other.
        ([f"198.51.100.1,{STRANGER} ,\t10.0.0.1"], STRANGER),
        ([f"{STRANGER}, 10.0.0.1, 2001:db8:ffff::2"], STRANGER),
        ([STRANGER, "10.0.0.1"], STRANGER),
        # All are trusted: somebody there asks, through a proxy.
        (["10.0.0.9, 10.0.0.1"], "10.0.0.9"),
        # Forms.
        (["2001:db8::1"], "2001:db8::1"),
        (["2001:DB8:0::1"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        ([f"{STRANGER}:4711"], STRANGER),
        ([f"::ffff:{STRANGER}"], STRANGER),
        ([f", {STRANGER},, "], STRANGER),
        # What is no address.
        ([""], "127.0.0.1"),
        ([","], "127.0.0.1"),
        (["unknown"], "127.0.0.1"),
        (["_hidden"], "127.0.0.1"),
        ([f"{STRANGER}, nonsense"], "127.0.0.1"),
        ([f"{STRANGER}, nonsense, 10.0.0.1"], "127.0.0.1"),
        (["203.0.113.07"], "127.0.0.1"),
        (["203.0.113"], "127.0.0.1"),
        (["3405803783"], "127.0.0.1"),
        (["203.0.113.7:port"], "127.0.0.1"),
        (["203.0.113.7:4711:1"], "127.0.0.1"),
        (["[203.0.113.7]"], "127.0.0.1"),
        (["[2001:db8::1"], "127.0.0.1"),
        (["[2001:db8::1]4711"], "127.0.0.1"),
        (["[2001:db8::1]:x"], "127.0.0.1"),
        (["fe80::1%eth0"], "127.0.0.1"),
        ([f"{STRANGER}%"], "127.0.0.1"),
        ([f'"{STRANGER}"'], "127.0.0.1"),
        ([f"for={STRANGER}"], "127.0.0.1"),
        (["1" * 10_000], "127.0.0.1"),
        ([b"\xff\xfe"], "127.0.0.1"),
        (["203.0.113.٧"], "127.0.0.1"),
        # More proxies than anybody has.
        ([STRANGER + ", 10.0.0.1" * (PROXIES_MAX - 1)], STRANGER),
        ([STRANGER + ", 10.0.0.1" * (PROXIES_MAX + 1)], "127.0.0.1"),
    ],
)
def test_whose_request_it_is(fields: list[str | bytes], address: str) -> None:
    assert whose("127.0.0.1", *fields) == address
    # Who is no trusted proxy may say what it likes.
    assert whose(STRANGER, *fields) == STRANGER
    assert whose("::ffff:203.0.113.8", *fields) == "203.0.113.8"


def test_a_proxy_is_known_in_whatever_form_it_comes() -> None:
    for proxy in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8:ffff:0:1::1", "::1", "127.255.0.1"):
        assert whose(proxy, STRANGER) == STRANGER
    for peer in ("11.0.0.1", "2001:db8:fffe::1", "fe80::1%eth0"):
        assert whose(peer, "198.51.100.9") == peer.partition("%")[0]


def test_where_there_is_no_address_there_is_nobody() -> None:
    assert CLIENTS.of({"headers": [(b"x-forwarded-for", STRANGER.encode())]}) is None
    assert CLIENTS.of({"client": None, "headers": []}) is None


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_whatever_it_says_it_is_an_address(fields: list[bytes]) -> None:
    address = whose("127.0.0.1", *fields)
    assert address is not None
    assert str(parse_address(address)) == address


# ----------------------------------------------------------------------------------------------- what it is used for


def test_the_send_has_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for forwarded in (STRANGER, f"127.0.0.1, {STRANGER}", "nonsense"):
                headers = {**world.credentials, "X-Forwarded-For": forwarded}
                status, _, _ = await world.request("POST", "/v1/send", json=MAIL, headers=headers)
                assert status == 200
            found = [event for event in world.events() if isinstance(event, SendAccepted)]
            assert all(event.personal is not None for event in found)
            addresses = [event.personal.client_address for event in found if event.personal is not None]
            assert addresses == [STRANGER, STRANGER, "127.0.0.1"]

    run(main)


@asynccontextmanager
async def relay_with(directory: Path, http: str) -> AsyncIterator[tuple[Relay, dict[str, str]]]:
    make_process_directory(directory, route="127.0.0.1:9", http=http)
    with trio.fail_after(PATIENCE_SECONDS):
        async with open_relay(directory) as relay:
            answer = await order(relay.core, "member_add", did=DID, domains=[DOMAIN], offline=True)
            assert isinstance(answer, dict)
            yield relay, {"X-Atmos-DID": DID, "Authorization": f"Bearer {answer['apiKey']}"}
            await relay.stop()


async def begin(http: HttpConnection, credentials: dict[str, str], forwarded: str) -> None:
    """A request that is at work until `finish`."""
    body = json.dumps(MAIL).encode()
    headers = {"Host": "relay", "X-Forwarded-For": forwarded, **credentials, "Content-Length": str(len(body))}
    await http.send_head("POST", "/v1/send", headers)
    await http.stream.send_all(body[:10])


async def finish(http: HttpConnection) -> None:
    await http.stream.send_all(json.dumps(MAIL).encode()[10:])
    assert (await http.read_answer()).status == 200


def test_a_client_behind_a_proxy_has_so_many_requests_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connections are the proxy's: it keeps them, and they go on to serve others."""
    monkeypatch.setattr(request, "BODY_SECONDS_MAX", 30.0)

    async def main() -> None:
        async with (
            relay_with(tmp_path / "data", "connections_per_address_max = 2") as (relay, credentials),
            open_http(relay.http_address) as first,
            open_http(relay.http_address) as second,
            open_http(relay.http_address) as third,
        ):
            for http in (first, second):
                await begin(http, credentials, STRANGER)
            for path, content_type in (
                ("/healthz", "application/json"),
                ("/u/TOKEN", "text/html; charset=utf-8"),
            ):
                answer = await third.request("POST", path, {"X-Forwarded-For": STRANGER}, b"x" * 5000)
                assert (answer.status, answer.headers["retry-after"]) == (429, "1")
                assert answer.headers["content-type"] == content_type
            answer = await third.request("HEAD", "/healthz", {"X-Forwarded-For": STRANGER})
            assert (answer.status, answer.body) == (429, b"")
            for address in ("203.0.113.8", "nonsense", "127.0.0.1"):
                assert (await third.request("GET", "/healthz", {"X-Forwarded-For": address})).status == 200
            await finish(first)
            assert (await third.request("GET", "/healthz", {"X-Forwarded-For": STRANGER})).status == 200
            await finish(second)
            metrics = relay.core.metrics_page.own_text().decode()
            assert 'atmos_http_turned_away_total{why="requests_per_address"} 3.0' in metrics

    trio.run(main)


def test_a_websocket_counts_until_it_is_a_stream(tmp_path: Path) -> None:
    upgrade = {
        "Host": "relay",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "X-Forwarded-For": STRANGER,
    }

    async def main() -> None:
        async with relay_with(tmp_path / "data", "connections_per_address_max = 1") as (relay, credentials):
            streams = []
            for _ in range(3):
                stream = await trio.open_tcp_stream("127.0.0.1", int(relay.http_address.rpartition(":")[2]))
                streams.append(stream)
                await HttpConnection(stream).send_head("GET", "/v1/stream", {**upgrade, **credentials})
                assert (await stream.receive_some(13)) == b"HTTP/1.1 101 "
            async with open_http(relay.http_address) as busy, open_http(relay.http_address) as http:
                await begin(busy, credentials, STRANGER)
                await http.send_head("GET", "/v1/stream", {**upgrade, **credentials})
                answer = await http.read_answer()
                assert (answer.status, answer.code) == (429, "RATE_LIMITED")
                await finish(busy)
            for stream in streams:
                await stream.aclose()

    trio.run(main)


def test_a_client_that_connects_has_so_many_connections(tmp_path: Path) -> None:
    """Its own, at work or not; who comes from elsewhere, and the proxies, have theirs."""

    async def main() -> None:
        settings = 'connections_per_address_max = 2\ntrusted_proxies = ["127.0.0.1"]'
        async with (
            relay_with(tmp_path / "data", settings) as (relay, _),
            open_http(relay.http_address, source="127.0.0.2") as first,
            open_http(relay.http_address, source="127.0.0.2") as second,
        ):
            for http in (first, second):
                assert (await http.request("GET", "/healthz")).status == 200
            for _ in range(3):
                async with open_http(relay.http_address, source="127.0.0.2") as surplus:
                    answer = await surplus.request("GET", "/healthz")
                    assert (answer.status, answer.code) == (429, "RATE_LIMITED")
                    assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
                    assert await surplus.read_to_end() == b""
            for source in ("127.0.0.3", *["127.0.0.1"] * 5):
                async with open_http(relay.http_address, source=source) as other:
                    assert (await other.request("GET", "/healthz")).status == 200
            # What it says of itself is nobody's concern.
            answer = await first.request("GET", "/healthz", {"X-Forwarded-For": "127.0.0.3"})
            assert answer.status == 200
            assert (await second.request("GET", "/healthz")).status == 200
            await first.stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.05)
            async with open_http(relay.http_address, source="127.0.0.2") as third:
                assert (await third.request("GET", "/healthz")).status == 200
            metrics = relay.core.metrics_page.own_text().decode()
            assert 'atmos_http_turned_away_total{why="connections_per_address"} 3.0' in metrics

    trio.run(main)


def test_one_that_is_turned_away_before_it_asks_is_told_why(tmp_path: Path) -> None:
    async def main() -> None:
        settings = 'connections_per_address_max = 1\ntrusted_proxies = ["::1"]'
        async with (
            relay_with(tmp_path / "data", settings) as (relay, _),
            open_http(relay.http_address),
            open_http(relay.http_address) as surplus,
        ):
            said = await surplus.read_to_end()
            head, _, body = said.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429 ")
            assert f"content-length: {len(body)}".encode() in head
            assert json.loads(body)["code"] == "RATE_LIMITED"
            with pytest.raises(NoAnswerError):
                await surplus.request("GET", "/healthz")

    trio.run(main)


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1")])
def test_an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client(tmp_path: Path, host: str, address: str) -> None:
    async def main() -> None:
        make_process_directory(tmp_path / "data", route="127.0.0.1:9")
        config = tmp_path / "data" / "relay.toml"
        config.write_text(config.read_text().replace('bind = "127.0.0.1:0"', 'bind = "[::]:0"'))
        with trio.fail_after(PATIENCE_SECONDS):
            async with open_relay(tmp_path / "data") as relay:
                answer = await order(relay.core, "member_add", did=DID, domains=[DOMAIN], offline=True)
                assert isinstance(answer, dict)
                credentials = {"X-Atmos-DID": DID, "Authorization": f"Bearer {answer['apiKey']}"}
                async with open_http(f"[{host}]:{relay.http_address.rpartition(':')[2]}") as http:
                    assert (await http.post_send(credentials)).status == 200
                    # Loopback, in either form: a monitor.
                    assert (await http.request("GET", "/metrics")).status == 200
                store = relay.core.store
                events = [store.get(seq).event for seq in range(1, store.last_seq + 1)]
                (accepted,) = (event for event in events if isinstance(event, SendAccepted))
                assert accepted.personal is not None
                assert accepted.personal.client_address == address
                await relay.stop()

    trio.run(main)
