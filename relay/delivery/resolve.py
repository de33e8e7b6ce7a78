"""Where a recipient's mail goes: fixed routes, MX records, and the addresses that may be connected to.

The contract. `resolve_mx` turns a domain into receiving hosts in the order in which they are to be tried,
`resolve_targets` turns hosts into addresses, `resolve_route` does both for a fixed route. All raise
`RoutingFailed`, whose `failure` says whether to wait (the DNS could not tell) or to bounce (it has told):

    the domain does not exist, or is no domain        bounced   5.1.2
    null MX: "this domain takes no mail"              bounced   5.1.10   RFC 7505
    no host has an address                            bounced   5.4.4
    every address is private, loopback, …             bounced   5.4.4
    the best host is this relay itself                bounced   5.4.6    RFC 5321 section 5.1
    a server failed, refused or did not answer        deferred  4.4.3

**Nothing but a public unicast address is ever connected to, unless the operator's route names it**: whoever
owns a domain chooses what its MX record points at, and must not be able to reach the relay's own network with
it. A domain whose addresses are all refused bounces: it is the way in which many domains say that they take
no mail (127.0.0.1, 0.0.0.0), no retry would mend it, and the sender hears of the mistake at once. Where some
addresses are public, the others are left out.

Answers are remembered as long as their TTL says, at most an hour, and so is the answer that there is none (RFC
2308); a failure is not. The number of hosts, addresses and remembered answers is bounded, and so is the time of
each lookup; what a name server says is not read where that would take long (`bounded_answers`).
"""

import hashlib
import ipaddress
import random
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby
from typing import Final, NamedTuple, Protocol, Self

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.rdata
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TXT
import dns.resolver
import trio
from dns._asyncbackend import Backend

from relay.addresses import AddressError, parse_domain
from relay.delivery.replies import Failure, FailureKind
from relay.internet.bounded_answers import BoundedBackend

SMTP_PORT: Final = 25
HOSTS_MAX: Final = 10
ADDRESSES_MAX: Final = 20
# Of one host and family; an answer of 64 kB holds thousands, and each that is looked at costs everybody time.
ADDRESSES_OF_HOST_MAX: Final = 20
LOOKUP_SECONDS_MAX: Final = 15.0
SITE_CHARS_MAX: Final = 200
CACHED_ANSWERS_MAX: Final = 5_000
# Operators move their receivers and expect that to be noticed within the hour, whatever a TTL of years says.
CACHED_SECONDS_MAX: Final = 3600.0
# What fits into a datagram. Bigger answers come by TCP, are rare, and would make 5,000 of them a lot of memory.
CACHED_ANSWER_BYTES_MAX: Final = 1232


class RoutingFailed(Exception):
    """There is nowhere to go. `failure` has a verdict like any other."""

    def __init__(self, kind: FailureKind, text: str) -> None:
        super().__init__(text)
        self.failure = Failure(kind, text)


class NoSuchName(Exception):
    """The DNS says that the name does not exist (NXDOMAIN)."""


class LookupFailed(Exception):
    """The DNS could not tell. The message says why."""


class Mx(NamedTuple):
    """An MX record. The lower preference is tried first."""

    preference: int
    host: str
    """Lower case, no final dot; "" is the root, which stands in a null MX."""


class Target(NamedTuple):
    """One address to connect to."""

    host: str
    address: str
    port: int


class Resolver(Protocol):
    """What is asked of the DNS. All return [] for a name without such records."""

    async def lookup_mx(self, domain: str) -> list[Mx]:
        """The MX records as they are. Raises NoSuchName or LookupFailed."""
        ...

    async def lookup_addresses(self, host: str) -> list[str]:
        """A records, then AAAA records, ADDRESSES_OF_HOST_MAX of each. Raises NoSuchName or LookupFailed."""
        ...

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        """The TXT records, each as its character-strings. Raises NoSuchName or LookupFailed."""
        ...


# -- fixed routes


