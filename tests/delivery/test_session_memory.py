"""What one receiver can make a session hold: less than 1 MiB, whatever it sends, over real sockets.

tracemalloc sees every allocation of Python's, also the receiver's, which sends one block again and again. What OpenSSL
holds for a connection it does not see; that is bounded by the size of a record and of a certificate chain.
"""

import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from relay.delivery.outcomes import AttemptOutcome
from relay.delivery.replies import FailureKind
from relay.delivery.session import SessionFailed, open_session
from relay.message.envelope import Envelope
from tests.world.https import Authority
from tests.world.mx import HUGE_REPLY_BYTES

BYTES_MAX = 1024 * 1024
BLOCKS = {
    "one line": b"x" * 65536,
    "many lines": b"250-and more\r\n" * 4096,
    "empty lines": b"250-\r\n" * 8192,
    "many replies": b"250 Ok\r\n" * 8192,
    "records without content": b"\x16\x03\x03\x00\x04\x00\x00\x00\x00" * 4096,
}
TLS = Authority().certificate("mx.test")


async def flood(stream: trio.abc.Stream, block: bytes) -> None:
    try:
        for _ in range(HUGE_REPLY_BYTES // len(block)):
            await stream.send_all(block)
    except trio.BrokenResourceError:
        return
    raise AssertionError("all of it was read")


async def at_the_banner(stream: trio.abc.Stream, block: bytes) -> None:
    await flood(stream, block)


async def at_mail(stream: trio.abc.Stream, block: bytes) -> None:
    await stream.send_all(b"220 mx.test\r\n")
    await stream.receive_some(4096)
    await stream.send_all(b"250 mx.test\r\n")
    await stream.receive_some(4096)
    await flood(stream, block)


async def in_the_body(stream: trio.abc.Stream, block: bytes) -> None:
    await stream.send_all(b"220 mx.test\r\n")
    for reply in (b"250 mx.test\r\n", b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go ahead\r\n"):
        await stream.receive_some(4096)
        await stream.send_all(reply)
    await flood(stream, block)


async def offer_tls(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"220 mx.test\r\n")
    await stream.receive_some(4096)
    await stream.send_all(b"250-mx.test\r\n250 STARTTLS\r\n")
    await stream.receive_some(4096)
    await stream.send_all(b"220 Go ahead\r\n")


async def at_the_handshake(stream: trio.abc.Stream, block: bytes) -> None:
    await offer_tls(stream)
    await flood(stream, block)


async def under_tls(stream: trio.abc.Stream, block: bytes) -> None:
    await offer_tls(stream)
    secured = trio.SSLStream(stream, TLS, server_side=True, https_compatible=True)
    await at_mail_again(secured, block)


async def at_mail_again(stream: trio.abc.Stream, block: bytes) -> None:
    await stream.receive_some(4096)
    await stream.send_all(b"250 mx.test\r\n")
    await stream.receive_some(4096)
    await flood(stream, block)


async def attempt(port: int) -> AttemptOutcome:
    try:
        session = await open_session("mx.test", "127.0.0.1", port, ehlo_name="relay.test")
    except SessionFailed as error:
        return error.outcome
    envelope = Envelope("ann@relay.test", "bob@mx.test")
    return await session.deliver(envelope, b"Hello.\r\n", before_final_dot=trio.lowlevel.checkpoint)


@pytest.mark.parametrize(
    ("receiver", "block"),
    [
        *(
            (receiver, block)
            for receiver in (at_the_banner, at_mail, in_the_body, under_tls)
            for block in ("one line", "many lines", "empty lines")
        ),
        (at_mail, "many replies"),
        (under_tls, "many replies"),
        (at_the_handshake, "records without content"),
        (at_the_handshake, "one line"),
    ],
)
def test_a_flood_is_cut_off_and_costs_less_than_a_mebibyte(
    receiver: Callable[[trio.abc.Stream, bytes], Awaitable[None]], block: str
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await receiver(stream, BLOCKS[block])

    async def main() -> int:
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            port = listener.socket.getsockname()[1]
            await attempt(port)  # what is loaded and cached once is not counted
            tracemalloc.start()
            try:
                outcome = await attempt(port)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert outcome.failure is not None
            assert outcome.failure.kind in (FailureKind.NOT_SMTP, FailureKind.TLS)
            nursery.cancel_scope.cancel()
        return peak

    assert trio.run(main) < BYTES_MAX
