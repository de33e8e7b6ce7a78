"""One HTTPS request to a server that nobody here has chosen, and its answer, within bounds.

Contract. `fetch` returns the answer of the server that the URL names, whatever its status, or raises `FetchError`
with a sentence that says what went wrong. Members choose the URLs, so the server and its DNS may be hostile:

- **Nothing but a public unicast address is ever connected to.** All addresses of the host must be public (`resolve`
  has the rule), and the connection goes to an address that was looked at, not to a name that would be resolved again.
- TLS always, with the certificate verified for the URL's host. A redirect is not followed: it is an answer like others.
- A URL has the scheme https, a host name of two labels or more or an IP address, and no user name. It is printable
  ASCII, so that nothing in it can break out of the request's head.
- Where the operator has named a host and port (`Permits`), its addresses are not judged, and http is good there, too.
- Time is bounded by one deadline for everything, DNS included, which a server cannot stretch by dripping. Memory is
  bounded by `FetchLimits`. A body that is longer is not an error, because often only the status is of interest: reading
  stops, and the answer says that it is `truncated`.

Cancellation, like every other end, closes the connection at once. Nothing is tried twice once a request may have
been received; where a connection cannot be made, the host's next address has its turn.

`KeptConnection` asks one URL again and again, for who tells an endpoint many things, and keeps the connection between
two requests. All of the above holds for each request, and each new connection looks at the host's addresses anew. It is
meant for what may be received twice: a request that finds its kept connection dead, without one octet of an answer, is
made once more on a new one. A connection that is seen to have said more than it was asked is not used again.
"""

from __future__ import annotations

import ipaddress
import re
import select
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NamedTuple

import h11
import trio

from relay.addresses import is_host_name
from relay.internet.public_addresses import why_not_public
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver
from relay.internet.tcp import OpenStream

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80
URL_CHARACTERS_MAX: Final = 4096
#: Connections are tried to so many of a host's addresses.
ADDRESSES_TRIED_MAX: Final = 4
#: A server may say 1xx before it answers, but not for ever.
INTERIM_ANSWERS_MAX: Final = 8
USER_AGENT: Final = "atmos-relay"
_RECEIVE_BYTES: Final = 16 * 1024

#: A kept connection is used for so many requests, so that a host that moves is followed in the end.
REQUESTS_A_CONNECTION_MAX: Final = 1_000

Headers = Sequence[tuple[str, str]]
#: Whether the operator permits this host and port, whatever addresses it has.
Permits = Callable[[str, int], bool]
#: Why there is no answer, in a word that holds nothing of the URL.
Why = Literal["url", "dns", "address", "connection", "tls", "http", "timeout"]


def none_permitted(host: str, port: int) -> bool:
    return False


class FetchError(Exception):
    """There is no answer; the sentence says why, and `why` in a word. `no_such_host`: the DNS says that the host does
    not exist."""

    def __init__(self, sentence: str, why: Why = "connection", *, no_such_host: bool = False) -> None:
        super().__init__(sentence)
        self.why = why
        self.no_such_host = no_such_host


@dataclass(frozen=True, slots=True)
class FetchLimits:
    seconds_max: float = 15.0
    head_bytes_max: int = 16 * 1024
    body_bytes_max: int = 64 * 1024


class HttpAnswer(NamedTuple):
    status: int
    #: Names in lower case.
    headers: tuple[tuple[str, str], ...]
    body: bytes
    #: There was more of the body than was read.
    truncated: bool = False