@dataclass(frozen=True, slots=True)
class Route:
    """Where the operator sends a domain's mail, whatever the DNS says. A site of its own."""

    host: str
    """A name or an address, without brackets."""
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "host:port" or "[v6]:port". ValueError says what is wrong, for the operator."""
        match = _ROUTE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not host:port or [v6]:port")
        host, port = match["name"], int(match["port"])
        if host is None:
            host = str(IPv6Address(match["v6"]))
        elif not _HOST.fullmatch(host.lower()):
            raise ValueError(f"{text!r}: {host!r} is not a name that can be looked up")
        if not 1 <= port <= 65535:
            raise ValueError(f"{text!r}: a port is between 1 and 65535")
        return cls(host.lower(), port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def route_for(routes: Mapping[str, Route], domain: str) -> Route | None:
    """The route of exactly this domain, else the one of "*"; None: by MX."""
    return routes.get(domain, routes.get("*"))


async def resolve_route(route: Route) -> list[Target]:
    """Where a route leads. Its name is the operator's, so the system resolves it (/etc/hosts too)."""
    try:
        with trio.fail_after(LOOKUP_SECONDS_MAX):
            found = await trio.socket.getaddrinfo(route.host, route.port, type=trio.socket.SOCK_STREAM)
    except trio.TooSlowError:
        raise RoutingFailed(FailureKind.DNS, f"route {route}: no answer in time") from None
    except OSError as error:
        raise RoutingFailed(FailureKind.DNS, f"route {route}: {error.strerror}") from error
    return [Target(route.host, str(sockaddr[0]), route.port) for *_, sockaddr in found][:ADDRESSES_MAX]


# -- routes by MX


async def resolve_mx(domain: str, *, resolver: Resolver, rng: random.Random) -> list[Mx]:
    """The hosts that take the domain's mail, in the order in which to try them (RFC 5321 section 5.1).

    Equal preferences are shuffled, to spread the load. Without MX records the domain is its own host.
    """
    try:
        domain = parse_domain(domain)
        records = await resolver.lookup_mx(domain)
    except AddressError as error:
        raise RoutingFailed(FailureKind.NO_SUCH_DOMAIN, f"{domain}: {error}") from error
    except NoSuchName:
        raise RoutingFailed(FailureKind.NO_SUCH_DOMAIN, f"{domain}: no such domain") from None
    except LookupFailed as error:
        raise RoutingFailed(FailureKind.DNS, f"{domain}: {error}") from error
    if not records:
        return [Mx(0, domain)]
    # RFC 7505 section 3 wants a null MX to stand alone; beside real hosts it means nothing.
    if all(record.host == "" for record in records):
        raise RoutingFailed(FailureKind.NULL_MX, f"{domain} takes no mail (null MX)")
    hosts = [record for record in set(records) if _HOST.fullmatch(record.host)]
    if not hosts:
        raise RoutingFailed(FailureKind.NO_ADDRESS, f"{domain}: its MX records name no hosts")
    # Which of too many hosts are left out is not a matter of dice: the site (site_of) must not be.
    return _in_order(sorted(hosts)[:HOSTS_MAX], rng)


def site_of(hosts: Sequence[Mx]) -> str:
    """Whom connections are counted against: the set of the hosts, so that domains with one provider share a site.

    Order, preference, repetition and case do not matter. At most SITE_CHARS_MAX characters.
    """
    names = sorted({mx.host.lower() for mx in hosts})
    site = ",".join(names)
    if len(site) <= SITE_CHARS_MAX:
        return site
    digest = hashlib.sha256(site.encode()).hexdigest()[:32]
    return f"{names[0][: SITE_CHARS_MAX - 40]},sha256:{digest}"


async def resolve_targets(
    hosts: Sequence[Mx],
    *,
    resolver: Resolver,
    rng: random.Random,
    own_name: str = "",
    own_addresses: Collection[str] = (),
    port: int = SMTP_PORT,
) -> list[Target]:
    """The public addresses of `hosts`, in order. A host with our own name or one of our addresses is ourselves."""
    answers = await _lookup_all([record.host for record in hosts], resolver)
    own = {ipaddress.ip_address(address) for address in own_addresses}
    targets: list[Target] = []
    refusals: list[str] = []
    # RFC 5321 section 5.1: hosts from our own preference on would only give the message back.
    our_preferences = [
        mx.preference
        for mx in hosts
        if mx.host == own_name.lower() or own.intersection(_parsed(answers[mx.host]))
    ]
    ceiling = min(our_preferences, default=float("inf"))
    for mx in hosts:
        if mx.preference >= ceiling:
            continue
        public = []
        for address in _parsed(answers[mx.host]):
            reason = why_not_public(address)
            if reason is None:
                public.append(Target(mx.host, str(address), port))
            else:
                refusals.append(f"{mx.host} has the {reason} address {address}")
        # A stable sort: shuffled within a family, IPv4 first, because its receivers ask less of a sender.
        rng.shuffle(public)
        targets += sorted(public, key=lambda target: ":" in target.address)
    if not targets:
        raise _nowhere(answers, refusals, is_loop=bool(our_preferences))
    return list(dict.fromkeys(targets))[:ADDRESSES_MAX]


