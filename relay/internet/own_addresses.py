"""From which addresses this relay's mail goes out, as receivers see them.

Contract. `own_addresses` gives at most one address for each family that mail goes out by, in the order of `families`.
It never raises but when it is cancelled, connects to nobody, and takes a look-up's time at most. What cannot be found
out is left out.

The kernel knows from which address it would send. Where that is not a public one (192.168.0.2 behind a router that
rewrites addresses), receivers see another, which nobody here can know for certain: then it is taken to be the one that
the DNS has for the name in our EHLO, because that is what receivers hold it against. `OwnAddress.behind` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import trio

from relay.internet.public_addresses import why_not_public
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver
from relay.networks import FAMILIES, Address, Family, family_of, parse_address

# Public addresses, so that the default route is looked at: the root servers' a.root-servers.net.
_ANYWHERE: Final = {
    "ipv4": (trio.socket.AF_INET, "198.41.0.4"),
    "ipv6": (trio.socket.AF_INET6, "2001:503:ba3e::2:30"),
}


class OwnAddress(NamedTuple):
    address: Address
    #: The address of this machine that it stands for, where that is not public; None where mail goes out from it.
    behind: Address | None = None

    @property
    def family(self) -> Family:
        return family_of(self.address)


async def own_addresses(
    resolver: Resolver, *, ehlo_name: str, families: Sequence[Family] = FAMILIES
) -> tuple[OwnAddress, ...]:
    """See above. An address that is not public is given only where the DNS has no better one for the name."""
    sources = await source_addresses(families)
    named: list[Address] = []
    if any(why_not_public(address) for address in sources):
        with suppress(NoSuchName, LookupFailed):
            named = public_addresses(await resolver.lookup_addresses(ehlo_name.lower()))
    found = []
    for source in sources:
        of_the_name = [address for address in named if address.version == source.version]
        if why_not_public(source) is not None and of_the_name:
            found.append(OwnAddress(of_the_name[0], behind=source))
        else:
            found.append(OwnAddress(source))
    return tuple(found)


async def source_addresses(families: Iterable[Family] = FAMILIES) -> tuple[Address, ...]:
    """Those that the kernel sends from, one for each family in which it has a way to the internet."""
    found: list[Address] = []
    for name in families:
        family, anywhere = _ANYWHERE[name]
        # No packet is sent: connecting a datagram socket only makes the kernel choose a source address.
        with suppress(OSError), trio.socket.socket(family, trio.socket.SOCK_DGRAM) as socket:
            await socket.connect((anywhere, 9))
            found.append(parse_address(str(socket.getsockname()[0])))
    return tuple(found)


def public_addresses(texts: Iterable[str]) -> list[Address]:
    return [address for address in map(parse_address, texts) if why_not_public(address) is None]