class Url(NamedTuple):
    """A URL, taken apart. `host` is lower case, an IPv6 address without its brackets."""

    host: str
    port: int
    #: Path and query, as they stand in the request line.
    target: str
    #: False: it is http.
    is_secure: bool = True
    #: The operator permits it: its addresses are not judged.
    is_permitted: bool = False

    @property
    def authority(self) -> str:
        """As in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = HTTPS_PORT if self.is_secure else HTTP_PORT
        return host if self.port == usual else f"{host}:{self.port}"


def parse_url(text: str, permits: Permits = none_permitted) -> Url:
    """Take a URL apart. Raises FetchError for what is not to be fetched."""
    if len(text) > URL_CHARACTERS_MAX:
        raise _bad_url(f"the URL is longer than {URL_CHARACTERS_MAX:,} characters")
    if _NOT_IN_A_URL.search(text):
        raise _bad_url("the URL has a character that must be percent-encoded")
    found = _URL.fullmatch(text)
    if found is None:
        raise _bad_url("the URL does not begin with https://HOST")
    if "@" in found["authority"]:
        raise _bad_url("the URL has a user name; a URL to be fetched must have none")
    is_secure = found["scheme"].lower() == "https"
    authority = _AUTHORITY.fullmatch(found["authority"])
    host = authority and (authority["v6"] or authority["host"].lower())
    port = int((authority and authority["port"]) or (HTTPS_PORT if is_secure else HTTP_PORT))
    is_permitted = host is not None and permits(host, port)
    if not is_secure and not is_permitted:
        raise _bad_url("the URL does not begin with https://HOST")
    if host is None or not (_literal(host) or is_host_name(host)):
        raise _bad_url("the URL's host is neither a full host name nor an IP address")
    if not 1 <= port <= 65535:
        raise _bad_url("the URL's port is not between 1 and 65535")
    target = found["target"]
    return Url(host, port, target if target.startswith("/") else f"/{target}", is_secure, is_permitted)


def _bad_url(sentence: str) -> FetchError:
    return FetchError(sentence, "url")


async def fetch(
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: Headers = (),
    resolver: Resolver,
    open_stream: OpenStream = trio.open_tcp_stream,
    tls: ssl.SSLContext | None = None,
    limits: FetchLimits = FetchLimits(),
) -> HttpAnswer:
    """Ask once; see the module. `tls` None: the certificate authorities that the system trusts."""
    where = parse_url(url)
    with trio.move_on_after(limits.seconds_max):
        stream, _ = await _connect(where, resolver, open_stream, tls)
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes_max)
        try:
            return await _ask(_Heard(stream), http, method, where, [_CLOSE, *headers], body, limits)
        finally:
            # One request a connection, and its length is in its framing: there is nothing left to be polite about.
            await trio.aclose_forcefully(stream)
    raise _too_slow(where, limits)


class KeptConnection:
    """To the server of one URL; see the module. One request at a time.

    It may be closed whenever no request is under way; the next one makes a new connection. What a request leaves behind
    that failed, was cancelled or was not read to its end is closed at once.
    """

    def __init__(
        self,
        url: str,
        *,
        resolver: Resolver,
        permits: Permits = none_permitted,
        open_stream: OpenStream = trio.open_tcp_stream,
        tls: ssl.SSLContext | None = None,
        limits: FetchLimits = FetchLimits(),
    ) -> None:
        """Raises FetchError for a URL that is not to be fetched."""
        self.where = parse_url(url, permits)
        self._resolver = resolver
        self._open_stream = open_stream
        self._tls = tls
        self._limits = limits
        self._kept: _Kept | None = None
        #: How many connections were made.
        self.made = 0

    @property
    def is_open(self) -> bool:
        return self._kept is not None

    async def ask(self, method: str, *, body: bytes = b"", headers: Headers = ()) -> HttpAnswer:
        with trio.move_on_after(self._limits.seconds_max):
            kept, self._kept = self._kept, None
            if kept is not None and kept.is_quiet():
                try:
                    return await self._ask(kept, method, headers, body)
                except FetchError:
                    if kept.heard.octets:
                        raise
            elif kept is not None:
                await trio.aclose_forcefully(kept.heard.stream)
            return await self._ask(await self._open(), method, headers, body)
        raise _too_slow(self.where, self._limits)

    async def aclose(self) -> None:
        """Without a word: nothing is under way."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await trio.aclose_forcefully(kept.heard.stream)

    async def _open(self) -> _Kept:
        stream, transport = await _connect(self.where, self._resolver, self._open_stream, self._tls)
        self.made += 1
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limits.head_bytes_max)
        return _Kept(_Heard(stream), transport, http)

    async def _ask(self, kept: _Kept, method: str, headers: Headers, body: bytes) -> HttpAnswer:
        kept.heard.octets = 0
        try:
            answer = await _ask(kept.heard, kept.http, method, self.where, headers, body, self._limits)
            kept.requests += 1
            if kept.is_reusable():
                kept.http.start_next_cycle()
                self._kept = kept
            return answer
        finally:
            if self._kept is not kept:
                await trio.aclose_forcefully(kept.heard.stream)


