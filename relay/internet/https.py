"""One HTTPS request to a server that nobody here has chosen, and its answer, within bounds.

Contract. `fetch` returns the answer of the server that the URL names, whatever its status, or raises `FetchError`
with a sentence that says what went wrong. Members choose the URLs, so the server and its DNS may be hostile:

- **Nothing but a public unicast address is ever connected to.** All addresses of the host must be public (`resolve`
  has the rule), and the connection goes to an address that was looked at, not to a name that would be resolved again.
- TLS always, with the certificate verified for the URL's host. A redirect is not followed: it is an answer like others.
- A URL has the scheme https, a host name of two labels or more or an IP address, and no user name. It is printable
  ASCII, so that nothing in it can break out of the request's head.
- Time is bounded by one deadline for everything, DNS included, which a server cannot stretch by dripping. Memory is
  bounded by `FetchLimits`. A body that is longer is not an error, because often only the status is of interest: reading
  stops, and the answer says that it is `truncated`.

Cancellation, like every other end, closes the connection at once. Nothing is tried twice once a request may have
been received; where a connection cannot be made, the host's next address has its turn.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import h11
import trio

from relay.addresses import is_host_name
from relay.internet.public_addresses import why_not_public
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver
from relay.internet.tcp import OpenStream

HTTPS_PORT: Final = 443
URL_CHARACTERS_MAX: Final = 4096
#: Connections are tried to so many of a host's addresses.
ADDRESSES_TRIED_MAX: Final = 4
#: A server may say 1xx before it answers, but not for ever.
INTERIM_ANSWERS_MAX: Final = 8
USER_AGENT: Final = "atmos-relay"
_RECEIVE_BYTES: Final = 16 * 1024

Headers = Sequence[tuple[str, str]]


class FetchError(Exception):
    """There is no answer; the sentence says why. `no_such_host`: the DNS says that the host does not exist."""

    def __init__(self, sentence: str, *, no_such_host: bool = False) -> None:
        super().__init__(sentence)
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
    """An https URL, taken apart. `host` is lower case, an IPv6 address without its brackets."""

    host: str
    port: int
    #: Path and query, as they stand in the request line.
    target: str

    @property
    def authority(self) -> str:
        """As in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"


def parse_url(text: str) -> Url:
    """Take a URL apart. Raises FetchError for what is not to be fetched."""
    if len(text) > URL_CHARACTERS_MAX:
        raise FetchError(f"the URL is longer than {URL_CHARACTERS_MAX:,} characters")
    if _NOT_IN_A_URL.search(text):
        raise FetchError("the URL has a character that must be percent-encoded")
    found = _URL.fullmatch(text)
    if found is None:
        raise FetchError("the URL does not begin with https://HOST")
    if "@" in found["authority"]:
        raise FetchError("the URL has a user name; a URL to be fetched must have none")
    authority = _AUTHORITY.fullmatch(found["authority"])
    host = authority and (authority["v6"] or authority["host"].lower())
    if authority is None or host is None or not (_literal(host) or is_host_name(host)):
        raise FetchError("the URL's host is neither a full host name nor an IP address")
    port = int(authority["port"] or HTTPS_PORT)
    if not 1 <= port <= 65535:
        raise FetchError("the URL's port is not between 1 and 65535")
    target = found["target"]
    return Url(host, port, target if target.startswith("/") else f"/{target}")


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
        addresses = await _public_addresses(where.host, resolver)
        stream = await _connect(where, addresses, open_stream, tls or _system_trust())
        try:
            return await _ask(stream, method, where, headers, body, limits)
        finally:
            # One request a connection, and its length is in its framing: there is nothing left to be polite about.
            await trio.aclose_forcefully(stream)
    raise FetchError(f"{where.host} did not answer within {limits.seconds_max:g} seconds")


@cache
def _system_trust() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _public_addresses(host: str, resolver: Resolver) -> list[str]:
    """Every address of the host, all of them public."""
    literal = _literal(host)
    if literal is not None:
        found = [literal]
    else:
        try:
            found = [ipaddress.ip_address(address) for address in await resolver.lookup_addresses(host)]
        except NoSuchName:
            raise FetchError(f"{host} does not exist in the DNS", no_such_host=True) from None
        except LookupFailed as error:
            raise FetchError(f"the DNS could not tell the address of {host}: {error}") from error
    if not found:
        raise FetchError(f"{host} has no address")
    for address in found:
        kind = why_not_public(address)
        if kind is not None:
            # One is enough: whoever mixes public and private addresses is after the private ones.
            raise FetchError(f"{host} has the {kind} address {address}; only public ones are connected to")
    return [str(address) for address in found]


async def _connect(
    where: Url, addresses: Sequence[str], open_stream: OpenStream, tls: ssl.SSLContext
) -> trio.SSLStream[trio.abc.Stream]:
    failed = ""
    for address in addresses[:ADDRESSES_TRIED_MAX]:
        try:
            transport = await open_stream(address, where.port)
        except OSError as error:
            failed = error.strerror or str(error)
            continue
        stream = trio.SSLStream(transport, tls, server_hostname=where.host, https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            raise FetchError(f"no TLS with {where.host}: {_why_no_tls(error)}") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream
    raise FetchError(f"no connection to {where.host}: {failed}")


def _why_no_tls(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError) and cause.reason:
        return cause.reason.lower().replace("_", " ")
    return "it hung up"


async def _ask(
    stream: trio.abc.Stream, method: str, where: Url, headers: Headers, body: bytes, limits: FetchLimits
) -> HttpAnswer:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes_max)
    request = h11.Request(
        method=method,
        target=where.target,
        headers=[
            ("Host", where.authority),
            ("User-Agent", USER_AGENT),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            *([] if method == "GET" and not body else [("Content-Length", str(len(body)))]),
            *headers,
        ],
    )
    events: list[h11.Event] = [request, h11.Data(data=body), h11.EndOfMessage()]
    try:
        await stream.send_all(b"".join(http.send(event) or b"" for event in events))
        return await _read_answer(stream, http, limits)
    except h11.RemoteProtocolError as error:
        raise FetchError(f"{where.host} does not speak HTTP within bounds: {error}") from error
    except trio.BrokenResourceError as error:
        raise FetchError(f"{where.host} hung up") from error


async def _read_answer(stream: trio.abc.Stream, http: h11.Connection, limits: FetchLimits) -> HttpAnswer:
    head: h11.Response | None = None
    interim = 0
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
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


# A backslash is a slash to some readers of URLs, so it is none to us.
_NOT_IN_A_URL: Final = re.compile(r"[^\x21-\x7e]|\\")
# The fragment is the reader's business, and is not sent.
_URL: Final = re.compile(r"https://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?", re.IGNORECASE)
_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)\]|(?P<host>[A-Za-z0-9.-]+))(?::(?P<port>[0-9]{1,5}))?"
)
