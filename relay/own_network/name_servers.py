"""What the name servers are that this machine asks: whether they answer, check signatures (DNSSEC), or are everybody's.

The root is signed (RFC 4035). Whoever checks says so of its records by the AD bit; whoever does not believes what any
server on the way may say. A public resolver is asked by so many that lists of senders refuse to answer it.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final, NamedTuple

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import trio

from relay.networks import is_within, parse_address
from relay.own_network.findings import NetworkFinding

SECONDS_MAX: Final = 5.0
#: Of the largest that say in public that they are for everybody: Google, Cloudflare, Quad9, OpenDNS, AdGuard, Level 3.
PUBLIC_RESOLVERS: Final = tuple(
    map(
        ip_network,
        (
            "8.8.8.0/24",
            "8.8.4.0/24",
            "2001:4860:4860::/64",
            "1.1.1.0/24",
            "1.0.0.0/24",
            "2606:4700:4700::/64",
            "9.9.9.0/24",
            "149.112.112.0/24",
            "2620:fe::/48",
            "208.67.222.0/24",
            "208.67.220.0/24",
            "2620:119:35::/48",
            "94.140.14.0/24",
            "94.140.15.0/24",
            "4.2.2.0/24",
        ),
    )
)


class _Answer(NamedTuple):
    why_not: str | None
    is_checked: bool


async def look_at_name_servers(servers: Sequence[str], *, port: int = 53) -> list[NetworkFinding]:
    """Each server that the system names, by one question."""
    return [_finding(server, await _ask(server, port)) for server in servers]


async def _ask(server: str, port: int) -> _Answer:
    question = dns.message.make_query(".", "SOA", want_dnssec=True)
    question.flags |= dns.flags.AD
    try:
        backend = dns.asyncbackend.get_backend("trio")
        answer, _ = await dns.asyncquery.udp_with_fallback(
            question, server, timeout=SECONDS_MAX, port=port, backend=backend
        )
    except (
        dns.exception.DNSException,
        OSError,
        EOFError,
        trio.BrokenResourceError,
        trio.TooSlowError,
    ) as error:
        # Of a server that sends to TCP and then hangs up, dnspython says it as its streams do.
        return _Answer(" ".join(str(error).split()) or type(error).__name__, False)
    if answer.rcode() != dns.rcode.NOERROR:
        return _Answer(dns.rcode.to_text(answer.rcode()), False)
    return _Answer(None, bool(answer.flags & dns.flags.AD))


def _finding(server: str, answer: _Answer) -> NetworkFinding:
    check, expected = "resolver", "a resolver of your own that checks signatures (DNSSEC)"
    own = "run one on this machine (Debian: `apt install unbound`) and name 127.0.0.1 in /etc/resolv.conf"
    if answer.why_not is not None:
        return NetworkFinding(check, server, False, expected, f"no answer ({answer.why_not})", own)
    checked = "checks signatures" if answer.is_checked else "does not check signatures"
    if is_within(parse_address(server), PUBLIC_RESOLVERS):
        says = f"a public resolver, which {checked}: lists of senders (DNSBL) tell it nothing that is true"
        return NetworkFinding(check, server, False, expected, says, own)
    if not answer.is_checked:
        # Mail goes out all the same; whoever is on the way may lead it elsewhere.
        return NetworkFinding(check, server, None, expected, f"answers, and {checked}", own)
    return NetworkFinding(check, server, True, expected, f"answers, and {checked}")
