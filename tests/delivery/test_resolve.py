"""Where mail goes: the table at the head of resolve.py, order, refused addresses, and a real DNS server."""

import ipaddress
import random
import time
from collections.abc import Awaitable, Callable

import dns.asyncresolver
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
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
from relay.internet.bounded_answers import ANSWER_BYTES_MAX, ANSWER_RECORDS_MAX
from relay.internet.public_addresses import why_not_public
from relay.internet.resolver import (
    ADDRESSES_OF_HOST_MAX,
    CACHED_ANSWERS_MAX,
    CACHED_SECONDS_MAX,
    DnsResolver,
    LookupFailed,
    Mx,
    NoSuchName,
    Resolver,
)
from relay.routes import Route, route_for
from tests.campaigns.dns_inputs import ANSWER, BY_TCP, MANY, RAW, WITH_ID, answer, answering, part, record
from tests.world.dns import FakeDns, open_dns_server, open_hostile_server

# Addresses that are nobody's but public by registry; nothing here connects to anything.
PUBLIC = "93.184.215.14"
PUBLIC_V6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


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
    routes = {"*": Route("all", 1), "a.example": Route("one", 1)}
    assert route_for(routes, "a.example") == Route("one", 1)
    assert route_for(routes, "b.example") == Route("all", 1)
    assert route_for({"a.example": Route("one", 1)}, "b.example") is None


def test_a_route_may_lead_to_loopback() -> None:
    assert trio.run(resolve_route, Route("127.0.0.1", 2526)) == [Target("127.0.0.1", "127.0.0.1", 2526)]
    assert trio.run(resolve_route, Route("::1", 2526)) == [Target("::1", "::1", 2526)]


ZONE = """
$TTL 60
.              SOA   ns. admin. 1 1 1 1 60
mail.example.  MX    10 MX1.mail.example.
mail.example.  MX    20 mx2.mail.example.
mail.example.  TXT   "no address"
mx1.mail.example.  A     93.184.215.14
mx1.mail.example.  AAAA  2606:2800:21f:cb07:6820:80da:af6b:8b2c
mx2.mail.example.  A     8.8.8.8
null.example.  MX    0 .
bare.example.  A     1.1.1.1
v4only.example.      A    8.8.4.4
v4only.mail.example. TXT  "nothing"
alias.example. CNAME mail.example.
aliased-host.example.  MX  10 mx-alias.example.
mx-alias.example.      CNAME mx2.mail.example.
to-nothing.example.    CNAME nothing.example.
round.example.         CNAME and-round.example.
and-round.example.     CNAME round.example.
ephemeral.example. 0   MX 10 mx2.mail.example.
eternal.example. 2147483647 MX 10 mx2.mail.example.
""" + "".join(
    f"big.example. MX 10 a-host-with-a-rather-long-name-{number}.example.\n" for number in range(100)
)


def with_server(
    check: Callable[[DnsResolver], Awaitable[None]],
    zone: str = ZONE,
    asked: list[tuple[str, str]] | None = None,
) -> None:
    async def main() -> None:
        async with open_dns_server(zone, asked=asked) as resolver:
            await check(DnsResolver(resolver))

    trio.run(main)


def test_dnspython_asks_a_real_server() -> None:
    async def check(dns: DnsResolver) -> None:
        rng = random.Random(1)
        hosts = await resolve_mx("mail.example", resolver=dns, rng=rng)
        assert hosts == [Mx(10, "mx1.mail.example"), Mx(20, "mx2.mail.example")]
        assert await resolve_targets(hosts, resolver=dns, rng=rng) == [
            Target("mx1.mail.example", PUBLIC, 25),
            Target("mx1.mail.example", PUBLIC_V6, 25),
            Target("mx2.mail.example", "8.8.8.8", 25),
        ]
        assert await dns.lookup_mx("null.example") == [Mx(0, "")]
        assert await dns.lookup_mx("bare.example") == []
        assert await dns.lookup_addresses("mail.example") == []
        with pytest.raises(NoSuchName):
            await dns.lookup_mx("nothing.example")
        with pytest.raises(LookupFailed):
            await dns.lookup_mx("servfail.example")

    with_server(check)


def test_aliases_of_a_domain_and_of_a_host_are_followed() -> None:
    async def check(dns: DnsResolver) -> None:
        # A name server gives a set, in any order.
        assert sorted(await dns.lookup_mx("alias.example")) == sorted(await dns.lookup_mx("mail.example"))
        rng = random.Random(1)
        hosts = await resolve_mx("aliased-host.example", resolver=dns, rng=rng)
        assert await resolve_targets(hosts, resolver=dns, rng=rng) == [
            Target("mx-alias.example", "8.8.8.8", 25)
        ]
        with pytest.raises(NoSuchName):
            await dns.lookup_mx("to-nothing.example")

    with_server(check)


