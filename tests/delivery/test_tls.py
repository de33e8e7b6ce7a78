"""TLS on loopback: what a certificate proves, and handshakes that come to nothing."""

import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from relay.delivery.certificates import describe
from relay.delivery.outcomes import Peer, TlsInfo
from relay.delivery.replies import DeliveryVerdict, FailureKind, judge
from relay.delivery.session import (
    SessionFailed,
    TlsFailed,
    TlsPolicy,
    open_session,
    start_session,
)
from relay.message.envelope import Envelope
from relay.surroundings import Timeouts
from tests.world.https import Authority
from tests.world.mx import Mx, open_mx
from tests.world.self_signed import self_signed_context

AUTHORITY = Authority()
INTERMEDIATE = Authority(AUTHORITY)
STRANGER = Authority()
HOST = "mx.test"
DER = AUTHORITY.der(HOST)
MESSAGE = b"Subject: hello\r\n\r\nHello.\r\n"


async def tls_of(mx: Mx, host: str, trust: ssl.SSLContext | None) -> TlsInfo:
    """Connect and deliver, whatever the certificate is worth."""
    session = await open_session(host, mx.host, mx.port, ehlo_name="relay.test", trust=trust)
    envelope = Envelope("ann@relay.test", "bob@mx.test")
    outcome = await session.deliver(envelope, MESSAGE, before_final_dot=trio.lowlevel.checkpoint)
    await session.quit()
    assert outcome.verdict is DeliveryVerdict.SENT
    assert session.tls is not None
    assert session.tls.version == mx.messages[-1].tls
    return session.tls


@pytest.mark.parametrize(
    ("server", "result"),
    [
        (AUTHORITY.certificate(HOST), "verified"),
        (AUTHORITY.certificate("other.test", HOST), "verified"),
        (AUTHORITY.certificate("*.test"), "verified"),
        (INTERMEDIATE.certificate(HOST), "verified"),
        (
            INTERMEDIATE.certificate(HOST, chain=False),
            "unverified: no valid chain leads to an authority that is trusted here",
        ),
        (STRANGER.certificate(HOST), "unverified: no valid chain leads to an authority that is trusted here"),
        (self_signed_context(HOST), "unverified: it is self-signed"),
        (self_signed_context("*.test"), "unverified: it is self-signed"),
        (AUTHORITY.certificate("other.test"), "unverified: it is for another name"),
        (AUTHORITY.certificate("*.mx.test"), "unverified: it is for another name"),
        (self_signed_context("other.test"), "unverified: it is for another name"),
        (AUTHORITY.certificate(HOST, expired=True), "unverified: it is not valid today"),
    ],
)
def test_a_certificate_is_judged_and_never_stops_delivery(server: ssl.SSLContext, result: str) -> None:
    async def main() -> None:
        async with open_mx(tls=server) as mx:
            assert (await tls_of(mx, HOST, AUTHORITY.trust)).certificate == result
            assert mx.violations == []

    trio.run(main)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_show_the_chain(version: ssl.TLSVersion) -> None:
    server = INTERMEDIATE.certificate(HOST)
    server.maximum_version = server.minimum_version = version

    async def main() -> None:
        async with open_mx(tls=server) as mx:
            tls = await tls_of(mx, HOST, AUTHORITY.trust)
            assert (tls.version, tls.certificate) == (version.name.replace("_", "."), "verified")
            assert tls.cipher

    trio.run(main)


def test_a_route_by_address_is_verified_by_address() -> None:
    async def main() -> None:
        async with open_mx(tls=AUTHORITY.certificate("127.0.0.1")) as mx:
            assert (await tls_of(mx, "127.0.0.1", AUTHORITY.trust)).certificate == "verified"

    trio.run(main)


def test_the_system_believes_no_authority_of_a_test() -> None:
    async def main() -> None:
        async with open_mx(tls=AUTHORITY.certificate(HOST)) as mx:
            assert (await tls_of(mx, HOST, None)).certificate.startswith("unverified: ")

    trio.run(main)


def test_a_certificate_that_is_none() -> None:
    now = datetime.now(UTC)
    assert describe([], HOST, now=now) == "unverified: none was shown"
    assert describe([b"rubbish"], HOST, now=now) == "unverified: it cannot be read"


@given(st.data())
def test_a_certificate_with_any_bytes_changed_has_a_description(data: st.DataObject) -> None:
    der = bytearray(DER)
    for position in data.draw(st.lists(st.integers(0, len(der) - 1), max_size=4)):
        der[position] = data.draw(st.integers(0, 255))
    result = describe([bytes(der)], HOST, now=datetime.now(UTC), trust=AUTHORITY.trust)
    assert result == "verified" or result.startswith("unverified: ")


