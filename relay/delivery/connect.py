"""From a recipient domain to a session with one of its receivers.

A *site* is whom connections are counted against: the fixed route where there is one, otherwise the domain. Hosts and
addresses are tried in their order until one says hello; what none of them could do is the attempt's outcome.
"""

from __future__ import annotations

from collections.abc import Mapping

from relay.delivery.resolve import (
    Route,
    RoutingFailed,
    Target,
    resolve_mx,
    resolve_route,
    resolve_targets,
    route_for,
)
from relay.delivery.session import (
    Outcome,
    Peer,
    Session,
    SessionFailed,
    TlsFailed,
    TlsPolicy,
    open_session,
)
from relay.surroundings import Surroundings


class Connector:
    def __init__(
        self,
        *,
        routes: Mapping[str, Route],
        surroundings: Surroundings,
        ehlo_name: str,
        plaintext_after_tls_failure: bool,
    ) -> None:
        self._routes = routes
        self._surroundings = surroundings
        self._resolver = surroundings.dns()
        self._ehlo_name = ehlo_name
        self._plaintext_after_tls_failure = plaintext_after_tls_failure

    def site(self, domain: str) -> str:
        route = route_for(self._routes, domain)
        return domain if route is None else f"route {route}"

    async def connect(self, domain: str) -> Session:
        """A session with a receiver for `domain`. Raises SessionFailed, whose outcome says why there is none."""
        try:
            targets = await self._targets(domain)
        except RoutingFailed as error:
            raise SessionFailed(Outcome.of(error.failure)) from error
        last: SessionFailed | None = None
        for target in targets:
            try:
                return await self._open(target)
            except SessionFailed as error:
                error.peer = Peer(target.host, target.address, target.port)
                last = error
        assert last is not None, "routing gives at least one target or fails"
        raise last

    async def _targets(self, domain: str) -> list[Target]:
        route = route_for(self._routes, domain)
        if route is not None:
            return await resolve_route(route)
        hosts = await resolve_mx(domain, resolver=self._resolver, rng=self._surroundings.dice)
        return await resolve_targets(hosts, resolver=self._resolver, rng=self._surroundings.dice)

    async def _open(self, target: Target) -> Session:
        try:
            return await self._open_with(target, TlsPolicy.OPPORTUNISTIC)
        except TlsFailed:
            if not self._plaintext_after_tls_failure:
                raise
            return await self._open_with(target, TlsPolicy.NEVER)

    async def _open_with(self, target: Target, tls: TlsPolicy) -> Session:
        return await open_session(
            target.host,
            target.address,
            target.port,
            ehlo_name=self._ehlo_name,
            tls=tls,
            timeouts=self._surroundings.timeouts,
            open_stream=self._surroundings.open_stream,
        )
