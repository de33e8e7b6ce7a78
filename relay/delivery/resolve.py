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

The number of hosts and addresses is bounded; how long an answer is remembered, and how much of it is read, is the
resolver's (`relay.internet.resolver`).
"""

import hashlib
import ipaddress
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby
from typing import Final, NamedTuple

import trio

from relay.addresses import AddressError, parse_domain
from relay.delivery.replies import Failure, FailureKind
from relay.internet.own_addresses import source_addresses
from relay.internet.public_addresses import why_not_public
from relay.internet.resolver import LOOKUP_SECONDS_MAX, LookupFailed, Mx, NoSuchName, Resolver
from relay.networks import FAMILIES, Family, family_of
from relay.routes import HOST_TO_LOOK_UP, Route

SMTP_PORT: Final = 25
HOSTS_MAX: Final = 10
ADDRESSES_MAX: Final = 20
SITE_CHARS_MAX: Final = 200


class RoutingFailed(Exception):
    """There is nowhere to go. `failure` has a verdict like any other."""

    def __init__(self, kind: FailureKind, text: str) -> None:
        super().__init__(text)
        self.failure = Failure(kind, text)


class Target(NamedTuple):
    """One address to connect to."""

    host: str
    address: str
    port: int

    @property
    def family(self) -> Family:
        return "ipv6" if ":" in self.address else "ipv4"


# -- fixed routes


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
    hosts = [record for record in set(records) if HOST_TO_LOOK_UP.fullmatch(record.host)]
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
    families: Sequence[Family] = FAMILIES,
) -> list[Target]:
    """The public addresses of `hosts`, in order, of these families alone; of a host's, the first family's come first.

    A host with our own name or one of our addresses is ourselves."""
    answers = await _lookup_all([record.host for record in hosts], resolver)
    own = {ipaddress.ip_address(address) for address in own_addresses}
    targets: list[Target] = []
    refusals: list[str] = []
    others: list[str] = []
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
            if reason is None and family_of(address) not in families:
                others.append(f"{mx.host} has {address}, and [delivery] families has {', '.join(families)}")
            elif reason is None:
                public.append(Target(mx.host, str(address), port))
            else:
                refusals.append(f"{mx.host} has the {reason} address {address}")
        # A stable sort: shuffled within a family.
        rng.shuffle(public)
        targets += sorted(public, key=lambda target: families.index(target.family))
    if not targets:
        raise _nowhere(answers, refusals, others, is_loop=bool(our_preferences))
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
    found.update(map(str, await source_addresses()))
    return frozenset(found)


def _nowhere(
    answers: Mapping[str, list[str] | LookupFailed], refusals: list[str], others: list[str], *, is_loop: bool
) -> RoutingFailed:
    """Why no address is left. A lookup that failed comes first: it may have hidden a good address."""
    for host, answer in answers.items():
        if isinstance(answer, LookupFailed):
            return RoutingFailed(FailureKind.DNS, f"{host}: {answer}")
    if is_loop:
        return RoutingFailed(FailureKind.LOOP, f"this relay is itself the MX ({', '.join(answers)})")
    if others:
        return RoutingFailed(FailureKind.NO_ADDRESS, "; ".join(others[:3]))
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
