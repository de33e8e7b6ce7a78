"""What is on the wire: HTTP/1.1 as h11 reads it, but for what h11 lets pass and must not. No I/O.

The invariant: **the relay reads the same requests out of the same bytes as a proxy in front of it does, or none.**
Whatever can be read in two ways is a way to smuggle a request past the proxy's rules, or into another client's
connection. So it is refused, and the connection ends:

- a line that ends without CR, a field that goes on in the next line (obs-fold), a NUL: the proxy may have seen other
  fields there, or none;
- Content-Length beside Transfer-Encoding (RFC 9112, 6.3), Transfer-Encoding in HTTP/1.0 (6.1), a chunked body that
  does not end with an empty line;
- a Host that is none (3.2), a method in lower case, which is another method.

What has one reading is read: an empty line before a request (2.2), a target in absolute form (3.2.2). And whatever
comes behind a request that said `Connection: close` is no request (9.6): it is dropped, and does not spoil the answer
to the one before.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, NoReturn

import h11
from hypercorn.protocol.ws_stream import Handshake

#: Of a request line with all its fields.
HEAD_BYTES_MAX: Final = 16 * 1024
#: Two thousand fields, each a match and two objects, took 5 ms.
FIELDS_MAX: Final = 100

_match_empty_lines = re.compile(rb"(?:\r\n)*").match
_find_empty_line = re.compile(rb"\n\r?\n").search
_AUTHORITY = rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"
_is_authority = re.compile(_AUTHORITY).fullmatch
_match_absolute_form = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://(" + _AUTHORITY + rb")(?=[/?]|\Z)").match

_EMPTY_LINE = b"\r\n\r\n"


class Head(NamedTuple):
    """A request's head, with its target in origin form."""

    method: str
    target: bytes
    http_version: str
    #: Names in lower case.
    headers: list[tuple[bytes, bytes]]
    #: It is a handshake that can be accepted.
    is_websocket: bool


