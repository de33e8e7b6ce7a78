"""dnspython's sockets, on which no answer arrives that would take long to read.

The invariant: **whoever owns a domain cannot stop the relay with what its name servers say.** dnspython reads an answer
in one go, and needs up to a few milliseconds for a record (a name of 120 labels costs it the square of that, each
time that a record is put among others): an MX answer of 64 kB, which any resolver passes on faithfully, stopped
everybody's mail for five seconds, and was too big to be remembered. So the counts in an answer's header are looked at
before dnspython sees it, and an answer that is larger or has more records than anybody's honest one is not read:

    by TCP   TooMuchError, which the resolver takes like any other malformed answer: the lookup fails
    by UDP   as if it had not arrived, for anybody could have sent it, and the true one may be behind it

`BoundedBackend` stands between dnspython and its own backend for trio.
"""

import struct
from typing import Any, Final

import dns.exception

# The names of dns.asyncbackend, which type checkers do not see there.
from dns._asyncbackend import Backend, DatagramSocket, StreamSocket

#: Of all sections together, questions too. Ten hosts of an MX answer and twenty addresses of a host are used.
ANSWER_RECORDS_MAX: Final = 128
#: TXT records of the busiest domains come to some 8 kB.
ANSWER_BYTES_MAX: Final = 16_384

_LENGTH_BYTES: Final = 2
# An answer's id, flags, and the counts of its four sections (RFC 1035 section 4.1.1).
_HEADER: Final = struct.Struct(">6H")


class TooMuchError(dns.exception.FormError):
    """The answer is larger, or has more records, than is read."""


def _too_much(text: str) -> TooMuchError:
    return TooMuchError(text)  # type: ignore[no-untyped-call]


def check_header(header: bytes) -> None:
    """Raises TooMuchError. What is shorter than a header is for dnspython to refuse."""
    if len(header) >= _HEADER.size:
        _, _, *counts = _HEADER.unpack_from(header)
        if sum(counts) > ANSWER_RECORDS_MAX:
            raise _too_much(f"an answer of {sum(counts)} records is not read")


def check_length(length: int) -> None:
    """Raises TooMuchError."""
    if length > ANSWER_BYTES_MAX:
        raise _too_much(f"an answer of {length} octets is not read")


class BoundedBackend(Backend):
    """Another backend, of which it opens all sockets."""

    def __init__(self, backend: Backend) -> None:
        self._backend: Any = backend  # its methods have no types

    def name(self) -> str:
        return str(self._backend.name())

    async def make_socket(self, *args: Any, **kwargs: Any) -> DatagramSocket | StreamSocket:
        socket = await self._backend.make_socket(*args, **kwargs)
        if isinstance(socket, DatagramSocket):
            return _Datagrams(socket)
        assert isinstance(socket, StreamSocket)
        return _Stream(socket)

    def datagram_connection_required(self) -> bool:
        return bool(self._backend.datagram_connection_required())

    async def sleep(self, interval: float) -> None:
        await self._backend.sleep(interval)


class _Datagrams(DatagramSocket):
    def __init__(self, socket: DatagramSocket) -> None:
        super().__init__(socket.family, socket.type)
        self._socket: Any = socket

    async def sendto(self, what: Any, destination: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - dnspython's interface
        return await self._socket.sendto(what, destination, timeout)

    async def recvfrom(self, size: int, timeout: Any) -> Any:  # noqa: ASYNC109
        datagram, sender = await self._socket.recvfrom(size, timeout)
        try:
            check_length(len(datagram))
            check_header(datagram)
        except TooMuchError:
            return b"", sender  # no message; dnspython waits for the next
        return datagram, sender

    async def close(self) -> None:
        await self._socket.close()


class _Stream(StreamSocket):
    """One answer: its length, and as many octets."""

    def __init__(self, socket: StreamSocket) -> None:
        super().__init__(socket.family, socket.type)
        self._socket: Any = socket
        self._beginning = b""

    async def getpeername(self) -> Any:
        return await self._socket.getpeername()

    async def sendall(self, what: Any, timeout: Any) -> Any:  # noqa: ASYNC109
        return await self._socket.sendall(what, timeout)

    async def recv(self, size: int, timeout: Any) -> bytes:  # noqa: ASYNC109
        received: bytes = await self._socket.recv(size, timeout)
        beginning_bytes = _LENGTH_BYTES + _HEADER.size
        if len(self._beginning) < beginning_bytes:
            self._beginning += received[: beginning_bytes - len(self._beginning)]
            if len(self._beginning) >= _LENGTH_BYTES:
                check_length(int.from_bytes(self._beginning[:_LENGTH_BYTES], "big"))
                check_header(self._beginning[_LENGTH_BYTES:])
        return received

    async def close(self) -> None:
        await self._socket.close()
