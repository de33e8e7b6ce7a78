"""From a recipient domain to its site, and to a session with one of its receivers.

A *site* is whom connections are counted against (scheduler.py): the set of MX hosts, which all domains at one provider
share, or the fixed route where there is one. Hosts and addresses are tried in their order until one says hello; what
none of them could do is the attempt's outcome, and none is begun any more after CONNECTING_SECONDS_MAX. Addresses that
did not work a moment ago are tried last: one dead host of several costs its time-out once, not with every connection.

A host whose offer of STARTTLS comes to nothing is tried again in plain text, where the settings allow it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import trio

from relay.config import Config
from relay.delivery.outcomes import AttemptOutcome, Peer
from relay.delivery.replies import Failure
from relay.delivery.resolve import (
    RoutingFailed,
    Target,
    own_addresses,
    resolve_mx,
    resolve_route,
    resolve_targets,
    site_of,
)
from relay.delivery.session import (
    Session,
    SessionFailed,
    TlsFailed,
    TlsPolicy,
    open_session,
)
from relay.internet.resolver import Mx
from relay.networks import Family, family_of, parse_address
from relay.routes import Route, route_for
from relay.surroundings import Surroundings

#: How long an address that did not work is tried last, and how many such are remembered.
AVOID_SECONDS = 300.0
AVOIDED_MAX = 10_000
#: For so long one address after the other is tried: two at least, for none takes longer than the opening of a session
#: may. Twenty that hang would hold a connection, and a login link, for hours; the next attempt begins with the others.
CONNECTING_SECONDS_MAX = 900.0


class Destination(NamedTuple):
    """Where a domain's mail goes: a name to count by, and why there is nowhere to go where that is so."""

    name: str
    unroutable: Failure | None = None


class Connector:
    """`config` is asked for at each use."""

    def __init__(self, config: Callable[[], Config], surroundings: Surroundings) -> None:
        self._config = config
        self._surroundings = surroundings
        self._resolver = surroundings.dns()
        self._avoided: dict[str, float] = {}

    @property
    def plaintext_after_tls_failure(self) -> bool:
        return self._config().delivery.plaintext_after_tls_failure

    async def destination(self, domain: str) -> Destination:
        """The site of a recipient domain, as the DNS has it now."""
        route = self._route(domain)
        if route is not None:
            return Destination(f"route {route}")
        try:
            hosts = await self._hosts(domain)
        except RoutingFailed as error:
            return Destination(f"unroutable {domain}", error.failure)
        return Destination(site_of(hosts))

    async def connect(
        self, domain: str, *, in_plain_text: Collection[str] = (), refused: Collection[Family] = ()
    ) -> Session:
        """A session with a receiver for `domain`. Raises SessionFailed, whose outcome says why there is none.

        `in_plain_text`: addresses that are not asked for STARTTLS. `refused`: families whose addresses come last.
        """
        try:
            targets = await self._targets(domain)
        except RoutingFailed as error:
            raise SessionFailed(AttemptOutcome.of(error.failure)) from error
        last: SessionFailed | None = None
        begun = trio.current_time()
        # Stable: otherwise in their order.
        for target in sorted(targets, key=lambda one: (one.family in refused, self._is_avoided(one))):
            try:
                session = await self._open(target, in_plain_text)
            except SessionFailed as error:
                error.peer = Peer(target.host, target.address, target.port)
                last = error
                self._avoid(target)
                if trio.current_time() >= begun + CONNECTING_SECONDS_MAX:
                    break
            else:
                self._avoided.pop(target.address, None)
                return session
        assert last is not None, "routing gives at least one target or fails"
        raise last

    async def has_another_family(self, domain: str, address: str) -> bool:
        """Whether mail for the domain can go by a family that this address is not of. By a route it goes where the
        operator has said."""
        if len(self._config().delivery.families) < 2 or self._route(domain) is not None:
            return False
        family = family_of(parse_address(address))
        try:
            return any(target.family != family for target in await self._targets(domain))
        except RoutingFailed:
            return False

    def _route(self, domain: str) -> Route | None:
        return route_for(self._config().delivery.routes, domain)

    async def _hosts(self, domain: str) -> list[Mx]:
        return await resolve_mx(domain, resolver=self._resolver, rng=self._surroundings.dice)

    async def _targets(self, domain: str) -> list[Target]:
        route = self._route(domain)
        if route is not None:
            return await resolve_route(route)
        own_name = self._config().ehlo_name
        return await resolve_targets(
            await self._hosts(domain),
            resolver=self._resolver,
            rng=self._surroundings.dice,
            own_name=own_name,
            own_addresses=await own_addresses(self._resolver, own_name),
            families=self._config().delivery.families,
        )

    def _is_avoided(self, target: Target) -> bool:
        failed_at = self._avoided.get(target.address)
        return failed_at is not None and trio.current_time() < failed_at + AVOID_SECONDS

    def _avoid(self, target: Target) -> None:
        self._avoided.pop(target.address, None)  # to the end: the oldest are forgotten first
        self._avoided[target.address] = trio.current_time()
        if len(self._avoided) > AVOIDED_MAX:
            del self._avoided[next(iter(self._avoided))]

    async def _open(self, target: Target, in_plain_text: Collection[str]) -> Session:
        if target.address in in_plain_text:
            return await self._open_with(target, TlsPolicy.NEVER)
        try:
            return await self._open_with(target, TlsPolicy.OPPORTUNISTIC)
        except TlsFailed:
            if not self.plaintext_after_tls_failure:
                raise
            return await self._open_with(target, TlsPolicy.NEVER)

    async def _open_with(self, target: Target, tls: TlsPolicy) -> Session:
        return await open_session(
            target.host,
            target.address,
            target.port,
            ehlo_name=self._config().ehlo_name,
            tls=tls,
            timeouts=self._surroundings.timeouts,
            trust=self._surroundings.tls,
            open_stream=self._surroundings.open_stream,
        )