class Http1:
    """One connection, in the place of h11's `Connection`; it has what hypercorn uses of that."""

    def __init__(self) -> None:
        self._use_new_h11()
        #: What has come of a head that is not whole yet; h11 has not seen it. None: h11 has the head.
        self._unread: bytes | None = b""
        self._searched = 0
        self._is_closed = False
        #: The request that has been read was the client's last.
        self._was_last = False
        #: Of the body of the request whose head has come; None: that is told by chunks, or the client says that nothing
        #: of HTTP follows, so that somebody has to read on while it is answered.
        self._length: int | None = 0
        #: The last bytes of a chunked body; None where the body is not chunked.
        self._chunked_tail: bytes | None = None
        self._reads_no_more = False
        #: Of the request that is being read or answered, once it has come.
        self.head: Head | None = None
        #: After h11.RemoteProtocolError: a sentence for the client, with nothing in it that the client has sent.
        self.why = ""

    @property
    def our_state(self) -> Any:
        return self._h11.our_state

    @property
    def their_state(self) -> Any:
        return self._h11.their_state

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        return self._h11.they_are_waiting_for_100_continue

    @property
    def trailing_data(self) -> tuple[bytes, bool]:
        return self._h11.trailing_data

    def read_no_more(self) -> None:
        """The connection is being closed: a request that is behind the last one is not begun any more."""
        self._reads_no_more = True

    def receive_data(self, data: bytes) -> None:
        """b"": no more will come."""
        if not data:
            self._is_closed = True
        if self._unread is not None:
            self._unread += data
        elif not (data and self._was_last):
            if self._chunked_tail is not None:
                self._chunked_tail = self._chunked_tail[-len(_EMPTY_LINE) :] + data
            self._h11.receive_data(data)

    def next_event(self) -> Any:
        """As h11's; behind a Request, `head` is what counts.

        Raises h11.RemoteProtocolError: the client is to be told `why`, and the connection ends. Where it is being told
        something already, nothing more is read, and the connection ends behind that.
        """
        if self._reads_no_more or (self._was_last and self._h11.trailing_data[0]):
            return h11.NEED_DATA
        try:
            return self._next_event()
        except h11.RemoteProtocolError as error:
            if self._h11.our_state in MAY_ANSWER:
                self.why = self.why or _SENTENCE_OF_STATUS.get(error.error_status_hint, _NOT_HTTP)
                raise
            self.read_no_more()
            return h11.NEED_DATA

    def _next_event(self) -> Any:
        if self._unread is not None and not self._gave_head():
            return h11.NEED_DATA
        event = self._h11.next_event()
        if type(event) is h11.Request:
            self.head = self._checked(event)
        elif type(event) is h11.EndOfMessage:
            if self._chunked_tail is not None:
                self._check_end_of_chunks(self._chunked_tail)
            self._was_last = self._h11.their_state in _SAID_CLOSE
        return event

    @property
    def is_between_requests(self) -> bool:
        """Nothing has come of the next one."""
        return self._unread == b""

    @property
    def has_more_to_say(self) -> bool:
        """The request has been read, and is neither its client's last nor one for another protocol."""
        return self._h11.their_state is h11.DONE

    def whole_body(self) -> bytes | None:
        """The body of the request whose head has just come, where all of it has come, too. None: nothing was read."""
        if self._length is None or self._h11.they_are_waiting_for_100_continue:
            return None
        if self._length > len(self._h11.trailing_data[0]):
            return None
        body = b""
        while type(event := self._next_event()) is h11.Data:
            body += event.data
        assert type(event) is h11.EndOfMessage
        return body

    def start_next_cycle(self) -> None:
        """Raises h11.LocalProtocolError where the connection cannot be kept."""
        self._h11.start_next_cycle()
        rest, _ = self._h11.trailing_data
        if rest:
            # The next head, or the beginning of it. h11 has no way to give back what it was fed.
            self._use_new_h11()
        self._unread, self._searched, self.head = rest, 0, None

    def has_been_answered(self) -> None:
        """As `start_next_cycle`, where `has_more_to_say`, and h11 has not been told of the answer."""
        self._unread, self._searched, self.head = self._h11.trailing_data[0], 0, None
        self._use_new_h11()

    def _use_new_h11(self) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self.send = self._h11.send

    def _gave_head(self) -> bool:
        """Give h11 the head, with what came behind it, once it is whole."""
        unread = self._unread
        assert unread is not None
        if unread.startswith(b"\r\n"):
            empty = _match_empty_lines(unread)
            assert empty is not None
            unread = self._unread = unread[empty.end() :]
            self._searched = 0
        end = self._end_of_head(unread)
        if end:
            if end > HEAD_BYTES_MAX:
                self._refuse(431, _SENTENCE_OF_STATUS[431])
            if unread.count(b"\n", 0, end) > FIELDS_MAX + 2:  # the request line, and the empty one
                self._refuse(431, f"the request's head has more than {FIELDS_MAX} fields")
            if _is_read_in_two_ways(unread[:end]):
                self._refuse(
                    400, "each line of a head ends with CR LF, and is a field of its own, without NUL"
                )
        elif not self._is_closed:
            if len(unread) > HEAD_BYTES_MAX:
                self._refuse(431, _SENTENCE_OF_STATUS[431])
            if unread and unread[0] <= 0x20 and unread != b"\r":  # TLS, say
                self._refuse(400, _NOT_HTTP)
            self._searched = max(0, len(unread) - 3)
            return False
        self._h11.receive_data(unread)
        if self._is_closed:
            self._h11.receive_data(b"")
        self._unread = None
        return True

    def _end_of_head(self, unread: bytes) -> int:
        """0: it is not there yet."""
        end = unread.find(_EMPTY_LINE, self._searched)
        if end >= 0:
            return end + len(_EMPTY_LINE)
        # h11 takes an LF alone for a line's end: what it would take for a head, is judged as one.
        empty = _find_empty_line(unread, self._searched)
        return empty.end() if empty else 0

    def _checked(self, request: h11.Request) -> Head:
        """Raises h11.RemoteProtocolError for what h11 takes, and nobody must."""
        method, target, version = request.method.decode(), request.target, request.http_version.decode()
        headers = list(request.headers)
        # Known from here on, for even an error has no body where it answers a HEAD.
        self.head = head = Head(method, target, version, headers, False)
        host = upgrade = b""
        has_length = has_body = is_chunked = False
        is_last = version < "1.1"
        length = 0
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
                has_length, has_body = True, length > 0
            elif name == b"transfer-encoding":
                is_chunked = has_body = True
            elif name == b"upgrade":
                upgrade = value.lower()
            elif name == b"connection":
                is_last |= b"close" in value.lower()
            elif name == b"host":
                host = value
        if is_chunked and has_length:
            self._refuse(400, "a request has a Content-Length or a Transfer-Encoding, never both")
        if is_chunked and version < "1.1":
            self._refuse(400, "HTTP/1.0 has no Transfer-Encoding")
        if not version.startswith("1."):
            self._refuse(505, "of HTTP only version 1.1 is spoken here")
        if host and not _is_authority(host):
            self._refuse(400, "the Host header is not a host and a port")
        if method != method.upper():
            self._refuse(501, "methods are written in upper case")
        self._length = None if is_chunked or is_last or upgrade else length
        self._chunked_tail = self._h11.trailing_data[0] if is_chunked else None
        if not target.startswith(b"/"):
            head = _in_origin_form(head)
        # One with a body is not: a proxy may take for a body what would be read as frames here.
        if upgrade == b"websocket" and method == "GET" and not has_body:
            head = head._replace(is_websocket=_is_handshake(head))
        return head

    def _check_end_of_chunks(self, tail: bytes) -> None:
        """h11 takes an LF alone for the empty line that ends the trailers."""
        behind, _ = self._h11.trailing_data
        if not tail[: len(tail) - len(behind)].endswith(_EMPTY_LINE):
            self._refuse(400, "a chunked body ends with an empty line, CR LF")

    def _refuse(self, status: int, why: str) -> NoReturn:
        self.why = why
        raise h11.RemoteProtocolError(why, error_status_hint=status)


