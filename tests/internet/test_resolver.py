"""The resolver, against real servers that say anything: what is remembered, and what is not read."""

import random
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import dns.asyncresolver
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.replies import FailureKind
from relay.delivery.resolve import (
    RoutingFailed,
    Target,
    resolve_mx,
    resolve_targets,
)
from relay.internet.bounded_answers import (
    ANSWER_BYTES_MAX,
    ANSWER_RECORDS_MAX,
    TooMuchError,
    check_labels,
)
from relay.internet.resolver import (
    ADDRESSES_OF_HOST_MAX,
    CACHED_ANSWERS_MAX,
    CACHED_SECONDS_MAX,
    DnsResolver,
    LookupFailed,
    Mx,
    NoSuchName,
)
from tests.campaigns.dns_inputs import ANSWER, BY_TCP, MANY, RAW, WITH_ID, answer, answering, part, record
from tests.world.dns import open_dns_server, open_hostile_server
from tests.world.resolving import PUBLIC, PUBLIC_V6

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


A_KIND, MX_KIND, TXT_KIND, AAAA_KIND, CNAME_KIND, OPT_KIND, OTHER_KIND = 1, 15, 16, 28, 5, 41, 10


HERE = b"\xc0\x0c"


ONE_MX = record(MX_KIND, b"\0\5\2mx" + HERE)


RIGHT = part(ANSWER, answer(ONE_MX))


# Found by `benchmarks.worst_inputs`: 16 kB for which dnspython took a quarter of a second.
MANY_LABELS = [record(MX_KIND, b"\0\5" + b"\1a" * 60 + HERE)] * 100
# The first is pointed to: the question's name, with its type and class, is of 15 octets, behind twelve.
BY_POINTERS = [record(MX_KIND, b"\0\5" + b"\1a" * 100 + HERE), *[record(MX_KIND, b"\0\5\xc0\x29")] * 20]
MANY_STRINGS = [record(TXT_KIND, b"\1x" * 100)] * 77


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (part(BY_TCP, answer(*[ONE_MX] * (ANSWER_RECORDS_MAX + 1))), "130 records is not read"),
        (part(BY_TCP, answer(record(OTHER_KIND, bytes(ANSWER_BYTES_MAX)))), "octets is not read"),
        (part(BY_TCP, answer(*MANY_LABELS)), "768 labels and strings is not read"),
        (part(BY_TCP, answer(*BY_POINTERS)), "768 labels and strings is not read"),
        (part(BY_TCP, answer(*MANY_STRINGS)), "768 labels and strings is not read"),
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
        part(ANSWER, answer(*MANY_LABELS)),
        part(ANSWER, answer(*MANY_STRINGS)),
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


def test_what_is_not_read_is_more_than_anybody_honest_has() -> None:
    """Twenty hosts with long names, the addresses of each, and a text of 4 kB."""
    hosts = [
        b"\2mx" + b"\7cluster" + b"\6region" + bytes([2, 48 + number // 10, 48 + number % 10]) + HERE
        for number in range(20)
    ]
    records = [record(MX_KIND, b"\0\5" + host) for host in hosts]
    records += [record(A_KIND, bytes([93, 184, 215, 14]), name=host) for host in hosts]
    records += [record(AAAA_KIND, bytes(16), name=host) for host in hosts]
    records += [record(TXT_KIND, (b"\xff" + b"x" * 255) * 2) for _ in range(8)]
    question = b"\1a\7example\0" + bytes([0, MX_KIND, 0, 1])
    check_labels(struct.pack(">6H", 0, 0x8180, 1, len(records), 0, 0) + question + b"".join(records))


@given(st.binary(max_size=200))
def test_labels_are_counted_in_any_octets(octets: bytes) -> None:
    """Pointers that point to themselves, or nowhere, names without an end: dnspython says what is wrong."""
    with suppress(TooMuchError):
        check_labels(octets)
        check_labels(struct.pack(">6H", 0, 0x8180, 1, 3, 0, 0) + octets)