def test_an_alias_that_goes_in_a_circle_defers() -> None:
    async def check(dns: DnsResolver) -> None:
        with pytest.raises(RoutingFailed) as raised:
            await resolve_mx("round.example", resolver=dns, rng=random.Random(1))
        assert raised.value.failure.kind is FailureKind.DNS

    with_server(check)


def test_what_does_not_fit_into_a_datagram_comes_by_tcp() -> None:
    asked: list[tuple[str, str]] = []

    async def check(dns: DnsResolver) -> None:
        assert len(await dns.lookup_mx("big.example")) == 100
        assert asked == [("UDP MX", "big.example"), ("TCP MX", "big.example")]
        # Too big to be remembered.
        await dns.lookup_mx("big.example")
        assert len(asked) == 4

    with_server(check, asked=asked)


@pytest.mark.parametrize(
    ("name", "questions"),
    [
        ("mail.example", 1),
        ("alias.example", 1),
        ("bare.example", 1),  # it exists, and has no MX records
        ("nothing.example", 1),
        ("ephemeral.example", 3),
        ("eternal.example", 1),
        ("servfail.example", 3),
    ],
)
def test_answers_are_remembered_and_failures_are_not(name: str, questions: int) -> None:
    asked: list[tuple[str, str]] = []

    async def check(dns: DnsResolver) -> None:
        for _ in range(3):
            try:
                await dns.lookup_mx(name)
            except (NoSuchName, LookupFailed):
                continue
        assert asked == [("UDP MX", name)] * questions

    with_server(check, asked=asked)


def test_without_a_negative_ttl_that_a_name_does_not_exist_is_not_remembered() -> None:
    asked: list[tuple[str, str]] = []

    async def check(dns: DnsResolver) -> None:
        for name in ("nothing.example", "bare.example"):
            for _ in range(2):
                try:
                    await dns.lookup_mx(name)
                except NoSuchName:
                    continue
        assert len(asked) == 4

    with_server(check, "$TTL 60\n. SOA ns. admin. 1 1 1 1 0\nbare.example. A 1.1.1.1\n", asked)


def answered(name: str, ttl: int) -> dns.resolver.Answer:
    """What dnspython makes of an answer with one MX record."""
    response = dns.message.make_response(dns.message.make_query(name, "MX"))
    response.answer.append(dns.rrset.from_text(name, ttl, "IN", "MX", "10 mx.example."))
    return dns.resolver.Answer(
        dns.name.from_text(name),
        dns.rdatatype.MX,
        dns.rdataclass.IN,
        dns.message.from_wire(response.to_wire()),
    )


def test_nothing_is_remembered_for_longer_than_an_hour() -> None:
    resolver = dns.asyncresolver.Resolver(configure=False)
    DnsResolver(resolver)
    assert resolver.cache is not None
    for ttl in (10, 2_147_483_647):
        answer = answered(f"ttl-{ttl}.example.", ttl)
        resolver.cache.put((answer.qname, answer.rdtype, answer.rdclass), answer)
        assert answer.expiration <= time.time() + min(ttl, CACHED_SECONDS_MAX)


def test_the_number_of_remembered_answers_is_bounded() -> None:
    resolver = dns.asyncresolver.Resolver(configure=False)
    DnsResolver(resolver)
    assert isinstance(resolver.cache, dns.resolver.LRUCache)
    answer = answered("a.example.", 60)
    for number in range(CACHED_ANSWERS_MAX + 10):
        name = dns.name.from_text(f"{number}.example.")
        resolver.cache.put((name, answer.rdtype, answer.rdclass), answer)
    assert len(resolver.cache.data) == CACHED_ANSWERS_MAX


def test_one_family_that_fails_does_not_hide_the_other() -> None:
    async def check(dns: DnsResolver) -> None:
        assert await dns.lookup_addresses("v4only.example") == ["8.8.4.4"]
        # There may be an address that could not be looked up.
        with pytest.raises(LookupFailed):
            await dns.lookup_addresses("v4only.mail.example")

    with_server(check)


def test_a_server_that_does_not_answer_costs_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.internet.resolver.LOOKUP_SECONDS_MAX", 0.1)

    async def check(dns: DnsResolver) -> None:
        with pytest.raises(LookupFailed):
            await dns.lookup_mx("silent.example")
        with pytest.raises(LookupFailed):
            await dns.lookup_addresses("silent.example")

    with_server(check)


