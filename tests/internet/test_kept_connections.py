"""A connection that is kept between two requests: what may be asked over it, and when it is given up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from trio.testing import memory_stream_pair

from relay.internet.https import FetchError, FetchLimits, KeptConnection
from tests.world.dns import FakeDns
from tests.world.https import Stream
from tests.world.https_requests import AUTHORITY, HOST, PUBLIC, SERVER, URL
from tests.world.relay import run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
#: What a server does with each request, over all its connections; "end": it hangs up without a word.
Script = list[bytes | str]


class Server:
    def __init__(self, script: Script, addresses: list[str]) -> None:
        self.script = script
        self.dns = FakeDns(addresses={HOST: addresses})
        self.requests: list[bytes] = []
        #: On which connection each request came.
        self.came_on: list[int] = []
        self.connections = 0
        self.nursery: trio.Nursery

    async def open_stream(self, address: str, port: int) -> Stream:
        self.connections += 1
        ours, theirs = memory_stream_pair()
        secure = trio.SSLStream(theirs, SERVER, server_side=True, https_compatible=True)
        self.nursery.start_soon(self._serve, theirs if port == 80 else secure, self.connections)
        return ours

    async def _serve(self, stream: Stream, number: int) -> None:
        try:
            while request := bytes(await stream.receive_some()):
                self.requests.append(request)
                self.came_on.append(number)
                answer = self.script.pop(0) if self.script else OK
                if isinstance(answer, str):
                    break
                await stream.send_all(answer)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_server(*script: bytes | str, addresses: tuple[str, ...] = (PUBLIC,)) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        server = Server(list(script), list(addresses))
        server.nursery = nursery
        yield server
        nursery.cancel_scope.cancel()


def to(server: Server, url: str = URL, permits: Callable[[str, int], bool] | None = None) -> KeptConnection:
    more = {} if permits is None else {"permits": permits}
    return KeptConnection(
        url,
        resolver=server.dns,
        open_stream=server.open_stream,
        tls=AUTHORITY.trust,
        limits=FetchLimits(seconds_max=20, body_bytes_max=100),
        **more,
    )


def test_one_connection_serves_many_requests() -> None:
    async def main() -> None:
        async with open_server() as server:
            connection = to(server)
            for number in range(5):
                answer = await connection.ask("POST", body=b"%d" % number)
                assert (answer.status, answer.body) == (200, b"hi")
            assert server.connections == connection.made == 1
            assert server.dns.asked == [("A", HOST)]
            assert b"connection: close" not in server.requests[0].lower()

    run(main)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", id="said so"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, id="not read to the end"
        ),
        pytest.param(OK + b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", id="more behind it"),
    ],
)
def test_a_connection_that_cannot_be_trusted_with_another_request_is_not_kept(answer: bytes) -> None:
    async def main() -> None:
        async with open_server(answer) as server:
            connection = to(server)
            assert (await connection.ask("POST")).status == 200
            assert not connection.is_open
            assert (await connection.ask("POST")).body == b"hi"
            assert server.came_on == [1, 2]

    run(main)


def test_a_connection_that_died_while_nothing_was_asked_costs_a_new_one_and_no_error() -> None:
    async def main() -> None:
        async with open_server(OK, "end") as server:
            connection = to(server)
            await connection.ask("POST", body=b"1")
            assert (await connection.ask("POST", body=b"2")).status == 200
            assert server.came_on == [1, 1, 2]
            assert server.requests[1] == server.requests[2]

    run(main)


@pytest.mark.parametrize("script", [("end",), (OK, b"HTTP/1.1 2", b"")])
def test_it_is_not_asked_again_on_a_new_connection_or_once_an_answer_has_begun(script: Script) -> None:
    async def main() -> None:
        async with open_server(*script) as server:
            connection = to(server)
            with pytest.raises(FetchError):
                for _ in script:
                    await connection.ask("POST")
            assert server.connections == 1
            assert not connection.is_open

    run(main)


def test_it_is_asked_again_once_and_no_more() -> None:
    async def main() -> None:
        async with open_server(OK, "end", "end") as server:
            connection = to(server)
            await connection.ask("POST")
            with pytest.raises(FetchError):
                await connection.ask("POST")
            assert server.came_on == [1, 1, 2]

    run(main)


def test_each_new_connection_looks_at_the_addresses_again() -> None:
    """What was public when it was asked first need not be so for ever."""

    async def main() -> None:
        async with open_server(OK, "end") as server:
            connection = to(server)
            await connection.ask("POST")
            server.dns.addresses[HOST] = ["127.0.0.1"]
            with pytest.raises(FetchError, match="loopback") as raised:
                await connection.ask("POST")
            assert raised.value.why == "address"
            assert server.connections == 1

    run(main)


def test_both_tries_together_have_the_time_of_one() -> None:
    async def main() -> None:
        async with open_server(OK, "end", b"") as server:
            connection = to(server)
            await connection.ask("POST")
            began = trio.current_time()
            with pytest.raises(FetchError) as raised:
                await connection.ask("POST")
            assert raised.value.why == "timeout"
            assert trio.current_time() - began == pytest.approx(20)
            assert not connection.is_open

    run(main)


def test_in_the_clear_only_what_is_permitted_is_asked() -> None:
    async def main() -> None:
        async with open_server(addresses=("10.1.2.3",)) as server:
            connection = to(server, f"http://{HOST}/a", lambda host, port: (host, port) == (HOST, 80))
            assert (await connection.ask("POST")).status == 200
            assert f"Host: {HOST}\r\n".encode() in server.requests[0]
            for url in (f"http://{HOST}:81/a", "http://other.example/a", f"https://{HOST}/"):
                with pytest.raises(FetchError):
                    await to(server, url, lambda host, port: (host, port) == (HOST, 80)).ask("POST")
            assert server.connections == 1

    run(main)


def test_what_a_server_says_unasked_is_no_answer() -> None:
    """On a real socket, where that can be seen."""

    async def main() -> None:
        sent = trio.Event()
        requests = 0

        async def serve(stream: trio.SocketStream) -> None:
            nonlocal requests
            await stream.receive_some()
            requests += 1
            await stream.send_all(OK)
            if requests == 1:
                await trio.testing.wait_all_tasks_blocked(0.01)
                await stream.send_all(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
                sent.set()
            with suppress(trio.BrokenResourceError):
                await stream.receive_some()
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, serve, 0)
            port = listeners[0].socket.getsockname()[1]
            connection = KeptConnection(
                f"http://127.0.0.1:{port}/", resolver=FakeDns(), permits=lambda host, port: True
            )
            assert (await connection.ask("POST")).status == 200
            await sent.wait()
            assert (await connection.ask("POST")).status == 200
            assert connection.made == 2
            await connection.aclose()
            nursery.cancel_scope.cancel()

    trio.run(main)
