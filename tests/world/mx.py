"""A receiver for fault injection: strict about what it is sent, and it misbehaves exactly as told.

`async with open_mx() as mx:` listens on loopback. `mx.messages` holds what it accepted, byte for byte; every
breach of SMTP by the sender is a sentence in `mx.violations`, which tests assert to be empty. Nothing is left
to chance: what happens depends on the recipient's local part and on how often that address was offered.

A local part is a magic word, perhaps `-N` (misbehave for the first N offers of this address only), perhaps
`+anything` (to make many addresses):

    tempfail      451 4.7.1 to RCPT; once, unless -N says how often
    permfail      550 5.1.1 to RCPT
    blocklisted   550 5.7.1 to RCPT, because of the address that it comes from
    talkative     550 5.7.1 to RCPT, with a thousand characters of advertisement
    full          452 4.2.2 to RCPT
    overquota     552 5.2.2 to RCPT
    toomany       452 4.5.3 to RCPT
    421           421 4.3.2 to RCPT, and closes
    garbage       RCPT is answered with bytes that are no SMTP
    huge          RCPT is answered without an end
    slow          RCPT is answered a byte every drip_seconds
    hang          RCPT is not answered
    reset         RCPT gets a TCP reset
    disconnect-in-data     hangs up in the middle of the message
    disconnect-after-dot   has the whole message, hangs up without an answer
    hang-after-dot         has the whole message, never answers
    refuse-early           552 5.3.4 in the middle of the message, and closes
    accept-early           250 before the dot was sent
    defer-message          451 4.3.0 to the dot        refuse-message   554 5.6.0 to the dot
    answer-…               accepts the message, and says so oddly (mx_options.ODD_ANSWERS)
    close-after-message    accepts the message, then 421 and closes

Any other local part is accepted.
"""

import itertools
import re
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from tests.world.mx_options import (
    ODD_ANSWERS,
    TO_MESSAGE,
    TO_RCPT,
    TO_STARTTLS,
    MxOptions,
    ReceivedMessage,
)

HUGE_REPLY_BYTES = 100 * 1024 * 1024
#: Longer than any mail waits: for a clock that jumps.
WAIT_SECONDS_MAX = 8 * 24 * 3600

# A word that ends in a digit of its own ("421") is told from a count by the hyphen.
_LOCAL_PART = re.compile(r"(?P<word>[a-z0-9]+(?:-[a-z]+)*)(?:-(?P<times>[0-9]+))?(?:\+.*)?")
_EHLO_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[A-Fa-f0-9.:]+\]|\[IPv6:[A-Fa-f0-9.:]+\]")
_MAIL = re.compile(r"MAIL FROM:<(?P<address>[^<>\s]*)>(?P<parameters>( [A-Z0-9]+(=[!-~]+)?)*)")
_RCPT = re.compile(r"RCPT TO:<(?P<address>[^<>\s]+@[^<>\s]+)>")


