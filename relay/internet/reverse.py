"""The name of an address, where the DNS has it both ways: address to name, and that name back to the address (RFC 8601
section 3, "iprev").

Contract: it takes SECONDS_MAX at most, asks for no more than NAMES_MAX names, and never raises but when it is
cancelled. Whatever fails or takes too long, there is no name: who owns an address can have its PTR record say anything,
so a name that does not lead back means nothing.
"""

from __future__ import annotations

from typing import Final

import trio

from relay.addresses import is_host_name
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver
from relay.networks import parse_address

SECONDS_MAX: Final = 2.0
#: Some addresses have hundreds of PTR records.
NAMES_MAX: Final = 3


async def confirmed_name(resolver: Resolver, address: str) -> str | None:
    """`address` in any form that `relay.networks.parse_address` takes."""
    ours = parse_address(address)
    with trio.move_on_after(SECONDS_MAX):
        try:
            names = await resolver.lookup_names(str(ours))
        except (NoSuchName, LookupFailed):
            return None
        for name in filter(is_host_name, names[:NAMES_MAX]):
            try:
                if any(parse_address(found) == ours for found in await resolver.lookup_addresses(name)):
                    return name
            except (NoSuchName, LookupFailed):
                continue
    return None
