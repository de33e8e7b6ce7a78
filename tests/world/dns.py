"""Two name services: a table behind the relay's own interface, and a real DNS server on loopback.

`FakeDns` is a `relay.delivery.resolve.Resolver` made of dictionaries. `open_dns_server` serves a zone over
UDP with dnspython's message classes, for the tests that want to see real packets.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import dns.asyncresolver
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone
import trio

from relay.delivery.resolve import LookupFailed, Mx, NoSuchName


@dataclass
class FakeDns:
    """Names that exist are the keys of `mx`, `addresses` and `txt`; names in `broken` fail; others do not exist."""

    mx: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    addresses: dict[str, list[str]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Every question, in order: ("MX", "A" or "TXT", name)."""
    txt: dict[str, list[tuple[bytes, ...]]] = field(default_factory=dict)
    """By name, each record as its character-strings."""

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

    def _ask(self, kind: str, name: str) -> None:
        self.asked.append((kind, name))
        if name in self.broken:
            raise LookupFailed(f"{kind} lookup: SERVFAIL")
        if not any(name in names for names in (self.mx, self.addresses, self.txt)):
            raise NoSuchName(name)


@asynccontextmanager
async def open_dns_server(zone_text: str) -> AsyncIterator[dns.asyncresolver.Resolver]:
    """Serve a zone (the text of a master file, its origin being the root) and give a resolver that asks it.

    Names that begin with "servfail." answer SERVFAIL, with "silent." nothing at all.
    """
    zone = dns.zone.from_text(zone_text, origin=".", check_origin=False, relativize=False)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, socket, zone)
            yield resolver
            nursery.cancel_scope.cancel()


async def _serve(socket: trio.socket.SocketType, zone: dns.zone.Zone) -> None:
    while True:
        wire, client = await socket.recvfrom(4096)
        answer = _answer(dns.message.from_wire(wire), zone)
        if answer is not None:
            await socket.sendto(answer.to_wire(), client)


def _answer(query: dns.message.Message, zone: dns.zone.Zone) -> dns.message.Message | None:
    question = query.question[0]
    first_label = question.name.labels[0]
    if first_label == b"silent":
        return None
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA
    node = zone.get_node(question.name)
    if first_label == b"servfail":
        response.set_rcode(dns.rcode.SERVFAIL)
    elif node is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    else:
        rdataset = node.get_rdataset(question.rdclass, question.rdtype)
        if rdataset is not None:
            response.answer.append(dns.rrset.from_rdata_list(question.name, rdataset.ttl, list(rdataset)))
    return response
