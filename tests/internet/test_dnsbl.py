"""What a list's answer means, each answer of the table, from name servers that nobody here wrote."""

from __future__ import annotations

import pytest
import trio

from relay.internet.dnsbl import Listed, NotListed, Unknown, Verdict, ask_list, query_name, why_no_answers
from tests.world.name_service import running_name_service

ADDRESS = "192.0.2.25"
_AT = "25.2.0.192"

#: A list in order: its test entries are right.
_RIGHT = "2.0.0.127.{0}. 60 A 127.0.0.2\n"
ZONE = (
    "".join(
        map(
            _RIGHT.format,
            ("listed.bl", "twice.bl", "silent.bl", "odd.bl", "mixed.bl", "outside.bl", "self.bl"),
        )
    )
    + f"""\
{_AT}.listed.bl. 60 A 127.0.0.2
{_AT}.listed.bl. 60 TXT "Spam,\\027[31m see " "https://listed.bl/?q=192.0.2.25"
{_AT}.twice.bl. 60 A 127.0.0.10
{_AT}.twice.bl. 60 A 127.0.0.4
{_AT}.twice.bl. 60 AAAA 2001:db8::1
{_AT}.odd.bl. 60 A 127.255.255.254
{_AT}.mixed.bl. 60 A 127.0.0.2
{_AT}.mixed.bl. 60 A 127.255.255.255
{_AT}.outside.bl. 60 A 192.0.2.80
{_AT}.self.bl. 60 A 127.0.0.1
*.everything.bl. 60 A 127.0.0.2
*.rewritten.bl. 60 A 192.0.2.80
*.refused.bl. 60 A 127.255.255.254
empty.bl. 60 TXT "gone"
test.names.bl. 60 A 127.0.1.2
spammer.example.names.bl. 60 A 127.0.1.2
loop.bl. 60 CNAME loop.bl.
2.0.0.127.alias.bl. 60 CNAME loop.bl.
"""
)


def test_each_answer_of_the_table() -> None:
    async def main() -> None:
        with running_name_service(ZONE) as service:
            resolver = service.resolver()

            async def verdict(dnsbl: str, source: str = ADDRESS, kind: str = "ipv4") -> Verdict:
                because = await why_no_answers(resolver, dnsbl, kind)
                return await ask_list(resolver, dnsbl, source) if because is None else Unknown(because)

            said = "Spam, [31m see https://listed.bl/?q=192.0.2.25"
            assert await verdict("listed.bl") == Listed(("127.0.0.2",), said)
            assert await verdict("twice.bl") == Listed(("127.0.0.4", "127.0.0.10"), None)
            assert await verdict("listed.bl", "192.0.2.26") == NotListed()
            assert await verdict("silent.bl") == NotListed()
            assert await verdict("names.bl", "spammer.example", "domain") == Listed(("127.0.1.2",), None)
            assert await verdict("names.bl", "good.example", "domain") == NotListed()
            for dnsbl, because in (
                ("odd.bl", "gives no answers to this resolver (127.255.255.254)"),
                ("mixed.bl", "gives no answers to this resolver (127.255.255.255)"),
                ("self.bl", "gives no answers to this resolver (127.0.0.1)"),
                ("outside.bl", "192.0.2.80 is no list's"),
                ("everything.bl", "names its test entry 127.0.0.1"),
                ("rewritten.bl", "192.0.2.80 is no list's"),
                ("refused.bl", "gives no answers to this resolver"),
                ("empty.bl", "does not name its test entry 127.0.0.2"),
                ("never.was.bl", "does not name its test entry 127.0.0.2"),
                ("alias.bl", "the DNS could not tell"),
            ):
                found = await verdict(dnsbl)
                assert isinstance(found, Unknown), dnsbl
                assert because in found.because, dnsbl
            # Its entries are of IPv4 alone.
            assert isinstance(await verdict("listed.bl", "2001:db8::25", "ipv6"), Unknown)

    trio.run(main)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("192.0.2.25", "25.2.0.192.bl"),
        ("2001:db8::25", "5.2.0.0." + "0.0.0.0." * 5 + "8.b.d.0.1.0.0.2.bl"),
        ("::ffff:7f00:2", "2.0.0.0.0.0.f.7.f.f.f.f." + "0.0.0.0." * 5 + "bl"),
        ("a.example", "a.example.bl"),
    ],
)
def test_what_is_asked_for(source: str, name: str) -> None:
    """As RFC 5782, sections 2.1 and 2.4, has it."""
    assert query_name(source, "bl") == name
