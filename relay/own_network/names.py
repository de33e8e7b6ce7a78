"""Whether the relay's name and its addresses lead to each other, as receivers want it.

Receivers look up the name of the address that connects (PTR), look that name up again (forward-confirmed reverse DNS,
RFC 1912 section 2.1; Gmail says 550 5.7.25 where it fails), and compare it with the name in EHLO (RFC 5321 section
4.1.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.addresses import is_host_name
from relay.internet.own_addresses import OwnAddress
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver
from relay.networks import parse_address
from relay.own_network.findings import NetworkFinding, listed

#: Some addresses have hundreds of PTR records.
NAMES_MAX: Final = 3


async def look_at_name(resolver: Resolver, name: str, own: Sequence[OwnAddress]) -> NetworkFinding:
    """Whether the name in EHLO has exactly the addresses that mail goes out from."""
    ours = {str(one.address) for one in own}
    expected = f"the addresses that mail goes out from, {listed(sorted(ours), 'none')}"
    try:
        found = [str(parse_address(address)) for address in await resolver.lookup_addresses(name)]
    except NoSuchName:
        found = []
    except LookupFailed as error:
        return NetworkFinding("EHLO name", name, None, expected, f"no answer of the DNS ({error})")
    missing, more = sorted(ours - set(found)), sorted(set(found) - ours)
    if not own:
        fix = "this machine has no way to the internet in any of [delivery] families"
        return NetworkFinding("EHLO name", name, False, expected, listed(found), fix)
    if missing:
        records = ", ".join(f"`{name}. IN {'AAAA' if ':' in one else 'A'} {one}`" for one in missing)
        fix = f"publish {records}, or set [delivery] ehlo_name to the name that this machine has"
        return NetworkFinding("EHLO name", name, False, expected, listed(found), fix)
    if more:
        # Right for receivers, who look for theirs among them; but mail that comes in may go there.
        advice = f"{listed(more)}: no mail goes out from there; remove what is not this machine's"
        return NetworkFinding("EHLO name", name, True, expected, f"{listed(found)} ({advice})", advice)
    return NetworkFinding("EHLO name", name, True, expected, listed(found))


async def look_at_reverse_name(resolver: Resolver, name: str, own: OwnAddress) -> NetworkFinding:
    """Whether the address has a name (PTR), the name has the address, and it is the one in EHLO."""
    address = str(own.address)
    check, expected = "reverse name", f"PTR {name}, which leads back to {address}"
    whose = "where you rent the address (its owner has its reverse zone)"
    try:
        names = await resolver.lookup_names(address)
    except NoSuchName:
        names = []
    except LookupFailed as error:
        return NetworkFinding(check, address, None, expected, f"no answer of the DNS ({error})")
    if not names:
        fix = f"set its reverse name to {name} {whose}; many receivers refuse mail without one"
        if own.family == "ipv6":
            fix += ", so until then take ipv6 out of [delivery] families"
        return NetworkFinding(check, address, False, expected, "no PTR record", fix)
    if name in names:
        leads_back = await leads_to(resolver, name, own)
        if leads_back is None:
            return NetworkFinding(
                check, address, None, expected, f"PTR {listed(names)}; {name} has no answer"
            )
        if leads_back:
            return NetworkFinding(check, address, True, expected, f"PTR {name}, and back")
        fix = f"publish an A or AAAA record of {name} with {address}"
        return NetworkFinding(check, address, False, expected, f"PTR {name}, which leads elsewhere", fix)
    for other in filter(is_host_name, names[:NAMES_MAX]):
        if await leads_to(resolver, other, own):
            fix = f"set [delivery] ehlo_name to {other}, or its reverse name to {name} {whose}"
            return NetworkFinding(check, address, False, expected, f"PTR {other}, and back", fix)
    fix = f"set its reverse name to {name} {whose}"
    return NetworkFinding(
        check, address, False, expected, f"PTR {listed(names)}, which does not lead back", fix
    )


async def leads_to(resolver: Resolver, name: str, own: OwnAddress) -> bool | None:
    """None: the DNS could not tell."""
    try:
        found = await resolver.lookup_addresses(name)
    except NoSuchName:
        return False
    except LookupFailed:
        return None
    return own.address in map(parse_address, found)
