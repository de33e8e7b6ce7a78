"""Where mail goes: the table at the head of resolve.py, order, refused addresses, and a real DNS server."""

import ipaddress
import random

import pytest
import trio

from relay.delivery.replies import DeliveryVerdict, FailureKind, judge
from relay.delivery.resolve import (
    ADDRESSES_MAX,
    HOSTS_MAX,
    SITE_CHARS_MAX,
    RoutingFailed,
    Target,
    own_addresses,
    resolve_mx,
    resolve_route,
    resolve_targets,
    site_of,
)
from relay.internet.public_addresses import why_not_public
from relay.internet.resolver import (
    Mx,
    Resolver,
)
from relay.routes import Route, route_for
from tests.world.dns import FakeDns
from tests.world.resolving import PUBLIC, PUBLIC_V6


def find(domain: str, dns: Resolver, *, own: tuple[str, ...] = (), seed: int = 1) -> list[Target]:
    async def main() -> list[Target]:
        rng = random.Random(seed)
        hosts = await resolve_mx(domain, resolver=dns, rng=rng)
        return await resolve_targets(hosts, resolver=dns, rng=rng, own_addresses=own)

    return trio.run(main)


def failure(
    domain: str, dns: Resolver, *, own: tuple[str, ...] = ()
) -> tuple[FailureKind, DeliveryVerdict, str]:
    with pytest.raises(RoutingFailed) as raised:
        find(domain, dns, own=own)
    reason = raised.value.failure
    return reason.kind, judge(reason).verdict, reason.enhanced


def test_mx_hosts_are_tried_in_the_order_of_their_preference() -> None:
    dns = FakeDns(
        mx={"a.example": [(20, "second.example"), (10, "first.example")]},
        addresses={"first.example": [PUBLIC_V6, PUBLIC], "second.example": ["8.8.8.8"]},
    )
    assert find("a.example", dns) == [
        Target("first.example", PUBLIC, 25),
        Target("first.example", PUBLIC_V6, 25),
        Target("second.example", "8.8.8.8", 25),
    ]


def test_equals_are_shuffled_by_the_dice_given_and_by_nothing_else() -> None:
    records = [(10, f"h{number}.example") for number in range(5)]
    dns = FakeDns(mx={"a.example": records}, addresses={host: [PUBLIC] for _, host in records})
    orders = {tuple(find("a.example", dns, seed=seed)) for seed in range(50)}
    dns.mx["a.example"] = records[::-1]
    again = {tuple(find("a.example", dns, seed=seed)) for seed in range(50)}
    assert len(orders) > 10
    assert orders == again


def test_without_mx_records_the_domain_is_its_own_host() -> None:
    assert find("a.example", FakeDns(addresses={"a.example": [PUBLIC]})) == [Target("a.example", PUBLIC, 25)]


def test_an_international_domain_is_looked_up_by_its_a_labels() -> None:
    dns = FakeDns(mx={"xn--bcher-kva.example": [(1, "mx.example")]}, addresses={"mx.example": [PUBLIC]})
    assert find("BÜCHER.example", dns) == [Target("mx.example", PUBLIC, 25)]


