"""Addresses of clients, and networks of them, each in one form.

The invariant: **one machine is one address, however it was written.** An IPv4 address that came through an IPv6 socket
(`::ffff:192.0.2.1`) is the IPv4 address, so that a network or a limit for it holds; a zone (`fe80::1%eth0`) is left
out, because it says which of our own cables it came by.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Final, Literal

Address = IPv4Address | IPv6Address
#: As `[delivery] families` names them.
Family = Literal["ipv4", "ipv6"]
FAMILIES: Final[tuple[Family, ...]] = ("ipv4", "ipv6")
Network = IPv4Network | IPv6Network

LOOPBACK: Final[tuple[Network, ...]] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

#: Of an IPv6 address: a site gets a network of so many bits at the least (RFC 6177), and all addresses in it.
IPV6_SITE_BITS: Final = 64

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def parse_address(text: str) -> Address:
    """Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def family_of(address: Address) -> Family:
    return "ipv4" if isinstance(address, IPv4Address) else "ipv6"


def parse_network(text: str) -> Network:
    """An address, or a network as `192.0.2.0/24`. Raises ValueError with a sentence."""
    if "%" in text:
        raise ValueError("write the address without a zone")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            "expected an address or a network, as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        raise ValueError("write an IPv4 address as such, without ::ffff:")
    if "/" in text and ip_interface(text).ip != network.network_address:
        raise ValueError(f"the network's own address is {network}")
    return network


def parse_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Those of a setting. Raises as `parse_network`."""
    return tuple(map(parse_network, texts))


def is_within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def counted_as(address: Address) -> str:
    """What stands for it where addresses are counted: an IPv4 address for itself, an IPv6 address for its site.

    Whoever has one IPv6 address has 2**64 of them, so a limit for each alone would be none.
    """
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, IPV6_SITE_BITS), strict=False))
