"""Whose request it is: the address that connects, or the one that a proxy in front of the relay forwards.

The invariant: **no client chooses its own address.** `X-Forwarded-For` is believed where a trusted proxy sends it
(`[http] trusted_proxies`), and read from its right end, where the nearest proxy has written: the first address from
there that is no trusted proxy's is whose request it is. What stands to the left of that came from the client. Where all
are trusted, it is the farthest; where something is no address, the rest is worth nothing, and it is the proxy's own.

What one address can hold of the relay is bounded by `[http] connections_per_address_max`. Of a client that connects it
is connections that are counted (`relay.api.places`). Behind a proxy it has none: the proxy opens them, keeps them, and
puts one client's requests after another's on them. So there its *requests at work* are counted: each of them holds a
connection of the proxy's for as long as it is at work, as it would hold one of its own. A websocket is such a request
until it is accepted; then it is a stream, and members have a bound of those.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from relay.networks import counted_as, is_within, parse_address, parse_networks

Send = Callable[[Any], Awaitable[None]]

#: So many trusted proxies one behind the other; more is no address.
PROXIES_MAX: Final = 16
#: `[v6]:port` is not longer.
_ENTRY_BYTES_MAX: Final = 53
#: Clients whose addresses need not be parsed again.
_KNOWN_MAX: Final = 4096

FORWARDED_FOR: Final = b"x-forwarded-for"
#: What else a proxy adds. For whom it forwards is not read there, but that it forwards is.
_ADDED_BY_PROXIES: Final = frozenset(
    {b"cf-connecting-ip", b"forwarded", b"true-client-ip", b"via", b"x-client-ip", b"x-real-ip"}
)


def says_forwarded(name: bytes) -> bool:
    """Whether a field of this name is of a request that came through a proxy."""
    return name in _ADDED_BY_PROXIES or name.startswith(b"x-forwarded-")


class Client(NamedTuple):
    """An address, in the one form that it has here."""

    address: str
    #: A proxy of the operator's, or this machine: it has no limit.
    is_trusted: bool
    #: What its connections and requests are counted under.
    counted_as: str


class Clients:
    """Knows the operator's proxies from everybody else."""

    def __init__(self, trusted_proxies: Callable[[], tuple[str, ...]] = tuple) -> None:
        """Which are trusted is asked for at each use: the operator may change it."""
        self._trusted_proxies = trusted_proxies
        self._trusted: tuple[str, ...] = ()
        self._look = _looking(())

    def known(self, text: str) -> Client | None:
        """The client of this address; None: it is no address."""
        trusted_proxies = self._trusted_proxies()
        if self._trusted is not trusted_proxies:
            self._trusted, self._look = trusted_proxies, _looking(trusted_proxies)
        return self._look(text)

    def of(self, scope: Any) -> Client | None:
        """Whose request this is, which its ASGI scope says from here on. None: nobody's that has an address."""
        peer = scope.get("client")
        client = self.known(peer[0]) if peer else None
        if client is None or not client.is_trusted:
            return client
        # Several fields of one name are one list (RFC 9110, 5.3): some proxies add a field of their own.
        fields = [value for name, value in scope["headers"] if name == FORWARDED_FOR]
        if fields:
            client = self._forwarded_for(b",".join(fields), client)
            scope["client"] = (client.address, 0)
        return client

    def _forwarded_for(self, entries: bytes, proxy: Client) -> Client:
        found = proxy
        for entry in reversed(entries.rsplit(b",", PROXIES_MAX)):
            text = entry.strip(b" \t")
            if not text:  # legal in a list, and nothing (RFC 9110, 5.6.1.2)
                continue
            client = self.known(_without_port(text)) if len(text) <= _ENTRY_BYTES_MAX else None
            if client is None:
                return proxy
            found = client
            if not client.is_trusted:
                break
        return found


def _looking(trusted_proxies: tuple[str, ...]) -> Callable[[str], Client | None]:
    trusted = parse_networks(trusted_proxies)

    @lru_cache(maxsize=_KNOWN_MAX)
    def look(text: str) -> Client | None:
        try:
            address = parse_address(text)
        except ValueError:
            return None
        return Client(str(address), is_within(address, trusted), counted_as(address))

    return look


def _without_port(entry: bytes) -> str:
    """Some proxies write the port, too. What is no address stays none."""
    text = entry.decode("latin-1")
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        is_good = ":" in address and bool(bracket) and (not port or (port[0] == ":" and _is_port(port[1:])))
    else:
        address, colon, port = text.partition(":")
        if ":" in port:  # an IPv6 address
            address, colon = text, ""
        is_good = not colon or _is_port(port)
    return address if is_good and "%" not in address else ""


def _is_port(text: str) -> bool:
    return len(text) <= 5 and text.isascii() and text.isdigit()


class AtWork:
    """Requests at work, by whose they are. Those of trusted proxies themselves are not counted."""

    def __init__(self, per_client_max: Callable[[], int]) -> None:
        self._per_client_max = per_client_max
        self._counts: dict[str, int] = {}

    def begin(self, client: Client) -> Turn | None:
        """None: there are as many as may be."""
        count = self._counts.get(client.counted_as, 0)
        if count >= self._per_client_max():
            return None
        self._counts[client.counted_as] = count + 1
        return Turn(self._counts, client.counted_as)


class Turn:
    """One request at work."""

    def __init__(self, counts: dict[str, int], counted_as: str) -> None:
        self._counts = counts
        self._counted_as: str | None = counted_as

    def until_accepted(self, send: Send) -> Send:
        """Ends it when the websocket is accepted."""

        async def send_noting(message: Any) -> None:
            if message["type"] == "websocket.accept":
                self.end()
            await send(message)

        return send_noting

    def end(self) -> None:
        """Once; more changes nothing."""
        counted_as, self._counted_as = self._counted_as, None
        if counted_as is None:
            return
        if self._counts[counted_as] == 1:
            del self._counts[counted_as]  # or there would be an entry for each address that ever came
        else:
            self._counts[counted_as] -= 1
