"""One SMTP connection to one receiver, on trio: the state machine of smtp.py with a stream, timeouts and TLS.

The contract.

- `deliver` ends in exactly one `AttemptOutcome`, whatever the receiver does: refuses, hangs, drips, hangs up,
  resets, answers with another protocol or 100 MB. Only programmers' errors (LocalProtocolError), the hook's
  own exceptions and cancellation come out of it as exceptions; each closes the connection without a dot.
- `before_final_dot` is awaited once the receiver has said 354 and the body has been handed to the network,
  and the dot goes out only after it has returned. There the caller makes "attempt started" durable: before
  the dot the receiver cannot have the message, after it nobody can know until the reply has come.
- Between dot and reply nothing cancels: the wait is shielded, with its own deadline. `aclose` from another
  task (a shutdown whose grace is over) ends even that; the outcome is then FailureKind.ABANDONED.
- Time is bounded by a deadline for each reply (RFC 5321 section 4.5.3.2), which a receiver cannot stretch by
  dripping bytes, and by one ceiling for all up to the dot. Memory is bounded by smtp.py's limits, and what TLS may
  take in without a word of SMTP coming out of it by `relay.internet.wire`.

TLS is opportunistic (RFC 7435): a certificate is looked at and described (certificates.py), never demanded.
Encryption to an unknown peer is better than none, and a receiver whose certificate is wrong gets its mail like the
one that has no TLS. An offer of STARTTLS that is not kept is `TlsFailed`, whether the receiver hangs up at the command,
in the handshake or at the first word under TLS: the caller may connect again with TlsPolicy.NEVER. One that refuses and
goes on may hang up a moment later: `Judgement.in_plain_text` says so.
"""

from __future__ import annotations

import ipaddress
import math
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Final

import trio
from outcome import Outcome as Captured
from outcome import acapture

from relay.delivery.certificates import describe, opportunistic_context
from relay.delivery.outcomes import AttemptOutcome, Peer, TlsInfo
from relay.delivery.replies import Failure, FailureKind, why_unfit
from relay.delivery.reply_reader import (
    Capabilities,
    Command,
    ConnectionLost,
    RemoteProtocolError,
    SmtpReply,
)
from relay.delivery.smtp import NEED_DATA, Client, State
from relay.internet.tcp import OpenStream
from relay.internet.wire import Wire
from relay.message.envelope import Envelope
from relay.surroundings import Timeouts

_RECEIVE_BYTES: Final = 16 * 1024


_TIMEOUT_OF: Final = {
    Command.BANNER: "banner",
    Command.EHLO: "greeting",
    Command.HELO: "greeting",
    Command.STARTTLS: "starttls",
    Command.MAIL: "mail",
    Command.RCPT: "rcpt",
    Command.DATA: "data",
    Command.END_OF_DATA: "final_dot",
    Command.RSET: "reset",
    Command.QUIT: "quit",
}


def _seconds_for(command: Command, timeouts: Timeouts) -> float:
    """How long the whole reply to `command` may take."""
    seconds: float = getattr(timeouts, _TIMEOUT_OF[command])
    return seconds


class TlsPolicy(Enum):
    """Whether to use STARTTLS."""

    OPPORTUNISTIC = "opportunistic"
    """Where it is offered."""
    NEVER = "never"


class SessionFailed(Exception):
    """No session came about; `outcome` says why. What a receiver says before MAIL never bounces the recipient."""

    def __init__(self, outcome: AttemptOutcome) -> None:
        said = outcome.reply
        super().__init__(f"{said.code} {said.text}" if said else outcome.error)
        self.outcome = outcome
        self.peer: Peer | None = None
        """Who was talked to, or would have been; None where there was nobody to talk to."""


class TlsFailed(SessionFailed):
    """The receiver offered STARTTLS and no TLS came of it; plain text may work on a new connection."""


