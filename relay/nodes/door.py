"""The door for other nodes: where a follower asks whoever leads, over mutual TLS (`relay.nodes.wire` has the protocol).

    async with open_door(core, bind, certificates, is_node=..., leads=...) as door:
        ...

The invariant: **only a node of this relay is answered, and only a node that leads decides.** Who connects shows a
certificate of the relay's own authority, with its name; each question is looked at anew: whether a node of that name is
known by that key (`is_node`), and whether this node leads (`leads`). A node that does not lead says so before it does
anything, so that who asks may ask another one; and how far the log has come is said by one alone that is sure that it
leads. Its files a node lends to any other, whoever leads (`relay.nodes.lending`).

What a node asks for is carried out as it would be for whoever asks it there, by the same `Core.decide`: a member's key
and membership are looked at again, writes are counted here for all nodes, Idempotency-Keys take their turn here. An
order of the operator's is recorded in the name of `USER@NODE`.

*Cancelled* by who asks, and where its connection ends: the decision is cancelled, which means that it is not written,
or that it was (`relay.edge.Decide`). A defect in a decision is an answer (INTERNAL_ERROR, with a request id that is in
this node's log), and ends nothing.

Bounds: connections that have not shown who they are (`relay.nodes.handshakes`), CONNECTIONS_OF_ONE_MAX of each node
(and of all that are none together), and QUESTIONS_OCTETS_MAX of all questions that are held. A question has
QUESTION_SECONDS_MAX to arrive whole, and an answer as long to be taken.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import h11
import msgspec
import trio

from relay.buffers import Buffers, Held
from relay.config_nodes import common_settings
from relay.core import Core
from relay.edges.answering import decoder_of
from relay.listening import listen_http
from relay.nodes import wire, words
from relay.nodes.certificates import NodeCertificates, identity_shown, name_in
from relay.nodes.handshakes import Handshakes
from relay.nodes.leading import why_others_may_have_more
from relay.nodes.lending import Lending
from relay.nodes.seldom import Seldom
from relay.operator.commands import carry_out, make_all_known
from relay.principals import Operator, Stranger
from relay.processes import carried
from relay.processes.carried import CARRIED
from relay.refusals import Refusal
from relay.registry import DECISIONS, decision_for

logger = logging.getLogger(__name__)

#: More than `relay.nodes.links` has to one node.
CONNECTIONS_OF_ONE_MAX: Final = 128
QUESTIONS_OCTETS_MAX: Final = 256 * 1024 * 1024
QUESTION_SECONDS_MAX: Final = 15.0
#: What is being done when the door is closed has so long.
GRACE_SECONDS: Final = 5.0
#: What a node of another version is told that asks for what is not known here: an upgrade takes its time.
RETRY_AFTER_SECONDS: Final = 60

#: Whose connections these are; it is no name.
_OF_NO_NODE: Final = ""
_STRANGER: Final = Stranger()
_NIL: Final = msgspec.Raw(msgspec.msgpack.encode(None))

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(words.Asked).decode


@asynccontextmanager
async def open_door(
    core: Core,
    bind: str,
    certificates: NodeCertificates,
    *,
    is_node: Callable[[str, str], bool],
    leads: Callable[[], bool],
) -> AsyncIterator[Door]:
    """Serve other nodes on `bind` (of `node.toml`) while the block runs; afterwards nobody is let in any more, and what
    is being done has GRACE_SECONDS. So leave it when `core.stopping` is set, and before the log is closed. Raises
    OSError where the address cannot be had.

    `is_node`: whether a node of this name has this identity (`relay.nodes.members`), at this moment. `leads`: whether
    this node leads, as far as it knows: where it is wrong, the log does not take what is decided. Open it before
    anybody is told the address.
    """
    make_all_known()
    listening = await listen_http(bind, "node.toml: bind")
    door = Door(core, certificates, is_node=is_node, leads=leads)
    door.address = listening.address
    try:
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            accepting.start_soon(
                partial(trio.serve_listeners, door.serve, listening.listeners(), handler_nursery=connections)
            )
            try:
                yield door
            finally:
                accepting.cancel_scope.cancel()
            connections.cancel_scope.deadline = trio.current_time() + GRACE_SECONDS
            door.close()
    finally:
        listening.close()


class Door:
    """All connections of other nodes. Made by `open_door`; tests give it connections of their own."""

    def __init__(
        self,
        core: Core,
        certificates: NodeCertificates,
        *,
        is_node: Callable[[str, str], bool],
        leads: Callable[[], bool],
    ) -> None:
        self._core = core
        self._certificates = certificates
        self.is_node: Final = is_node
        self._leads = leads
        self._lending = Lending(core.directory, core.surroundings.offload)
        #: With the number of the port that it became.
        self.address = ""
        self.buffers: Final = Buffers(lambda: QUESTIONS_OCTETS_MAX)
        self.lines: Final = Seldom(logger)
        self._handshakes = Handshakes()
        self._of: Counter[str] = Counter()
        self._open: set[_Connection] = set()
        self.is_closing = False

    @property
    def is_busy(self) -> bool:
        """Whether anything is being done for another node."""
        return any(one.is_busy for one in self._open)

    def close(self) -> None:
        """End connections that rest now, and the others with their answer."""
        self.is_closing = True
        for one in self._open:
            one.end_if_it_rests()

    async def serve(self, transport: trio.abc.Stream) -> None:
        """One connection, to its end."""
        if self.is_closing:
            await trio.aclose_forcefully(transport)
            return
        wire.mind_the_peer(transport)
        stream = trio.SSLStream(
            transport, self._certificates.for_server(), server_side=True, https_compatible=True
        )
        spoken: wire.Spoken | None = None
        try:
            shown = None
            with self._handshakes.begin(wire.address_of(transport)) as has_room:
                shown = await self._shown_by(stream) if has_room else None
            if shown is None:
                return
            name, identity = shown
            # Who has the name of a node and not its key takes no place of that node's.
            whose = name if self.is_node(name, identity) else _OF_NO_NODE
            if self._of[whose] >= CONNECTIONS_OF_ONE_MAX:
                # Some may be those of a node that had the name before: there is room the next time.
                for one in self._open:
                    one.end_if_it_is_of_no_node()
                return
            self._of[whose] += 1
            spoken = wire.Spoken(stream, h11.SERVER)
            connection = _Connection(self, spoken, name, identity)
            self._open.add(connection)
            try:
                await connection.run()
            finally:
                self._open.discard(connection)
                self._of[whose] -= 1
        except* trio.BrokenResourceError:
            pass  # it hung up
        except* h11.ProtocolError as group:
            if spoken is None or not spoken.has_ended:
                self.lines.say(logging.WARNING, "node.door_misused", because=repr(group.exceptions))
        except* Exception as group:
            logger.error("node.door_defect", exc_info=group)
        finally:
            await trio.aclose_forcefully(stream)

    async def _shown_by(self, stream: trio.SSLStream[trio.abc.Stream]) -> tuple[str, str] | None:
        """Its name, and its identity."""
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            self.lines.say(logging.INFO, "node.refused", because=str(error.__cause__ or "it hung up"))
            return None
        name = name_in(stream.getpeercert())
        return None if name is None else (name, identity_shown(stream.getpeercert(binary_form=True)))

    # ------------------------------------------------------------------------------------------- one question

    async def answer(self, name: str, question: bytes) -> tuple[int, bytes]:
        """Status and body. Cancelled: nothing was done."""
        try:
            asked = _decode(question)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            because = "a question that cannot be read"
            self.lines.say(logging.WARNING, "node.door_misused", because=because, node=name)
            return wire.NO_QUESTION, b""
        if not self._leads() and not isinstance(asked, words.OF_ANY_NODE):
            return wire.NOT_LEADING, b""
        if isinstance(asked, words.HowFar) and await why_others_may_have_more(self._core) is not None:
            return wire.NOT_LEADING, b""
        raised, value = None, _NIL
        try:
            value = msgspec.Raw(_encode(await self._answer(name, asked)))
        except CARRIED as error:
            raised = carried.taken(error)
            if raised is None:
                raised = self._defect(error)
        except Exception as error:  # noqa: BLE001 (a defect in a decision does not end the node that leads)
            raised = self._defect(error)
        return wire.ANSWERED, _encode(words.Answered(self._core.store.last_seq, raised, value))

    async def _answer(self, name: str, asked: words.Asked) -> Any:
        match asked:
            case words.Decide():
                return await self._decide(name, asked)
            case words.TakeMessage(address):
                self._core.quota.take_message(address)
            case words.WhyNotAccepting():
                why = self._core.why_not_accepting_here()
                return why and words.Why(why.code, why.message, why.retry_after_seconds)
            case words.AdmitStream(did, ticket, session):
                return self._core.stream_places.admit(did, ticket, session)
            case words.ListFiles():
                return await self._lending.names()
            case words.ReadFile(name, offset, length):
                return await self._lending.part(name, offset, length)
            case words.TellRules():
                return common_settings(self._core.config)
            case words.HowFar():
                pass
        return None

    async def _decide(self, name: str, asked: words.Decide) -> Any:
        found = DECISIONS.get(asked.name)
        if found is None:
            raise _not_understood(asked.name)
        try:
            arguments = decoder_of(found)(asked.arguments)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _not_understood(asked.name) from error
        if asked.operator is None:
            # Never passed on once more: who leads is not certain, and a question might go round for ever.
            return await self._core.decide_here(
                asked.name, arguments, asked.member or _STRANGER, is_counted=False
            )
        by = Operator(f"{asked.operator}@{name}")
        try:
            return await carry_out(self._core, decision_for(asked.name, by), arguments, by)
        except OSError as error:  # a file that the operator has to put right
            raise Refusal("INTERNAL_ERROR", str(error)) from error

    def _defect(self, error: Exception) -> carried.Raised | None:
        request_id = secrets.token_hex(8)
        logger.error("node.defect", exc_info=error, extra={"request_id": request_id})
        return carried.taken(Refusal("INTERNAL_ERROR", request_id))


def _not_understood(name: str) -> Refusal:
    """Who asks runs another version of the relay."""
    return Refusal(
        "TEMPORARILY_UNAVAILABLE",
        f"the node that leads runs another version of the relay, and does not understand {name} as this one asks for "
        "it: nothing was done",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


class _Connection:
    """Of one node. One task reads, so that it sees a question cancelled, or the connection end, while another
    answers."""

    def __init__(self, door: Door, spoken: wire.Spoken, name: str, identity: str) -> None:
        self._door = door
        self._spoken = spoken
        self._name = name
        self._identity = identity
        self._scope = trio.CancelScope()
        #: What is being done for it can be cancelled by this.
        self._doing: trio.CancelScope | None = None
        self._answered = trio.Event()
        self._held: Held | None = None

    @property
    def is_busy(self) -> bool:
        return self._doing is not None

    def end_if_it_rests(self) -> None:
        if not self.is_busy:
            self._scope.cancel()

    def end_if_it_is_of_no_node(self) -> None:
        if not self._door.is_node(self._name, self._identity):
            self._scope.cancel()

    async def run(self) -> None:
        """Raises h11.RemoteProtocolError, trio.BrokenResourceError."""
        to_answer, questions = trio.open_memory_channel[bytes](0)
        with self._scope, self._door.buffers.held(self._name) as self._held:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._answer_all, questions)
                while (question := await self._question()) is not None:
                    self._answered = trio.Event()
                    self._doing = trio.CancelScope()
                    await to_answer.send(question)
                    del question
                    if not await self._mind_the_rest():
                        break
                # Its end: what is being done for it is cancelled.
                nursery.cancel_scope.cancel()

    async def _question(self) -> bytes | None:
        """The next one. None: the connection has ended, or has to."""
        event = await self._spoken.next_event()
        if not isinstance(event, h11.Request):
            return None
        if not self._door.is_node(self._name, self._identity):
            because = "no node of this name is known by its key (any more)"
            # Strangers are not to hide it.
            lines = self._door.lines
            lines.say(logging.WARNING, "node.refused", kind=" of a name", because=because, node=self._name)
            await self._say(wire.NO_NODE, b"", closes=True)
            return None
        if (event.method, event.target) != (b"POST", wire.TARGET.encode()):
            await self._say(wire.NO_QUESTION, b"", closes=True)
            return None
        with trio.move_on_after(QUESTION_SECONDS_MAX):
            return await self._whole_question()
        return None

    async def _whole_question(self) -> bytes | None:
        assert self._held is not None
        body, length = bytearray(), wire.BODY_BYTES_MAX
        while len(body) < wire.LENGTH.size + length:
            event = await self._spoken.next_event()
            if not isinstance(event, h11.Data):
                return None
            is_first = len(body) < wire.LENGTH.size
            body += event.data
            if is_first and len(body) >= wire.LENGTH.size:
                (length,) = wire.LENGTH.unpack_from(body)
                if length > wire.BODY_BYTES_MAX:
                    await self._say(wire.NO_ROOM, b"", closes=True)
                    return None
                await self._held.take(length)
        if len(body) > wire.LENGTH.size + length:
            return None
        return bytes(memoryview(body)[wire.LENGTH.size :])

    async def _mind_the_rest(self) -> bool:
        """What comes until the next question: that this one is wanted no more, or its end. False: the connection
        has ended, or has to."""
        assert self._doing is not None
        doing = self._doing
        while True:
            event = await self._spoken.next_event()
            if isinstance(event, h11.Data) and bytes(event.data) == wire.CANCEL:
                doing.cancel()
            elif isinstance(event, h11.EndOfMessage):
                await self._answered.wait()
                self._spoken.http.start_next_cycle()
                return True
            else:
                return False

    async def _answer_all(self, questions: trio.MemoryReceiveChannel[bytes]) -> None:
        async for question in questions:
            assert self._doing is not None
            status, body = wire.NOTHING_DONE, b""
            if not self._doing.cancel_called:
                with self._doing:
                    status, body = await self._door.answer(self._name, question)
            del question
            assert self._held is not None
            self._held.resize(0)
            is_last = self._door.is_closing
            await self._say(status, body, closes=is_last)
            if is_last:
                self._scope.cancel()
                return
            self._doing = None
            self._answered.set()

    async def _say(self, status: int, body: bytes, *, closes: bool) -> None:
        headers = [] if status == wire.NOTHING_DONE else [("Content-Length", str(len(body)))]
        events: list[h11.Event] = [
            h11.Response(
                status_code=status, headers=[*headers, *([("Connection", "close")] if closes else [])]
            )
        ]
        if body:
            events.append(h11.Data(data=body))
        octets = self._spoken.octets_of(*events, h11.EndOfMessage())
        with trio.move_on_after(QUESTION_SECONDS_MAX) as taking:
            await self._spoken.stream.send_all(octets)
        if taking.cancelled_caught:
            raise trio.BrokenResourceError("it does not take its answer")