def test_of_a_host_with_a_hundred_addresses_a_few_are_looked_at() -> None:
    zone = "$TTL 60\n. SOA ns. admin. 1 1 1 1 60\n" + "".join(
        f"many.example. A 93.184.216.{number}\nmany.example. AAAA 2606:2800::{number}\n"
        for number in range(1, 101)
    )

    async def check(dns: DnsResolver) -> None:
        addresses = await dns.lookup_addresses("many.example")
        v6 = [address for address in addresses if ":" in address]
        assert len(v6) == len(addresses) - len(v6) == ADDRESSES_OF_HOST_MAX

    with_server(check, zone=zone)


# -- octets that no honest server sends, over real sockets

MX_KIND, CNAME_KIND, OPT_KIND, OTHER_KIND = 15, 5, 41, 10
HERE = b"\xc0\x0c"
"""The name that was asked for."""
ONE_MX = record(MX_KIND, b"\0\5\2mx" + HERE)
RIGHT = part(ANSWER, answer(ONE_MX))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (part(BY_TCP, answer(*[ONE_MX] * (ANSWER_RECORDS_MAX + 1))), "130 records is not read"),
        (part(BY_TCP, answer(record(OTHER_KIND, bytes(ANSWER_BYTES_MAX)))), "octets is not read"),
        (part(BY_TCP, answer(record(MX_KIND, b"\0\5\xc0\x26"))), "malformed"),
        (part(BY_TCP, answer(record(MX_KIND, b"\0\5\x40"))), "label"),
        (part(BY_TCP, answer(ONE_MX)[:-3]), "malformed"),
        (
            part(BY_TCP, answer(record(OPT_KIND, b""))),
            "An OPT record occurred somewhere other than the additional",
        ),
        (part(BY_TCP, answer(ONE_MX, ONE_MX)[:-20]), "malformed"),
        (part(ANSWER, answer(ONE_MX, flags=0x8580 | 2)), "SERVFAIL"),
        # By UDP it is cut short, and by TCP another question's answer, or nothing.
        (part(ANSWER, answer(flags=0x8380)) + part(RAW, b"\0\x0cab" + bytes(10)), "does not respond"),
        (part(ANSWER, answer(flags=0x8380)) + part(RAW, b"\0\xff"), "EOF"),
        (part(ANSWER, answer(flags=0x8380)) + part(RAW, b""), "EOF"),
    ],
)
def test_a_malformed_answer_is_a_failed_lookup(said: bytes, why: str) -> None:
    async def main() -> None:
        async with open_hostile_server(answering(said)) as resolver:
            with pytest.raises(LookupFailed, match=why) as raised:
                await DnsResolver(resolver).lookup_mx("a.example")
            assert str(raised.value).isprintable()

    trio.run(main)


def test_a_chain_of_many_aliases_is_a_failed_lookup() -> None:
    def alias(number: int, to: int) -> bytes:
        return record(CNAME_KIND, bytes([1, 97 + to]) + HERE, name=bytes([1, 97 + number]) + HERE)

    first = record(CNAME_KIND, b"\1a" + HERE)

    async def main() -> None:
        for count, is_read in ((5, True), (20, False)):
            aliases = [alias(number, number + 1) for number in range(count)]
            async with open_hostile_server(answering(part(BY_TCP, answer(first, *aliases)))) as resolver:
                if is_read:
                    assert await DnsResolver(resolver).lookup_mx("a.example") == []
                else:
                    with pytest.raises(LookupFailed):
                        await DnsResolver(resolver).lookup_mx("a.example")

    trio.run(main)


@pytest.mark.parametrize(
    "rubbish",
    [
        part(RAW, b""),
        part(RAW, b"\0" * 11),
        part(RAW, b"\xff" * 512),
        part(WITH_ID, b"\x81\x80" + b"\xff" * 500),
        part(ANSWER, answer(record(MX_KIND, b"\0\5\xc0\x26"))),
        # As many records as are not read.
        part(MANY, (ANSWER_RECORDS_MAX + 1).to_bytes(2, "big") + ONE_MX),
    ],
)
def test_a_datagram_that_is_no_answer_does_not_keep_the_answer_away(rubbish: bytes) -> None:
    """Whoever guesses the port may send it; it is waited past, and the answer behind it is the answer."""

    def both(query: bytes, over_tcp: bool) -> list[bytes]:
        return answering(rubbish)(query, over_tcp) + answering(RIGHT)(query, over_tcp)

    async def main() -> None:
        async with open_hostile_server(both) as resolver:
            assert await DnsResolver(resolver).lookup_mx("a.example") == [Mx(5, "mx.a.example")]

    trio.run(main)
