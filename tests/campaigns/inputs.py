"""Properties of everything that reads what strangers, or broken disks, have written; each takes any octets.

A property is a function of `data: bytes` that returns where the input was read or refused as its reader promises, and
raises otherwise. `tests/campaigns/test_inputs.py` runs each for a moment with hypothesis; for a campaign, or for one
input again:

    python -m tests.campaigns.inputs --seconds 60 [--only records]
    python -m tests.campaigns.inputs --only records --again FILE

`tests.campaigns.coverage` runs the same properties with atheris, which looks for inputs that reach new code.
"""

from __future__ import annotations

import argparse
import ipaddress
import random
import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import trio
import trio.testing
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from relay.addresses import AddressError, parse_domain, parse_mailbox
from relay.codec import UnknownEventError, decode
from relay.delivery.reply_reader import RemoteProtocolError
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
from relay.message.headers import HeaderError, check_headers, unsubscribe_https_url
from relay.message.tokens import BounceAddresses, Unsubscribe, UnsubscribeTokens
from relay.refusals import Refusal
from relay.requests import parse_send
from spool.record import (
    CHAIN_START,
    HEADER_BYTES,
    KIND_AT,
    KIND_FOOTER,
    DamagedError,
    Entry,
    crc32c,
    decode_body,
    decode_header,
    make_record,
    padded,
)
from spool.segment import (
    FOOTER_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
    scan_segment,
)
from tests.world.dns import hostile_resolver
from tests.world.smtp_talk import talk

BOUNCES = BounceAddresses(b"v" * 32, "relay.example")
TOKENS = UnsubscribeTokens(b"u" * 64)
UNSUBSCRIBE = Unsubscribe("did:plc:abc", 7, "friend@example.com")
#: Of `sealed_segments` and of the seeds.
SEGMENT = SegmentHeader(1, 1, b"salt" * 4, CHAIN_START)
SEGMENT_SEED = SEGMENT.seed


def records(data: bytes) -> None:
    """A record out of any octets is damaged, or has the lengths that its octets allow."""
    if len(data) < HEADER_BYTES:
        return
    try:
        header = decode_header(data, 0, SEGMENT_SEED)
        record = decode_body(header, data, 0, SEGMENT_SEED, segment=1, offset=0)
    except DamagedError:
        return
    assert record.size <= len(data)


def segments(data: bytes) -> None:
    """A segment out of any octets is scanned to a verdict, or its header is damaged."""
    try:
        if len(data) >= SEGMENT_HEADER_BYTES:
            decode_segment_header(data[:SEGMENT_HEADER_BYTES], 1)
        scan_segment(data, 1)
    except DamagedError:
        return


def sealed_segments(data: bytes) -> None:
    """The same behind right checksums, which guesses do not get past: what else a record and a footer say is checked.

    The octets are those behind a segment's header. A whole record is yielded once, in sequence, and at its place.
    """
    segment = encode_segment_header(SEGMENT) + _with_checksums(data, SEGMENT_SEED)
    scan = scan_segment(segment, 1)
    assert SEGMENT_HEADER_BYTES <= scan.end.offset <= len(segment)
    assert (scan.fault is None) == (scan.end.offset + (FOOTER_BYTES if scan.footer else 0) == len(segment))
    if scan.footer is not None:
        assert scan.footer.last_seq == scan.end.next_seq - 1
        assert scan.footer.end_offset == scan.end.offset


def _with_checksums(data: bytes, seed: int) -> bytes:
    """The octets with the checksums of headers, parts and footers put right, as far as they can be read."""
    out, at = bytearray(data), 0
    while at + FOOTER_BYTES <= len(out):
        is_footer = out[at + KIND_AT] == KIND_FOOTER
        size = FOOTER_BYTES if is_footer else HEADER_BYTES
        if at + size > len(out):
            break
        end = at + size
        if not is_footer:
            # Lengths beyond the octets there are stay so in the low bits: a record cut short is a case, not the rule.
            skeleton, payload = (
                int.from_bytes(out[at + offset : at + offset + 4], "little") for offset in (8, 12)
            )
            for length, crc_at in ((skeleton, 16), (payload, 20)):
                part = bytes(out[end : end + padded(length)])
                struct.pack_into("<I", out, at + crc_at, crc32c(seed, part))
                end += padded(length)
        struct.pack_into("<I", out, at, crc32c(seed, bytes(out[at + 4 : at + size])))
        at = end
    return bytes(out)


