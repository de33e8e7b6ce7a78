"""The name of an address: only where the DNS has it both ways, in bounded time, whatever stands in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from relay.internet.resolver import DnsResolver
from relay.internet.reverse import NAMES_MAX, SECONDS_MAX, confirmed_name
from tests.world.dns import FakeDns, open_dns_server

ADDRESS = "192.0.2.7"
NAME = "mx.example.com"


def run(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("names", "addresses", "found"),
    [
        ([NAME], {NAME: ["192.0.2.9", ADDRESS]}, NAME),
        (["wrong.example.com", NAME], {"wrong.example.com": ["192.0.2.8"], NAME: [ADDRESS]}, NAME),
        ([NAME], {NAME: ["192.0.2.8"]}, None),
        ([NAME], {NAME: []}, None),
        ([NAME], {}, None),
        ([], {}, None),
        (["localhost"], {"localhost": [ADDRESS]}, None),
        (["a b.example.com"], {"a b.example.com": [ADDRESS]}, None),
        (["x" * 300 + ".example.com"], {"x" * 300 + ".example.com": [ADDRESS]}, None),
        ([*(f"wrong{n}.example.com" for n in range(NAMES_MAX)), NAME], {NAME: [ADDRESS]}, None),
    ],
)
def test_a_name_counts_where_it_leads_back(
    names: list[str], addresses: dict[str, list[str]], found: str | None
) -> None:
    async def main() -> None:
        dns = FakeDns(names={ADDRESS: names}, addresses=addresses)
        assert await confirmed_name(dns, ADDRESS) == found
        assert len(dns.asked) <= 1 + NAMES_MAX

    run(main)


@pytest.mark.parametrize("broken", [ADDRESS, NAME])
def test_what_fails_is_no_name(broken: str) -> None:
    async def main() -> None:
        dns = FakeDns(names={ADDRESS: [NAME]}, addresses={NAME: [ADDRESS]}, broken={broken})
        assert await confirmed_name(dns, ADDRESS) is None

    run(main)


def test_one_address_in_any_form() -> None:
    async def main() -> None:
        dns = FakeDns(
            names={ADDRESS: [NAME], "2001:db8::1": [NAME]}, addresses={NAME: [ADDRESS, "2001:DB8:0::1"]}
        )
        for given in (ADDRESS, f"::ffff:{ADDRESS}", "2001:db8::1", "2001:0db8::0001"):
            assert await confirmed_name(dns, given) == NAME

    run(main)


def test_dns_that_does_not_answer_costs_little() -> None:
    class Slow(FakeDns):
        async def lookup_addresses(self, host: str) -> list[str]:
            await trio.sleep(15)
            return [ADDRESS]

    async def main() -> None:
        dns = Slow(names={ADDRESS: [NAME]})
        assert await confirmed_name(dns, ADDRESS) is None
        assert trio.current_time() == SECONDS_MAX

    run(main)


def test_a_real_server_is_asked_for_the_reverse_name() -> None:
    zone = """
$TTL 60
. SOA ns. admin. 1 1 1 1 60
7.2.0.192.in-addr.arpa. PTR MX.example.com.
mx.example.com. A 192.0.2.7
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR six.example.com.
six.example.com. AAAA 2001:db8::1
8.2.0.192.in-addr.arpa. PTR a\\032b\\000.example.com.
"""

    async def main() -> None:
        async with open_dns_server(zone) as resolver:
            dns = DnsResolver(resolver)
            assert await confirmed_name(dns, ADDRESS) == NAME
            assert await confirmed_name(dns, "2001:db8::1") == "six.example.com"
            assert await confirmed_name(dns, "192.0.2.8") is None
            assert await confirmed_name(dns, "192.0.2.9") is None

    trio.run(main)