@dataclass
class Mx:
    """The receiver. Read its records at any time; change `options` for connections to come."""

    options: MxOptions = field(default_factory=MxOptions)
    address: str = ""
    """127.0.0.1:port, as a route has it."""
    host: str = "127.0.0.1"
    port: int = 0
    messages: list[ReceivedMessage] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    offers: Counter[str] = field(default_factory=Counter)
    """How often each recipient was offered."""
    commands: list[str] = field(default_factory=list)
    """The verbs of all sessions, in the order of their arrival."""
    sessions: int = 0
    sessions_open: int = 0
    sessions_open_max: int = 0
    _changed: trio.Event = field(default_factory=trio.Event)

    def configure(self, **changes: Any) -> None:
        """Change options for the sessions to come."""
        self.options = replace(self.options, **changes)

    async def wait_messages(self, count: int) -> list[ReceivedMessage]:
        """Wait until at least `count` messages have been accepted. Raises trio.TooSlowError, after days."""
        with trio.fail_after(WAIT_SECONDS_MAX):
            while len(self.messages) < count:
                await self._changed.wait()
        return self.messages

    def accept(self, message: ReceivedMessage) -> None:
        """Record a message."""
        self.messages.append(message)
        self._changed.set()
        self._changed = trio.Event()

    def misbehaviour(self, address: str) -> str:
        """The magic word that holds for this offer of the address; "" for none."""
        match = _LOCAL_PART.fullmatch(address.partition("@")[0])
        if match is None:
            return ""
        times = match["times"] or ("1" if match["word"] == "tempfail" else None)
        if times is not None and self.offers[address] > int(times):
            return ""
        return match["word"]

    def arrived(self, message: ReceivedMessage, word: str) -> None:
        """Called when the whole message is here, whatever will be answered to it (`word` decides)."""

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end."""
        self.sessions += 1
        self.sessions_open += 1
        self.sessions_open_max = max(self.sessions_open_max, self.sessions_open)
        session = _Session(self, stream, self.sessions)
        try:
            await session.run()
        except (trio.BrokenResourceError, _HangUp):
            pass
        finally:
            self.sessions_open -= 1
            await trio.aclose_forcefully(session.stream)


@asynccontextmanager
async def open_mx(options: MxOptions | None = None, *, port: int = 0, **changes: Any) -> AsyncIterator[Mx]:
    """A receiver on 127.0.0.1, stopped at the end of the block. `changes` are fields of MxOptions."""
    mx = Mx(options or MxOptions())
    mx.configure(**changes)
    listeners = await trio.open_tcp_listeners(port, host=mx.host)
    mx.port = listeners[0].socket.getsockname()[1]
    mx.address = f"{mx.host}:{mx.port}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, mx.serve, listeners)
        yield mx
        nursery.cancel_scope.cancel()


class _HangUp(Exception):
    """This connection is to be closed now."""


class _Session:
    """One connection: a reader that cuts lines, a table of verbs, and the transaction so far."""

    def __init__(self, mx: Mx, stream: trio.abc.Stream, number: int) -> None:
        self.stream: trio.abc.Stream = stream
        self._mx = mx
        self._options = mx.options
        # A stream in memory has none, and knows no difference between closing and resetting.
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._number = number
        self._buffer = bytearray()
        self._greeted = False
        self._extended = False
        self._tls: str | None = None
        self._starttls_refused = False
        self._accepted = 0
        self._mail_from: str | None = None
        self._rcpt_to: list[str] = []
        self._word = ""
        self._eight_bit = self._smtputf8 = False
        self._size: int | None = None

    async def run(self) -> None:
        if self._options.mute:
            await trio.sleep_forever()
        if self._options.huge_banner:
            await self._send_huge()
        await self._say(self._options.banner)
        verbs = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }
        while True:
            line = await self._read_command()
            verb = line.split(" ", 1)[0].upper()
            self._mx.commands.append(verb)
            if verb not in verbs:
                self._violation(f"unknown command {line!r}")
                await self._say(b"500 5.5.2 What?")
                continue
            if not self._greeted and verb not in ("EHLO", "HELO", "QUIT"):
                self._violation(f"{verb} before EHLO")
            if self._buffer and (verb not in ("RSET", "MAIL", "RCPT") or not self._pipelining):
                self._violation(f"something was sent before {verb} was answered")
            await verbs[verb](line)

    # -- commands

    async def _ehlo(self, line: str) -> None:
        self._check_name(line)
        if not self._options.ehlo:
            await self._say(b"502 5.5.1 Not known here")
            return
        self._greeted = self._extended = True
        self._forget()
        options = self._options
        size = "SIZE" if options.size_max is None else f"SIZE {options.size_max}"
        offered = [
            ("PIPELINING", options.pipelining),
            ("8BITMIME", options.eight_bit_mime),
            ("SMTPUTF8", options.smtputf8),
            ("ENHANCEDSTATUSCODES", options.enhanced_status_codes),
            (size, options.size_max is not None),
            ("STARTTLS", self._starttls_offered),
        ]
        words = ["mx.test", *(word for word, on in offered if on)]
        await self._say(
            *(f"250-{word}".encode() for word in words[:-1]),
            f"250 {words[-1]}".encode(),
        )

    async def _helo(self, line: str) -> None:
        self._check_name(line)
        self._greeted, self._extended = True, False
        self._forget()
        await self._say(b"250 mx.test")

    async def _starttls(self, line: str) -> None:
        if not self._starttls_offered or line.upper() != "STARTTLS":
            self._violation(f"{line!r}, not offered or malformed")
            await self._say(b"502 5.5.1 No")
            return
        trouble = self._options.starttls_trouble
        if trouble in TO_STARTTLS:
            if TO_STARTTLS[trouble]:
                await self._say(TO_STARTTLS[trouble])
            self._starttls_refused = True
            if trouble == "silence":
                await trio.sleep_forever()
            if trouble in ("hang-up", "421", "refuse-and-hang-up"):
                raise _HangUp
            return
        if self._options.starttls_injection:
            await self._say(b"220 Go ahead", b"250 injected")
        else:
            await self._say(b"220 2.0.0 Go ahead")
        if self._options.starttls_broken or self._options.tls is None or trouble == "hang-up-in-handshake":
            await self._receive()
            await self._say(*([] if trouble else [b"this is no handshake"]))
            raise _HangUp
        stream = trio.SSLStream(self.stream, self._options.tls, server_side=True, https_compatible=True)
        self.stream = stream
        await stream.do_handshake()
        if trouble == "hang-up-after-handshake":
            await self._receive()
            raise _HangUp
        self._tls = stream.version()
        self._greeted = self._extended = False
        self._forget()

    async def _mail(self, line: str) -> None:
        match = _MAIL.fullmatch(line)
        if match is None or self._mail_from is not None:
            self._violation(f"malformed or nested: {line!r}")
            await self._say(b"501 5.5.4 No")
            return
        trouble = self._options.starttls_trouble
        if self._starttls_refused and trouble.endswith("-later"):
            await self._say(*([b"421 4.7.0 Not without TLS"] if "421" in trouble else []))
            raise _HangUp
        limit = self._options.messages_per_session
        if limit is not None and self._accepted >= limit:
            await self._say(b"421 4.3.2 That is enough for one connection")
            raise _HangUp
        parameters = dict(word.partition("=")[::2] for word in match["parameters"].split())
        self._check_parameters(parameters, line)
        self._eight_bit = parameters.get("BODY") == "8BITMIME"
        self._smtputf8 = "SMTPUTF8" in parameters
        self._size = int(parameters["SIZE"]) if parameters.get("SIZE", "").isdigit() else None
        if not line.isascii() and not self._smtputf8:
            self._violation(f"non-ASCII without SMTPUTF8: {line!r}")
        if self._options.size_max is not None and (self._size or 0) > self._options.size_max:
            self._violation(f"SIZE={self._size} over the limit that was offered")
            await self._say(b"552 5.3.4 Too big")
            return
        self._mail_from = match["address"]
        await self._say(b"250 2.1.0 Sender ok")

    async def _rcpt(self, line: str) -> None:
        match = _RCPT.fullmatch(line)
        # Without an accepted MAIL this is legal only as part of a pipelined group.
        if self._mail_from is None:
            if not self._pipelining:
                self._violation("RCPT without MAIL")
            await self._say(b"503 5.5.1 MAIL first")
            return
        if match is None:
            self._violation(f"malformed: {line!r}")
            await self._say(b"501 5.5.4 No")
            return
        address = match["address"]
        if not address.isascii() and not self._smtputf8:
            self._violation(f"non-ASCII without SMTPUTF8: {line!r}")
        self._mx.offers[address] += 1
        word = self._mx.misbehaviour(address)
        if word == "hang":
            await trio.sleep_forever()
        if word == "huge":
            await self._send_huge()
        if word == "reset":
            self._reset_connection()
        if word == "slow":
            await self._drip(b"250 2.1.5 Recipient ok\r\n", self._options.drip_seconds or 0.001)
        else:
            await self._say(TO_RCPT.get(word, b"250 2.1.5 Recipient ok"))
        if word == "421":
            raise _HangUp
        if word not in TO_RCPT:
            self._rcpt_to.append(address)
            self._word = word

    async def _data(self, line: str) -> None:
        if line.upper() != "DATA":
            self._violation(f"malformed: {line!r}")
        if not self._rcpt_to:
            if not self._pipelining:
                self._violation("DATA without a recipient")
            await self._say(b"554 5.5.1 No valid recipients")
            return
        await self._say(b"354 Go ahead")
        if self._word in ("disconnect-in-data", "refuse-early"):
            await self._read_line()
            if self._word == "refuse-early":
                await self._say(b"552 5.3.4 Enough of this")
            raise _HangUp
        if self._word == "accept-early":
            await self._say(b"250 2.0.0 Accepted, whatever it is")
        message = await self._read_message()
        if message is None:
            await self._say(b"554 5.6.0 No")
        else:
            await self._finish(message)
        self._forget()

    async def _finish(self, message: ReceivedMessage) -> None:
        self._mx.arrived(message, self._word)
        if self._word == "disconnect-after-dot":
            raise _HangUp
        if self._word == "hang-after-dot":
            await trio.sleep_forever()
        if self._word in TO_MESSAGE:
            await self._say(TO_MESSAGE[self._word])
            return
        self._mx.accept(message)
        self._accepted += 1
        if self._word in ODD_ANSWERS:
            await self.stream.send_all(ODD_ANSWERS[self._word])
            if self._word.endswith("-cut-off"):
                raise _HangUp
            return
        await self._say(b"250 2.0.0 Queued as %d" % len(self._mx.messages))
        if self._word == "close-after-message":
            await self._say(b"421 4.3.2 Goodbye")
            raise _HangUp

    async def _rset(self, line: str) -> None:
        self._forget()
        await self._say(b"250 2.0.0 Forgotten")

    async def _noop(self, line: str) -> None:
        await self._say(b"250 2.0.0 Ok")

    async def _quit(self, line: str) -> None:
        await self._say(b"221 2.0.0 Goodbye")
        raise _HangUp

    # -- rules

    @property
    def _pipelining(self) -> bool:
        return self._extended and self._options.pipelining

    @property
    def _starttls_offered(self) -> bool:
        options = self._options
        possible = options.tls is not None or options.starttls_broken or options.starttls_trouble
        return self._tls is None and bool(possible)

    def _forget(self) -> None:
        self._mail_from = None
        self._rcpt_to = []
        self._word = ""
        self._eight_bit = self._smtputf8 = False
        self._size = None

    def _violation(self, sentence: str) -> None:
        self._mx.violations.append(f"session {self._number}: {sentence}")

    def _check_name(self, line: str) -> None:
        if not _EHLO_NAME.fullmatch(line.partition(" ")[2]):
            self._violation(f"not a host name: {line!r}")

    def _check_parameters(self, parameters: dict[str, str], line: str) -> None:
        offered = {
            "SIZE": self._options.size_max is not None,
            "BODY": self._options.eight_bit_mime,
            "SMTPUTF8": self._options.smtputf8,
        }
        for name in parameters:
            if not self._extended or not offered.get(name, False):
                self._violation(f"{name} was not offered: {line!r}")

    # -- the wire

    async def _read_command(self) -> str:
        line = await self._read_line()
        if len(line) > 512 + 500:
            self._violation("a command line over the limits of RFC 5321 and its extensions")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self._violation(f"a command that is not UTF-8: {line!r}")
            return line.decode("latin-1")

    async def _read_line(self) -> bytes:
        """The next line, without its CRLF. A bare CR or LF is a violation, and stays in the line."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            await self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        if b"\r" in line or b"\n" in line or b"\0" in line:
            self._violation(f"a bare CR or LF or a NUL: {line!r}")
        return line

    async def _read_message(self) -> ReceivedMessage | None:
        """The message up to the final dot; None where nothing can be made of it."""
        lines = []
        while (line := await self._read_line()) != b".":
            if len(line) > 999 or (len(line) > 998 and not line.startswith(b".")):
                self._violation("a line over 998 octets")
            if line.startswith(b".") and not line.startswith(b".."):
                self._violation(f"a dot was not stuffed: {line!r}")
            lines.append(line.removeprefix(b".") + b"\r\n")
        if self._buffer:
            self._violation("something was sent before the final dot was answered")
        data = b"".join(lines)
        if self._size is not None and self._size != len(data):
            self._violation(f"SIZE={self._size}, but {len(data)} octets came")
        if not data.isascii() and not self._eight_bit:
            self._violation("8-bit content without BODY=8BITMIME")
        if self._mail_from is None:
            return None
        return ReceivedMessage(
            mail_from=self._mail_from,
            rcpt_to=tuple(self._rcpt_to),
            data=data,
            tls=self._tls,
            session=self._number,
            eight_bit=self._eight_bit,
            smtputf8=self._smtputf8,
        )

    async def _receive(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise _HangUp
        self._buffer += data

    async def _say(self, *lines: bytes) -> None:
        data = b"".join(line + b"\r\n" for line in lines)
        if self._options.drip_seconds is not None:
            await self._drip(data, self._options.drip_seconds)
        else:
            await self.stream.send_all(data)

    async def _drip(self, data: bytes, seconds: float) -> None:
        for byte in data:
            await self.stream.send_all(bytes([byte]))
            await trio.sleep(seconds)

    async def _send_huge(self) -> None:
        block = b"220-" + b"x" * 1018 + b"\r\n"
        for _ in itertools.repeat(None, HUGE_REPLY_BYTES // len(block)):
            await self.stream.send_all(block)

    def _reset_connection(self) -> None:
        # SO_LINGER with 0 seconds: closing sends RST.
        if self._socket is not None:
            self._socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _HangUp
