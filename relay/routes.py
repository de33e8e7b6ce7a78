"""Fixed routes: where the operator sends a domain's mail, whatever the DNS says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final, Self

_ROUTE: Final = re.compile(r"(?:(?P<name>[A-Za-z0-9._-]+)|\[(?P<v6>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,5})")
# What a TLS server name and a log line can take; host names with underscores exist.
HOST_TO_LOOK_UP: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*")

# As `Route` reads it, which has the last word on what it connects to.
_LABEL: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST_AND_PORT: Final = re.compile(
    rf"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?=[^:]{{1,253}}:){_LABEL}(?:\.{_LABEL})*):(?P<port>[0-9]{{1,5}})"
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where the operator sends a domain's mail, whatever the DNS says. A site of its own."""

    host: str
    """A name or an address, without brackets."""
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "host:port" or "[v6]:port". ValueError says what is wrong, for the operator."""
        match = _ROUTE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not host:port or [v6]:port")
        host, port = match["name"], int(match["port"])
        if host is None:
            host = str(IPv6Address(match["v6"]))
        elif not HOST_TO_LOOK_UP.fullmatch(host.lower()):
            raise ValueError(f"{text!r}: {host!r} is not a name that can be looked up")
        if not 1 <= port <= 65535:
            raise ValueError(f"{text!r}: a port is between 1 and 65535")
        return cls(host.lower(), port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def route_for(routes: Mapping[str, str], domain: str) -> Route | None:
    """The route of exactly this domain, else the one of "*", as the configuration has them; None: by MX."""
    target = routes.get(domain, routes.get("*"))
    return None if target is None else Route.parse(target)


def port_of(text: str) -> int | None:
    """The port of `host:port` or `[v6]:port`, which may be 0; None where it is neither."""
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None or int(found["port"]) > 65535 or (found["v6"] and not _is_v6(found["v6"])):
        return None
    return int(found["port"])


def _is_v6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
