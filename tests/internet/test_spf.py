"""SPF, in tables: who passes, what never does, and how much of it a stranger can have."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from relay.internet.resolver import Mx
from relay.internet.spf import (
    LOOKUPS_MAX,
    RECORD_CHARACTERS_MAX,
    SECONDS_MAX,
    TERM_CHARACTERS_MAX,
    spf_passes,
)
from tests.world.dns import FakeDns

V4, V6 = "192.0.2.7", "2001:db8::7"


def dns(records: dict[str, str], **more: Any) -> FakeDns:
    return FakeDns(txt={name: [(text.encode(),)] for name, text in records.items()}, **more)


def passes(
    resolver: FakeDns,
    client_address: str = V4,
    mail_from: str = "ann@one.example",
    ehlo_name: str = "mx.one.example",
    clock: MockClock | None = None,
) -> str | None:
    async def main() -> str | None:
        return await spf_passes(
            resolver, client_address=client_address, mail_from=mail_from, ehlo_name=ehlo_name
        )

    return trio.run(main, clock=clock)


def world(record: str) -> FakeDns:
    return dns(
        {
            "one.example": record,
            "two.example": "v=spf1 ip4:192.0.2.7 -all",
            "three.example": "v=spf1 -all",
            "ann.users.example": "v=spf1 +all",
            "loop.example": "v=spf1 include:loop.example -all",
            "a.loop.example": "v=spf1 include:b.loop.example -all",
            "b.loop.example": "v=spf1 include:a.loop.example -all",
            "twice.example": "v=spf1 +all",
            "garbage.example": "v=spf1 \x00\x7f +all",
        },
        mx={
            "one.example": [(10, "mx.one.example")],
            "many.example": [(n, f"h{n}.example") for n in range(11)],
        },
        addresses={
            "mx.one.example": [V4, V6],
            "one.example": ["192.0.2.99"],
            "7.2.0.192.list.example": ["127.0.0.2"],
            "ann.list.example": ["127.0.0.2"],
            "mx.one.example.list.example": ["127.0.0.2"],
            "forged.example": ["192.0.2.66"],
        },
        # Who owns an address can have it named after anybody.
        names={V4: ["forged.example", "mx.one.example"], V6: ["mx.one.example"]},
        broken={"broken.example", "2001:db8::66"},
    )


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 ip4:192.0.2.7 -all",
        "v=spf1 ip4:192.0.2.0/24 -all",
        "V=SPF1 +IP4:192.0.2.7",
        "v=spf1 mx -all",
        "v=spf1 a:mx.one.example -all",
        "v=spf1 a/24 -all",
        "v=spf1 include:two.example -all",
        "v=spf1 include:three.example include:two.example -all",
        "v=spf1 redirect=two.example",
        "v=spf1 exists:%{ir}.list.example -all",
        "v=spf1 exists:%{l}.list.example -all",
        "v=spf1 include:%{l}.users.example -all",
        "v=spf1 ip4:192.0.2.7 -all exp=nothing.example unknown=%{d}",
        "v=spf1 ptr -all",
        "v=spf1 ptr:one.example -all",
        "v=spf1 exists:%{p}.list.example -all",
        "v=spf1 a:mx.%{d99999999999999999999} -all",
        "v=spf1 all",
    ],
)
def test_the_client_is_one_of_the_domains(record: str) -> None:
    assert passes(world(record)) == "one.example"


@pytest.mark.parametrize(
    "record",
    [
        "",
        "v=spf1",
        "v=spf1 -all",
        "v=spf1 ~all",
        "v=spf1 ?all",
        "v=spf10 +all",
        "v=spf1 ip4:192.0.2.8 -all",
        "v=spf1 -ip4:192.0.2.7 +all",
        "v=spf1 ip6:2001:db8::/32 -all",
        "v=spf1 a -all",
        "v=spf1 include:three.example -all",
        "v=spf1 include:nowhere.example +all",
        "v=spf1 include:broken.example +all",
        "v=spf1 a:broken.example +all",
        "v=spf1 include:loop.example +all",
        "v=spf1 include:a.loop.example +all",
        "v=spf1 redirect=nowhere.example",
        "v=spf1 redirect=two.example redirect=two.example",
        "v=spf1 mx:many.example +all",
        "v=spf1 a:x1.example a:x2.example a:x3.example +all",
        "v=spf1 ptr:two.example -all",
        "v=spf1 ptr:forged.example -all",
        "v=spf1 moo +all",
        "v=spf1 ip4:192.0.2.777 +all",
        "v=spf1 ip4:192.0.2.7/99 +all",
        "v=spf1 a:%{z}.example +all",
        "v=spf1 a:%% +all",
        "v=spf1 include:garbage.example -all",
        "v=spf1 " + "a:one.example " * 11 + "+all",
    ],
)
def test_anything_else_is_no_pass(record: str) -> None:
    assert passes(world(record)) is None


def test_two_records_are_none() -> None:
    resolver = world("v=spf1 +all")
    resolver.txt["one.example"].append((b"v=spf1 +all",))
    assert passes(resolver) is None
    resolver.txt["one.example"][1] = (b"v=other",)
    assert passes(resolver) == "one.example"


def test_a_record_in_several_strings_is_one() -> None:
    resolver = world("")
    resolver.txt["one.example"] = [(b"v=spf1 ip4:192.", b"0.2.7 -all")]
    assert passes(resolver) == "one.example"


def test_who_is_asked_about() -> None:
    resolver = world("v=spf1 ip4:192.0.2.7 ip6:2001:db8::7 -all")
    assert passes(resolver, V6) == "one.example"
    assert passes(resolver, "::ffff:192.0.2.7") == "one.example"
    assert passes(resolver, "2001:db8::8") is None
    assert passes(world("v=spf1 ptr -all"), V6) == "one.example"
    # Where the DNS cannot tell, and where it has none: no name matches, and what stands behind goes on.
    for client_address in ("2001:db8::66", "2001:db8::67"):
        assert passes(world("v=spf1 ptr -all"), client_address) is None
        assert passes(world("v=spf1 ptr ip6:2001:db8::/64 -all"), client_address) == "one.example"
    assert passes(resolver, mail_from="ann@ONE.example") == "one.example"
    # The null sender stands for the name of EHLO.
    assert passes(resolver, mail_from="", ehlo_name="One.Example") == "one.example"
    assert passes(resolver, mail_from="", ehlo_name="mx.one.example") is None
    for ehlo_name in ("", "[192.0.2.7]", "localhost", "x" * 300):
        assert passes(resolver, mail_from="", ehlo_name=ehlo_name) is None
        assert passes(resolver, ehlo_name=ehlo_name) == "one.example"
    for mail_from in ("ann", "ann@", "ann@[192.0.2.7]", "@", "ann@one..example", "ann@list"):
        assert passes(resolver, mail_from=mail_from) is None
    for client_address in ("", "list", "list6", "one.example"):
        assert passes(resolver, client_address) is None


def test_a_name_in_unicode_is_asked_about_in_a_labels() -> None:
    resolver = dns({"xn--bcher-kva.example": "v=spf1 +all"})
    assert passes(resolver, mail_from="ann@bücher.example") == "xn--bcher-kva.example"


class Endless(FakeDns):
    """Every name exists, and its record asks for more."""

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        self.asked.append(("TXT", name))
        await trio.lowlevel.checkpoint()
        return [(b"v=spf1 mx:x%d.example include:y%d.example -all" % ((len(self.asked),) * 2),)]

    async def lookup_mx(self, domain: str) -> list[Mx]:
        self.asked.append(("MX", domain))
        return [Mx(10, f"{number}.{domain}") for number in range(10)]

    async def lookup_addresses(self, host: str) -> list[str]:
        self.asked.append(("A", host))
        return ["198.51.100.1"]


def test_no_more_is_asked_than_a_few() -> None:
    resolver = Endless()
    assert passes(resolver) is None
    assert 10 < len(resolver.asked) <= LOOKUPS_MAX + 1
    assert len(set(resolver.asked)) == len(resolver.asked)


class Slow(FakeDns):
    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        await trio.sleep(SECONDS_MAX - 1)
        return await super().lookup_txt(name)


def test_it_ends_in_time() -> None:
    async def main() -> float:
        began = trio.current_time()
        resolver = Slow(txt=world("v=spf1 include:two.example -all").txt)
        assert await spf_passes(resolver, client_address=V4, mail_from="a@one.example", ehlo_name="") is None
        return trio.current_time() - began

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == pytest.approx(SECONDS_MAX, abs=0.1)


#: Terms that the patterns of pyspf go back over.
SLOW_TERMS = (
    "a:" + "." + "a" * (TERM_CHARACTERS_MAX - 4) + "!",
    "a:." + "a-" * ((TERM_CHARACTERS_MAX - 4) // 2) + "!",
    "a:" + "%%." * ((TERM_CHARACTERS_MAX - 3) // 3),
    "exists:" + "%{l}" * ((TERM_CHARACTERS_MAX - 7) // 4),
    "ip6:" + ":" * 300,
    "ip6:" + "1:" * 150,
    "x=" + "%{ir}" * 60,
    "ip4:198.51.100.1",
)


@pytest.mark.parametrize("term", SLOW_TERMS)
def test_the_loop_is_never_kept_for_long(term: str) -> None:
    """The longest records that are read, one below the other, each a chain of the longest terms."""
    count = (RECORD_CHARACTERS_MAX - 100) // (len(term) + 1)
    records = {
        name: f"v=spf1 {' '.join([term.replace('a:', f'a{n}:', 0)] * count)} include:{n}.one.example -all"
        for n, name in enumerate(["one.example", *(f"{n}.one.example" for n in range(10))])
    }
    worst = 0.0

    async def main() -> None:
        nonlocal worst
        with trio.move_on_after(60):
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    nonlocal worst
                    while True:
                        before = time.process_time()
                        await trio.lowlevel.checkpoint()
                        worst = max(worst, time.process_time() - before)

                nursery.start_soon(watch)
                await spf_passes(
                    dns(records), client_address=V4, mail_from=f"{'l' * 60}@one.example", ehlo_name=""
                )
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert worst < 0.1


def test_a_record_or_a_term_that_is_longer_is_not_read() -> None:
    assert passes(dns({"one.example": "v=spf1 " + "ip4:192.0.2.8 " * 250 + "+all"})) == "one.example"
    assert passes(dns({"one.example": "v=spf1 " + "ip4:192.0.2.8 " * 300 + "+all"})) is None
    assert passes(dns({"one.example": f"v=spf1 x={'y' * 300} +all"})) == "one.example"
    assert passes(dns({"one.example": f"v=spf1 x={'y' * 330} +all"})) is None


WORDS = [
    "v=spf1",
    "+",
    "-",
    "a",
    "mx",
    "ptr",
    "all",
    "include:",
    "redirect=",
    "exp=",
    "exists:",
    "ip4:",
    "ip6:",
    "%{",
]


@given(
    st.lists(
        st.sampled_from(
            [*WORDS, "}", "i", "p", "d1r", "/", "//", "8", ".", ":", " ", "one.example", "=", "1.2.3.4"]
        )
    )
    | st.lists(st.text(max_size=5)),
    st.text(max_size=20),
    st.binary(max_size=50),
)
def test_no_garbage_raises(parts: list[str], sender: str, octets: bytes) -> None:
    resolver = world("v=spf1 " + "".join(parts))
    resolver.mx["octets.example"] = [(1, octets.decode("latin-1"))]
    resolver.txt["octets.example"] = [(octets,), (b"v=spf1 " + octets,)]
    assert passes(resolver) in (None, "one.example")
    passes(resolver, mail_from=f"{sender}@octets.example", ehlo_name=sender)
    passes(resolver, client_address=sender, mail_from="ann@one.example", ehlo_name=sender)