@pytest.mark.parametrize(
    ("dns", "expected"),
    [
        (FakeDns(), (FailureKind.NO_SUCH_DOMAIN, DeliveryVerdict.BOUNCED, "5.1.2")),
        (FakeDns(mx={"a.example": [(0, "")]}), (FailureKind.NULL_MX, DeliveryVerdict.BOUNCED, "5.1.10")),
        (FakeDns(mx={"a.example": []}), (FailureKind.NO_ADDRESS, DeliveryVerdict.BOUNCED, "5.4.4")),
        (
            FakeDns(mx={"a.example": [(1, "gone.example")]}),
            (FailureKind.NO_ADDRESS, DeliveryVerdict.BOUNCED, "5.4.4"),
        ),
        (
            FakeDns(mx={"a.example": [(1, "no\\000host")]}),
            (FailureKind.NO_ADDRESS, DeliveryVerdict.BOUNCED, "5.4.4"),
        ),
        (
            FakeDns(addresses={"a.example": ["127.0.0.1", "10.1.2.3"]}),
            (FailureKind.FORBIDDEN_ADDRESS, DeliveryVerdict.BOUNCED, "5.4.4"),
        ),
        (FakeDns(broken={"a.example"}), (FailureKind.DNS, DeliveryVerdict.DEFERRED, "4.4.3")),
        (
            FakeDns(mx={"a.example": [(1, "b.example")]}, broken={"b.example"}),
            (FailureKind.DNS, DeliveryVerdict.DEFERRED, "4.4.3"),
        ),
        # A failed lookup may have hidden a good address.
        (
            FakeDns(
                mx={"a.example": [(1, "b.example"), (2, "c.example")]},
                addresses={"c.example": ["127.0.0.1"]},
                broken={"b.example"},
            ),
            (FailureKind.DNS, DeliveryVerdict.DEFERRED, "4.4.3"),
        ),
    ],
)
def test_nowhere_to_go(dns: FakeDns, expected: tuple[FailureKind, DeliveryVerdict, str]) -> None:
    assert failure("a.example", dns) == expected


def test_what_is_no_domain_does_not_exist() -> None:
    assert failure("a..example", FakeDns())[0] is FailureKind.NO_SUCH_DOMAIN
    assert failure(f"{'a' * 64}.example", FakeDns())[0] is FailureKind.NO_SUCH_DOMAIN


def test_a_root_beside_real_hosts_means_nothing() -> None:
    dns = FakeDns(mx={"a.example": [(0, ""), (5, "b.example")]}, addresses={"b.example": [PUBLIC]})
    assert find("a.example", dns) == [Target("b.example", PUBLIC, 25)]


def test_one_working_host_is_enough() -> None:
    dns = FakeDns(
        mx={"a.example": [(1, "broken.example"), (2, "gone.example"), (3, "b.example")]},
        addresses={"b.example": ["192.168.1.1", PUBLIC]},
        broken={"broken.example"},
    )
    assert find("a.example", dns) == [Target("b.example", PUBLIC, 25)]


def test_hosts_from_our_own_preference_on_are_left_out() -> None:
    dns = FakeDns(
        mx={"a.example": [(1, "best.example"), (5, "us.example"), (5, "peer.example"), (9, "last.example")]},
        addresses={
            "best.example": ["8.8.8.8"],
            "us.example": [PUBLIC],
            "peer.example": ["8.8.4.4"],
            "last.example": ["1.1.1.1"],
        },
    )
    assert find("a.example", dns, own=(PUBLIC,)) == [Target("best.example", "8.8.8.8", 25)]
    del dns.mx["a.example"][0]
    assert failure("a.example", dns, own=(PUBLIC,)) == (FailureKind.LOOP, DeliveryVerdict.BOUNCED, "5.4.6")


def test_a_host_with_our_own_name_is_ourselves_whatever_its_addresses() -> None:
    dns = FakeDns(
        mx={"a.example": [(1, "best.example"), (5, "relay.example")], "b.example": [(1, "relay.example")]},
        addresses={"best.example": ["8.8.8.8"], "relay.example": [PUBLIC]},
    )

    async def targets(domain: str) -> list[Target]:
        rng = random.Random(1)
        hosts = await resolve_mx(domain, resolver=dns, rng=rng)
        return await resolve_targets(hosts, resolver=dns, rng=rng, own_name="Relay.example")

    assert trio.run(targets, "a.example") == [Target("best.example", "8.8.8.8", 25)]
    with pytest.raises(RoutingFailed) as raised:
        trio.run(targets, "b.example")
    assert raised.value.failure.kind is FailureKind.LOOP


def test_our_own_addresses_are_those_of_our_name_and_of_our_packets() -> None:
    dns = FakeDns(addresses={"relay.example": [PUBLIC, PUBLIC_V6]})
    assert {PUBLIC, PUBLIC_V6} <= trio.run(own_addresses, dns, "Relay.example")
    assert PUBLIC in trio.run(own_addresses, dns, f"[{PUBLIC}]")
    assert PUBLIC_V6 in trio.run(own_addresses, dns, f"[IPv6:{PUBLIC_V6}]")


