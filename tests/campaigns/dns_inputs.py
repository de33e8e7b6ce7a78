"""What a name server may say, and what must hold whatever it says."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import trio
import trio.testing
from hypothesis import strategies as st

from relay.delivery.resolve import (
    ADDRESSES_MAX,
    HOSTS_MAX,
    RoutingFailed,
    Target,
    resolve_mx,
    resolve_targets,
)
from relay.domains.diagnosis import FIX_CHARACTERS_MAX, FOUND_CHARACTERS_MAX, FOUND_VALUES_MAX, diagnose
from relay.domains.records import DnsRecord
from relay.internet.resolver import LOOKUP_SECONDS_MAX, LookupFailed, NoSuchName
from tests.world.dns import hostile_resolver

RAW, WITH_ID, ANSWER, BY_TCP, MANY = range(5)
_A, _CNAME, _SOA, _MX, _TXT, _AAAA, _DNAME = 1, 5, 6, 15, 16, 28, 39
_WHOLE_V4 = st.sampled_from([IPv4Address(text).packed for text in ("93.184.215.14", "127.0.0.1", "10.0.0.1",
    "100.64.0.1", "169.254.169.254", "0.0.0.0", "255.255.255.255", "192.0.2.1", "198.18.0.1")])  # fmt: skip
_WHOLE_V6 = st.sampled_from([IPv6Address(text).packed for text in ("::1", "::", "::ffff:127.0.0.1", "64:ff9b::a00:1",
    "2002:7f00:1::", "2002:a00:1::", "2001:0:1:2:3:4:80ff:fffe", "2001:0:1:2:3:4:f5ff:fffe", "fe80::1", "fc00::1",
    "2001:db8::1", "::7f00:1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")])  # fmt: skip
_V4 = _WHOLE_V4 | st.binary(min_size=3, max_size=5)
_V6 = _WHOLE_V6 | st.binary(min_size=15, max_size=17)

DOMAIN = "a.example"
_BACKOFF_SECONDS_MAX = 2.0
_SPECIAL = [
    IPv4Network(network)
    for network in ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/29", "192.0.0.8/32", "192.0.0.170/31", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")
]  # fmt: skip
_TXT_RECORDS = [
    DnsRecord("TXT", name, value, "")
    for name, value in (
        (f"_atmos-verify.{DOMAIN}", "atmos-verify=did:plc:abc"),
        (f"atmos1r._domainkey.{DOMAIN}", f"v=DKIM1; k=rsa; p={'MIIBIjANBgkq' * 30}"),
        (
            f"atmos1e._domainkey.{DOMAIN}",
            "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        ),
        (DOMAIN, "v=spf1 include:relay.example ~all"),
        (f"_dmarc.{DOMAIN}", "v=DMARC1; p=reject; adkim=r; aspf=r"),
    )
]
_NAMES = st.sampled_from((b"\xc0\x0c", b"\x02mx\xc0\x0c", b"\x01b\7example\0", b"\0", b"\xc0\xff",
    b"\x3f" + b"x" * 63 + b"\0", b"\4a\0\n.\0", b"\1*\xc0\x0c", b"\xc0\x0e", b"\5A B\xff>\7EXAMPLE\0", b"\x40", b"",
    b"\1a" * 127 + b"\0"))  # fmt: skip
_GOOD_NAMES = st.sampled_from((b"\xc0\x0c", b"\2mx\xc0\x0c", b"\1b\7example\0"))
_FLAGS = st.sampled_from((0x8180, 0x8183, 0x8182, 0x8186, 0x8380, 0x0180, 0x8580, 0xA980)) | st.integers(
    0, 65535
)
_STRINGS = st.binary(max_size=60) | st.lists(st.sampled_from((b"v=spf1 ", b"v=SPF1", b"include:relay.example ", b"~all",
    b"v=DKIM1; k=rsa; p=", b"k=ed25519;", b"p=MIIBIjANBgkq", b"v=DMARC1; ", b"p=reject", b"p=;", b"=", b";", b'"',
    b"\\", b"atmos-verify=", b"did:plc:abc", b" ", b"\0", b"\xff")
)).map(lambda words: b"".join(words)[:255])  # fmt: skip


def dns_answers(data: bytes) -> None:
    """A name server that says any octets: mail goes to public addresses, or RoutingFailed says why it goes nowhere.

    In bounded time and to a bounded number of places. `answering` says what the octets mean.
    """
    asked: list[bytes] = []
    said = answering(data)

    def answer(query: bytes, over_tcp: bool) -> list[bytes]:
        asked.append(query)
        return said(query, over_tcp)

    async def main() -> list[Target]:
        rng = random.Random(1)
        start = trio.current_time()
        try:
            with hostile_resolver(answer) as resolver:
                hosts = await resolve_mx(DOMAIN, resolver=resolver, rng=rng)
                assert 1 <= len(hosts) <= HOSTS_MAX
                return await resolve_targets(hosts, resolver=resolver, rng=rng)
        finally:
            # A lookup of hosts, a lookup of all their addresses at once; dnspython may sleep past the end of each.
            assert trio.current_time() - start <= 2 * (LOOKUP_SECONDS_MAX + _BACKOFF_SECONDS_MAX)

    try:
        targets = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    except RoutingFailed as failed:
        why = str(failed)
    else:
        why = ""
        assert 1 <= len(targets) == len(set(targets)) <= ADDRESSES_MAX
        for target in targets:
            assert _may_be_reached(target.address), target
            assert target.host.isprintable()
            assert 1 <= len(target.host) <= 253
    assert why.isprintable(), why
    assert len(why) <= 4000
    assert len(asked) <= (1 + 2 * HOSTS_MAX) * _TRIES_MAX


def txt_answers(data: bytes) -> None:
    """The TXT records of any octets: strings, which `diagnose` judges within its limits, or a declared exception."""

    async def main() -> list[tuple[bytes, ...]]:
        with hostile_resolver(answering(data)) as resolver:
            return await resolver.lookup_txt(DOMAIN)

    try:
        found = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    except (NoSuchName, LookupFailed):
        return
    assert all(len(string) <= 255 for strings in found for string in strings)
    for finding in diagnose(DOMAIN, _TXT_RECORDS, {record.name: tuple(found) for record in _TXT_RECORDS}):
        assert len(finding.found) <= FOUND_VALUES_MAX
        assert all(len(value) <= FOUND_CHARACTERS_MAX + 1 for value in finding.found)
        assert len(finding.fix or "") <= FIX_CHARACTERS_MAX


def answering(data: bytes) -> Callable[[bytes, bool], list[bytes]]:
    """What a server answers to each query, from octets.

    They are parts: a kind, a length of two octets, and as many. The first query gets the first part, and so on around.
    """
    parts = list(_parts(data))
    count = iter(range(1_000_000))

    def answer(query: bytes, over_tcp: bool) -> list[bytes]:
        kind, part = parts[next(count) % len(parts)] if parts else (RAW, b"")
        if kind == RAW:
            return [part]
        if kind == WITH_ID:
            wire = query[:2] + part
        elif kind == MANY:
            # How many, then one record so many times.
            times, record = int.from_bytes(part[:2], "big") % 4000, part[2:]
            wire = (
                query[:2] + struct.pack(">HHHHH", 0x8180, 1, times, 0, 0) + _question(query) + record * times
            )
        else:
            # Flags, counts of the sections, and what follows the question.
            flags_and_counts = part[:8].ljust(8, b"\0")
            wire = (
                query[:2]
                + flags_and_counts[:2]
                + b"\0\1"
                + flags_and_counts[2:]
                + _question(query)
                + part[8:]
            )
            if kind == BY_TCP and not over_tcp:
                wire = query[:2] + struct.pack(">HHHHH", 0x8380, 1, 0, 0, 0) + _question(query)
        wire = wire[:65535]
        return [len(wire).to_bytes(2, "big") + wire] if over_tcp else [wire]

    return answer


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length = int.from_bytes(data[1:3], "big")
        yield data[0] % 5, data[3 : 3 + length]
        data = data[3 + length :]


def part(kind: int, octets: bytes) -> bytes:
    """A part of the input of `dns_answers`."""
    return bytes([kind]) + len(octets).to_bytes(2, "big") + octets


def _question(query: bytes) -> bytes:
    """The name that was asked for stands at octet 12, so that 0xC00C is it; EDNS's record is left out."""
    end = query.index(b"\0", 12) + 5
    return query[12:end]