def test_a_certificate_that_says_something_twice_or_names_what_nobody_knows_is_described() -> None:
    # The object identifiers of two extensions made equal; the general name of a type that does not exist.
    san, key_usage = b"\x06\x03\x55\x1d\x11", b"\x06\x03\x55\x1d\x0f"
    for der in (DER.replace(key_usage, san), DER.replace(b"\x82\x07mx.test", b"\x83\x07mx.test")):
        assert der != DER
        result = describe([der], HOST, now=datetime.now(UTC), trust=AUTHORITY.trust)
        assert result == "unverified: it cannot be read"


def test_where_no_authority_is_trusted_nothing_is_verified() -> None:
    async def main() -> None:
        async with open_mx(tls=AUTHORITY.certificate(HOST)) as mx:
            tls = await tls_of(mx, HOST, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            assert tls.certificate == "unverified: there is no authority that is trusted here"

    trio.run(main)


# -- handshakes that come to nothing


def old_server() -> ssl.SSLContext:
    """TLS 1.0 and nothing later."""
    context = self_signed_context(HOST)
    context.set_ciphers("ALL@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def huge_server() -> ssl.SSLContext:
    """A certificate of 250 kB, more than the TLS library reads."""
    return AUTHORITY.certificate(HOST, *(f"{'x' * 60}.{number}.test" for number in range(3500)))


@pytest.mark.parametrize("server", [old_server, huge_server])
def test_a_handshake_that_fails_can_be_followed_by_plain_text(server: Callable[[], ssl.SSLContext]) -> None:
    async def main() -> None:
        async with open_mx(tls=server()) as mx:
            connect = partial(open_session, HOST, mx.host, mx.port, ehlo_name="relay.test")
            with pytest.raises(TlsFailed) as raised:
                await connect()
            failure = raised.value.outcome.failure
            assert failure is not None
            assert (failure.kind, judge(failure).verdict) == (FailureKind.TLS, DeliveryVerdict.DEFERRED)
            session = await connect(tls=TlsPolicy.NEVER)
            assert session.tls is None
            await session.quit()

    trio.run(main)


async def greet_and_offer_tls(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"220 mx.test\r\n")
    await stream.receive_some(4096)
    await stream.send_all(b"250-mx.test\r\n250 STARTTLS\r\n")
    await stream.receive_some(4096)
    await stream.send_all(b"220 Go ahead\r\n")


async def silent(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def dripping(stream: trio.abc.Stream) -> None:
    """The beginning of a ServerHello of 16 kB, a byte a second."""
    await stream.send_all(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb")
    while True:
        await stream.send_all(b"\0")
        await trio.sleep(1)


async def endless(stream: trio.abc.Stream) -> None:
    """Records that are legal, empty of meaning, and never end: change_cipher_spec."""
    while True:
        await stream.send_all(b"\x14\x03\x03\x00\x01\x01")
        await trio.sleep(0.001)


async def greeting_for_ever(stream: trio.abc.Stream) -> None:
    """HelloRequest, which a client in the middle of a handshake is to ignore (RFC 5246 section 7.4.1.1)."""
    while True:
        await stream.send_all(b"\x16\x03\x03\x00\x04\x00\x00\x00\x00" * 100)
        await trio.sleep(0.001)


@pytest.mark.parametrize("handshake", [silent, dripping, endless, greeting_for_ever])
def test_a_handshake_costs_bounded_time(handshake: Callable[[trio.abc.Stream], Awaitable[None]]) -> None:
    async def main() -> None:
        ours, theirs = memory_stream_pair()

        async def server() -> None:
            await greet_and_offer_tls(theirs)
            await handshake(theirs)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(swallow_breaks, server))
            timeouts = Timeouts(starttls=10)
            began = trio.current_time()
            with pytest.raises(SessionFailed) as raised:
                await start_session(
                    ours, peer=Peer(HOST, "192.0.2.1", 25), ehlo_name="relay.test", timeouts=timeouts
                )
            assert isinstance(raised.value, TlsFailed)
            assert trio.current_time() - began <= timeouts.starttls + 0.01
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def swallow_breaks(server: Callable[[], Awaitable[None]]) -> None:
    """Run a server whose client may leave."""
    try:
        await server()
    except trio.BrokenResourceError:
        return
