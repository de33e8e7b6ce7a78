"""One SMTP connection from one client, on trio: the state machine of `server` with a stream, TLS, time and buffers.

The contract. `serve` ends whatever the client does: talks too early, drips, floods, never reads, hangs up. Nothing
comes out of it but cancellation and programmers' errors. The stream is closed when it returns.

- *TLS.* At once, by STARTTLS, or sniffed: on a port with STARTTLS the greeting waits `sniff_seconds` for a first octet.
  0x16 begins a ClientHello (every `smtps://host:587` does so), and the handshake is done there and then; any other
  has come too early and is refused.
- *Time.* A command has `command_seconds` from our last word, however its client drips it. The octets of a message may
  rest for `data_block_seconds`, and are over in `data_seconds`. On a port with AUTH all has to be done up to AUTH
  within `opening_seconds`. What we say is taken within `write_seconds`. At the end of each there is a 421, where it
  can be said.
- *Memory.* The octets of a message are read when the party's share of the buffers has room for them (`buffers`). Where
  there is none for `room_seconds`, the message is refused with 452 4.3.1, what is held of it goes, and the rest is read
  and forgotten.
- *Passwords.* Every wrong pair is answered `failure_seconds` after it was said, whatever was wrong with it. `lockout`
  makes that longer, or shuts the address out.
- `end` is how others end it: at once where the client is waited for, behind the answer where one is under way. A
  message that is being handed in is heard out, unless `is_urgent`.

Last words are not lost: a socket that is closed on unread octets takes back what it has said, so the client is read
for a moment after them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic

import trio

from relay.internet.wire import Wire
from relay.lockout import Lockout
from relay.reception.buffers import SMALL_BYTES_MAX, Buffers, Lease
from relay.reception.certificates import Certificates
from relay.reception.interface import Admitted, Client, Door, Visit, Who
from relay.reception.places import Places
from relay.reception.questions import (
    CLOSED,
    NEED_DATA,
    STARTTLS,
    Authenticate,
    EndOfData,
    Mail,
    Question,
    Recipient,
    State,
)
from relay.reception.replies import (
    AUTHENTICATED,
    DEFECT,
    DEFECT_ENDS,
    LOCKED_OUT,
    NO_ROOM,
    TOO_SLOW,
    WRONG_CREDENTIALS,
    Reply,
)
from relay.reception.rules import Rules
from relay.reception.sasl import Credentials
from relay.reception.server import Server

logger = logging.getLogger(__name__)

_RECEIVE_BYTES: Final = 16 * 1024
#: The first octet of a TLS record that is a handshake (RFC 8446 section 5.1).
_HANDSHAKE: Final = 0x16
_LINGER_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one port. Seconds; RFC 5321 section 4.5.3.2.7 asks for five minutes for a command."""

    sniff_seconds: float = 0.2
    """0: the greeting waits for nothing."""
    handshake_seconds: float = 30
    opening_seconds: float = 120
    command_seconds: float = 300
    data_block_seconds: float = 180
    data_seconds: float = 1200
    room_seconds: float = 60
    failure_seconds: float = 1
    write_seconds: float = 60
    last_words_seconds: float = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings(Generic[Who]):
    """What the sessions of one port share, some of it with those of other ports."""

    door: Door[Who]
    rules: Rules
    places: Places
    buffers: Buffers
    lockout: Lockout
    #: None: there is no TLS here.
    certificates: Certificates | None
    limits: Limits = Limits()
    #: TLS from the first octet (465), not by STARTTLS.
    is_tls_at_once: bool = False
    #: Hears of every answer to a question: its command, and the reply's code.
    count_reply: Callable[[str, int], None] = lambda command, code: None