def _may_be_reached(text: str) -> bool:
    """An oracle of its own: the registries' tables of special addresses, written down once more."""
    address = ipaddress.ip_address(text)
    if isinstance(address, IPv6Address):
        number = int(address)
        if address in IPv6Network("::ffff:0:0/96") or address in IPv6Network("64:ff9b::/96"):
            return _may_be_reached(str(IPv4Address(number & 0xFFFF_FFFF)))
        if address in IPv6Network("2002::/16"):
            return _may_be_reached(str(IPv4Address(number >> 80 & 0xFFFF_FFFF)))
        if address in IPv6Network("2001::/32"):
            return _may_be_reached(str(IPv4Address(~number & 0xFFFF_FFFF)))
        return address in IPv6Network("2000::/3") and address not in IPv6Network("2001:db8::/32")
    return not any(address in network for network in _SPECIAL)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


#: dnspython waits 2 s for an answer, and asks again until the lookup's time is over; by TCP where UDP was cut short.
_TRIES_MAX = 20


def record(kind: int, data: bytes, *, name: bytes = b"\xc0\x0c", ttl: int = 300, klass: int = 1) -> bytes:
    """A resource record; by default of the name that was asked for."""
    return name + struct.pack(">HHIH", kind, klass, ttl, len(data)) + data


