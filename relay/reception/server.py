"""The receiving side of SMTP as a state machine: octets and answers in, octets and questions out; no I/O, no clock.

The contract. The caller says `greet`, feeds what it receives to `receive_data` while `wants_data`, and takes events
from `next_event` until that is NEED_DATA or CLOSED; it sends whatever `data_to_send` returns before it waits for more
octets. A question (Authenticate, Mail, Recipient, EndOfData) is answered by `answer` before anything else goes on.
STARTTLS asks for the handshake, after which comes `tls_established`. After CLOSED there is only something to be sent,
and the connection to be closed.

Three guarantees:

1. **Every command gets one reply, in their order, and DATA's 250 is the caller's.** Nothing that a client says makes
   the machine accept a message: only an `answer` to EndOfData does, which is asked once for each message, when its
   last octet has come. A message whose end does not come is nothing.
2. **Any octets give legal replies, in bounded memory**: what was fed at once, one line, and one message of
   `message_bytes_max`. A client that makes mistakes without end, or does nothing without end, is closed.
3. **No octet is read in two ways.** Lines end at CRLF, data at CRLF.CRLF (`lines`, `data`). What stands in clear behind
   STARTTLS was never said under TLS, and what stands behind EHLO, AUTH or DATA was said by somebody who did not wait
   for their answer: it is not carried out, and the connection ends (CVE-2011-0411; a message behind a refused DATA
   would be read as commands). At STARTTLS all is forgotten, but for what has been counted.

Sources: RFC 5321 (SMTP), 6409 (submission), 4954 (AUTH), 3207 (STARTTLS), 2920 (PIPELINING), 1870 (SIZE), 6152
(8BITMIME), 6531 (SMTPUTF8), 2034 (ENHANCEDSTATUSCODES). Not offered: DSN, CHUNKING, BINARYMIME, VRFY, EXPN.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Final, assert_never

from relay.reception import commands, sasl
from relay.reception.commands import Misspoken, NotSmtp, Transaction
from relay.reception.data import DataReader
from relay.reception.lines import (
    AUTH_LINE_BYTES_MAX,
    COMMAND_BYTES_MAX,
    BareLineEnd,
    Endless,
    LineReader,
    TooLong,
)
from relay.reception.questions import (
    CLOSED,
    NEED_DATA,
    STARTTLS,
    Authenticate,
    EndOfData,
    Mail,
    Question,
    Recipient,
    Signal,
    State,
)
from relay.reception.replies import WRONG_CREDENTIALS, Reply, lines
from relay.reception.rules import Rules


class LocalProtocolError(Exception):
    """The caller was about to do what SMTP does not allow: a defect of ours."""


class Server:
    """One connection's dialogue. See the module docstring for the contract."""

    def __init__(
        self,
        rules: Rules,
        *,
        is_secure: bool = False,
        count_reply: Callable[[str, int], None] = lambda command, code: None,
    ) -> None:
        """`count_reply` hears the code of every answer to a question, and to every message."""
        self.state = State.GREETING
        self.is_secure = is_secure
        """Under TLS."""
        self.is_authenticated = False
        self.ehlo_name = ""
        self.is_extended = False
        """It said EHLO, not HELO."""
        self.has_quit = False
        """It said QUIT, and waits for nothing but our end."""
        self._rules = rules
        self._count_reply = count_reply
        self._lines = LineReader()
        self._outgoing = b""
        self._question: Question | None = None
        self._transaction: Transaction | None = None
        self._mail_refused = False
        """What belongs to a refused MAIL is refused, and no mistake: it may have been on its way already."""
        self._data: DataReader | None = None
        self._data_octets = b""
        self._exchange: sasl.Exchange | None = None
        self._errors = 0
        self._idle_commands = 0
        self._auth_failures = 0
        self._offered_recipients = 0
        self._refused_recipients = 0

    @property
    def wants_data(self) -> bool:
        return self.state in (State.GREETING, State.COMMAND, State.AUTH, State.DATA)

    @property
    def held_bytes(self) -> int:
        """How much of a message is held now."""
        return self._data.held_bytes if self._data is not None else 0

    # -- the caller's

    def greet(self) -> None:
        """Say the banner. Who has talked before it (RFC 5321 section 4.3.1 lets nobody) is refused."""
        self._require(State.GREETING)
        if not self._lines.is_empty:
            self.close_with(Reply(554, "5.5.1", "you talked before you were greeted"))
            return
        self.state = State.COMMAND
        self._outgoing += lines(220, "", [f"{self._rules.name} ESMTP"])

    def answer(self, reply: Reply) -> None:
        """Answer the question that was asked last. 421 ends the dialogue."""
        self._require(State.QUESTION)
        if not (200 <= reply.code < 300 or 400 <= reply.code < 600):
            raise LocalProtocolError(f"{reply.code} is no answer to a question")
        question, self._question = self._question, None
        self.state = State.COMMAND
        match question:
            case Authenticate():
                reply = self._on_authenticated(reply)
            case Mail(transaction):
                if reply.accepts:
                    self._transaction = transaction
                    self._mail_refused = False
                else:
                    self._idle_commands += 1
            case Recipient(transaction, recipient):
                if reply.accepts:
                    transaction.recipients.append(recipient)
                else:
                    reply = self._on_refused_recipient(reply)
            case EndOfData():
                if reply.accepts:
                    self._errors = self._idle_commands = self._refused_recipients = 0
                else:
                    self._idle_commands += 1
        self._count_reply(_COMMANDS[type(question)], reply.code)
        self._say(reply)

    def tls_established(self) -> None:
        """The handshake is done. All that was learnt in plain text is forgotten (RFC 3207 section 4.2)."""
        self._require(State.HANDSHAKE)
        self.state = State.COMMAND
        self.is_secure = True
        self.ehlo_name = ""
        self.is_extended = self.is_authenticated = False
        self._transaction = None

    def refuse_message(self, reply: Reply) -> None:
        """Whatever the message that is being received is, this is its answer. What is held of it is dropped."""
        self._require(State.DATA)
        assert self._data is not None
        self._data.refuse(reply)

    def close_with(self, reply: Reply) -> None:
        """Say this, in the place of whatever was to be said next, and end. During a handshake it cannot be said."""
        if self.state is State.CLOSED:
            return
        if self.state is not State.HANDSHAKE:
            self._outgoing += reply.octets
        self._close()

    # -- octets

    def data_to_send(self) -> bytes:
        """What is to be sent now; each octet is returned once."""
        data, self._outgoing = self._outgoing, b""
        return data

    def receive_data(self, data: bytes) -> None:
        """Feed what was received; b"" is the end of the stream, after which nothing is answered."""
        if not self.wants_data:
            raise LocalProtocolError(f"nothing is read in state {self.state.value!r}")
        if not data:
            self._close()
        elif self.state is State.DATA:
            self._data_octets += data
        else:
            self._lines.feed(data)

    def next_event(self) -> Question | Signal:
        """The next question, once, or what to do."""
        while True:
            match self.state:
                case State.COMMAND | State.AUTH:
                    if not self._take_line():
                        return NEED_DATA
                case State.DATA:
                    if not self._data_octets:
                        return NEED_DATA
                    self._take_data()
                case State.GREETING:
                    return NEED_DATA
                case State.HANDSHAKE:
                    return STARTTLS
                case State.CLOSED:
                    return CLOSED
                case State.QUESTION:
                    raise LocalProtocolError("the last question has not been answered")
                case _:
                    assert_never(self.state)
            if self._question is not None:
                return self._question

    def _take_line(self) -> bool:
        """Carry out the next line. False: it is not whole yet."""
        has_long_lines = self._rules.has_auth and not self.is_authenticated
        try:
            line = self._lines.next_line(_AUTH_COMMAND_BYTES_MAX if has_long_lines else COMMAND_BYTES_MAX)
            if line is None:
                return False
            if self.state is State.AUTH:
                self._on_response(line)
            else:
                self._on_command(line)
        except TooLong:
            enhanced = "5.5.6" if self.state is State.AUTH else "5.5.2"
            self.state, self._exchange = State.COMMAND, None
            self._fail(Reply(500, enhanced, "the line is too long"))
        except BareLineEnd:
            self.close_with(Reply(521, "5.5.2", "a CR or LF stands alone; lines end in CRLF"))
        except Endless:
            self.close_with(Reply(521, "5.5.2", "a line without end"))
        except NotSmtp as error:
            self.close_with(error.reply)
        except Misspoken as error:
            self._fail(error.reply)
        return True

    def _take_data(self) -> None:
        assert self._data is not None
        assert self._transaction is not None
        octets, self._data_octets = self._data_octets, b""
        behind = self._data.feed(octets)
        refusal = self._data.refusal
        if refusal is not None and (self._data.is_hopeless or behind is not None):
            self._count_reply("DATA", refusal.code)
        if refusal is not None and self._data.is_hopeless:
            self.close_with(refusal)
        elif behind is not None:
            data, self._data = self._data, None
            transaction, self._transaction = self._transaction, None
            self._lines.feed(behind)
            self.state = State.COMMAND
            if refusal is None:
                self._ask(EndOfData(transaction, data.message()))
            else:
                self._idle_commands += 1
                self._say(refusal)

    # -- commands

    def _on_command(self, line: bytes) -> None:
        verb, argument = commands.split(line)
        if len(line) > COMMAND_BYTES_MAX and verb != "AUTH":
            raise TooLong
        if verb in _ENDS_OF_GROUPS and not self._lines.is_empty:
            raise NotSmtp(554, "5.5.1", f"you did not wait for the answer to {verb}")
        if verb not in _BRINGING:
            self._idle_commands += 1
        if self._idle_commands > self._rules.idle_commands_max:
            raise NotSmtp(421, "4.7.0", "so many commands, and no mail")
        match verb:
            case "MAIL":
                self._on_mail(argument)
            case "RCPT":
                self._on_recipient(argument)
            case "DATA":
                self._on_data(argument)
            case "EHLO" | "HELO":
                self._on_hello(verb, argument)
            case "AUTH":
                self._on_auth(argument)
            case "STARTTLS":
                self._on_starttls(argument)
            case "RSET":
                self._reset()
                self._say(Reply(250, "2.0.0", "forgotten"))
            case "NOOP":
                self._say(Reply(250, "2.0.0", "ok"))
            case "QUIT":
                self.has_quit = True
                self.close_with(Reply(221, "2.0.0", "goodbye"))
            case "VRFY":
                self._say(Reply(252, "2.0.0", "not told; send a mail, and see"))
            case "HELP":
                self._say(Reply(214, "2.0.0", "RFC 5321 says it all"))
            case "BDAT":
                # What follows it is a message, which would be read as commands.
                raise NotSmtp(502, "5.5.1", "CHUNKING was not offered")
            case "EXPN" | "ETRN" | "TURN":
                raise Misspoken(502, "5.5.1", f"{verb} is not carried out here")
            case _:
                raise Misspoken(500, "5.5.1", "unknown command")

    def _on_hello(self, verb: str, argument: bytes) -> None:
        name = commands.ehlo_name(argument)
        self._reset()
        self.ehlo_name = name
        self.is_extended = verb == "EHLO"
        if self.is_extended:
            self._outgoing += lines(250, "", [self._rules.name, *self._offered()])
        else:
            self._outgoing += lines(250, "", [self._rules.name])

    def _offered(self) -> list[str]:
        rules = self._rules
        offered = ["PIPELINING", f"SIZE {rules.message_bytes_max}", "8BITMIME", "SMTPUTF8"]
        offered.append("ENHANCEDSTATUSCODES")
        if rules.has_tls and not self.is_secure:
            offered.append("STARTTLS")
        if self._may_authenticate:
            offered.append(f"AUTH {' '.join(sasl.CHALLENGES)}")
        return offered

    def _on_starttls(self, argument: bytes) -> None:
        if self.is_secure:
            raise Misspoken(503, "5.5.1", "this is TLS already")
        if not self._rules.has_tls:
            raise Misspoken(502, "5.5.1", "STARTTLS is not offered")
        if argument:
            raise Misspoken(501, "5.5.4", "STARTTLS has no argument")
        self._say(Reply(220, "2.0.0", "begin"))
        self.state = State.HANDSHAKE

    # -- AUTH

    @property
    def _may_authenticate(self) -> bool:
        """AUTH is offered now."""
        rules = self._rules
        return rules.has_auth and (self.is_secure or rules.auth_in_clear) and not self.is_authenticated

    def _on_auth(self, argument: bytes) -> None:
        if not self._rules.has_auth:
            raise Misspoken(502, "5.5.1", "AUTH is not offered")
        if not (self.is_secure or self._rules.auth_in_clear):
            raise Misspoken(530, "5.7.0", "say STARTTLS first: in the clear everybody can read a password")
        if not self.is_extended:
            raise Misspoken(503, "5.5.1", "say EHLO first")
        if self.is_authenticated or self._transaction is not None:
            raise Misspoken(503, "5.5.1", "AUTH comes once, and before MAIL")
        name, _, initial = argument.partition(b" ")
        mechanism = name.decode("latin-1").upper()
        if mechanism not in sasl.CHALLENGES:
            raise Misspoken(504, "5.5.4", f"the mechanisms are {' and '.join(sasl.CHALLENGES)}")
        self._exchange = sasl.Exchange(mechanism)
        self.state = State.AUTH
        if initial:
            self._on_response(initial.lstrip(b" "))
        else:
            self._challenge()

    def _challenge(self) -> None:
        assert self._exchange is not None
        self._outgoing += b"334 " + b64encode(self._exchange.challenge) + b"\r\n"

    def _on_response(self, line: bytes) -> None:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        try:
            is_complete = exchange.respond(line)
            credentials = exchange.credentials() if is_complete else None
        except sasl.CalledOff:
            self.state = State.COMMAND
            raise Misspoken(501, "5.7.0", "AUTH was called off") from None
        except sasl.MalformedResponse:
            self.state = State.COMMAND
            raise Misspoken(501, "5.5.2", "that is no base64, or not what was asked for") from None
        if is_complete:
            self._ask(Authenticate(credentials))
        else:
            self._exchange = exchange
            self._challenge()

    def _on_authenticated(self, reply: Reply) -> Reply:
        self.is_authenticated = reply.accepts
        if not reply.accepts:
            self._idle_commands += 1
        if reply.code == WRONG_CREDENTIALS.code:
            self._auth_failures += 1
            if self._auth_failures >= self._rules.auth_failures_max:
                return Reply(421, "4.7.0", f"{reply.text}; too many attempts")
        return reply

    # -- a transaction

    def _on_mail(self, argument: bytes) -> None:
        if self._transaction is not None:
            raise Misspoken(503, "5.5.1", "there is a transaction already; RSET ends it")
        self._mail_refused = True
        self._offered_recipients = 0
        if not self.ehlo_name:
            raise Misspoken(503, "5.5.1", "say EHLO first")
        if self._rules.has_auth and not self.is_authenticated:
            first = "AUTH" if self._may_authenticate else "STARTTLS and AUTH"
            raise Misspoken(530, "5.7.0", f"say {first} first")
        bytes_max = self._rules.message_bytes_max
        self._ask(Mail(commands.mail(argument, bytes_max=bytes_max, has_auth=self._rules.has_auth)))

    def _on_recipient(self, argument: bytes) -> None:
        self._offered_recipients += 1
        if self._offered_recipients > _OFFERED_TIMES * self._rules.recipients_max:
            raise NotSmtp(421, "4.7.0", "too many recipients")
        if self._transaction is None:
            self._refuse_out_of_turn("say MAIL first")
        elif len(self._transaction.recipients) >= self._rules.recipients_max:
            self._say(Reply(452, "4.5.3", "no more recipients here; send the message to the others again"))
        else:
            try:
                recipient = commands.recipient(argument, smtputf8=self._transaction.smtputf8)
            except Misspoken as error:
                self._say(self._on_refused_recipient(error.reply))
            else:
                self._ask(Recipient(self._transaction, recipient))

    def _on_refused_recipient(self, reply: Reply) -> Reply:
        self._refused_recipients += 1
        bound = self._rules.refused_recipients_max
        if bound is not None and self._refused_recipients >= bound:
            return Reply(421, "4.7.0", "too many recipients that are not here")
        return reply

    def _on_data(self, argument: bytes) -> None:
        if argument:
            raise Misspoken(501, "5.5.4", "DATA has no argument")
        if self._transaction is None:
            self._refuse_out_of_turn("say MAIL first")
        elif not self._transaction.recipients:
            text = "none of the recipients was accepted" if self._offered_recipients else "say RCPT first"
            self._idle_commands += 1
            self._say(Reply(554 if self._offered_recipients else 503, "5.5.1", text))
        else:
            self._data = DataReader(
                bytes_max=self._rules.message_bytes_max,
                mends_line_ends=self._rules.mends_line_ends,
                takes_long_lines=self._rules.takes_long_lines,
            )
            self._outgoing += lines(354, "", ["go on; end with a line of one dot"])
            self.state = State.DATA

    def _refuse_out_of_turn(self, text: str) -> None:
        reply = Reply(503, "5.5.1", text)
        if self._mail_refused:
            self._say(reply)
        else:
            self._fail(reply)

    # -- leaves

    def _require(self, state: State) -> None:
        if self.state is not state:
            raise LocalProtocolError(f"not possible in state {self.state.value!r}")

    def _ask(self, question: Question) -> None:
        self._question = question
        self.state = State.QUESTION

    def _say(self, reply: Reply) -> None:
        self._outgoing += reply.octets
        if reply.code == 421:
            self._close()

    def _fail(self, reply: Reply) -> None:
        """Say what was wrong; of one that is too many, that it was."""
        self._errors += 1
        if self._errors >= self._rules.errors_max:
            reply = Reply(421, "4.7.0", f"{reply.text}; too many mistakes")
        self._say(reply)

    def _reset(self) -> None:
        self._transaction = None
        self._mail_refused = False

    def _close(self) -> None:
        self.state = State.CLOSED
        self._lines = LineReader()
        self._data, self._data_octets = None, b""
        self._question = self._exchange = None
        self._reset()


_COMMANDS: Final = {Authenticate: "AUTH", Mail: "MAIL", Recipient: "RCPT", EndOfData: "DATA"}
#: What changes what may be said next, so that nothing can be said before its answer is known. (QUIT and NOOP are ends
#: of groups, too; nothing is lost by it where something stands behind them.)
_ENDS_OF_GROUPS: Final = frozenset({"AUTH", "DATA", "EHLO", "HELO", "STARTTLS"})
#: What brings a message nearer.
_BRINGING: Final = frozenset({"AUTH", "DATA", "MAIL", "RCPT"})
#: So many times the recipients that are taken are refused one by one, before the client is.
_OFFERED_TIMES: Final = 10
_AUTH_COMMAND_BYTES_MAX: Final = AUTH_LINE_BYTES_MAX + len("AUTH PLAIN ")