async def open_session(
    host: str,
    address: str,
    port: int,
    *,
    ehlo_name: str,
    tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC,
    timeouts: Timeouts = Timeouts(),
    trust: ssl.SSLContext | None = None,
    open_stream: OpenStream = trio.open_tcp_stream,
) -> Session:
    """Connect to one address and say hello; or SessionFailed or TlsFailed, and nothing is left open.

    `trust`: whose certificates count as verified; None: those that the system believes.
    """
    ipaddress.ip_address(address)  # names are resolve.py's business
    peer = Peer(host, address, port)
    try:
        with trio.fail_after(timeouts.connect):
            stream = await open_stream(address, port)
    except trio.TooSlowError:
        text = f"no connection to {address} within {timeouts.connect:g} s"
        raise SessionFailed(AttemptOutcome.of(Failure(FailureKind.CONNECT, text))) from None
    except OSError as error:
        text = f"no connection to {address}: {_reason(error)}"
        raise SessionFailed(AttemptOutcome.of(Failure(FailureKind.CONNECT, text))) from error
    return await start_session(
        stream, peer=peer, ehlo_name=ehlo_name, tls=tls, timeouts=timeouts, trust=trust
    )


async def start_session(
    stream: trio.abc.Stream,
    *,
    peer: Peer,
    ehlo_name: str,
    tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC,
    timeouts: Timeouts = Timeouts(),
    trust: ssl.SSLContext | None = None,
) -> Session:
    """Say hello on a connected stream, which is closed unless a Session is returned."""
    session = Session(stream, peer=peer, ehlo_name=ehlo_name, timeouts=timeouts)
    settled = False
    try:
        deadline = trio.current_time() + timeouts.opening
        await session._greet(deadline)
        if tls is TlsPolicy.OPPORTUNISTIC and session.capabilities.starttls:
            await session._secure(deadline, trust)
        settled = True
    except SessionFailed:
        # RFC 5321 section 3.1: a server that refused us waits for a QUIT.
        await session.quit()
        raise
    finally:
        if not settled:
            await session._abandon()
    return session


class _Patience:
    """How long a step of the dialogue may take: until the deadline, and no wait of it longer than it is given.

    One scope for all waits of the step: a scope for each costs as much as what is said in it.
    """

    def __init__(self, deadline: float = math.inf, *, shield: bool = False) -> None:
        self.scope = trio.CancelScope(deadline=deadline, shield=shield)
        self.is_given_up = False
        self._deadline = deadline

    def at_most(self, seconds: float) -> None:
        """From now on, until the next call."""
        self.scope.deadline = min(self._deadline, trio.current_time() + seconds)

    def give_up(self) -> None:
        """The step is not wanted any more. It ends without a failure."""
        self.is_given_up = True
        self.scope.cancel()

    def ended_because(self) -> str:
        return "no answer in time" if self.scope.deadline < self._deadline else "it took too long altogether"