def events(data: bytes) -> None:
    """Any octets as skeleton and as payload are an event, or an UnknownEventError."""
    half = len(data) // 2
    for entry in (Entry(data), Entry(data[:half], data[half:]), Entry(_SKELETON, data)):
        record = make_record(
            entry,
            seq=1,
            time_us=1,
            batch_seq=1,
            batch_end=True,
            previous_chain=CHAIN_START,
            segment=1,
            offset=0,
        )
        try:
            decode(record)
        except UnknownEventError:
            continue


def tokens(data: bytes) -> None:
    """Nothing that this relay did not make opens."""
    text = data.decode("latin-1")
    opened, message_id = TOKENS.open(text), BOUNCES.parse(text)
    # The seeds of a campaign are the relay's own; whatever else opens must be the same but for case.
    assert opened is None or TOKENS.seal(opened) == text
    assert message_id is None or BOUNCES.make(message_id) == text.lower()
    assert BOUNCES.parse(f"bounces+{text}@relay.example") is None


def headers(data: bytes) -> None:
    """What is accepted as a header, a name or an address holds no line end and no NUL."""
    text = (
        data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace")
        if _is_text(data)
        else repr(data)
    )
    name, _, value = text.partition(":")
    try:
        for accepted in check_headers([(name, value)], subject=text):
            assert not {"\r", "\n", "\0"} & set("".join(accepted))
    except HeaderError:
        pass
    unsubscribe_https_url(text)
    for parse in (parse_mailbox, parse_domain):
        try:
            accepted_text = str(parse(text))
        except AddressError:
            continue
        assert not {"\r", "\n", "\0"} & set(accepted_text)


def requests(data: bytes) -> None:
    """Any octets as the body of a send are a request or a refusal."""
    try:
        parse_send(data)
    except Refusal:
        return


def replies(data: bytes) -> None:
    """A server that says any octets, cut by their first, is heard out or told off."""
    step = (data[0] if data else 0) % 64 + 1
    said = [data[start : start + step] for start in range(1, len(data), step)]
    try:
        talk(said)
    except RemoteProtocolError:
        return


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


DOMAIN = "a.example"
RAW, WITH_ID, ANSWER, BY_TCP, MANY = range(5)
_BACKOFF_SECONDS_MAX = 2.0
#: dnspython waits 2 s for an answer, and asks again until the lookup's time is over; by TCP where UDP was cut short.
_TRIES_MAX = 20
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
_SKELETON = b"\xa2dtypejsend.queuedav\x01"
PROPERTIES: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        records,
        segments,
        sealed_segments,
        events,
        tokens,
        headers,
        requests,
        replies,
        dns_answers,
        txt_answers,
    )
}
#: Octets of which some mean something to somebody.
WORDS = (b"\xa2", b"dtype", b"av", b"\x01", b"\xd8\x1c", b"\xd8\x1d\x00", b"\x9f", b"\xff",
    b"\xbf", b"\xc1", b"\xfb", b"\xc2", b"\x5b", b"\xc0", b"\xd8\x23", b"a(", b"\xd9\x01\x00", b"\x81",
    b"lmessage.sent",
    b"250 ", b"250-", b"421 ", b"\r\n", b"\r", b"\n", b'{"from":', b'"', b"@", b"<", b">", b"a@b.example", b"\0",
    b"Bcc: ", b"=?utf-8?q?", b"\xe2\x80\xae")  # fmt: skip
INPUTS = st.one_of(
    st.binary(max_size=400),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(st.sampled_from(WORDS)).map(b"".join),
)


def record(kind: int, data: bytes, *, name: bytes = b"\xc0\x0c", ttl: int = 300, klass: int = 1) -> bytes:
    """A resource record; by default of the name that was asked for."""
    return name + struct.pack(">HHIH", kind, klass, ttl, len(data)) + data


def answer(*records: bytes, flags: int = 0x8180, authority: int = 0) -> bytes:
    """The octets of a part of kind ANSWER or BY_TCP."""
    return struct.pack(">HHHH", flags, len(records) - authority, authority, 0) + b"".join(records)


