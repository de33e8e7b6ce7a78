"""All that is looked at of the network, in the order in which an operator would mend it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from relay.config import Config
from relay.internet.own_addresses import OwnAddress, own_addresses
from relay.internet.public_addresses import why_not_public
from relay.internet.resolver import Resolver
from relay.message.signer import Signer
from relay.networks import FAMILIES, Family
from relay.own_network.findings import NetworkFinding
from relay.own_network.name_servers import look_at_name_servers
from relay.own_network.nameless import NO_WAY_FIX
from relay.own_network.names import look_at_name, look_at_reverse_name
from relay.own_network.outside import (
    PROVIDERS,
    look_at_clock,
    look_at_lists,
    look_at_public_url,
    look_at_way_out,
)
from relay.own_network.ports import Ports, look_at_mx, look_at_ports
from relay.own_network.records import look_at_keys_and_dmarc, look_at_spf
from relay.surroundings import Surroundings


class World(NamedTuple):
    """What a test has other ones of."""

    surroundings: Surroundings
    resolver: Resolver
    name_servers: Sequence[str]
    name_server_port: int = 53
    ports: Ports = Ports()
    providers: Sequence[str] = PROVIDERS
    #: None: they are found out.
    own: Sequence[OwnAddress] | None = None
    #: Of families by which no mail goes out. None: they are found out.
    unused: Sequence[OwnAddress] | None = None


async def look_at_network(
    world: World, config: Config, signers: Sequence[Signer]
) -> AsyncIterator[NetworkFinding]:
    """Everything, one finding after the other as it is there. `signers`: of the operator's keys."""
    resolver, surroundings = world.resolver, world.surroundings
    name, domain = config.ehlo_name, config.operator_domain
    own = world.own
    if own is None:
        own = await own_addresses(resolver, ehlo_name=name, families=config.delivery.families)
    for one in own:
        yield _address(one)
    if not own and "*" not in config.delivery.routes:
        yield _no_way(config.delivery.families)
    for finding in await look_at_name_servers(world.name_servers, port=world.name_server_port):
        yield finding
    yield await look_at_name(resolver, name, own)
    for one in own:
        yield await look_at_reverse_name(resolver, name, one)
    unused = world.unused
    if unused is None:
        others = [family for family in FAMILIES if family not in config.delivery.families]
        unused = await own_addresses(resolver, ehlo_name=name, families=others)
    for one in unused:
        if why_not_public(one.address) is None:
            yield _unused(await look_at_reverse_name(resolver, name, one), one)
    for one in own:
        yield await look_at_spf(resolver, domain, name, one)
    for finding in await look_at_keys_and_dmarc(resolver, domain, signers):
        yield finding
    yield await look_at_mx(resolver, config, own)
    for finding in await look_at_ports(surroundings, resolver, config, own, world.ports):
        yield finding
    for finding in await look_at_public_url(surroundings, resolver, config):
        yield finding
    if "*" in config.delivery.routes:
        target = config.delivery.routes["*"]
        yield NetworkFinding(
            "way out", f"all mail goes to {target}", True, "", "nobody else is asked, as the routes have it"
        )
        return
    for finding in await look_at_way_out(
        surroundings, resolver, config, own, ports=world.ports, domains=world.providers
    ):
        yield finding
    for finding in await look_at_lists(resolver, config.monitoring.dnsbl):
        yield finding
    yield await look_at_clock(surroundings, resolver, config)


def _unused(finding: NetworkFinding, one: OwnAddress) -> NetworkFinding:
    """Nothing is wrong with an address that no mail goes out from. It is told whether it could."""
    found = f"no mail goes out from it; {finding.found}"
    if finding.ok:
        found += f", so {one.family} may be added to [delivery] families once the name and SPF have it, too"
    return NetworkFinding("unused address", finding.about, True, finding.expected, found)


def _no_way(families: Sequence[Family]) -> NetworkFinding:
    return NetworkFinding(
        "own address",
        " or ".join(families),
        False,
        "an address of a family that mail goes out by ([delivery] families)",
        "none that leads to the internet, so no mail goes out",
        NO_WAY_FIX,
    )


def _address(one: OwnAddress) -> NetworkFinding:
    expected = "a public address, which receivers see"
    if one.behind is not None:
        says = f"the DNS has it for the name in EHLO; this machine has {one.behind}, behind a router"
        return NetworkFinding("own address", str(one.address), True, expected, says)
    kind = why_not_public(one.address)
    if kind is None:
        return NetworkFinding("own address", str(one.address), True, expected, "mail goes out from it")
    fix = "publish the public address of its router for the name in EHLO, so that this can be looked at"
    return NetworkFinding("own address", str(one.address), None, expected, f"a {kind} address", fix)
