"""The network between relays of several machines and their servers of PostgreSQL: a proxy on each path.

    async with open_network(servers, NAMES) as network:
        nodes = NodeProcesses(directory, servers, route=..., network=network)
        network.reach("one", "b").cut()            # each connection ends, and others can be made
        network.reach("one", "b").close()          # and none can be made, until `mend`
        network.door("one").hold(Way.BACK)         # what the other side says does not arrive, until `mend`
        network.door("one").close_to(is_twos)      # as `close`, for those whose port `is_twos` says this of

A path leads from one node to one server, or from all other nodes to one node's door. Nothing is lost on a path that is
held: what was sent meanwhile arrives when it is let go, even from whoever has hung up since. So an append that its
leader has given up may come late. The kernel here takes what is sent, as it does for a process that stands still.
"""

from __future__ import annotations

import os
import pathlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import Final

import trio
from psycopg.conninfo import make_conninfo

from tests.world.postgres import Servers

CHUNK_OCTETS: Final = 65536
#: What a relay sends to a server in one piece is an append, where it is as much.
APPEND_OCTETS_MIN: Final = 1000
#: `close` then answers with a reset, and forgets what is unsent.
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class Way(Enum):
    FORTH = auto()
    BACK = auto()


class Cut(Enum):
    """Where a connection ends that is cut in an append."""

    BEFORE = auto()
    WITHIN = auto()
    BEHIND = auto()


class Path:
    """One port, and the port that it leads to."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.port = 0
        #: How many connections have ended here that neither side had closed.
        self.cuts = 0
        self._is_closed = False
        self._is_closed_to: Callable[[int], bool]
        self._flows = {way: trio.Event() for way in Way}
        #: And from which port each has come.
        self._connections: dict[trio.CancelScope, int] = {}
        #: Asked for each piece that goes forth: where it is cut, if it is.
        self._choose: Callable[[bytes], Cut | None] = lambda piece: None
        self.mend()

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._carry, listeners)

    # ---------------------------------------------------------------- what may happen to it

    def cut(self) -> None:
        """Both sides of each connection see a reset."""
        self.cuts += len(self._connections)
        for scope in self._connections:
            scope.cancel()

    def close(self) -> None:
        """`cut`, and no other connection comes about."""
        self._is_closed = True
        self.cut()

    def close_to(self, is_one: Callable[[int], bool]) -> None:
        """`close`, for whoever comes from a port of which that is so. A door has one address for all nodes."""
        self._is_closed_to = is_one
        for scope, port in self._connections.items():
            if is_one(port):
                self.cuts += 1
                scope.cancel()

    def hold(self, *ways: Way) -> None:
        """Nothing arrives that is sent this way. Connections are made, and stay."""
        for way in ways:
            self._flows[way] = trio.Event()

    def mend(self) -> None:
        """All is as it should be; what was held up arrives."""
        self._is_closed, self._is_closed_to = False, lambda port: False
        for event in self._flows.values():
            event.set()

    async def cut_an_append(self, where: Cut) -> None:
        """Wait for the next one, and end its connection."""
        happened = trio.Event()

        def choose(piece: bytes) -> Cut | None:
            if len(piece) < APPEND_OCTETS_MIN:
                return None
            happened.set()
            self._choose = lambda piece: None
            return where

        self._choose = choose
        try:
            await happened.wait()
        finally:
            self._choose = lambda piece: None

    # ---------------------------------------------------------------- one connection

    async def _carry(self, near: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            try:
                port: int = near.socket.getpeername()[1]
                is_closed = self._is_closed or self._is_closed_to(port)
                far = None if is_closed else await trio.open_tcp_stream("127.0.0.1", self.to_port)
            except OSError:
                far = None
            if far is None:
                _reset(near)
                return
            self._connections[scope] = port
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, near, far, Way.FORTH, scope)
                    nursery.start_soon(self._pump, far, near, Way.BACK, scope)
                near.socket.close()
                far.socket.close()
            finally:
                del self._connections[scope]
                for stream in (near, far):
                    _reset(stream)

    async def _pump(
        self, source: trio.SocketStream, to: trio.SocketStream, way: Way, scope: trio.CancelScope
    ) -> None:
        """Until one side has no more to say, or is gone: then neither has anything more to hear."""
        try:
            while True:
                piece = bytes(await source.receive_some(CHUNK_OCTETS))
                # It may be held up again before this task runs.
                while not self._flows[way].is_set():
                    await self._flows[way].wait()
                if not piece:
                    await to.send_eof()
                    return
                where = self._choose(piece) if way is Way.FORTH else None
                if where is Cut.WITHIN:
                    piece = piece[: len(piece) // 2]
                if where is not Cut.BEFORE:
                    await to.send_all(piece)
                if where is not None:
                    self.cuts += 1
                    await to.aclose()  # a reset would take back what was sent
                    scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            scope.cancel()


def is_port_of(process: int, port: int) -> bool:
    """Whether this port of loopback is the near end of a connection that this process has."""
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{fields[9]}]" for fields in lines if fields[1] == f"0100007F:{port:04X}"}
    with suppress(OSError):  # it ended meanwhile, or closed one
        return any(os.readlink(file) in sockets for file in pathlib.Path(f"/proc/{process}/fd").iterdir())
    return False


def _reset(stream: trio.SocketStream) -> None:
    """The other side is told at once. Nothing happens to one that is closed."""
    if stream.socket.fileno() != -1:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        stream.socket.close()


class Network:
    """See the module. Made by `open_network`."""

    def __init__(self, servers: Servers, nodes: Sequence[str]) -> None:
        self._servers = servers
        self._to_servers = {
            (node, server.name): Path(server.port) for node in nodes for server in servers.all
        }
        self._to_doors = {node: Path(0) for node in nodes}

    @property
    def all(self) -> Sequence[Path]:
        return [*self._to_servers.values(), *self._to_doors.values()]

    def reach(self, node: str, server: str) -> Path:
        return self._to_servers[node, server]

    def reach_all(self, node: str) -> Sequence[Path]:
        """From this node to each server."""
        return [self._to_servers[node, server.name] for server in self._servers.all]

    def door(self, node: str) -> Path:
        return self._to_doors[node]

    def conninfo(self, node: str, conninfo: str) -> str:
        """How this node connects to what the servers have at `conninfo`."""
        return make_conninfo(conninfo, port=",".join(str(path.port) for path in self.reach_all(node)))

    def mend(self) -> None:
        for path in self.all:
            path.mend()


@asynccontextmanager
async def open_network(servers: Servers, nodes: Sequence[str]) -> AsyncIterator[Network]:
    """Paths from each of these nodes to each server, and to their doors, which `NodeProcesses` opens."""
    network = Network(servers, nodes)
    async with trio.open_nursery() as nursery:
        for path in network.all:
            await nursery.start(path.serve)
        yield network
        nursery.cancel_scope.cancel()
