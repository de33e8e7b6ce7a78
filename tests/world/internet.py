"""An internet in memory: many receivers, each at its own address, found by MX, in trouble when the calendar says so.

    internet = Internet()
    mx = internet.add_host("mx1.example.net", "198.41.0.7")
    internet.add_domain("example.net", "mx1.example.net")
    mx.troubles.append(Trouble("refuses", 1 * DAY, 4 * DAY))
    async with open_world(directory, internet=internet) as world: ...

**What a host does is a function of virtual time, of the address that is offered and of how often it was offered**:
nothing here throws dice or waits to be driven, so that a run is the same every time. Troubles of a host:

    refuses          connections are refused              silent   connections get no answer at all
    mute             it accepts and says nothing          busy     421 as a greeting
    broken-starttls  it offers STARTTLS and cannot do it  throttles  421 after `count` messages on a connection
    greylisting      451 to an address for `count` seconds from its first offer
    and every magic word of `tests.world.mx`, for the address `mailbox`, or for all where that is ""

of a name in the DNS: `gone` (no such name) and `servfail`; of its TXT records also `damaged` (little of them is left)
and `slow` (they come after `count` seconds). The relay asks `internet.dns`.

`receipts` is what the receivers have got, also what they never confirmed. `connections_max` says how many connections
the relay held at once to the hosts of one site, counted where the relay opens and closes them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from math import inf
from typing import NamedTuple

import trio
import trio.abc
from trio.testing import memory_stream_pair

from relay.domains.diagnosis import Strings
from relay.internet.resolver import LookupFailed, NoSuchName
from tests.world.dns import FakeDns
from tests.world.mx import Mx
from tests.world.mx_options import MxOptions, ReceivedMessage

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0


#: What is left of a string of a damaged TXT record: of none enough to be right (`v=DMARC1` alone would be).
DAMAGED_OCTETS = 7

#: Words of `tests.world.mx` after which the receiver does not keep a message that has come.
_NOT_KEPT = frozenset({"defer-message", "refuse-message"})
_MESSAGE_ID = re.compile(r"(?:bounces|forward)\+([0-9]+)-")
#: A notification has no sender's address to tell it by, but a Message-ID that the relay made.
_MESSAGE_ID_HEADER = re.compile(
    rb"^(?:Message-ID: <([0-9]+)\.|X-Atmos-Forwarded: ([0-9]+)-)", re.MULTILINE | re.IGNORECASE
)


class Trouble(NamedTuple):
    """Something goes wrong from `begin` (inclusive) to `end`, in seconds of virtual time."""

    kind: str
    begin: float = 0.0
    end: float = inf
    count: float = 0
    mailbox: str = ""


class Receipt(NamedTuple):
    """A message that a receiver has."""

    message_id: int
    sha256: str
    host: str
    recipient: str
    #: Its receiver answered 250 to the dot, or meant to.
    confirmed: bool


def under_way(troubles: Iterable[Trouble], *kinds: str) -> list[Trouble]:
    """The troubles of these kinds (of any, without) that hold now."""
    now = trio.current_time()
    return [item for item in troubles if item.begin <= now < item.end and (not kinds or item.kind in kinds)]


class Host(Mx):
    """A receiver with a calendar of troubles. Made by `Internet.add_host`."""

    def __init__(self, internet: Internet, name: str, options: MxOptions) -> None:
        super().__init__(replace(options, banner=f"220 {name} ESMTP".encode()))
        self.name = name
        self.troubles: list[Trouble] = []
        #: May be replaced: the word for an offer that no trouble concerns.
        self.mood: Callable[[str, int], str] = lambda address, offer: ""
        self._internet = internet
        self._healthy = self.options
        self._first_offered: dict[str, float] = {}

    async def serve(self, stream: trio.abc.Stream) -> None:
        options = self._healthy
        for trouble in under_way(self.troubles):
            match trouble.kind:
                case "mute":
                    options = replace(options, mute=True)
                case "busy":
                    options = replace(
                        options, banner=b"421 4.7.0 Too many connections from your network, slow down"
                    )
                case "broken-starttls":
                    options = replace(options, starttls_broken=True)
                case "throttles":
                    options = replace(options, messages_per_session=int(trouble.count))
        self.options = options  # which the session takes before it waits for anything
        await super().serve(stream)

    def misbehaviour(self, address: str) -> str:
        first = self._first_offered.setdefault(address, trio.current_time())
        for trouble in under_way(self.troubles):
            if trouble.kind == "greylisting":
                if trio.current_time() < first + trouble.count:
                    return "tempfail"
            elif trouble.kind not in _OF_CONNECTIONS and trouble.mailbox in ("", address):
                return trouble.kind
        return self.mood(address, self.offers[address])

    def arrived(self, message: ReceivedMessage, word: str) -> None:
        if word not in _NOT_KEPT:
            confirmed = not word.endswith("-after-dot")
            self._internet.receive(self.name, message, confirmed=confirmed)

    def accept(self, message: ReceivedMessage) -> None:
        """The receipt is enough: ten thousand messages need not be kept."""
        self.messages.append(replace(message, data=b""))


_OF_CONNECTIONS = frozenset({"refuses", "silent", "mute", "busy", "broken-starttls", "throttles"})


class TroubledDns(FakeDns):
    """Names whose trouble is under way do not exist, or cannot be looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.troubles: dict[str, list[Trouble]] = {}
        #: Called with a name and the TXT records that were answered; None where the DNS did not tell.
        self.on_txt: list[Callable[[str, list[Strings] | None], None]] = []

    async def lookup_txt(self, name: str) -> list[Strings]:
        """See Resolver."""
        for trouble in under_way(self.troubles.get(name, ()), "slow"):
            await trio.sleep(trouble.count)
        answer: list[Strings] | None = None
        try:
            answer = await super().lookup_txt(name)
            if under_way(self.troubles.get(name, ()), "damaged"):
                answer = [tuple(string[:DAMAGED_OCTETS] for string in strings) for strings in answer]
            return answer
        except NoSuchName:
            answer = []
            raise
        finally:
            for observer in self.on_txt:
                observer(name, answer)

    def _ask(self, kind: str, name: str) -> None:
        for trouble in under_way(self.troubles.get(name, ()), "gone", "servfail"):
            if trouble.kind == "gone":
                raise NoSuchName(name)
            raise LookupFailed(f"{kind} lookup: SERVFAIL")
        super()._ask(kind, name)


