"""`[webhooks]` of the configuration: where webhooks may go beside public https addresses.

An entry of `allow` is `host:port` or `[v6]:port`, which holds for the operator's own webhooks; or a DID, a space and
that, which holds for that member's and nobody else's. What an entry names may be a private address, and may be spoken
to in the clear.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from relay.addresses import is_host_name
from relay.dids import is_valid_did
from relay.events import NOBODY
from relay.routes import Route


class Target(NamedTuple):
    """A place that the operator has allowed, and to whom: NOBODY is the operator."""

    did: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Target:
        """ValueError says what is wrong, for the operator."""
        did, space, place = text.rpartition(" ")
        if space and not is_valid_did(did):
            raise ValueError(
                f"{did!r} is no DID; expected host:port, or the member's DID, a space and host:port"
            )
        route = Route.parse(place)
        host = _normal(route.host)
        if not (_is_address(host) or is_host_name(host)):
            raise ValueError(f"{host!r} is neither an IP address nor a host name of two labels or more")
        return cls(did if space else NOBODY, host, route.port)


class WebhooksConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    #: Where webhooks may go although it is no public address, or is spoken to in the clear (http).
    allow: tuple[str, ...] = ()

    def allows(self, did: str, host: str, port: int) -> bool:
        """Whether the webhooks of this member, or with NOBODY the operator's, may go there whatever it is."""
        return Target(did, _normal(host), port) in _targets(self.allow)


def bad_entries(allow: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The places in `allow` of what cannot be used, and why."""
    for index, text in enumerate(allow):
        try:
            Target.parse(text)
        except ValueError as error:
            yield index, str(error)


@lru_cache(maxsize=4)
def _targets(allow: tuple[str, ...]) -> frozenset[Target]:
    return frozenset(map(Target.parse, allow))


def _normal(host: str) -> str:
    """An address in its one spelling, a name in lower case."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