def _is_read_in_two_ways(head: bytes) -> bool:
    """An LF that has no CR before it, a line that goes on in the next one, or a NUL."""
    return head.count(b"\n") != head.count(b"\r\n") or b"\n " in head or b"\n\t" in head or b"\0" in head


def _in_origin_form(head: Head) -> Head:
    """A target in absolute form is as its path alone, and what it names is the Host (RFC 9112, 3.2.2). Any other
    stays, and is not found."""
    absolute = _match_absolute_form(head.target)
    if absolute is None:
        return head
    headers = [(name, absolute[1] if name == b"host" else value) for name, value in head.headers]
    path = head.target[absolute.end() :]
    return head._replace(target=path if path.startswith(b"/") else b"/" + path, headers=headers)


def _is_handshake(head: Head) -> bool:
    """Whether hypercorn will accept it. Where it would not, it leaves the connection open, to nobody's use."""
    try:
        return Handshake(head.headers, head.http_version).is_valid()
    except UnicodeDecodeError:
        return False


#: Where an answer can still be begun.
MAY_ANSWER: Final = frozenset({h11.IDLE, h11.SEND_RESPONSE})
#: The client's state after a request that was its last.
_SAID_CLOSE = frozenset({h11.MUST_CLOSE, h11.CLOSED})

_NOT_HTTP = "this is no request as RFC 9112 has it"
_SENTENCE_OF_STATUS = {
    431: f"the request's head is larger than {HEAD_BYTES_MAX} bytes",
    501: "of all Transfer-Encodings only chunked is understood, once",
}