async def own_addresses(resolver: Resolver, ehlo_name: str) -> frozenset[str]:
    """The addresses under which this relay is known, for `resolve_targets`.

    Those of the name that it says in EHLO (or the one in an address literal), and those that its datagrams would
    leave from. What cannot be found out is left out: it must not stop delivery.
    """
    found: set[str] = set()
    if ehlo_name.startswith("["):
        with suppress(ValueError):
            found.add(str(ipaddress.ip_address(ehlo_name[1:-1].removeprefix("IPv6:"))))
    else:
        with suppress(NoSuchName, LookupFailed):
            found.update(await resolver.lookup_addresses(ehlo_name.lower()))
    for family, anywhere in _ANYWHERE:
        # No packet is sent: connecting a datagram socket only makes the kernel choose a source address.
        with suppress(OSError), trio.socket.socket(family, trio.socket.SOCK_DGRAM) as socket:
            await socket.connect((anywhere, 9))
            found.add(str(socket.getsockname()[0]))
    return frozenset(found)


def _nowhere(
    answers: Mapping[str, list[str] | LookupFailed], refusals: list[str], *, is_loop: bool
) -> RoutingFailed:
    """Why no address is left. A lookup that failed comes first: it may have hidden a good address."""
    for host, answer in answers.items():
        if isinstance(answer, LookupFailed):
            return RoutingFailed(FailureKind.DNS, f"{host}: {answer}")
    if is_loop:
        return RoutingFailed(FailureKind.LOOP, f"this relay is itself the MX ({', '.join(answers)})")
    if refusals:
        return RoutingFailed(FailureKind.FORBIDDEN_ADDRESS, "; ".join(refusals[:3]))
    return RoutingFailed(FailureKind.NO_ADDRESS, f"no address for {', '.join(answers)}")


async def _lookup_all(hosts: Iterable[str], resolver: Resolver) -> dict[str, list[str] | LookupFailed]:
    """Addresses by host, in the order of `hosts`. All at once: ten dead servers cost no more than one."""
    answers: dict[str, list[str] | LookupFailed] = {host: [] for host in hosts}

    async def lookup(host: str) -> None:
        try:
            answers[host] = await resolver.lookup_addresses(host)
        except NoSuchName:
            answers[host] = []
        except LookupFailed as error:
            answers[host] = error

    async with trio.open_nursery() as nursery:
        for host in answers:
            nursery.start_soon(lookup, host)
    return answers


def _parsed(answer: list[str] | LookupFailed) -> list[IPv4Address | IPv6Address]:
    return [ipaddress.ip_address(address) for address in answer] if isinstance(answer, list) else []


def _in_order(records: list[Mx], rng: random.Random) -> list[Mx]:
    """By preference; equals in random order (of a sorted list, so that the same dice give the same order)."""
    ordered: list[Mx] = []
    for _, group in groupby(sorted(records), key=lambda record: record.preference):
        equals = list(group)
        rng.shuffle(equals)
        ordered += equals
    return ordered


# -- addresses


def why_not_public(address: IPv4Address | IPv6Address) -> str | None:
    """What kind of address this is, where it is not for everybody to reach; None: public unicast.

    An IPv6 address that carries an IPv4 address is judged by that: a gateway or the kernel would unpack it.
    """
    if isinstance(address, IPv6Address):
        embedded = _embedded_ipv4(address)
        if embedded is not None:
            return why_not_public(embedded)
    for kind in ("unspecified", "loopback", "multicast", "link_local", "reserved", "private"):
        if getattr(address, f"is_{kind}"):
            return kind.replace("_", "-")
    if isinstance(address, IPv6Address) and address not in _IPV6_GLOBAL_UNICAST:
        return "unassigned"
    # What the registries call not global for other reasons, such as the shared addresses of RFC 6598.
    return None if address.is_global else "non-global"


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