@pytest.mark.parametrize("name", ["broken.example", "nothing.example", "[rubbish]"])
def test_our_own_addresses_that_cannot_be_found_stop_nothing(name: str) -> None:
    found = trio.run(own_addresses, FakeDns(broken={"broken.example"}), name)
    assert not found & {PUBLIC, PUBLIC_V6}
    for address in found:
        ipaddress.ip_address(address)


def test_domains_with_the_same_hosts_share_a_site() -> None:
    hosts = [Mx(10, "mx1.example"), Mx(20, "mx2.example")]
    assert site_of(hosts) == "mx1.example,mx2.example"
    assert site_of([Mx(5, "MX2.example"), Mx(5, "mx1.example"), Mx(7, "mx1.example")]) == site_of(hosts)
    assert site_of(hosts[:1]) != site_of(hosts)


def test_the_name_of_a_site_is_bounded_and_tells_long_ones_apart() -> None:
    hosts = [Mx(10, f"{'a' * 60}.{number}.example") for number in range(HOSTS_MAX)]
    sites = {site_of(hosts), site_of(hosts[1:]), site_of([Mx(10, "a." * 120 + "example")])}
    assert len(sites) == 3
    assert max(map(len, sites)) <= SITE_CHARS_MAX


def test_the_site_of_a_domain_with_too_many_hosts_is_no_matter_of_dice() -> None:
    dns = FakeDns(mx={"a.example": [(10, f"h{number}.example") for number in range(3 * HOSTS_MAX)]})

    async def main() -> set[str]:
        return {
            site_of(await resolve_mx("a.example", resolver=dns, rng=random.Random(seed)))
            for seed in range(20)
        }

    assert len(trio.run(main)) == 1


def test_hosts_and_addresses_are_bounded() -> None:
    many = [(number, f"h{number}.example") for number in range(100)]
    addresses = [str(ipaddress.ip_address("8.0.0.1") + number) for number in range(30)]
    dns = FakeDns(mx={"a.example": many}, addresses={host: addresses for _, host in many})
    assert len(find("a.example", dns)) == ADDRESSES_MAX
    assert len([1 for kind, _ in dns.asked if kind == "A"]) == HOSTS_MAX


# ------------------------------------------------------------------------------------------------ addresses and routes


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.255.255",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "2002:7f00:1::",
        "2002:0a00:0001::1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd12:3456:789a::1",
        "ff02::1",
        "2001:db8::1",
        "4000::1",
    ],
)
def test_an_address_that_is_not_public(address: str) -> None:
    assert why_not_public(ipaddress.ip_address(address)) is not None


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", PUBLIC_V6, "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"])
def test_an_address_that_is_public(address: str) -> None:
    assert why_not_public(ipaddress.ip_address(address)) is None


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:2526", "127.0.0.1", 2526),
        ("[::1]:25", "::1", 25),
        ("[2001:DB8::0:1]:25", "2001:db8::1", 25),
        ("Smart-Host.example:587", "smart-host.example", 587),
    ],
)
def test_a_route(text: str, host: str, port: int) -> None:
    route = Route.parse(text)
    assert route == Route(host, port)
    assert Route.parse(str(route)) == route


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", ":25", "host:0", "host:65536", "::1:25", "[::1]", "[host]:25", "a b:25", "h:２５"],
)
def test_no_route(text: str) -> None:
    with pytest.raises(ValueError):
        Route.parse(text)


def test_the_route_of_a_domain_comes_before_that_of_all() -> None:
    routes = {"*": "all:1", "a.example": "one:1"}
    assert route_for(routes, "a.example") == Route("one", 1)
    assert route_for(routes, "b.example") == Route("all", 1)
    assert route_for({"a.example": "one:1"}, "b.example") is None


def test_a_route_may_lead_to_loopback() -> None:
    assert trio.run(resolve_route, Route("127.0.0.1", 2526)) == [Target("127.0.0.1", "127.0.0.1", 2526)]
    assert trio.run(resolve_route, Route("::1", 2526)) == [Target("::1", "::1", 2526)]


# ------------------------------------------------------------------------------------------------ the resolver


# -- octets that no honest server sends, over real sockets

"""The name that was asked for."""
