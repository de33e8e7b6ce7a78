"""Three name services: a table behind the relay's own interface, a real DNS server on loopback, and hostile octets.

`FakeDns` is a `relay.internet.resolver.Resolver` made of dictionaries. `open_dns_server` serves a zone over
UDP and TCP with dnspython's message classes, for the tests that want to see real packets. `hostile_resolver` is
the relay's own resolver, whose name server says any octets at all: thousands of answers a
second, for no socket is opened, and in the time of `trio.testing.MockClock`, for its clock is trio's. The same octets
come over real sockets from `open_hostile_server`.
"""

import socket as sockets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import dns.asyncbackend
import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.zone
import trio

from relay.internet.resolver import DnsResolver, LookupFailed, Mx, NoSuchName


@dataclass
class FakeDns:
    """Names that exist are the keys of `mx`, `addresses`, `txt` and `names`; those in `broken` fail; others do not
    exist."""

    mx: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    addresses: dict[str, list[str]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Every question, in order: ("MX", "A", "TXT" or "PTR", name)."""
    txt: dict[str, list[tuple[bytes, ...]]] = field(default_factory=dict)
    """By name, each record as its character-strings."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """By address."""

    async def lookup_mx(self, domain: str) -> list[Mx]:
        """See Resolver."""
        self._ask("MX", domain)
        return [Mx(preference, host) for preference, host in self.mx.get(domain, [])]

    async def lookup_addresses(self, host: str) -> list[str]:
        """See Resolver."""
        self._ask("A", host)
        return self.addresses.get(host, [])

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        """See Resolver."""
        self._ask("TXT", name)
        return self.txt.get(name, [])

    async def lookup_names(self, address: str) -> list[str]:
        """See Resolver."""
        self._ask("PTR", address)
        return self.names.get(address, [])

    def _ask(self, kind: str, name: str) -> None:
        self.asked.append((kind, name))
        if name in self.broken:
            raise LookupFailed(f"{kind} lookup: SERVFAIL")
        if not any(name in names for names in (self.mx, self.addresses, self.txt, self.names)):
            raise NoSuchName(name)


@asynccontextmanager
async def open_dns_server(
    zone_text: str, *, asked: list[tuple[str, str]] | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[dns.asyncresolver.Resolver]:
    """Serve a zone (the text of a master file, its origin being the root) and give a resolver that asks it.

    Aliases are followed and negative answers carry the SOA record, as a recursive server does it. What does not fit
    into a datagram is truncated and comes by TCP. Names that begin with "servfail." answer SERVFAIL, with "v4only."
    so to AAAA, with "silent." nothing at all. `asked` is where each question is written down: (transport and type, as
    "UDP MX", and name).
    """
    zone = dns.zone.from_text(zone_text, origin=".", check_origin=False, relativize=False)
    server = _DnsServer(zone, asked if asked is not None else [])
    [listener] = await trio.open_tcp_listeners(port, host=host)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        port = listener.socket.getsockname()[1]
        await socket.bind((host, port))
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [host]
        resolver.port = port
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve_datagrams, socket)
            nursery.start_soon(partial(trio.serve_listeners, server.serve_stream, [listener]))
            yield resolver
            nursery.cancel_scope.cancel()


#: What arrives after a query (its octets, and whether it came by TCP): datagrams, or what a connection says.
Answering = Callable[[bytes, bool], list[bytes]]


@contextmanager
def hostile_resolver(answering: Answering) -> Iterator[DnsResolver]:
    """Its server answers with these octets and then with silence. Everything but the sockets is real."""
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    now = SimpleNamespace(time=trio.current_time)
    with ExitStack() as stack:
        for module in (dns.resolver, dns.asyncresolver, dns.asyncquery, dns.query):
            stack.enter_context(patch.object(module, "time", now))
        yield DnsResolver(resolver, HostileBackend(answering))


class HostileBackend(dns.asyncbackend.Backend):
    """The sockets of `hostile_resolver`, for `DnsResolver`."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def make_socket(
        self, af: int, socktype: int, *args: Any, **kwargs: Any
    ) -> dns.asyncbackend.DatagramSocket | dns.asyncbackend.StreamSocket:
        kind = _HostileDatagrams if socktype == sockets.SOCK_DGRAM else _HostileStream
        return kind(af, socktype, self._answering)

    async def sleep(self, interval: float) -> None:
        await trio.sleep(interval)


