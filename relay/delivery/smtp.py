"""The sending side of SMTP as a state machine: bytes in, bytes and replies out, no I/O, no clock.

The contract. The caller states an intention (`begin`, `end_of_data`, `starttls`, `quit`), sends whatever
`data_to_send` returns, feeds what it receives to `receive_data`, and takes replies from `next_event` until that says
NEED_DATA or nothing is awaited any more. `awaiting` is the command whose reply is due (the caller chooses its timeout
by it); None means that it is our turn. `state` says what may be done next, `decisive` is the reply that decided the
last intention. `relay.delivery.reply_reader` cuts the server's bytes into replies.

Three guarantees:

1. **The final dot never leaves by itself.** `begin` ends in State.BODY after a 354; the body is the caller's
   to send (`take_body`), and only `end_of_data` makes the dot. Whatever has to be durable before a receiver
   may take responsibility for the message is made durable in between. (The one exception carries no message:
   RFC 2920 section 3.1 demands a lone dot when DATA was pipelined and got 354 although the recipient was
   refused.)
2. **Any bytes from the server give legal replies or RemoteProtocolError**, in bounded memory. Nothing that
   it says before it is asked is taken as an answer: what follows the reply to STARTTLS in plain text is an
   injection (CVE-2011-0411), and a 2xx before the final dot accepts nothing. Once it has the message, though, its
   answer is read as kindly as can be: strictness would send the message again.
3. **Nothing that could be read in two ways is sent**: no CR, LF or NUL in an address, no bare CR or LF and no
   line over 998 octets in a message (SMTP smuggling). That is our mistake, so it is LocalProtocolError.

One recipient for each transaction: a member's recipients do not see each other.

Sources: RFC 5321 (SMTP), 2920 (PIPELINING), 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8), 3207 (STARTTLS).
"""

import re
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Final, Literal, assert_never

from relay.delivery.reply_reader import (
    Capabilities,
    Command,
    ConnectionLost,
    ProtocolError,
    RemoteProtocolError,
    ReplyReader,
    SmtpReply,
    capabilities_in,
    enhanced_status,
)
from relay.message.envelope import Envelope
from relay.message.lines import LINE_OCTETS_MAX, has_bare_ends, long_line

# RFC 5321 section 4.5.3.1.3 (256 with the angle brackets).
ADDRESS_BYTES_MAX: Final = 254
BODY_BLOCK_BYTES: Final = 64 * 1024


class State(Enum):
    """Where the dialogue stands: what may be done next."""

    GREETING = "greeting"
    """The banner or the answer to EHLO or HELO is awaited."""
    READY = "ready"
    """begin, starttls or quit."""
    STARTTLS = "starttls"
    HANDSHAKE = "handshake"
    """The caller does the TLS handshake, then calls tls_established."""
    ENVELOPE = "envelope"
    """MAIL, RCPT, DATA are under way."""
    BODY = "body"
    """354 has come: send the body (take_body), then end_of_data."""
    END_OF_DATA = "end of data"
    RESET_DUE = "reset due"
    """The transaction failed half-way. As READY: the next one begins with RSET."""
    REFUSED = "refused"
    """The server does not want to talk to us: nothing but quit."""
    QUIT = "quit"
    CLOSED = "closed"
    """Nothing more is sent or read."""


class LocalProtocolError(ProtocolError):
    """We were about to do what SMTP does not allow: a defect of ours. Nothing of it has been sent."""


class NeedData(Enum):
    """The type of NEED_DATA."""

    NEED_DATA = "need data"


NEED_DATA: Final = NeedData.NEED_DATA
"""The next event is not complete: feed receive_data."""