_IPV6_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# RFC 6052 section 2.1. The local-use prefix of RFC 8215 lies outside 2000::/3 and is refused as such.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

_ROUTE: Final = re.compile(r"(?:(?P<name>[A-Za-z0-9._-]+)|\[(?P<v6>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,5})")
# Public addresses, so that the default route is looked at: the root servers' a.root-servers.net.
_ANYWHERE: Final = (
    (trio.socket.AF_INET, "198.41.0.4"),
    (trio.socket.AF_INET6, "2001:503:ba3e::2:30"),
)
# What a TLS server name and a log line can take; host names with underscores exist.
_HOST: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*")

# -- the real DNS


class _BoundedCache(dns.resolver.LRUCache):
    """dnspython's cache, which knows negative answers (RFC 2308) but neither a longest time nor a largest answer."""

    def put(self, key: dns.resolver.CacheKey, value: dns.resolver.Answer) -> None:
        """Remember an answer within the limits."""
        if len(value.response.wire or b"") <= CACHED_ANSWER_BYTES_MAX:
            value.expiration = min(value.expiration, time.time() + CACHED_SECONDS_MAX)
            super().put(key, value)


class DnsResolver:
    """dnspython on trio, with a cache."""

    def __init__(
        self,
        resolver: dns.asyncresolver.Resolver | None = None,
        backend: Backend | None = None,
    ) -> None:
        """`resolver` None: as the system is configured (/etc/resolv.conf); `backend` None: trio's sockets."""
        self._backend = BoundedBackend(backend or dns.asyncbackend.get_backend("trio"))
        self._resolver = resolver or dns.asyncresolver.Resolver()
        if self._resolver.cache is None:
            self._resolver.cache = _BoundedCache(CACHED_ANSWERS_MAX)

    async def lookup_mx(self, domain: str) -> list[Mx]:
        """See Resolver."""
        return [
            Mx(record.preference, record.exchange.to_text(omit_final_dot=True).lower().removesuffix("."))
            for record in await self._lookup(domain, "MX")
            if isinstance(record, dns.rdtypes.ANY.MX.MX)
        ]

    async def lookup_addresses(self, host: str) -> list[str]:
        """See Resolver."""
        answers: dict[str, list[str] | NoSuchName | LookupFailed] = {}

        async def lookup(kind: str) -> None:
            try:
                records = await self._lookup(host, kind)
                answers[kind] = [record.to_text() for record in records[:ADDRESSES_OF_HOST_MAX]]
            except (NoSuchName, LookupFailed) as error:
                answers[kind] = error

        # Both at once: a server that does not answer costs its time once.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lookup, "A")
            nursery.start_soon(lookup, "AAAA")
        v4, v6 = answers["A"], answers["AAAA"]
        found = [address for answer in (v4, v6) if isinstance(answer, list) for address in answer]
        # Name servers that fail on AAAA exist; one family is enough to deliver.
        if not found:
            for answer in (v4, v6):
                if isinstance(answer, LookupFailed):
                    raise answer
            for answer in (v4, v6):
                if isinstance(answer, NoSuchName):
                    raise answer
        return found

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        """See Resolver."""
        return [
            record.strings
            for record in await self._lookup(name, "TXT")
            if isinstance(record, dns.rdtypes.ANY.TXT.TXT)
        ]

    async def _lookup(self, name: str, kind: str) -> list[dns.rdata.Rdata]:
        try:
            answer = await self._resolver.resolve(
                f"{name}.",
                kind,
                raise_on_no_answer=False,
                lifetime=LOOKUP_SECONDS_MAX,
                search=False,
                backend=self._backend,
            )
        except dns.resolver.NXDOMAIN:
            raise NoSuchName(name) from None
        except (dns.exception.DNSException, OSError) as error:
            # Some of dnspython's sentences have line ends in them, and this one goes into logs and notifications.
            raise LookupFailed(" ".join(f"{kind} lookup: {error}".split())) from error
        return list(answer.rrset or ())
