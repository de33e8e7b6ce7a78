"""What `doctor` says of mail that comes in, where a relay takes it: whether mail of others is led there.

Where the MX of the operator's domain leads is looked up. That "here" is this machine can only be told by names: the MX
that `dns` prints is the relay's own name, and another name does as well, where it has an address of that one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import trio

from relay.config import Config
from relay.internet.resolver import DnsResolver, LookupFailed, NoSuchName, Resolver
from relay.networks import LOOPBACK, is_within, parse_address

PATIENCE_SECONDS: Final = 5.0
SMTP_PORT: Final = 25


class IncomingFinding(NamedTuple):
    ok: bool
    says: str


def look_at_incoming(config: Config, resolver: Resolver | None = None) -> list[IncomingFinding]:
    """`resolver` None: as the system is configured. Takes PATIENCE_SECONDS at most."""
    return [*_ports(config), *trio.run(_dns, config, resolver or DnsResolver())]


def _ports(config: Config) -> Iterator[IncomingFinding]:
    binds = [bind.rpartition(":") for bind in config.inbound.bind]
    reached = [host.strip("[]") for host, _, port in binds if port == str(SMTP_PORT)]
    if not reached:
        says = f"no [inbound] bind has port {SMTP_PORT}, the only one that servers try: something must lead it here"
        yield IncomingFinding(True, says)
    elif all(map(_is_loopback, reached)):
        yield IncomingFinding(
            False, f"[inbound] bind is of this machine alone, and nobody else reaches it: {reached[0]}"
        )


def _is_loopback(host: str) -> bool:
    try:
        return is_within(parse_address(host), LOOPBACK)
    except ValueError:
        return host == "localhost"


async def _dns(config: Config, resolver: Resolver) -> list[IncomingFinding]:
    with trio.move_on_after(PATIENCE_SECONDS):
        return [await _mx(config, resolver), *await _mailbox(config, resolver)]
    return [IncomingFinding(True, "the DNS does not answer: where the MX leads could not be looked up")]


async def _mx(config: Config, resolver: Resolver) -> IncomingFinding:
    domain, ours = config.operator_domain, config.ehlo_name
    fix = f"publish `{domain}. IN MX 10 {ours}.`, and mail for {domain} comes to this relay"
    try:
        hosts = [mx.host for mx in await resolver.lookup_mx(domain)]
    except NoSuchName:
        return IncomingFinding(False, f"{domain} is not in the DNS; {fix}")
    except LookupFailed as error:
        return IncomingFinding(True, f"the MX of {domain} could not be looked up: {error}")
    if not hosts:
        return IncomingFinding(False, f"{domain} has no MX; {fix}")
    addresses = await _addresses(resolver, ours)
    if not addresses:
        return IncomingFinding(
            False, f"{ours}, the relay's name, has no address in the DNS; give it an A or AAAA record"
        )
    elsewhere = [host for host in hosts if host != ours and not addresses & await _addresses(resolver, host)]
    if len(elsewhere) == len(hosts):
        return IncomingFinding(
            False, f"the MX of {domain} leads elsewhere ({', '.join(sorted(elsewhere))}); {fix}"
        )
    if elsewhere:
        says = f"one MX of {domain} leads here, others elsewhere ({', '.join(sorted(elsewhere))}): is that meant?"
        return IncomingFinding(True, says)
    return IncomingFinding(True, f"the MX of {domain} leads here ({', '.join(sorted(addresses))})")


async def _mailbox(config: Config, resolver: Resolver) -> list[IncomingFinding]:
    domain, ours = config.inbound.operator_mailbox.rpartition("@")[2], config.ehlo_name
    try:
        hosts = [mx.host for mx in await resolver.lookup_mx(domain)]
        found = hosts or await resolver.lookup_addresses(domain)
    except NoSuchName:
        hosts, found = [], []
    except LookupFailed:
        return []
    if found:
        here = await _addresses(resolver, ours)
        for host in hosts or [domain]:  # RFC 5321 section 5.1: without an MX, the name itself
            if host == ours or here & await _addresses(resolver, host):
                says = (
                    f"[inbound] operator_mailbox: mail for {domain} comes to this relay ({host}), which keeps no"
                    " mailbox and would refuse it; name one elsewhere"
                )
                return [IncomingFinding(False, says)]
        return []
    says = f"[inbound] operator_mailbox: {domain} is no domain that takes mail; name a mailbox that you read"
    return [IncomingFinding(False, says)]


async def _addresses(resolver: Resolver, host: str) -> set[str]:
    try:
        return set(await resolver.lookup_addresses(host))
    except (NoSuchName, LookupFailed):
        return set()
