"""HTTPS requests: which addresses and URLs they may go to, and how they are cancelled."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import memory_stream_pair

from relay.internet.https import (
    FetchError,
    Url,
    fetch,
    parse_url,
)
from tests.world.dns import FakeDns
from tests.world.https import Outside, Stream, open_https_server, serve_https
from tests.world.https_requests import AUTHORITY, HOST, OK, OTHER, PUBLIC, SERVER, URL, Visit

# ------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("10.0.0.1",),
        ("169.254.169.254",),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("::ffff:10.1.2.3",),
        ("64:ff9b::7f00:1",),
        ("fd00::1",),
        # One is enough, wherever it stands.
        (PUBLIC, "192.168.0.1"),
        (*(PUBLIC, OTHER) * 5, "127.0.0.1"),
    ],
)
def test_a_name_that_leads_inside_is_not_connected_to(addresses: tuple[str, ...]) -> None:
    visit = Visit(addresses=addresses)
    assert visit.error.startswith("host.example has the ")
    assert "only public ones are connected to" in visit.error
    assert visit.connected == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "[fe80::1]",
    ],
)
def test_an_address_in_the_url_that_leads_inside_is_not_connected_to(host: str) -> None:
    visit = Visit(url=f"https://{host}/")
    assert "only public ones are connected to" in visit.error
    assert visit.connected == []


def test_a_name_that_moves_inside_after_it_was_looked_at_gains_nothing() -> None:
    class Rebinding(FakeDns):
        async def lookup_addresses(self, host: str) -> list[str]:
            self.asked.append(("A", host))
            return [PUBLIC] if len(self.asked) == 1 else ["127.0.0.1"]

    async def main() -> None:
        async with open_https_server(SERVER, OK) as port:
            outside = Outside(port)
            answer = await fetch(
                "GET", URL, resolver=Rebinding(), open_stream=outside.open_stream, tls=AUTHORITY.trust
            )
            assert answer.status == 200
            assert outside.connected == [(PUBLIC, 443)]

    trio.run(main)


@pytest.mark.parametrize(
    ("dns", "sentence", "no_such_host"),
    [
        (FakeDns(), "host.example does not exist in the DNS", True),
        (FakeDns(addresses={HOST: []}), "host.example has no address", False),
        (FakeDns(broken={HOST}), "the DNS could not tell the address of host.example", False),
    ],
)
def test_a_name_without_an_address(dns: FakeDns, sentence: str, no_such_host: bool) -> None:
    with pytest.raises(FetchError) as raised:
        trio.run(partial(fetch, "GET", URL, resolver=dns, open_stream=_nobody, tls=AUTHORITY.trust))
    assert str(raised.value).startswith(sentence)
    assert raised.value.no_such_host is no_such_host


async def _nobody(address: str, port: int) -> Stream:
    raise AssertionError(f"{address} was connected to")


# ------------------------------------------------------------------------------------------------ URLs


@pytest.mark.parametrize(
    ("text", "url", "authority"),
    [
        ("https://a.example", Url("a.example", 443, "/"), "a.example"),
        ("HTTPS://A.example:443/x?y#z", Url("a.example", 443, "/x?y"), "a.example"),
        ("https://a.example:1/", Url("a.example", 1, "/"), "a.example:1"),
        ("https://a.example/@x:y", Url("a.example", 443, "/@x:y"), "a.example"),
        ("https://[2606::1]:8443/", Url("2606::1", 8443, "/"), "[2606::1]:8443"),
        ("https://8.8.8.8/?q", Url("8.8.8.8", 443, "/?q"), "8.8.8.8"),
        ("https://xn--bcher-kva.example/", Url("xn--bcher-kva.example", 443, "/"), "xn--bcher-kva.example"),
    ],
)
def test_a_url(text: str, url: Url, authority: str) -> None:
    assert parse_url(text) == url
    assert url.authority == authority


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "https://HOST"),
        ("http://host.example/", "https://HOST"),
        ("//host.example/", "https://HOST"),
        ("host.example", "https://HOST"),
        ("file:///etc/passwd", "https://HOST"),
        ("https:host.example", "https://HOST"),
        ("https://user@host.example/", "user name"),
        ("https://user:secret@host.example/", "user name"),
        ("https://host.example@127.0.0.1/", "user name"),
        ("https://host.example:443@other.example/", "user name"),
        ("https://host.example\\@other.example/", "percent-encoded"),
        ("https://host.example/a b", "percent-encoded"),
        ("https://host.example/\r\nHost: other.example", "percent-encoded"),
        ("https://host.example/\x00", "percent-encoded"),
        ("https://host.example/\t", "percent-encoded"),
        ("https://host.example/\x7f", "percent-encoded"),
        ("https://host.example/é", "percent-encoded"),
        ("https://bücher.example/", "percent-encoded"),
        ("https://host.example/\ud800", "percent-encoded"),
        ("https://host.example:0/", "port"),
        ("https://host.example:65536/", "port"),
        ("https://host.example:-1/", "host"),
        ("https://host.example:+443/", "host"),
        ("https://host.example:1234567/", "host"),
        ("https://host.example:x/", "host"),
        ("https:///path", "host"),
        ("https://:443/", "host"),
        ("https://localhost/", "host"),
        ("https://host.example./", "host"),
        ("https://.example/", "host"),
        ("https://a..example/", "host"),
        ("https://host%2eexample/", "host"),
        # The other ways of writing 127.0.0.1.
        ("https://2130706433/", "host"),
        ("https://127.1/", "host"),
        ("https://0177.0.0.1/", "host"),
        ("https://[127.0.0.1]/", "host"),
        ("https://[::1%25lo]/", "host"),
        ("https://[::1/", "host"),
        ("https://::1/", "host"),
        ("https://[]/", "host"),
        (f"https://host.example/{'x' * 5000}", "longer"),
    ],
)
def test_no_url(text: str, why: str) -> None:
    with pytest.raises(FetchError, match=why):
        parse_url(text)


def test_a_hexadecimal_address_is_a_name_and_asked_of_the_dns_only() -> None:
    visit = Visit(url="https://0x7f.0x1/")
    assert visit.error == "0x7f.0x1 does not exist in the DNS"
    assert visit.connected == []


# ------------------------------------------------------------------------------------------------ cancellation


def test_cancelled_is_closed_at_once() -> None:
    async def main() -> None:
        async with trio.open_nursery() as servers:
            asked, hung_up = trio.Event(), trio.Event()

            async def handle(stream: Stream, request: bytes) -> None:
                asked.set()
                assert await stream.receive_some() == b""
                hung_up.set()

            async def open_stream(address: str, port: int) -> Stream:
                ours, theirs = memory_stream_pair()
                servers.start_soon(serve_https, theirs, SERVER, handle)
                return ours

            dns = FakeDns(addresses={HOST: [PUBLIC]})
            async with trio.open_nursery() as clients:
                clients.start_soon(
                    partial(fetch, "GET", URL, resolver=dns, open_stream=open_stream, tls=AUTHORITY.trust)
                )
                await asked.wait()
                clients.cancel_scope.cancel()
            await hung_up.wait()

    trio.run(main)
