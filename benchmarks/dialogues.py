"""Prepared dialogues on many connections, played by one loop: what all load generators here are made of.

A load generator shares the machine with what it measures. So it is as cheap as Python can be: one thread, epoll, octets
that were made before, and no library. It says how much processor time it took, and that is to be reported.

A *dialogue* is a generator, one for each connection. It yields what to send and is given what came: some octets, not
always a whole answer. Where it has nothing to say and wants to hear more, it yields `b""`. Where connections are kept,
it yields `READY` once, when all is said that comes before the first message, and the clock starts when all of them are
ready. When a dialogue returns, its connection is closed. Where connections are not kept, the next one is begun with a
new dialogue. One that returns before it has yielded anything opens no connection: nothing was left to be sent.

A server that hangs up on a dialogue is a ConnectionError: no figure is made of what it did not do.
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

READY = None
Dialogue = Generator[bytes | None, bytes, None]

#: So much goes out at once, whatever the server is doing: the loop does not wait for one of many.
_SEND_BUFFER_BYTES = 400_000
_LARGE_BYTES = 16_000
_SILENT_SECONDS_MAX = 120.0
#: More than one answer has.
_READ_BYTES = 65536


class Supply:
    """What is left to be sent, and how long each took: shared by all dialogues of a load."""

    def __init__(self, *, messages: int | None = None, seconds: float = math.inf) -> None:
        #: Seconds, of each that was answered.
        self.times: list[float] = []
        #: How many were given out: the number of the one that was taken last.
        self.taken = 0
        self._messages = math.inf if messages is None else messages
        self._seconds = seconds
        self._start = self._end = self._cpu_at_start = math.inf

    def begin(self) -> None:
        """The clock starts."""
        self._cpu_at_start = time.process_time()
        self._start = time.perf_counter()
        self._end = self._start + self._seconds

    def take(self) -> bool:
        """Whether there is one more to be sent; if so, it is the caller's."""
        if self.taken >= self._messages or time.perf_counter() >= self._end:
            return False
        self.taken += 1
        return True

    def elapsed(self) -> tuple[float, float]:
        """Seconds since the clock started, and of them those of this process's processor time."""
        return time.perf_counter() - self._start, time.process_time() - self._cpu_at_start


class Times(NamedTuple):
    """Seconds within which so many of 1,000 were answered."""

    p50: float
    p99: float
    p999: float


def percentiles(times: Sequence[float]) -> Times:
    ordered = sorted(times)
    return Times(*(ordered[int(len(ordered) * part)] for part in (0.5, 0.99, 0.999)))


def connect(address: str, *, request_bytes: int = 0) -> socket.socket:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), _SILENT_SECONDS_MAX)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if request_bytes > _LARGE_BYTES:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return connection


def hear(connection: socket.socket) -> bytes:
    octets = connection.recv(_READ_BYTES)
    if not octets:
        raise ConnectionError("the server hung up")
    return octets


def play(
    address: str, begin: Callable[[], Dialogue], supply: Supply, *, connections: int, keeps: bool
) -> tuple[float, float]:
    """Play dialogues on so many connections until all is sent and answered. Returns what `Supply.elapsed` says then."""
    player = _Player(address, begin, keeps=keeps)
    if not keeps:
        supply.begin()
    for _ in range(connections):
        player.open()
    if keeps:
        while len(player.ready) < connections:
            player.play_once()
        supply.begin()
        for number in player.ready:
            player.go_on(number, b"")
    while player.is_open:
        player.play_once()
    return supply.elapsed()


class _Player:
    def __init__(self, address: str, begin: Callable[[], Dialogue], *, keeps: bool) -> None:
        self._address = address
        self._begin = begin
        self._keeps = keeps
        self._epoll = select.epoll()
        self._open: dict[int, tuple[socket.socket, Dialogue]] = {}
        #: Descriptors of connections that wait for the clock to start.
        self.ready: list[int] = []

    @property
    def is_open(self) -> bool:
        return bool(self._open)

    def open(self) -> None:
        """A new connection, if there is anything to be said on it."""
        dialogue = self._begin()
        try:
            first = next(dialogue)
        except StopIteration:
            return
        connection = connect(self._address, request_bytes=len(first or b""))
        number = connection.fileno()
        self._open[number] = connection, dialogue
        self._epoll.register(number, select.EPOLLIN)
        self._say(number, connection, first)

    def play_once(self) -> None:
        """Whatever has come."""
        came = self._epoll.poll(_SILENT_SECONDS_MAX)
        if not came:
            raise ConnectionError(f"the server has said nothing for {_SILENT_SECONDS_MAX:g} s")
        for number, _ in came:
            self.go_on(number, hear(self._open[number][0]))

    def go_on(self, number: int, octets: bytes) -> None:
        connection, dialogue = self._open[number]
        try:
            answer = dialogue.send(octets)
        except StopIteration:
            self._close(number)
        else:
            self._say(number, connection, answer)

    def _say(self, number: int, connection: socket.socket, octets: bytes | None) -> None:
        if octets:
            connection.sendall(octets)
        elif octets is READY:
            self.ready.append(number)

    def _close(self, number: int) -> None:
        connection, _ = self._open.pop(number)
        connection.close()  # epoll forgets it, too
        if not self._keeps:
            self.open()