def answer(*records: bytes, flags: int = 0x8180, authority: int = 0) -> bytes:
    """The octets of a part of kind ANSWER or BY_TCP."""
    return struct.pack(">HHHH", flags, len(records) - authority, authority, 0) + b"".join(records)


_RECORDS = st.one_of(
    st.builds(lambda n, p: record(_MX, p.to_bytes(2, "big") + n), _NAMES, st.integers(0, 65535)),
    st.builds(lambda a, n: record(_A, a, name=n), _V4, st.just(b"\xc0\x0c") | _NAMES),
    st.builds(lambda a: record(_AAAA, a), _V6),
    st.builds(lambda n, m: record(_CNAME, n, name=m), _NAMES, st.just(b"\xc0\x0c") | _NAMES),
    st.builds(lambda n: record(_DNAME, n), _NAMES),
    st.builds(lambda n, t: record(_SOA, n + n + bytes(20), ttl=t), _NAMES, st.sampled_from((0, 60, 2**31, 2**32 - 1))),
    st.builds(lambda s: record(_TXT, bytes([len(s)]) + s), st.binary(max_size=60)),
    st.builds(record, st.integers(0, 65535), st.binary(max_size=20), klass=st.sampled_from((1, 3, 255))),
)  # fmt: skip


#: What name servers may say: parts of all kinds, with records of which some are whole.
ANSWERS = st.one_of(
    # A server that behaves, but for what it says of the addresses.
    st.builds(
        lambda hosts, v4, v6: part(ANSWER, hosts) + part(ANSWER, v4) + part(ANSWER, v6),
        st.lists(_GOOD_NAMES, min_size=1, max_size=30).map(
            lambda names: answer(*[record(_MX, bytes([0, n]) + name) for n, name in enumerate(names)])
        ),
        st.lists(_WHOLE_V4 | st.binary(min_size=4, max_size=4), max_size=30).map(
            lambda addresses: answer(*[record(_A, address) for address in addresses])
        ),
        st.lists(_WHOLE_V6 | st.binary(min_size=16, max_size=16), max_size=30).map(
            lambda addresses: answer(*[record(_AAAA, address) for address in addresses])
        ),
    ),
    st.lists(
        st.one_of(
            st.builds(
                lambda kind, records, flags: part(kind, answer(*records, flags=flags)),
                st.sampled_from((ANSWER, ANSWER, BY_TCP)),
                st.lists(_RECORDS, max_size=12),
                st.just(0x8180) | _FLAGS,
            ),
            st.builds(
                lambda times, one: part(MANY, times.to_bytes(2, "big") + one), st.integers(0, 3999), _RECORDS
            ),
            st.builds(part, st.sampled_from((RAW, WITH_ID)), st.binary(max_size=60)),
        ),
        max_size=4,
    ).map(b"".join),
    st.binary(max_size=200),
)


TXT_ANSWERS = (st.lists(_STRINGS, max_size=6) | st.lists(_STRINGS, min_size=11, max_size=20)).map(
    lambda strings: part(BY_TCP, answer(*[record(_TXT, bytes([len(text)]) + text) for text in strings]))
)


def dns_seeds() -> Iterator[bytes]:
    """Inputs of `dns_answers` and `txt_answers` of each kind of answer and record."""
    mx = record(_MX, b"\0\5\2mx\xc0\x0c")
    v4 = answer(record(_A, bytes([93, 184, 215, 14])), record(_A, bytes([127, 0, 0, 1])))
    v6 = answer(record(_AAAA, IPv6Address("2606:2800::1").packed), record(_AAAA, IPv6Address("::1").packed))
    for kind in (ANSWER, BY_TCP):
        yield part(kind, answer(mx)) + part(kind, v4) + part(kind, v6)
    yield part(ANSWER, answer(mx, mx, mx)) + part(ANSWER, v4) + part(ANSWER, v6)
    yield part(ANSWER, answer(record(_MX, b"\0\0\0")))
    yield part(
        ANSWER, answer(record(_CNAME, b"\1b\xc0\x0c"), record(_MX, b"\0\5\xc0\x0c", name=b"\1b\xc0\x0c"))
    )
    yield part(ANSWER, answer(record(_DNAME, b"\1b\7example\0")))
    soa = record(_SOA, b"\0\0" + bytes(20))
    for flags in (0x8180, 0x8183, 0x8182, 0x8185):
        yield part(ANSWER, answer(soa, flags=flags, authority=1))
    yield part(MANY, b"\0\x20" + mx)
    yield part(RAW, b"") + part(WITH_ID, b"\x81\x80" + bytes(8))
    yield part(
        BY_TCP,
        answer(*[record(_TXT, bytes([len(r.value[:200])]) + r.value[:200].encode()) for r in _TXT_RECORDS]),
    )
