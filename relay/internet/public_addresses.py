"""Which addresses belong to the public internet.

**Nothing but a public unicast address is ever connected to, unless the operator's route names it**: whoever owns a
domain chooses what its records point at, and must not be able to reach the relay's own network with them.
"""

import ipaddress
from ipaddress import IPv4Address, IPv6Address
from typing import Final

_IPV6_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# RFC 6052 section 2.1. The local-use prefix of RFC 8215 lies outside 2000::/3 and is refused as such.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def why_not_public(address: IPv4Address | IPv6Address) -> str | None:
    """What kind of address this is, where it is not for everybody to reach; None: public unicast.

    An IPv6 address that carries an IPv4 address is judged by that: a gateway or the kernel would unpack it.
    """
    if isinstance(address, IPv6Address):
        embedded = _embedded_ipv4(address)
        if embedded is not None:
            return why_not_public(embedded)
    for kind in ("unspecified", "loopback", "multicast", "link_local", "reserved", "private"):
        if getattr(address, f"is_{kind}"):
            return kind.replace("_", "-")
    if isinstance(address, IPv6Address) and address not in _IPV6_GLOBAL_UNICAST:
        return "unassigned"
    # What the registries call not global for other reasons, such as the shared addresses of RFC 6598.
    return None if address.is_global else "non-global"


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
