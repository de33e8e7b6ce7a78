"""The courier: makes a message of its events, signs it, and talks to a receiver. `relay.delivery.carrier` has the
contract.

It decides nothing and records nothing. It reads events, keys and the DNS, and keeps the connections; so it works in the
core's process as in one of its own. A connection that rests stays open until it is parted with: the scheduler, which
counts connections, decides when.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from relay.buffers import Buffers, Held
from relay.codec import Recorded
from relay.delivery.carrier import Errand
from relay.delivery.connect import Connector
from relay.delivery.families import for_the_other_family, is_of_our_address
from relay.delivery.outcomes import AttemptOutcome, Carried, NotTried, Peer
from relay.delivery.session import Session, SessionFailed
from relay.delivery.smtp import check_message
from relay.heavy_work import ON_LOOP_OCTETS_MAX, Do, HeavyWork
from relay.message.keys import KeyFileError
from relay.message.outgoing import Composer, Gathered, Outgoing, PayloadGoneError
from relay.networks import family_of, parse_address

logger = logging.getLogger(__name__)

#: The message, and what is sent of it, with its dots doubled.
_HELD_FOR_EACH_OCTET = 2
#: A large message waits so long for room with a connection in hand; then others have the connection.
ROOM_SECONDS_MAX = 1.0


class _Tried(NamedTuple):
    """What a dialogue came to, and with whom it was."""

    session: Session | None
    outcome: AttemptOutcome
    peer: Peer | None


class Courier:
    """Carries any number of errands beside each other, by plain calls."""

    def __init__(
        self,
        get: Callable[[int], Recorded],
        composer: Composer,
        connector: Connector,
        *,
        heavy_work: HeavyWork,
        sending: Buffers,
        before_dot: Callable[[int], Awaitable[None]],
        connections_changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`get` reads an event of the log. `sending` is the room for large messages. `before_dot` is awaited, with the
        connection's number, when an attempt was started and only its dot is left to send."""
        self._get = get
        self._composer = composer
        self._connector = connector
        self._heavy_work = heavy_work
        self._sending = sending
        self._before_dot = before_dot
        self._connections_changed = connections_changed
        #: By connection. In the order in which they were opened: who is hung up on first is the same in each run of a
        #: simulation.
        self._sessions: dict[int, Session] = {}

    @property
    def connections(self) -> int:
        return len(self._sessions)

    async def carry(self, connection: int, errand: Errand, start: Callable[[], Awaitable[None]]) -> Carried:
        with self._sending.held(errand.state.did) as held:
            try:
                outgoing = await self._outgoing(errand, held)
            except PayloadGoneError as error:
                why = NotTried.PAYLOAD_GONE
                logger.warning(
                    "delivery.payload_gone", extra={"message_id": errand.state.message_id}, exc_info=error
                )
            except KeyFileError as error:
                # One member's lost key must not stop everybody's mail. It waits for the operator to restore the key.
                why = NotTried.KEY_MISSING
                logger.error(
                    "delivery.key_missing", extra={"message_id": errand.state.message_id}, exc_info=error
                )
            else:
                if outgoing is not None:
                    return await self._carry_out(connection, errand, outgoing, start)
                why = NotTried.NO_ROOM
        return Carried(connection in self._sessions, why)

    async def part(self, connection: int) -> None:
        session = self._sessions.get(connection)
        if session is not None:
            await session.quit()
            self._forget(connection)

    async def hang_up(self) -> None:
        for session in list(self._sessions.values()):
            await session.aclose()

    # ------------------------------------------------------------------------------------------------- composing

    async def _outgoing(self, errand: Errand, held: Held) -> Outgoing | None:
        """Compose and sign: a small one here, a large one beside the loop. None: there is no room for it now. Raises
        PayloadGoneError or KeyFileError."""
        composer, work, state = self._composer, self._heavy_work, errand.state

        def get(seq: int) -> Recorded:
            # It has just been read.
            return errand.queued if seq == errand.queued.seq else self._get(seq)

        async with work.turn(state.did, 0) as do:
            gathered = composer.gather(state, get)
            octets = gathered.octets
            if octets <= ON_LOOP_OCTETS_MAX:
                return await self._composed(do, gathered, held)
        del gathered  # nobody holds anything large while it waits
        with trio.move_on_after(ROOM_SECONDS_MAX) as waiting:
            await held.take(octets * _HELD_FOR_EACH_OCTET)
        if waiting.cancelled_caught:
            return None
        async with work.turn(state.did, octets) as do:
            return await self._composed(do, composer.gather(state, self._get), held)

    async def _composed(self, do: Do, gathered: Gathered, held: Held) -> Outgoing:
        outgoing: Outgoing = await do(gathered.compose)
        self._composer.keep(gathered)
        held.resize(len(outgoing.message) * _HELD_FOR_EACH_OCTET)
        if _is_large(outgoing):
            await do(check_message, outgoing.message)
        return outgoing

    # ------------------------------------------------------------------------------------------------- the dialogue

    async def _carry_out(
        self, connection: int, errand: Errand, outgoing: Outgoing, start: Callable[[], Awaitable[None]]
    ) -> Carried:
        started = trio.Event()

        async def ask_to_start() -> None:
            await start()
            started.set()

        begun = trio.current_time()
        at_first = self._sessions.get(connection)
        tried: _Tried | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_to_start)
                tried = await self._try(connection, errand, outgoing, started)
        except* trio.Cancelled:
            # What is known of an attempt that was started is told all the same. Its caller is cancelled, and will
            # notice.
            if not started.is_set():
                raise
        finally:
            self._forget_if_closed(connection)
        if tried is None:
            tried = _Tried(at_first, AttemptOutcome.of_a_stop(), at_first.peer if at_first else None)
        session, outcome = tried.session, tried.outcome
        return Carried(
            connection in self._sessions,
            outcome=outcome,
            peer=tried.peer,
            tls=session.tls if session else None,
            sha256=outgoing.sha256 if outcome.body_begun else None,
            size=len(outgoing.message) if outcome.body_begun else None,
            seconds=trio.current_time() - begun,
        )

    async def _try(self, connection: int, errand: Errand, outgoing: Outgoing, started: trio.Event) -> _Tried:
        """The dialogue itself. A connection that its server had given up is replaced at once: no new attempt.

        So is, once for each address, one whose server refused STARTTLS and hung up: by one in plain text.
        """
        in_plain_text: set[str] = set()
        domain, refused = errand.domain, errand.refused
        session = self._sessions.get(connection)

        async def until_dot_may_leave() -> None:
            await started.wait()
            await self._before_dot(connection)

        if refused and session is not None and family_of(parse_address(session.peer.address)) in refused:
            await self.part(connection)
            session = None
        while True:
            if session is None:
                try:
                    session = await self._connector.connect(
                        domain, in_plain_text=in_plain_text, refused=refused
                    )
                except SessionFailed as error:
                    return _Tried(None, error.outcome, error.peer)
                self._sessions[connection] = session
                self._connections_changed()
            outcome = await session.deliver(
                outgoing.envelope,
                outgoing.message,
                before_final_dot=until_dot_may_leave,
                is_checked=_is_large(outgoing),
            )
            without_tls = outcome.judgement.in_plain_text and self._connector.plaintext_after_tls_failure
            if without_tls:
                in_plain_text.add(session.peer.address)
            if not (without_tls or outcome.judgement.reconnect):
                if (
                    is_of_our_address(outcome)
                    and not refused
                    and await self._connector.has_another_family(domain, session.peer.address)
                ):
                    outcome = for_the_other_family(outcome)
                return _Tried(session, outcome, session.peer)
            await self.part(connection)
            session = None

    def _forget_if_closed(self, connection: int) -> None:
        session = self._sessions.get(connection)
        if session is not None and not session.usable:
            self._forget(connection)

    def _forget(self, connection: int) -> None:
        del self._sessions[connection]
        self._connections_changed()


def _is_large(outgoing: Outgoing) -> bool:
    """What takes long to check, too; it is done where it is composed."""
    return len(outgoing.message) > ON_LOOP_OCTETS_MAX
