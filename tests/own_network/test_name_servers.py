"""A name server that answers as it likes is one without an answer, and no end of the look."""

from __future__ import annotations

import socket
import struct

import dns.flags
import dns.message
import pytest
import trio

from relay.own_network.findings import NetworkFinding
from relay.own_network.name_servers import look_at_name_servers
from tests.world.daemon import free_port


async def asked(over_tcp: bytes | None) -> NetworkFinding:
    """Of a server that sends everybody to TCP, says this there and hangs up; None: it resets the connection."""
    datagrams = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    # The kernel gives one that is free for datagrams, where a connection may have it already.
    port = free_port()
    await datagrams.bind(("127.0.0.1", port))

    async def send_to_tcp() -> None:
        while True:
            question, client = await datagrams.recvfrom(2000)
            answer = dns.message.make_response(dns.message.from_wire(question))
            answer.flags |= dns.flags.TC
            await datagrams.sendto(answer.to_wire(), client)

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        if over_tcp is None:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            await stream.send_all(over_tcp)
        await stream.aclose()

    with datagrams:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, hang_up, listeners)
            nursery.start_soon(send_to_tcp)
            (finding,) = await look_at_name_servers(["127.0.0.1"], port=port)
            nursery.cancel_scope.cancel()
    return finding


@pytest.mark.parametrize("over_tcp", [b"", b"\x10\x00abc", b"\x00\x05abcde", None])
def test_a_server_that_hangs_up_gives_no_answer(over_tcp: bytes | None) -> None:
    finding = trio.run(asked, over_tcp)
    assert (finding.check, finding.ok) == ("resolver", False)
    assert finding.found.startswith("no answer (")