class _Heard:
    """A stream, and how many octets came from it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.octets = 0

    async def receive_some(self) -> bytes:
        received = bytes(await self.stream.receive_some(_RECEIVE_BYTES))
        self.octets += len(received)
        return received


@dataclass(slots=True)
class _Kept:
    heard: _Heard
    #: What is below TLS.
    transport: trio.abc.Stream
    http: h11.Connection
    requests: int = 0

    def is_reusable(self) -> bool:
        """The answer was read to its end, nothing came behind it, and its server keeps the connection."""
        return (
            self.http.our_state is h11.DONE
            and self.http.their_state is h11.DONE
            and self.http.trailing_data == (b"", False)
            and self.requests < REQUESTS_A_CONNECTION_MAX
        )

    def is_quiet(self) -> bool:
        """Nothing came while nothing was asked: neither its end, nor an answer to nothing. (Where that cannot be seen,
        the request will tell.)"""
        if not isinstance(self.transport, trio.SocketStream):
            return True
        look = select.poll()
        look.register(self.transport.socket.fileno(), select.POLLIN)
        return not look.poll(0)


def _too_slow(where: Url, limits: FetchLimits) -> FetchError:
    return FetchError(f"{where.host} did not answer within {limits.seconds_max:g} seconds", "timeout")


@cache
def _system_trust() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _addresses(where: Url, resolver: Resolver) -> list[str]:
    """Every address of the host, all of them public, if the operator does not permit it whatever they are."""
    host = where.host
    literal = _literal(host)
    if literal is not None:
        found = [literal]
    else:
        try:
            found = [ipaddress.ip_address(address) for address in await resolver.lookup_addresses(host)]
        except NoSuchName:
            raise FetchError(f"{host} does not exist in the DNS", "dns", no_such_host=True) from None
        except LookupFailed as error:
            raise FetchError(f"the DNS could not tell the address of {host}: {error}", "dns") from error
    if not found:
        raise FetchError(f"{host} has no address", "dns")
    for address in found:
        kind = None if where.is_permitted else why_not_public(address)
        if kind is not None:
            # One is enough: whoever mixes public and private addresses is after the private ones.
            raise FetchError(
                f"{host} has the {kind} address {address}; only public ones are connected to", "address"
            )
    return [str(address) for address in found]


async def _connect(
    where: Url, resolver: Resolver, open_stream: OpenStream, tls: ssl.SSLContext | None
) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """A stream to the host, and what is below its TLS."""
    failed = ""
    for address in (await _addresses(where, resolver))[:ADDRESSES_TRIED_MAX]:
        try:
            transport = await open_stream(address, where.port)
        except OSError as error:
            failed = error.strerror or str(error)
            continue
        if not where.is_secure:
            return transport, transport
        return await _secured(where, transport, tls or _system_trust()), transport
    raise FetchError(f"no connection to {where.host}: {failed}")


async def _secured(where: Url, transport: trio.abc.Stream, tls: ssl.SSLContext) -> trio.abc.Stream:
    stream = trio.SSLStream(transport, tls, server_hostname=where.host, https_compatible=True)
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise FetchError(f"no TLS with {where.host}: {_why_no_tls(error)}", "tls") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _why_no_tls(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError) and cause.reason:
        return cause.reason.lower().replace("_", " ")
    return "it hung up"


async def _ask(
    heard: _Heard,
    http: h11.Connection,
    method: str,
    where: Url,
    headers: Headers,
    body: bytes,
    limits: FetchLimits,
) -> HttpAnswer:
    request = h11.Request(
        method=method,
        target=where.target,
        headers=[
            ("Host", where.authority),
            ("User-Agent", USER_AGENT),
            ("Accept-Encoding", "identity"),
            *([] if method == "GET" and not body else [("Content-Length", str(len(body)))]),
            *headers,
        ],
    )
    events: list[h11.Event] = [request, h11.Data(data=body), h11.EndOfMessage()]
    try:
        await heard.stream.send_all(b"".join(http.send(event) or b"" for event in events))
        return await _read_answer(heard, http, limits)
    except h11.RemoteProtocolError as error:
        raise FetchError(f"{where.host} does not speak HTTP within bounds: {error}", "http") from error
    except trio.BrokenResourceError as error:
        raise FetchError(f"{where.host} hung up") from error


async def _read_answer(heard: _Heard, http: h11.Connection, limits: FetchLimits) -> HttpAnswer:
    head: h11.Response | None = None
    interim = 0
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await heard.receive_some())
        elif isinstance(event, h11.InformationalResponse):
            interim += 1
            if interim > INTERIM_ANSWERS_MAX:
                raise h11.RemoteProtocolError(f"more than {INTERIM_ANSWERS_MAX} interim answers")
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > limits.body_bytes_max:
                assert head is not None
                return _answer(head, bytes(body[: limits.body_bytes_max]), truncated=True)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return _answer(head, bytes(body))
        else:
            raise h11.RemoteProtocolError("the connection ended before the answer did")


def _answer(head: h11.Response, body: bytes, *, truncated: bool = False) -> HttpAnswer:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
    return HttpAnswer(head.status_code, headers, body, truncated)


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, where the host is one in its ordinary spelling; other spellings (0x7f.1) are no host here."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


_CLOSE: Final = ("Connection", "close")
# A backslash is a slash to some readers of URLs, so it is none to us.
_NOT_IN_A_URL: Final = re.compile(r"[^\x21-\x7e]|\\")
# The fragment is the reader's business, and is not sent.
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?", re.IGNORECASE
)
_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)\]|(?P<host>[A-Za-z0-9.-]+))(?::(?P<port>[0-9]{1,5}))?"
)
