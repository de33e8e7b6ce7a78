"""dnspython's sockets, on which no answer arrives that would take long to read.

The invariant: **whoever owns a domain cannot stop the relay with what its name servers say.** dnspython reads an answer
in one go, and needs up to a few milliseconds for a record (a name of 120 labels costs it the square of that, each
time that a record is put among others): an MX answer of 64 kB, which any resolver passes on faithfully, stopped
everybody's mail for five seconds, and was too big to be remembered; one of 16 kB, whose names are pointers to a long
one, for a quarter of a second. So an answer is looked at before dnspython sees it, and one that is larger, or has more
records, or more labels in its names when all pointers are followed, or more strings in its texts, than anybody's
honest one is not read:

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
#: Of all names in it, those that pointers stand for too; a string of a TXT record counts as one. Twenty MX records with
#: the addresses of their hosts have 300.
ANSWER_LABELS_MAX: Final = 768

_LENGTH_BYTES: Final = 2
# An answer's id, flags, and the counts of its four sections (RFC 1035 section 4.1.1).
_HEADER: Final = struct.Struct(">6H")


#: Where the names stand in the data of a record, by its type: NS, CNAME, SOA, PTR, MX, DNAME.
_NAMES_OF_TYPE: Final = {2: (0, 1), 5: (0, 1), 6: (0, 2), 12: (0, 1), 15: (2, 1), 39: (0, 1)}
_TXT: Final = 16
#: A, AAAA, OPT.
_WITHOUT_NAMES: Final = frozenset({1, 28, 41})
#: Nobody asks for other types, and servers seldom add them; each is taken for a name as long as names get.
_NAME_LABELS_MAX: Final = 127
_RECORD: Final = struct.Struct(">HHIH")


class TooMuchError(dns.exception.FormError):
    """The answer is larger, or has more records or labels, than is read."""


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


def check_labels(answer: bytes) -> None:
    """Raises TooMuchError. What is no answer is for dnspython to refuse, which reads it no further than this does."""
    _, _, questions, *counts = _HEADER.unpack_from(answer) if len(answer) >= _HEADER.size else (0,) * 6
    known: dict[int, int] = {}
    labels, at = 0, _HEADER.size
    try:
        for number in range(questions + sum(counts)):
            more, at = _name(answer, at, known)
            labels += more
            if number < questions:
                at += 4
                continue
            kind, _, _, size = _RECORD.unpack_from(answer, at)
            at += _RECORD.size
            labels += _strings(answer, at, size) if kind == _TXT else _labels_of_data(answer, at, kind, known)
            at += size
            if labels > ANSWER_LABELS_MAX:
                raise _too_much(f"an answer of more than {ANSWER_LABELS_MAX} labels and strings is not read")
    except (IndexError, struct.error):
        return


def _strings(answer: bytes, at: int, size: int) -> int:
    """Of a TXT record's data."""
    strings, end = 0, min(at + size, len(answer))
    while at < end:
        at += 1 + answer[at]
        strings += 1
    return strings


def _labels_of_data(answer: bytes, at: int, kind: int, known: dict[int, int]) -> int:
    if kind not in _NAMES_OF_TYPE:
        return 0 if kind in _WITHOUT_NAMES else _NAME_LABELS_MAX
    skipped, names = _NAMES_OF_TYPE[kind]
    at += skipped
    labels = 0
    for _ in range(names):
        more, at = _name(answer, at, known)
        labels += more
    return labels


def _name(answer: bytes, at: int, known: dict[int, int]) -> tuple[int, int]:
    """How many labels a name has, with those that it points to, and where it ends. `known`: of those pointed to.

    Raises IndexError where it does not end.
    """
    labels = 0
    while (octet := answer[at]) != 0:
        if octet >= 0xC0:
            target = (octet & 0x3F) << 8 | answer[at + 1]
            if target not in known:
                # Pointers go back (RFC 1035 section 4.1.4). What does not has no end, and no reader.
                known[target] = _NAME_LABELS_MAX if target >= at else _name(answer, target, known)[0]
            return labels + known[target], at + 2
        labels += 1
        at += 1 + octet
    return labels + 1, at + 1


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
            check_labels(datagram)
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
        self._received = b""

    async def getpeername(self) -> Any:
        return await self._socket.getpeername()

    async def sendall(self, what: Any, timeout: Any) -> Any:  # noqa: ASYNC109
        return await self._socket.sendall(what, timeout)

    async def recv(self, size: int, timeout: Any) -> bytes:  # noqa: ASYNC109
        received: bytes = await self._socket.recv(size, timeout)
        self._received += received
        if len(self._received) >= _LENGTH_BYTES:
            length = int.from_bytes(self._received[:_LENGTH_BYTES], "big")
            answer = self._received[_LENGTH_BYTES:]
            check_length(length)
            check_header(answer)
            if len(answer) >= length:
                check_labels(answer)
        return received

    async def close(self) -> None:
        await self._socket.close()
