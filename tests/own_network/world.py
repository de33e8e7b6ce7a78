"""A relay's place in the world, where everything is right: real name servers, real ports, real TLS, all on loopback.

`RIGHT` is a zone in which receivers find nothing wrong; a test takes a record out or puts another in. The relay's
address is 127.0.0.25. Addresses of the world (those of providers, of `public_url`) are servers on loopback.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from email.utils import format_datetime
from functools import cache

import trio

from relay.config import Config, DeliveryConfig, MembersConfig, MonitoringConfig
from relay.config_doors import InboundConfig, SubmissionConfig, TlsConfig
from relay.domains.records import dkim_record
from relay.internet.own_addresses import OwnAddress
from relay.message.signer import Signer
from relay.networks import parse_address
from relay.own_network.findings import NetworkFinding
from relay.own_network.looking import World, look_at_network
from relay.own_network.ports import Ports
from relay.surroundings import Surroundings
from relay.times import utc
from tests.world.https import Authority, serve_https
from tests.world.mx import Mx
from tests.world.mx_options import MxOptions
from tests.world.name_service import NameService

NAME, DOMAIN, ADDRESS = "mx.relay.example", "relay.example", "127.0.0.25"
#: Of the world: nobody is connected to there.
PROVIDER, WEB, DIRECTORY = "8.8.7.1", "8.8.7.2", "8.8.7.3"

#: Of the other family.
UNUSED = "2a01:4f8::25"
PROVIDER_SAYS = (
    b"250-mx.big.example at your service, [127.0.0.25]\r\n250 8BITMIME\r\n",
    b"221 bye\r\n",
)

RIGHT = f"""\
{NAME}. A {ADDRESS}
25.0.0.127.in-addr.arpa. PTR {NAME}.
5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.f.4.0.1.0.a.2.ip6.arpa. PTR six.relay.example.
six.relay.example. AAAA 2a01:4f8::25
{DOMAIN}. TXT "v=spf1 include:_spf.{DOMAIN} -all"
_spf.{DOMAIN}. TXT "v=spf1 a:{NAME} -all"
_dmarc.{DOMAIN}. TXT "v=DMARC1; p=reject; adkim=r; aspf=r"
{DOMAIN}. MX 10 {NAME}.
www.{DOMAIN}. A {WEB}
directory.example. A {DIRECTORY}
big.example. MX 10 mx.big.example.
mx.big.example. A {PROVIDER}
2.0.0.127.good.list.example. A 127.0.0.2
"""


def right_records(signers: Sequence[Signer]) -> str:
    """`RIGHT` with the keys."""
    lines = []
    for record in map(dkim_record, signers):
        strings = [record.value[at : at + 255] for at in range(0, len(record.value), 255)]
        lines.append(f"{record.name}. TXT " + " ".join(f'"{one}"' for one in strings))
    return RIGHT + "\n".join(lines) + "\n"


def config(**delivery: object) -> Config:
    return Config(
        operator_domain=DOMAIN,
        public_url=f"https://www.{DOMAIN}",
        inbound=InboundConfig(bind=("0.0.0.0:25",), operator_mailbox="you@elsewhere.example"),
        submission=SubmissionConfig(bind=("0.0.0.0:587",), bind_tls=("0.0.0.0:465",)),
        tls=TlsConfig(certificate="c.pem", key="k.pem"),
        delivery=DeliveryConfig(ehlo_name=NAME, **delivery),  # type: ignore[arg-type]
        monitoring=MonitoringConfig(dnsbl=("good.list.example",)),
        members=MembersConfig(plc_directory="https://directory.example"),
    )


@cache
def authority() -> Authority:
    """To make its keys takes longer than a test."""
    return Authority()


@asynccontextmanager
async def standing(
    service: NameService,
    *,
    certificate: ssl.SSLContext | None = None,
    provider_says: Sequence[bytes] = (
        b"250-mx.big.example at your service, [127.0.0.25]\r\n250 8BITMIME\r\n",
        b"221 bye\r\n",
    ),
    clock_ahead_seconds: int = 0,
    pages: Callable[[str], tuple[int, bytes]] | None = None,
    closed: Sequence[str] = (),
    heard: list[bytes | bytearray] | None = None,
) -> AsyncIterator[World]:
    """All servers. `closed`: addresses of the world to which no connection comes about. `heard`: what the provider was
    told."""
    heard = [] if heard is None else heard
    own_tls = certificate or authority().certificate(NAME)
    real = Surroundings()
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)

        async def listen(handler: Callable[[trio.SocketStream], object], host: str) -> int:
            listeners = await trio.open_tcp_listeners(0, host=host)
            nursery.start_soon(trio.serve_listeners, handler, listeners)
            return int(listeners[0].socket.getsockname()[1])

        own = Mx(MxOptions(tls=own_tls))

        async def under_tls(stream: trio.SocketStream) -> None:
            tls = trio.SSLStream(stream, own_tls, server_side=True, https_compatible=True)
            async with tls:
                try:
                    await tls.send_all(b"220 mx ESMTP\r\n")
                    for answer in (b"250-mx\r\n250 PIPELINING\r\n", b"221 bye\r\n"):
                        await tls.receive_some(1000)
                        await tls.send_all(answer)
                except trio.BrokenResourceError:
                    return  # whoever does not like the certificate

        async def website(stream: trio.SocketStream) -> None:
            async def handler(page: trio.abc.Stream, request: bytes) -> None:
                path = request.split()[1].decode()
                status, body = (pages or right_pages)(path)
                date = format_datetime(utc(real.clock()), usegmt=True)
                head = f"HTTP/1.1 {status} X\r\nDate: {date}\r\nContent-Length: {len(body)}\r\n\r\n"
                await page.send_all(head.encode() + (b"" if request.startswith(b"HEAD") else body))

            names = authority().certificate(f"www.{DOMAIN}", "directory.example")
            await serve_https(stream, names, handler)

        async def big(stream: trio.SocketStream) -> None:
            async with stream:
                await stream.send_all(b"220 mx.big.example ESMTP\r\n")
                for answer in provider_says:
                    heard.append(await stream.receive_some(1000))
                    await stream.send_all(answer)

        smtp = await listen(own.serve, ADDRESS)
        submission = await listen(own.serve, ADDRESS)
        submission_tls = await listen(under_tls, ADDRESS)
        receiver = await listen(big, "127.0.0.1")
        web = await listen(website, "127.0.0.1")
        world = {PROVIDER: receiver, WEB: web, DIRECTORY: web}

        async def open_stream(address: str, port: int) -> trio.abc.Stream:
            if address in closed:
                raise ConnectionRefusedError(111, "Connection refused")
            if address in world:
                return await trio.open_tcp_stream("127.0.0.1", world[address])
            assert address.startswith("127."), f"a connection to {address}"
            return await trio.open_tcp_stream(address, port)

        yield World(
            replace(
                real,
                open_stream=open_stream,
                tls=authority().trust,
                clock=lambda: real.clock() + clock_ahead_seconds * 1_000_000,
            ),
            service.resolver(),
            ["127.0.0.1"],
            service.port,
            Ports(smtp, submission, submission_tls),
            ["big.example"],
            [OwnAddress(parse_address(ADDRESS))],
            [OwnAddress(parse_address(UNUSED))],
        )


def right_pages(path: str) -> tuple[int, bytes]:
    return (200, b'{"status": "live"}') if path == "/healthz" else (404, b"<p>no such link</p>")


async def found(
    world: World, signers: Sequence[Signer], settings: Config | None = None
) -> list[NetworkFinding]:
    return [finding async for finding in look_at_network(world, settings or config(), signers)]