class Client:
    """One connection's dialogue. See the module docstring for the contract."""

    def __init__(self, ehlo_name: str) -> None:
        if not _EHLO_NAME.fullmatch(ehlo_name):
            raise LocalProtocolError(f"{ehlo_name!r} is neither a domain nor an address literal")
        self.state = State.GREETING
        self.capabilities = Capabilities()
        self.decisive: SmtpReply | None = None
        """The first refusal since the last intention; without one, the last reply."""
        self._ehlo_name = ehlo_name
        self._reader = ReplyReader()
        self._outgoing = b""
        self._awaiting: deque[Command] = deque([Command.BANNER])
        self._asked_at = 0
        """How much the server had said before our last intention: a reply that began in it is no answer to that."""
        self._carried = False
        """A transaction has been begun since the server last greeted us."""
        self._plan: deque[tuple[Command, bytes]] = deque()
        self._body: bytes | None = None

    @property
    def awaiting(self) -> Command | None:
        """The command whose reply is due next; None: it is our turn, or the dialogue is over."""
        return self._awaiting[0] if self._awaiting else None

    # intentions

    def starttls(self) -> None:
        """Ask for TLS. Accepted: State.HANDSHAKE. Refused: READY as before, in plain text."""
        self._require(State.READY)
        if not self.capabilities.starttls:
            raise LocalProtocolError("STARTTLS was not offered")
        self._intend(State.STARTTLS)
        self._say(Command.STARTTLS, b"STARTTLS\r\n")

    def tls_established(self) -> None:
        """The handshake is done. All that was learnt in plain text is forgotten (RFC 3207 section 4.2)."""
        self._require(State.HANDSHAKE)
        self._greet()

    def begin(self, envelope: Envelope, message: bytes, *, is_checked: bool = False) -> None:
        """Offer one message to one recipient. Accepted: State.BODY. Refused: State.RESET_DUE.

        `message` is sent exactly as it is, apart from dot-stuffing. `is_checked`: `check_message` was asked, which
        takes long for a large one.
        """
        self._require(State.READY, State.RESET_DUE)
        check_envelope(envelope)
        if not is_checked:
            check_message(message)
        commands = [
            (Command.MAIL, self._mail_command(envelope, message)),
            (Command.RCPT, f"RCPT TO:<{envelope.rcpt_to}>\r\n".encode()),
            (Command.DATA, b"DATA\r\n"),
        ]
        # A transaction that failed half-way must be cleared away. One that ended has cleared itself away (RFC 5321
        # section 4.1.1.4); to say so nevertheless is worth a line, but not a round trip.
        if self.state is State.RESET_DUE or (self._carried and self.capabilities.pipelining):
            commands.insert(0, (Command.RSET, b"RSET\r\n"))
        self._carried = True
        self._intend(State.ENVELOPE)
        self._body = message
        self._plan.extend(commands)
        # RFC 2920 section 3.1: these may go out together; DATA must be the last of a group, and is.
        for _ in range(len(commands) if self.capabilities.pipelining else 1):
            self._say(*self._plan.popleft())

    def take_body(self) -> Iterator[bytes]:
        """The message for the caller to send, dot-stuffed (RFC 5321 section 4.5.2), without the final dot: in blocks of
        whole lines, so that nobody waits for a large one."""
        self._require(State.BODY)
        if self._body is None:
            raise LocalProtocolError("the body was taken already")
        body, self._body = self._body, None
        return _stuffed_blocks(body)

    def end_of_data(self) -> None:
        """Say the final dot, after the whole body was sent: from here on the receiver may own the message."""
        self._require(State.BODY)
        if self._body is not None:
            raise LocalProtocolError("the body has not been sent")
        self._intend(State.END_OF_DATA)
        self._say(Command.END_OF_DATA, b".\r\n")

    def quit(self) -> None:
        """Say goodbye. Whatever is answered, State.CLOSED follows."""
        self._require(State.READY, State.RESET_DUE, State.REFUSED)
        self._intend(State.QUIT)
        self._say(Command.QUIT, b"QUIT\r\n")

    # bytes

    def data_to_send(self) -> bytes:
        """What is to be sent now; each byte is returned once."""
        data, self._outgoing = self._outgoing, b""
        return data

    def receive_data(self, data: bytes) -> None:
        """Feed what was received; b"" is the end of the stream. Take the events before feeding more."""
        if self.state is not State.CLOSED:
            self._reader.feed(data)

    def next_event(self) -> SmtpReply | Literal[NeedData.NEED_DATA]:
        """The next reply, or NEED_DATA. After RemoteProtocolError the state is CLOSED."""
        if self.state is State.CLOSED:
            raise LocalProtocolError("the dialogue is over")
        try:
            parsed = self._reader.next_reply(lenient=self.state in (State.BODY, State.END_OF_DATA))
            if parsed is None and self._reader.at_end and self.state is State.END_OF_DATA:
                parsed = self._reader.last_words()
            if parsed is None:
                if self._reader.at_end:
                    raise ConnectionLost(f"the connection was closed, {self._waited_for()}")
                return NEED_DATA
            code, lines = parsed
            reply = SmtpReply(self._answered_by(code), code, enhanced_status(code, lines), lines)
            self._advance(reply)
        except RemoteProtocolError:
            self._close()
            raise
        return reply

    # transitions

    @property
    def _is_unasked(self) -> bool:
        """The last reply was said before the server could know what we asked."""
        return self._reader.began_at < self._asked_at

    def _answered_by(self, code: int) -> Command:
        """The command that a reply answers: replies come in the order of the commands."""
        if self._awaiting and not self._is_unasked:
            return self._awaiting.popleft()
        # A server may tire of a message half-way and say so; it cannot accept one that it does not have.
        if self.state in (State.BODY, State.END_OF_DATA) and code >= 400:
            return Command.END_OF_DATA
        if code == 421:
            return Command.IDLE
        raise RemoteProtocolError(f"the server said {code} without having been asked")

    def _advance(self, reply: SmtpReply) -> None:
        """Everything that a reply does to the state is here and in the functions below."""
        if reply.code < 400 and (reply.code >= 300) != (reply.command is Command.DATA):
            raise RemoteProtocolError(f"{reply.code} is no answer to {reply.command.value}")
        if self.decisive is None or self.decisive.accepts:
            self.decisive = reply
        if reply.code == 421 or self.state is State.BODY or self._is_unasked or self._reader.is_spoilt:
            self._close()
            return
        match reply.command:
            case Command.BANNER:
                self._on_banner(reply)
            case Command.EHLO | Command.HELO:
                self._on_greeted(reply)
            case Command.STARTTLS:
                self._on_starttls(reply)
            case Command.RSET | Command.MAIL | Command.RCPT | Command.DATA:
                self._on_envelope(reply)
            case Command.END_OF_DATA:
                # Accepted or refused, the transaction is over and needs no RSET.
                self.state = State.READY
            case Command.QUIT:
                self._close()
            case Command.IDLE:
                raise AssertionError("only 421 comes unasked, and it has been dealt with")
            case _:
                assert_never(reply.command)

    def _on_banner(self, reply: SmtpReply) -> None:
        if reply.accepts:
            self._greet()
        else:
            self.state = State.REFUSED

    def _on_greeted(self, reply: SmtpReply) -> None:
        if reply.accepts:
            self.capabilities = capabilities_in(reply) if reply.command is Command.EHLO else Capabilities()
            self.state = State.READY
        elif reply.command is Command.EHLO and reply.code >= 500:
            # RFC 5321 section 3.2: a server that does not know EHLO may know HELO.
            self._intend(State.GREETING)
            self._say(Command.HELO, f"HELO {self._ehlo_name}\r\n".encode("ascii"))
        else:
            self.state = State.REFUSED

    def _on_starttls(self, reply: SmtpReply) -> None:
        if not reply.accepts:
            self.state = State.READY
            return
        if not self._reader.is_empty:
            raise RemoteProtocolError(
                "plain text was injected between the reply to STARTTLS and the handshake"
            )
        self.state = State.HANDSHAKE

    def _on_envelope(self, reply: SmtpReply) -> None:
        """One of RSET, MAIL, RCPT, DATA was answered; with pipelining more answers may be on their way."""
        refused = self.decisive is not None and not self.decisive.accepts
        if reply.command is Command.DATA and reply.accepts and not refused:
            self.state = State.BODY
        elif reply.command is Command.DATA and reply.accepts:
            # RFC 2920 section 3.1: the server waits for a message that nobody is to get. The lone dot ends
            # it; the answer, which should be a refusal, decides nothing.
            self.state = State.END_OF_DATA
            self._body = None
            self._say(Command.END_OF_DATA, b".\r\n")
        elif refused and not self._awaiting:
            self.state = State.RESET_DUE
            self._plan.clear()
            self._body = None
        elif not refused and self._plan:
            self._say(*self._plan.popleft())

    def _greet(self) -> None:
        self.capabilities = Capabilities()
        self._carried = False
        self._intend(State.GREETING)
        self._say(Command.EHLO, f"EHLO {self._ehlo_name}\r\n".encode("ascii"))

    def _close(self) -> None:
        self.state = State.CLOSED
        self._awaiting.clear()
        self._plan.clear()
        self._reader = ReplyReader()
        self._outgoing = b""
        self._body = None

    # sending

    def _require(self, *states: State) -> None:
        if self.state not in states:
            raise LocalProtocolError(f"not possible in state {self.state.value!r}")

    def _intend(self, state: State) -> None:
        self._asked_at = self._reader.octets_fed
        self.state = state
        self.decisive = None

    def _say(self, command: Command, line: bytes) -> None:
        self._outgoing += line
        self._awaiting.append(command)

    def _waited_for(self) -> str:
        if self._awaiting:
            return f"{self._awaiting[0].value} was not answered"
        return f"state {self.state.value!r}"

    def _mail_command(self, envelope: Envelope, message: bytes) -> bytes:
        """MAIL with the parameters that the server knows, and not without those that the message needs."""
        offered = self.capabilities
        parameters = []
        if offered.size_max is not None and len(message) > offered.size_max:
            raise LocalProtocolError("the message is over the size that the server takes")
        if offered.size:
            parameters.append(f" SIZE={len(message)}")
        if not message.isascii():
            if not offered.eight_bit_mime:
                raise LocalProtocolError("the message is not ASCII, and 8BITMIME was not offered")
            parameters.append(" BODY=8BITMIME")
        if envelope.smtputf8:
            if not offered.smtputf8:
                raise LocalProtocolError("SMTPUTF8 is needed and was not offered")
            parameters.append(" SMTPUTF8")
        return f"MAIL FROM:<{envelope.mail_from}>{''.join(parameters)}\r\n".encode()