class _HostileDatagrams(dns.asyncbackend.DatagramSocket):
    def __init__(self, family: int, kind: int, answering: Answering) -> None:
        super().__init__(family, kind)
        self._answering = answering
        self._waiting: list[bytes] = []

    async def sendto(self, what: bytes, destination: Any, timeout: float | None) -> int:  # noqa: ASYNC109
        self._waiting = self._answering(what, False)
        return len(what)

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, Any]:  # noqa: ASYNC109
        await trio.lowlevel.checkpoint()
        if not self._waiting:
            await _silence(timeout)
        return self._waiting.pop(0)[:size], ("127.0.0.1", 53)

    async def close(self) -> None:
        return


class _HostileStream(dns.asyncbackend.StreamSocket):
    def __init__(self, family: int, kind: int, answering: Answering) -> None:
        super().__init__(family, kind)
        self._answering = answering
        self._waiting = b""

    async def getpeername(self) -> Any:
        return ("127.0.0.1", 53)

    async def sendall(self, what: bytes, timeout: float | None) -> None:  # noqa: ASYNC109
        self._waiting = b"".join(self._answering(what[2:], True))

    async def recv(self, size: int, timeout: float | None) -> bytes:  # noqa: ASYNC109
        """At the end the server hangs up."""
        await trio.lowlevel.checkpoint()
        said, self._waiting = self._waiting[:size], self._waiting[size:]
        return said

    async def close(self) -> None:
        return


async def _silence(timeout: float | None) -> None:  # noqa: ASYNC109
    assert timeout is not None
    await trio.sleep(timeout)
    raise dns.exception.Timeout(timeout=timeout)


@asynccontextmanager
async def open_hostile_server(answering: Answering) -> AsyncIterator[dns.asyncresolver.Resolver]:
    """The same over real sockets, on loopback, and in real time."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        port = listener.socket.getsockname()[1]
        await socket.bind(("127.0.0.1", port))

        async def serve_datagrams() -> None:
            while True:
                query, client = await socket.recvfrom(4096)
                for datagram in answering(query, False):
                    await socket.sendto(datagram, client)

        async def serve_stream(stream: trio.SocketStream) -> None:
            query = await stream.receive_some(4096)
            for piece in answering(query[2:], True):
                await stream.send_all(piece)

        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = port
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_datagrams)
            nursery.start_soon(partial(trio.serve_listeners, serve_stream, [listener]))
            yield resolver
            nursery.cancel_scope.cancel()


@dataclass
class _DnsServer:
    zone: dns.zone.Zone
    asked: list[tuple[str, str]]

    async def serve_datagrams(self, socket: trio.socket.SocketType) -> None:
        while True:
            wire, client = await socket.recvfrom(4096)
            try:
                query = dns.message.from_wire(wire)
            except dns.exception.FormError:
                continue  # who sends datagrams to any port (rspamd probes its servers) must not end the test
            answer = self.answer(query, "UDP")
            if answer is None:
                continue
            try:
                wire = answer.to_wire(max_size=query.payload or 512)
            except dns.exception.TooBig:
                truncated = dns.message.make_response(query)
                truncated.flags |= dns.flags.TC
                wire = truncated.to_wire()
            await socket.sendto(wire, client)

    async def serve_stream(self, stream: trio.SocketStream) -> None:
        received = b""
        while len(received) < 2 or len(received) < 2 + int.from_bytes(received[:2], "big"):
            more = await stream.receive_some(4096)
            if not more:
                return
            received += more
        query = dns.message.from_wire(received[2:])
        answer = self.answer(query, "TCP")
        if answer is None:
            await trio.sleep_forever()
        else:
            await stream.send_all(answer.to_wire(prepend_length=True))

    def answer(self, query: dns.message.Message, transport: str) -> dns.message.Message | None:
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((f"{transport} {kind}", question.name.to_text(omit_final_dot=True)))
        first_label = question.name.labels[0]
        if first_label == b"silent":
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        if first_label == b"servfail" or (first_label, kind) == (b"v4only", "AAAA"):
            response.set_rcode(dns.rcode.SERVFAIL)
        elif not self._follow(question.name, question.rdtype, response):
            soa = self.zone.get_rrset(dns.name.root, "SOA")
            if soa is not None:
                response.authority.append(soa)
        return response

    def _follow(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, response: dns.message.Message
    ) -> bool:
        """Add the records, and the aliases on the way to them. Aliases in a circle are all of the answer."""
        seen: set[dns.name.Name] = set()
        while name not in seen:
            seen.add(name)
            if self.zone.get_node(name) is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                return False
            records, alias = self.zone.get_rrset(name, kind), self.zone.get_rrset(name, "CNAME")
            if records is not None:
                response.answer.append(records)
                return True
            if alias is None:
                return False
            response.answer.append(alias)
            name = alias[0].target
        return True