class _Connection(trio.abc.Stream):
    """The relay's end of a connection, which says when the relay has closed it."""

    def __init__(self, stream: trio.abc.Stream, on_closed: Callable[[], None]) -> None:
        self._stream = stream
        self._on_closed: Callable[[], None] | None = on_closed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        if self._on_closed is not None:
            self._on_closed()
            self._on_closed = None
        await self._stream.aclose()


class Internet:
    def __init__(self) -> None:
        self.dns = TroubledDns()
        self.hosts: dict[str, Host] = {}
        self.receipts: list[Receipt] = []
        #: Who serves at (address, port), beside the hosts.
        self.services: dict[tuple[str, int], Callable[[trio.abc.Stream], Awaitable[None]]] = {}
        #: Whose certificates are believed; None: those that the system believes.
        self.trust: ssl.SSLContext | None = None
        #: Private addresses that somebody wanted to be connected to.
        self.forbidden: list[str] = []
        self._at: dict[str, Host] = {}
        self._site_of_host: dict[str, frozenset[str]] = {}
        self._connections: Counter[frozenset[str]] = Counter()
        self.connections_max: Counter[frozenset[str]] = Counter()

    def add_host(self, name: str, address: str, options: MxOptions | None = None) -> Host:
        host = self.hosts[name] = self._at[address] = Host(self, name, options or MxOptions())
        self.dns.addresses[name] = [address]
        return host

    def add_domain(self, domain: str, *mx: str) -> None:
        """`domain` has these hosts as its MX, the first preferred most. A host is of one set only."""
        self.dns.mx[domain] = [(10 * number, name) for number, name in enumerate(mx, 1)]
        site = frozenset(mx)
        for name in mx:
            assert self._site_of_host.setdefault(name, site) == site

    def violations(self) -> list[str]:
        found = [f"{host.name}: {sentence}" for host in self.hosts.values() for sentence in host.violations]
        return found + [f"{address}: it is private, and was connected to" for address in self.forbidden]

    def receive(self, host: str, message: ReceivedMessage, *, confirmed: bool) -> None:
        found = _MESSAGE_ID.match(message.mail_from) or _MESSAGE_ID_HEADER.search(message.data)
        message_id = int(found[found.lastindex or 1]) if found else 0
        (recipient,) = message.rcpt_to
        sha256 = hashlib.sha256(message.data).hexdigest()
        self.receipts.append(Receipt(message_id, sha256, host, recipient, confirmed))

    def connected_by(self, nursery: trio.Nursery) -> Callable[[str, int], Awaitable[trio.abc.Stream]]:
        """The `open_stream` of a relay; the receivers' ends live in `nursery`."""

        async def open_stream(address: str, port: int) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            if not ipaddress.ip_address(address).is_global:
                self.forbidden.append(address)
            if (address, port) in self.services:
                return connected_to(self.services[address, port], nursery)
            host = self._at.get(address)
            if host is None or port != 25 or under_way(host.troubles, "refuses"):
                raise ConnectionRefusedError(111, "Connection refused")
            site = self._site_of_host.get(host.name, frozenset({host.name}))
            self._connections[site] += 1
            self.connections_max[site] = max(self.connections_max[site], self._connections[site])
            if under_way(host.troubles, "silent"):
                try:
                    await trio.sleep_forever()
                finally:
                    self._connections[site] -= 1
            ours, theirs = memory_stream_pair()
            scope = trio.CancelScope()

            def closed() -> None:
                # Nobody is there any more: a receiver that hangs is not kept for the rest of the run.
                self._connections[site] -= 1
                scope.cancel()

            nursery.start_soon(_serve, host.serve, theirs, scope)
            return _Connection(ours, closed)

        return open_stream


def connected_to(
    serve: Callable[[trio.abc.Stream], Awaitable[None]], nursery: trio.Nursery
) -> trio.abc.Stream:
    """A connection to whoever serves so. Its end lives in `nursery`, and no longer than the one that is returned."""
    ours, theirs = memory_stream_pair()
    scope = trio.CancelScope()
    nursery.start_soon(_serve, serve, theirs, scope)
    return _Connection(ours, scope.cancel)


async def _serve(
    serve: Callable[[trio.abc.Stream], Awaitable[None]], stream: trio.abc.Stream, scope: trio.CancelScope
) -> None:
    with scope:
        await serve(stream)