class Session(Generic[Who]):
    """Made for a connection that has no place yet."""

    def __init__(self, stream: trio.abc.Stream, client: Client, surroundings: Surroundings[Who]) -> None:
        self.client = client
        self._around = surroundings
        self._limits = surroundings.limits
        self._wire = Wire(stream)
        self._stream: trio.abc.Stream = self._wire
        self._server = Server(surroundings.rules, count_reply=surroundings.count_reply)
        self._visit: Visit[Who] = Visit(client)
        #: The pair that was wrong last.
        self._wrong: Credentials | None = None
        self._lease: Lease | None = None
        self._declared_bytes = 0
        self._opened_at = trio.current_time()
        self._spoke_at = self._opened_at
        self._ending: Reply | None = None
        self._is_urgent = False
        self._waiting: trio.CancelScope | None = None
        """Waits for the client."""

    async def serve(self) -> None:
        """See the module docstring. It needs a place."""
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                if await self._open():
                    await self._talk()
        finally:
            self._give_room_back()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)

    def end(self, reply: Reply, *, is_urgent: bool = False) -> None:
        """Say this as soon as it is our turn, and end."""
        self._ending = self._ending or reply
        self._is_urgent = self._is_urgent or is_urgent
        if self._waiting is not None and self._must_end():
            self._waiting.cancel()

    def _must_end(self) -> bool:
        return self._ending is not None and (self._is_urgent or self._server.state is not State.DATA)

    # -- opening

    async def _open(self) -> bool:
        """TLS and the greeting, or what keeps us from them. False: it is over."""
        around = self._around
        is_tls, begun = around.is_tls_at_once, b""
        if not is_tls and self._limits.sniff_seconds:
            deadline = self._opened_at + self._limits.sniff_seconds
            received = await self._receive(_RECEIVE_BYTES, deadline)
            if received == b"":
                return False
            begun = received or b""
            is_tls = bool(begun) and begun[0] == _HANDSHAKE and around.certificates is not None
            is_tls = is_tls and around.rules.has_auth  # nobody's server begins so on port 25
        if is_tls:
            self._wire.put_back(begun)
            if not await self._shake_hands():
                return False
            self._server = Server(around.rules, is_secure=True, count_reply=around.count_reply)
        elif begun:
            self._server.receive_data(begun)
        if self._must_end():
            assert self._ending is not None
            self._server.close_with(self._ending)
        else:
            self._server.greet()
        return True

    async def _shake_hands(self) -> bool:
        """False: it did not come about, and there is nothing to be said."""
        assert self._around.certificates is not None
        # Not https_compatible: so our end is said (close_notify), and a client's that is not said is a broken stream,
        # which is all the same here.
        stream = trio.SSLStream(self._wire, self._around.certificates.context(), server_side=True)
        with trio.move_on_after(self._limits.handshake_seconds) as scope:
            self._waiting = scope
            await stream.do_handshake()
        self._waiting = None
        if scope.cancelled_caught:
            return False
        self._stream = stream
        self._visit.tls = stream.version()
        return True

    # -- the dialogue

    async def _talk(self) -> None:
        while True:
            event = self._server.next_event()
            if event is NEED_DATA:
                await self._flush()
                await self._read()
            elif event is STARTTLS:
                await self._flush()
                if not await self._shake_hands():
                    return
                self._visit = Visit(self.client, tls=self._visit.tls)
                self._server.tls_established()
            elif event is CLOSED:
                await self._flush()
                await self._linger()
                return
            else:
                assert isinstance(event, Authenticate | Mail | Recipient | EndOfData)
                self._server.answer(await self._answer_to(event))

    async def _flush(self) -> None:
        data = self._server.data_to_send()
        if not data:
            return
        seconds = self._limits.write_seconds if self._ending is None else self._limits.last_words_seconds
        with trio.fail_after(seconds):
            await self._stream.send_all(data)
        self._spoke_at = trio.current_time()

    async def _read(self) -> None:
        is_message = self._server.state is State.DATA
        if is_message:
            await self._find_room()
        else:
            self._give_room_back()
        if self._must_end():
            assert self._ending is not None
            self._server.close_with(self._ending)
            return
        rests = not is_message and self._visit.admitted is None
        if rests:
            self._around.places.rest(self)
        received = await self._receive(_RECEIVE_BYTES, self._deadline(is_message=is_message))
        if rests:
            self._around.places.work(self)
        if received is not None:
            self._wire.is_heard()
            self._server.receive_data(received)
        else:
            self._server.close_with(self._ending or TOO_SLOW)

    def _deadline(self, *, is_message: bool) -> float:
        """A client that drips gains nothing: our last word is what counts."""
        limits = self._limits
        if is_message:
            block = trio.current_time() + limits.data_block_seconds
            return min(block, self._spoke_at + limits.data_seconds)
        deadline = self._spoke_at + limits.command_seconds
        if self._around.rules.has_auth and self._visit.admitted is None:
            deadline = min(deadline, self._opened_at + limits.opening_seconds)
        return deadline

    async def _receive(self, bytes_max: int, deadline: float) -> bytes | None:
        """None: nothing came in time, or somebody ended it."""
        received: bytes | None = None
        with trio.CancelScope(deadline=deadline) as scope:
            self._waiting = scope
            received = bytes(await self._stream.receive_some(bytes_max))
        self._waiting = None
        return received

    async def _linger(self) -> None:
        """Say no more, and read what is still on its way."""
        self._around.places.rest(self)
        left = _LINGER_BYTES_MAX
        with trio.move_on_after(self._limits.last_words_seconds) as scope:
            self._waiting = scope
            if self._visit.tls is None:
                await self._wire.send_eof()
            elif self._server.has_quit:
                left = 0  # it may wait for our end, and TLS cannot be closed by halves
            while left > 0 and (received := await self._stream.receive_some(_RECEIVE_BYTES)):
                left -= len(received)
        self._waiting = None
        with trio.move_on_after(self._limits.last_words_seconds):
            await self._stream.aclose()

    # -- a message

    async def _find_room(self) -> None:
        """Before more is read. Where there is none, the message is refused, and read on all the same."""
        if self._lease is None:
            admitted = self._visit.admitted
            party = admitted.party if admitted is not None else self.client.counted_as
            self._lease = self._around.buffers.lease(party)
        held = self._server.held_bytes
        if held <= SMALL_BYTES_MAX:
            self._lease.release()  # where more was held, it has been refused
            return
        # Who has said how much will come has room for all of it at once. Who has not, or sends more than that, may come
        # to the most that is taken.
        most = self._around.rules.message_bytes_max + 2 * _RECEIVE_BYTES
        wanted = max(held, self._declared_bytes) + 2 * _RECEIVE_BYTES
        if held <= self._declared_bytes:
            most = wanted
        with trio.move_on_after(self._limits.room_seconds) as scope:
            self._waiting = scope
            await self._lease.cover(wanted, most)
        self._waiting = None
        if scope.cancelled_caught and not self._must_end():
            self._server.refuse_message(NO_ROOM)
            self._lease.release()

    def _give_room_back(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    # -- questions

    async def _answer_to(self, question: Question) -> Reply:
        door, visit = self._around.door, self._visit
        visit.ehlo_name, visit.is_extended = self._server.ehlo_name, self._server.is_extended
        try:
            match question:
                case Authenticate(credentials):
                    return await self._authenticate(credentials)
                case Mail(transaction):
                    self._declared_bytes = transaction.declared_bytes or 0
                    return await door.mail(visit, transaction)
                case Recipient(transaction, recipient):
                    return await door.recipient(visit, transaction, recipient)
                case EndOfData(transaction, message):
                    try:
                        return await door.data(visit, transaction, message)
                    finally:
                        self._give_room_back()
        except Exception:
            logger.exception("smtp.door_defect")
            self.end(DEFECT_ENDS)
            return DEFECT

    async def _authenticate(self, credentials: Credentials | None) -> Reply:
        lockout, who = self._around.lockout, self.client.counted_as
        asked_at = trio.current_time()
        if lockout.refuses(who, asked_at):
            self._around.places.count_turned_away("locked_out")
            return LOCKED_OUT
        answer: Admitted[Who] | Reply = WRONG_CREDENTIALS
        if credentials is not None:
            answer = await self._around.door.authenticate(credentials.user, credentials.password, self.client)
        if isinstance(answer, Admitted):
            lockout.succeeded(who, trio.current_time())
            refusal = self._around.places.admit(self, answer.party)
            if refusal is not None:
                return refusal
            self._visit.admitted = answer
            return AUTHENTICATED
        if answer.code != WRONG_CREDENTIALS.code:
            return answer
        later = 0.0
        if credentials is None or credentials != self._wrong:
            # Clients try the same pair by PLAIN and then by LOGIN: that is one guess.
            later = lockout.failed(who, asked_at, is_trusted=self.client.is_trusted)
        self._wrong = credentials
        await trio.sleep_until(asked_at + self._limits.failure_seconds + later)
        return WRONG_CREDENTIALS
