"""The sockets on which the relay listens: made before anybody serves on them, and given to whoever does.

The invariant: **an address is had for as long as the relay runs.** Who accepts on a socket may be this process or
several others, and any of those may die: the socket is there before them and after them, so nobody who connects
meanwhile is refused, and nobody else can take the address.

A relay that was killed has its processes die behind it, and until the last one has, the address is theirs. So an
address that is in use is tried again for PATIENCE_SECONDS. Whatever else is wrong with one is said at once.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Final, NamedTuple

import trio

from relay.config import Config

PATIENCE_SECONDS: Final = 3.0
TRY_AGAIN_SECONDS: Final = 0.05
#: HTTP connections that the kernel holds until somebody accepts them.
BACKLOG: Final = 1024


class Listening(NamedTuple):
    """What is listened on for one `bind` of the configuration."""

    #: With the number of the port that it became: `127.0.0.1:8025`. Of the first, where a name has several addresses.
    address: str
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        """No more, as far as this process is concerned."""
        for each in self.sockets:
            each.close()

    def listeners(self) -> list[trio.SocketListener]:
        """To accept by, in this process. Closing one closes its socket."""
        return [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in self.sockets]


async def listen_http(bind: str, setting: str = "[http] bind") -> Listening:
    """`[::]` takes those who come by IPv4, too, where the system has it so. Raises OSError, with what to say."""
    host, port = host_and_port(bind)

    async def open_sockets() -> list[socket.socket]:
        listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Connections have it from here: the second piece of an answer does not wait until the first was confirmed.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
        return [listening]

    try:
        return await _patiently(open_sockets)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot listen on {bind} ({setting}): {error.strerror or error}"
        ) from error


async def listen_smtp(bind: str) -> Listening:
    """On all addresses that a name has; `[::]` is IPv6 alone. Raises OSError, with what to say."""
    host, port = host_and_port(bind)

    async def open_sockets() -> list[socket.socket]:
        listeners = await trio.open_tcp_listeners(port, host=host)
        return [socket.socket(fileno=listener.socket.detach()) for listener in listeners]

    try:
        return await _patiently(open_sockets)
    except OSError as error:
        because = error.strerror or str(error)
        raise OSError(error.errno, f"{host} port {port} cannot be listened on: {because}") from error


def host_and_port(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


async def _patiently(open_sockets: Callable[[], Awaitable[list[socket.socket]]]) -> Listening:
    give_up_at = trio.current_time() + PATIENCE_SECONDS
    while True:
        try:
            sockets = await open_sockets()
        except OSError as error:
            if error.errno != errno.EADDRINUSE or trio.current_time() >= give_up_at:
                raise
            # Nothing tells when a process of somebody else's has let go.
            await trio.sleep(TRY_AGAIN_SECONDS)
        else:
            return Listening(_name(sockets[0]), tuple(sockets))


def _name(listening: socket.socket) -> str:
    host, number = listening.getsockname()[:2]
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


class Addresses(NamedTuple):
    """As they became: with the number of each port."""

    #: `127.0.0.1:8025`: where HTTP is served.
    http: str
    #: Where members hand in mail over SMTP: the addresses of `[submission]` bind, then of bind_tls.
    submission: tuple[str, ...] = ()
    #: Where mail comes in.
    inbound: tuple[str, ...] = ()
    #: Where the operator's console is served; empty: nowhere.
    console: str = ""


class Listened(NamedTuple):
    """What all doors are served on."""

    http: Listening
    submission: tuple[Listening, ...] = ()
    inbound: tuple[Listening, ...] = ()

    @property
    def addresses(self) -> Addresses:
        return Addresses(
            self.http.address,
            tuple(each.address for each in self.submission),
            tuple(each.address for each in self.inbound),
        )

    def all(self) -> Iterator[Listening]:
        yield self.http
        yield from self.submission
        yield from self.inbound

    def close(self) -> None:
        """No more, as far as this process is concerned."""
        for each in self.all():
            each.close()


async def listen(config: Config) -> Listened:
    """Raises OSError, with what to say, where an address cannot be had; nothing is listened on then."""
    with ExitStack() as undo:

        def had(one: Listening) -> Listening:
            undo.callback(one.close)
            return one

        submission = (*config.submission.bind, *config.submission.bind_tls)
        listened = Listened(
            had(await listen_http(config.http.bind)),
            tuple([had(await listen_smtp(bind)) for bind in submission]),
            tuple([had(await listen_smtp(bind)) for bind in config.inbound.bind]),
        )
        undo.pop_all()
    return listened