_A, _CNAME, _SOA, _MX, _TXT, _AAAA, _DNAME = 1, 5, 6, 15, 16, 28, 39
_NAMES = st.sampled_from((b"\xc0\x0c", b"\x02mx\xc0\x0c", b"\x01b\7example\0", b"\0", b"\xc0\xff",
    b"\x3f" + b"x" * 63 + b"\0", b"\4a\0\n.\0", b"\1*\xc0\x0c", b"\xc0\x0e", b"\5A B\xff>\7EXAMPLE\0", b"\x40", b"",
    b"\1a" * 127 + b"\0"))  # fmt: skip
_WHOLE_V4 = st.sampled_from([IPv4Address(text).packed for text in ("93.184.215.14", "127.0.0.1", "10.0.0.1",
    "100.64.0.1", "169.254.169.254", "0.0.0.0", "255.255.255.255", "192.0.2.1", "198.18.0.1")])  # fmt: skip
_WHOLE_V6 = st.sampled_from([IPv6Address(text).packed for text in ("::1", "::", "::ffff:127.0.0.1", "64:ff9b::a00:1",
    "2002:7f00:1::", "2002:a00:1::", "2001:0:1:2:3:4:80ff:fffe", "2001:0:1:2:3:4:f5ff:fffe", "fe80::1", "fc00::1",
    "2001:db8::1", "::7f00:1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")])  # fmt: skip
_V4 = _WHOLE_V4 | st.binary(min_size=3, max_size=5)
_V6 = _WHOLE_V6 | st.binary(min_size=15, max_size=17)
_GOOD_NAMES = st.sampled_from((b"\xc0\x0c", b"\2mx\xc0\x0c", b"\1b\7example\0"))
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
_FLAGS = st.sampled_from((0x8180, 0x8183, 0x8182, 0x8186, 0x8380, 0x0180, 0x8580, 0xA980)) | st.integers(
    0, 65535
)
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
_STRINGS = st.binary(max_size=60) | st.lists(st.sampled_from((b"v=spf1 ", b"v=SPF1", b"include:relay.example ", b"~all",
    b"v=DKIM1; k=rsa; p=", b"k=ed25519;", b"p=MIIBIjANBgkq", b"v=DMARC1; ", b"p=reject", b"p=;", b"=", b";", b'"',
    b"\\", b"atmos-verify=", b"did:plc:abc", b" ", b"\0", b"\xff")
)).map(lambda words: b"".join(words)[:255])  # fmt: skip
TXT_ANSWERS = (st.lists(_STRINGS, max_size=6) | st.lists(_STRINGS, min_size=11, max_size=20)).map(
    lambda strings: part(BY_TCP, answer(*[record(_TXT, bytes([len(text)]) + text) for text in strings]))
)
INPUTS_OF = {"dns_answers": ANSWERS, "txt_answers": TXT_ANSWERS | ANSWERS}


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


@st.composite
def spoilt(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with a few octets lost, changed or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        octets = draw(st.binary(max_size=3) | st.sampled_from(WORDS))
        data[at : at + draw(st.sampled_from((len(octets), 0, 1, 8)))] = octets
    return bytes(data)


def run_property(name: str, examples: int, *, derandomize: bool) -> None:
    """Raises what the property raises, after hypothesis has made the input small."""
    from tests.campaigns.corpus import seeds  # which need what is above

    of_property = INPUTS_OF.get(name, INPUTS) | spoilt(list(seeds(name)))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(of_property)
    def check(data: bytes) -> None:
        PROPERTIES[name](data)

    check()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.inputs", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=list(PROPERTIES))
    parser.add_argument("--again", type=Path, metavar="FILE", help="run the property of --only on this input")
    options = parser.parse_args()
    if options.again:
        PROPERTIES[options.only](options.again.read_bytes())
        return
    names = [options.only] if options.only else list(PROPERTIES)
    for name in names:
        end, examples = time.monotonic() + options.seconds / len(names), 0
        while time.monotonic() < end:
            run_property(name, 500, derandomize=False)
            examples += 500
        print(f"{examples:10,}  {name}", flush=True)


if __name__ == "__main__":
    main()