class Session:
    """A connection on which one transaction at a time can be carried out. Made by open_session."""

    def __init__(self, stream: trio.abc.Stream, *, peer: Peer, ehlo_name: str, timeouts: Timeouts) -> None:
        self.peer = peer
        self.tls: TlsInfo | None = None
        self.transactions = 0
        """How many have been begun."""
        self._stream = stream
        self._beneath_tls: Wire | None = None
        self._timeouts = timeouts
        self._client = Client(ehlo_name)
        self._under_way = Command.BANNER
        self._closed = False
        self._body_begun = False
        self._tls_refused = False
        """It answered no to STARTTLS, and the dialogue went on in plain text."""

    @property
    def capabilities(self) -> Capabilities:
        """What the receiver offers; after STARTTLS, what it said under TLS."""
        return self._client.capabilities

    @property
    def usable(self) -> bool:
        """Another transaction can be begun."""
        return not self._closed and self._client.state in (State.READY, State.RESET_DUE)

    async def deliver(
        self,
        envelope: Envelope,
        message: bytes,
        *,
        before_final_dot: Callable[[], Awaitable[None]],
        is_checked: bool = False,
    ) -> AttemptOutcome:
        """Carry one message to one recipient. See the module docstring; `is_checked` as in `Client.begin`."""
        unfit = why_unfit(self.capabilities, envelope, message)
        if unfit is not None:
            return AttemptOutcome.of(unfit)
        reused = self.transactions > 0
        self.transactions += 1
        settled = False
        try:
            said, started = await self._transact(envelope, message, before_final_dot, is_checked=is_checked)
            settled = True
        finally:
            if not settled:
                await self._abandon()
        outcome = AttemptOutcome.of(
            said,
            reused=reused,
            tls_refused=self._tls_refused,
            started=started,
            body_begun=self._body_begun,
        )
        if not (self.usable and outcome.judgement.usable):
            await self._abandon()
        return outcome

    async def quit(self) -> None:
        """Say goodbye where that is possible, and close. Never fails, never takes long."""
        if not self._closed and self._client.state in (State.READY, State.RESET_DUE, State.REFUSED):
            self._client.quit()
            await self._attempt(self._exchange, _Patience(trio.current_time() + self._timeouts.quit))
        await self.aclose()

    async def aclose(self) -> None:
        """Close without a word; a delivery under way in another task ends as ABANDONED."""
        self._closed = True
        # It may have hung up first, perhaps without a close_notify: closed is closed. Or it may not read the
        # close_notify that we send.
        with suppress(trio.BrokenResourceError), trio.move_on_after(self._timeouts.quit):
            await self._stream.aclose()

    # -- opening

    async def _greet(self, deadline: float) -> None:
        failure = await self._attempt(self._exchange, _Patience(deadline))
        if failure is not None:
            raise SessionFailed(AttemptOutcome.of(failure))
        self._require(State.READY)

    async def _secure(self, deadline: float, trust: ssl.SSLContext | None) -> None:
        self._client.starttls()
        failure = await self._attempt(self._exchange, _Patience(deadline))
        if failure is not None and self._client.decisive is not None:
            # It agreed, and more came behind that in plain text: an injection, not a lack of TLS.
            raise SessionFailed(AttemptOutcome.of(failure))
        if failure is not None:
            raise _tls_failed(failure)
        if self._client.state is State.READY:
            self._tls_refused = True
            return  # it thought better of its offer, and plain text was good enough before
        if self._client.state is State.CLOSED:
            raise TlsFailed(AttemptOutcome.of(self._decisive()))  # 421
        self._require(State.HANDSHAKE)
        # With TLS 1.3 a receiver's alert about the handshake is only seen in the first read after it.
        failure = await self._attempt(partial(self._handshake, trust), _Patience(deadline))
        failure = failure or await self._attempt(self._exchange, _Patience(deadline))
        if failure is not None:
            raise _tls_failed(failure)
        self._require(State.READY)

    def _require(self, state: State) -> None:
        if self._client.state is not state:
            raise SessionFailed(AttemptOutcome.of(self._decisive()))

    async def _handshake(self, trust: ssl.SSLContext | None, patience: _Patience) -> None:
        context = opportunistic_context()
        self._beneath_tls = Wire(self._stream, error=RemoteProtocolError)
        stream = trio.SSLStream(
            self._beneath_tls,
            context,
            server_hostname=self.peer.host,
            # Receivers hang up without a close_notify all day long; SMTP's own framing tells a cut-off reply.
            https_compatible=True,
        )
        self._stream = stream
        patience.at_most(self._timeouts.starttls)
        await stream.do_handshake()
        self._client.tls_established()
        self.tls = TlsInfo(
            version=stream.version(),
            cipher=stream.cipher()[0],
            certificate=describe(context.presented, self.peer.host, now=datetime.now(UTC), trust=trust),
        )

    # -- one transaction

    async def _transact(
        self,
        envelope: Envelope,
        message: bytes,
        before_final_dot: Callable[[], Awaitable[None]],
        *,
        is_checked: bool,
    ) -> tuple[SmtpReply | Failure, bool]:
        """What decided, and whether before_final_dot had returned."""
        deadline = trio.current_time() + self._timeouts.transaction
        self._body_begun = False
        self._client.begin(envelope, message, is_checked=is_checked)
        failure = await self._attempt(self._exchange, _Patience(deadline))
        if failure is not None:
            return failure, False
        if self._client.state is not State.BODY:
            return self._decisive(), False
        self._under_way = Command.END_OF_DATA
        said, started = await self._send_body(before_final_dot, deadline)
        if said is not None:
            return said, started
        self._client.end_of_data()
        waiting = _Patience(trio.current_time() + self._timeouts.final_dot, shield=True)
        failure = await self._attempt(self._exchange, waiting)
        if failure is not None and await self._has_answered():
            failure = None
        return failure or self._decisive(), True

    async def _has_answered(self) -> bool:
        """It fell silent or hung up behind the dot, and had said the code: that counts, though its line has no end.
        Never waits: nothing more can come."""
        if self._client.state is not State.END_OF_DATA:
            return False
        self._client.receive_data(b"")
        return await self._attempt(self._receive_reply, _Patience()) is None

    async def _send_body(
        self, before_final_dot: Callable[[], Awaitable[None]], deadline: float
    ) -> tuple[SmtpReply | Failure | None, bool]:
        """What the receiver said or did before the dot, if anything; and whether the hook has returned.

        The receiver is listened to all the while: it may refuse half-way and hang up, and what it says now
        must not pass for the answer to the dot.
        """
        overheard: list[SmtpReply | Failure] = []
        heard = trio.Event()
        hooked: Captured[None] | None = None

        async def listen() -> None:
            failure = await self._attempt(self._receive_reply, _Patience())
            overheard.append(failure or self._decisive())
            heard.set()
            sending.give_up()

        sending = _Patience(deadline)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            failure = await self._attempt(self._send_blocks, sending)
            if failure is not None and failure.kind is FailureKind.CLOSED:
                # A refusal that it sent before it hung up says more than the broken pipe.
                with trio.move_on_after(self._timeouts.last_words):
                    await heard.wait()
            elif failure is None and not overheard:
                # Kept, and raised outside the nursery, which would wrap it in a group.
                hooked = await acapture(before_final_dot)
            nursery.cancel_scope.cancel()
        if hooked is not None:
            hooked.unwrap()
        replied = next((said for said in overheard if isinstance(said, SmtpReply)), None)
        return replied or failure or next(iter(overheard), None), hooked is not None

    async def _send_blocks(self, patience: _Patience) -> None:
        blocks = self._client.take_body()
        self._body_begun = True
        for block in blocks:
            patience.at_most(self._timeouts.data_block)
            await self._stream.send_all(block)

    # -- the wire

    async def _exchange(self, patience: _Patience) -> None:
        """Send what is to be sent and take the replies, until it is our turn again or all is over."""
        while (command := self._client.awaiting) is not None:
            self._under_way = command
            data = self._client.data_to_send()
            # The replies to a group come together: what is here already needs no clock.
            if not data and self._client.next_event() is not NEED_DATA:
                continue
            patience.at_most(_seconds_for(command, self._timeouts))
            if data:
                # Broken: it may have said why before it hung up, and if not, reading tells that it did.
                with suppress(trio.BrokenResourceError):
                    await self._stream.send_all(data)
            await self._receive_reply(patience)

    async def _receive_reply(self, _: _Patience) -> None:
        while self._client.next_event() is NEED_DATA:
            if self._beneath_tls is not None:
                self._beneath_tls.is_heard()
            self._client.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))

    async def _attempt(
        self, step: Callable[[_Patience], Awaitable[None]], patience: _Patience
    ) -> Failure | None:
        """Take a step of the dialogue; what the receiver or the network did to stop it, or that patience ended."""
        try:
            with patience.scope:
                await step(patience)
            if not patience.scope.cancelled_caught or patience.is_given_up:
                return None
            failure = self._failure(FailureKind.TIMEOUT, patience.ended_because())
        except ConnectionLost as error:
            failure = self._failure(FailureKind.CLOSED, str(error))
        except RemoteProtocolError as error:
            failure = self._failure(FailureKind.NOT_SMTP, str(error))
        except trio.BrokenResourceError as error:
            failure = self._failure(FailureKind.CLOSED, f"the connection broke: {_reason(error.__cause__)}")
        except trio.ClosedResourceError:
            failure = self._failure(FailureKind.ABANDONED, "given up by the relay")
        return failure

    def _failure(self, kind: FailureKind, text: str) -> Failure:
        return Failure(kind, text, self._under_way)

    def _decisive(self) -> SmtpReply:
        assert self._client.decisive is not None, "asked before anything was said"
        return self._client.decisive

    async def _abandon(self) -> None:
        self._closed = True
        # Never blocks. Shielded, so that a cancellation which waited for the reply to the dot cannot take the
        # outcome with it.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)


# -- leaves


def _tls_failed(failure: Failure) -> TlsFailed:
    text = f"STARTTLS: {failure.text}"
    return TlsFailed(AttemptOutcome.of(Failure(FailureKind.TLS, text, Command.STARTTLS)))


def _reason(error: BaseException | None) -> str:
    """The operating system's or the TLS library's own words."""
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS error"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "the receiver hung up"