def _stuffed_blocks(body: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(body):
        # Some line ends in each block: none is longer.
        end = body.rfind(b"\r\n", start, start + BODY_BLOCK_BYTES) + 2
        block = body[start:end].replace(b"\r\n.", b"\r\n..")
        yield b"." + block if block.startswith(b".") else block
        start = end


def check_envelope(envelope: Envelope) -> None:
    """LocalProtocolError unless both addresses can stand between angle brackets and mean what they say."""
    for address in (envelope.mail_from, envelope.rcpt_to):
        if _NOT_IN_ADDRESS.search(address):
            raise LocalProtocolError("an address holds a control character, white space or an angle bracket")
        if not address.isascii() and not envelope.smtputf8:
            raise LocalProtocolError("a non-ASCII address without SMTPUTF8")
        try:
            octets = len(address.encode())
        except UnicodeEncodeError as error:
            raise LocalProtocolError("an address holds a lone surrogate") from error
        if octets > ADDRESS_BYTES_MAX:
            raise LocalProtocolError(f"an address is over {ADDRESS_BYTES_MAX} octets")
    if not envelope.rcpt_to:
        raise LocalProtocolError("an empty recipient")


def check_message(message: bytes) -> None:
    """LocalProtocolError unless every receiver sees the same lines in it (RFC 5321 section 2.3.8)."""
    if not message.endswith(b"\r\n"):
        raise LocalProtocolError("the message does not end in CRLF")
    if has_bare_ends(message):
        raise LocalProtocolError("the message has a bare CR or LF")
    if b"\0" in message:
        raise LocalProtocolError("the message has a NUL")
    if long_line(message) is not None:
        raise LocalProtocolError(f"the message has a line over {LINE_OCTETS_MAX} octets")


_EHLO_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,255}|\[[A-Za-z0-9.:-]{1,64}\]")
_NOT_IN_ADDRESS: Final = re.compile(r"[\x00-\x20\x7f-\xa0<>\u2028\u2029]")
