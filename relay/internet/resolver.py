"""What is asked of the DNS, on trio: bounded in time, size and number.

Answers are remembered as long as their TTL says, at most an hour, and so is the answer that there is none (RFC
2308); a failure is not. The number of addresses of a host and of remembered answers is bounded, and so is the time of
each lookup; what a name server says is not read where that would take long (`bounded_answers`).

Asked are the servers that the system names at the time (`resolv_conf`); where they change, what the old ones said is
forgotten.
"""

import logging
import time
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.rdata
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TXT
import dns.resolver
import dns.reversename
import trio
from dns._asyncbackend import Backend

from relay.internet.bounded_answers import BoundedBackend
from relay.internet.resolv_conf import SYSTEM_FILE, NameServers, ResolvConf

logger = logging.getLogger(__name__)

# Of one host and family; an answer of 64 kB holds thousands, and each that is looked at costs everybody time.
ADDRESSES_OF_HOST_MAX: Final = 20
LOOKUP_SECONDS_MAX: Final = 15.0
CACHED_ANSWERS_MAX: Final = 5_000
# Operators move their receivers and expect that to be noticed within the hour, whatever a TTL of years says.
CACHED_SECONDS_MAX: Final = 3600.0
# What fits into a datagram. Bigger answers come by TCP, are rare, and would make 5,000 of them a lot of memory.
CACHED_ANSWER_BYTES_MAX: Final = 1232


class NoSuchName(Exception):
    """The DNS says that the name does not exist (NXDOMAIN)."""


class LookupFailed(Exception):
    """The DNS could not tell. The message says why."""


class Mx(NamedTuple):
    """An MX record. The lower preference is tried first."""

    preference: int
    host: str
    """Lower case, no final dot; "" is the root, which stands in a null MX."""


class Resolver(Protocol):
    """What is asked of the DNS. All return [] for a name without such records."""

    async def lookup_mx(self, domain: str) -> list[Mx]:
        """The MX records as they are. Raises NoSuchName or LookupFailed."""
        ...

    async def lookup_addresses(self, host: str) -> list[str]:
        """A records, then AAAA records, ADDRESSES_OF_HOST_MAX of each. Raises NoSuchName or LookupFailed."""
        ...

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        """The TXT records, each as its character-strings. Raises NoSuchName or LookupFailed."""
        ...

    async def lookup_names(self, address: str) -> list[str]:
        """The PTR records of an address, in lower case and without a final dot, whatever they hold. Raises NoSuchName
        or LookupFailed."""
        ...


class _BoundedCache(dns.resolver.LRUCache):
    """dnspython's cache, which knows negative answers (RFC 2308) but neither a longest time nor a largest answer."""

    def put(self, key: dns.resolver.CacheKey, value: dns.resolver.Answer) -> None:
        """Remember an answer within the limits."""
        if len(value.response.wire or b"") <= CACHED_ANSWER_BYTES_MAX:
            value.expiration = min(value.expiration, time.time() + CACHED_SECONDS_MAX)
            super().put(key, value)


class DnsResolver:
    """dnspython on trio, with a cache."""

    def __init__(
        self,
        resolver: dns.asyncresolver.Resolver | None = None,
        backend: Backend | None = None,
        *,
        resolv_conf: Path = SYSTEM_FILE,
        port: int = 53,
    ) -> None:
        """`resolver` None: as the system is configured (`resolv_conf`); `backend` None: trio's sockets.

        `port`: at which the servers in that file are asked.
        """
        self._backend = BoundedBackend(backend or dns.asyncbackend.get_backend("trio"))
        self._port = port
        self._resolver = resolver or self._asking(NameServers(()))
        if self._resolver.cache is None:
            self._resolver.cache = _BoundedCache(CACHED_ANSWERS_MAX)
        self._resolv_conf = ResolvConf(resolv_conf) if resolver is None else None

    async def lookup_mx(self, domain: str) -> list[Mx]:
        """See Resolver."""
        return [
            Mx(record.preference, record.exchange.to_text(omit_final_dot=True).lower().removesuffix("."))
            for record in await self._lookup(domain, "MX")
            if isinstance(record, dns.rdtypes.ANY.MX.MX)
        ]

    async def lookup_addresses(self, host: str) -> list[str]:
        """See Resolver."""
        answers: dict[str, list[str] | NoSuchName | LookupFailed] = {}

        async def lookup(kind: str) -> None:
            try:
                records = await self._lookup(host, kind)
                answers[kind] = [record.to_text() for record in records[:ADDRESSES_OF_HOST_MAX]]
            except (NoSuchName, LookupFailed) as error:
                answers[kind] = error

        # Both at once: a server that does not answer costs its time once.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lookup, "A")
            nursery.start_soon(lookup, "AAAA")
        v4, v6 = answers["A"], answers["AAAA"]
        found = [address for answer in (v4, v6) if isinstance(answer, list) for address in answer]
        # Name servers that fail on AAAA exist; one family is enough to deliver.
        if not found:
            for answer in (v4, v6):
                if isinstance(answer, LookupFailed):
                    raise answer
            for answer in (v4, v6):
                if isinstance(answer, NoSuchName):
                    raise answer
        return found

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        """See Resolver."""
        return [
            record.strings
            for record in await self._lookup(name, "TXT")
            if isinstance(record, dns.rdtypes.ANY.TXT.TXT)
        ]

    async def lookup_names(self, address: str) -> list[str]:
        """See Resolver."""
        name = dns.reversename.from_address(address).to_text(omit_final_dot=True)
        return [
            record.target.to_text(omit_final_dot=True).lower()
            for record in await self._lookup(name, "PTR")
            if isinstance(record, dns.rdtypes.ANY.PTR.PTR)
        ]

    def _current_resolver(self) -> dns.asyncresolver.Resolver:
        """One that asks the servers of now."""
        if self._resolv_conf is not None and (servers := self._resolv_conf.changed(trio.current_time())):
            self._resolver = self._asking(servers)
            if servers.lines_skipped or not servers.are_named:
                logger.warning(
                    "dns.name_servers_unusable",
                    extra={"lines_skipped": servers.lines_skipped, "asked": list(servers.addresses)},
                )
        return self._resolver

    def _asking(self, servers: NameServers) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = list(servers.addresses)
        resolver.port = self._port
        resolver.rotate = servers.rotate
        if servers.timeout_seconds is not None:
            resolver.timeout = servers.timeout_seconds
        if servers.edns:
            resolver.use_edns()
        resolver.cache = _BoundedCache(CACHED_ANSWERS_MAX)
        return resolver

    async def _lookup(self, name: str, kind: str) -> list[dns.rdata.Rdata]:
        try:
            answer = await self._current_resolver().resolve(
                f"{name}.",
                kind,
                raise_on_no_answer=False,
                lifetime=LOOKUP_SECONDS_MAX,
                search=False,
                backend=self._backend,
            )
        except dns.resolver.NXDOMAIN:
            raise NoSuchName(name) from None
        except (dns.exception.DNSException, OSError) as error:
            # Some of dnspython's sentences have line ends in them, and this one goes into logs and notifications.
            raise LookupFailed(" ".join(f"{kind} lookup: {error}".split())) from error
        return list(answer.rrset or ())
