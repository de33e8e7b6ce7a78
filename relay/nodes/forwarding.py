"""What a follower has the leader decide: the acceptance seam's third carrier, after the plain call and the channel.

    async with open_forwarding(core, links, name=..., leader=..., level_at=...):
        ...

From then on `core.decide` is the leader's wherever this node follows, and its own wherever it leads; which it is, is
asked anew each time (`leader`).

**What this node answers itself**: whatever only reads log and views: messages, events, streams, pages of the consoles,
the operator's lists. **What the leader answers**: every decision that may write, and what only it remembers
(`Decision.remembered`: sites, tests of webhooks, what the DNS said; sessions that the operator vouched for; which
ticket for a stream was used). Where nobody can be asked, what only reads is answered here all the same, as by a relay
that was just started; a decision that may write is 503 with Retry-After.

The contract is `relay.edge.Decide`'s. Of its own:

- *Returned*: it is durable, and **in the views of this node** (read your own write): the leader says how far its log
  has come, and the answer waits until the views here have that. After OWN_WRITE_SECONDS_MAX it is given all the same:
  it is true, for it says what the leader said and nothing of the views here, and what it is about is found here a
  little later; the log says `node.answered_early`, and the `Atmos-Lag` of the answer how late this node is.
- *Cancelled*: not written (`relay.nodes.links`). Where the leader says nothing for CANCELLED_SECONDS_MAX it is the
  refusal below.
- *A question is never sent twice.* What failed before its first octet, or was refused by a node that does not lead, has
  one other try, with whoever leads by then. What fails later is Refusal(TEMPORARILY_UNAVAILABLE): it may have been
  carried out. With an Idempotency-Key it is safe to ask again: the leader decides those.

*Counted*: writes a minute are counted by this node for what its doors take, and by the leader for what is handed in, so
they are exact for what is written; what is refused at one node is counted at that node alone. Messages that strangers
begin are counted by the leader. Places of streams are each node's own; so are reads at work. So a member that goes to
all of N nodes has N times what one machine gives of these, from N machines: each bears what it would bear alone, and
the leader refuses what is handed in beyond its own count before it decides anything.

`catch_up` is how a follower says "there is no such key" or "no such message" truthfully: it asks the leader how far the
log has come (one question for all who ask at the same time), and waits for that, CATCH_UP_SECONDS_MAX at most.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from types import NoneType
from typing import Any, Final

import msgspec
import trio

from relay.codec import Recorded
from relay.core import Core
from relay.edge import DecisionFailedError
from relay.elsewhere import Role
from relay.events import ConsoleEpochRaised
from relay.message.tokens import SEAL_KEY_OCTETS
from relay.nodes import words
from relay.nodes.leading import why_others_may_have_more
from relay.nodes.links import ANSWER_SECONDS_MAX, Links, LostError, NotAskedError
from relay.nodes.seldom import Seldom
from relay.nodes.words import Node
from relay.operator.commands import carry_out
from relay.principals import Asker, Operator, Principal
from relay.processes import carried
from relay.refusals import Refusal
from relay.registry import Decision
from relay.stream_places import TicketUse

logger = logging.getLogger(__name__)

OWN_WRITE_SECONDS_MAX: Final = 5.0
CATCH_UP_SECONDS_MAX: Final = 0.5
#: What changes nothing is waited for so long, and what takes no time, so long.
READ_SECONDS_MAX: Final = 15.0
QUICK_SECONDS_MAX: Final = 5.0
#: A new leader is there in so long, mostly.
RETRY_AFTER_SECONDS: Final = 2
#: So often this node looks whether another one leads by now.
LOOK_SECONDS: Final = 0.5
#: An unhurried command is waited for as long as its connection is there.
_UNHURRIED_SECONDS_MAX: Final = 24 * 3600.0

_TICKETS: Final = "stream tickets of nodes"
#: All of them together, in turns with members. It is no DID.
_STRANGERS: Final = "strangers"

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_answered: Final = msgspec.msgpack.Decoder(words.Answered).decode
_UNREADABLE: Final = (
    msgspec.MsgspecError,
    UnicodeDecodeError,
    RecursionError,
    LookupError,
    TypeError,
    ValueError,
)


@asynccontextmanager
async def open_forwarding(
    core: Core,
    links: Links,
    *,
    name: str,
    leader: Callable[[], Node | None],
    level_at: Callable[[], float],
    trouble: Callable[[], str | None] = lambda: None,
    is_unfit: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Forwarding]:
    """Forward for `core` while the block runs. Open it before any door of the core's, and close it after them.

    `name`: this node's. `leader`: who leads, as far as is known at this moment; this node itself where it does (by its
    own knowledge, never by a lease that another may have taken); None: nobody. `level_at`: when (`trio.current_time()`)
    this node was last known to have in its views all that was witnessed. `trouble`, `is_unfit`: as in `OwnNode`.
    """
    forwarding = Forwarding(
        core, links, name=name, leader=leader, level_at=level_at, trouble=trouble, is_unfit=is_unfit
    )
    core.elsewhere = forwarding
    core.node = forwarding
    core.stream_places.admitted_by = forwarding.admit_stream
    # A ticket of one node's is good at all.
    core.ticket_key = core.pepper.numbered(1).derive(_TICKETS, SEAL_KEY_OCTETS)
    core.store.observers.append(forwarding.observe)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forwarding.watch)
            yield forwarding
            nursery.cancel_scope.cancel()
    finally:
        core.store.observers.remove(forwarding.observe)
        core.stream_places.admitted_by = None
        core.elsewhere = core.node = None


class Forwarding:
    """Made by `open_forwarding`. It is `relay.elsewhere`'s `Elsewhere` and `OwnNode`."""

    def __init__(
        self,
        core: Core,
        links: Links,
        *,
        name: str,
        leader: Callable[[], Node | None],
        level_at: Callable[[], float],
        trouble: Callable[[], str | None],
        is_unfit: Callable[[], bool],
    ) -> None:
        self._core = core
        self._links = links
        self._name = name
        self._lines = Seldom(logger)
        self._leader = leader
        self._level_at = level_at
        self._trouble = trouble
        self._is_unfit = is_unfit
        self._has_led = False
        #: The views have all up to here; who waits for more, by what he waits for.
        with core.store.read() as view:
            self._seen = view.position
        self._waiting: list[tuple[int, int, trio.Event]] = []
        self._numbers = count()
        #: How far the log had come: the answer to the last question, and how many were begun.
        self._asking = trio.Lock()
        self._questions = 0
        self._far: int | None = None
        self._counted = core.metrics.node_is(lambda: not self.follows, lambda: self.lag_seconds)

    # ------------------------------------------------------------------------------------------- who is who

    @property
    def follows(self) -> bool:
        leader = self._leader()
        return leader is None or leader.name != self._name

    @property
    def role(self) -> Role:
        return "follower" if self.follows else "leader"

    @property
    def lag_seconds(self) -> float:
        return max(0.0, trio.current_time() - self._level_at())

    @property
    def trouble(self) -> str | None:
        return self._trouble()

    @property
    def is_unfit(self) -> bool:
        return self._is_unfit()

    async def watch(self) -> None:
        """Until cancelled: what waits for a node that does not lead any more is told so."""
        while True:
            leader = self._leader()
            if leader is not None:
                self._links.drop_all_but(leader)
                await self._links.close_dropped()
            self.note_leading()
            await trio.sleep(LOOK_SECONDS)

    def note_leading(self) -> None:
        """Which tickets were used before, the node before knew. Called before anybody may ask, where that is known."""
        if not self._has_led and not self.follows:
            self._has_led = True
            self._core.stream_places.tickets_from_us = self._core.store.now_us()

    # ------------------------------------------------------------------------------------------- what is asked

    def concerns(self, found: Decision, arguments: msgspec.Struct, asker: Asker) -> bool:
        if not self.follows or found.of_this_node(arguments):
            return False
        return found.remembered or not found.reads or _is_vouched(asker)

    async def decide(self, found: Decision, arguments: msgspec.Struct, asker: Asker) -> Any:
        try:
            answer = await self._decide(found, arguments, asker)
        except Refusal as refusal:
            if refusal.code == "AUTH_FAILED":
                self._end_session(asker)
            if refusal.code != "TEMPORARILY_UNAVAILABLE" or not found.reads or _is_vouched(asker):
                raise
        else:
            if found.name == "leave_console":
                self._end_session(asker)
            return answer
        # As a relay answers that has just begun, and remembers nothing.
        if isinstance(asker, Operator):
            return await carry_out(self._core, found, arguments, asker)
        return await self._core.decide_here(found.name, arguments, asker)

    async def _decide(self, found: Decision, arguments: msgspec.Struct, asker: Asker) -> Any:
        asked = words.Decide(
            found.name,
            msgspec.Raw(_encode(arguments)),
            asker if isinstance(asker, Principal) else None,
            asker.user if isinstance(asker, Operator) else None,
        )
        try:
            return await self._ask(
                asked,
                found.answer,
                party=_party(asker),
                seconds_max=_patience(found),
                writes=not found.reads,
            )
        except Refusal as refusal:
            if refusal.code != "INTERNAL_ERROR" or _is_sentence(refusal.message):
                raise
            if not isinstance(asker, Operator):
                raise DecisionFailedError(refusal.message) from None
            raise Refusal(
                "INTERNAL_ERROR",
                "a defect of the relay; the log of the node that leads has it under request id "
                + refusal.message,
            ) from None

    def _end_session(self, asker: Asker) -> None:
        """One that the operator vouched for is over: who leads has ended its own streams by it."""
        if isinstance(asker, Principal) and asker.is_vouched:
            for tell in self._core.console_links.ended:
                tell(asker.did, asker.key_id)

    async def take_message(self, address: str) -> None:
        await self._ask(words.TakeMessage(address), NoneType, party=_STRANGERS, seconds_max=QUICK_SECONDS_MAX)

    async def why_not_accepting(self) -> Refusal | None:
        try:
            why = await self._ask(words.WhyNotAccepting(), _MaybeWhy, seconds_max=QUICK_SECONDS_MAX)
        except Refusal as refusal:
            return refusal
        return None if why is None else Refusal(why[0], why[1], retry_after_seconds=why[2])

    async def admit_stream(self, did: str, ticket: TicketUse | None, session: str | None) -> float | None:
        if not self.follows:
            self.note_leading()
            return self._core.stream_places.admit(did, ticket, session)
        if ticket is None and session is None:
            return None
        admit = words.AdmitStream(did, ticket, session)
        left: float | None = await self._ask(admit, float | None, seconds_max=QUICK_SECONDS_MAX)
        return left

    async def rules(self) -> dict[str, Any]:
        """As `words.TellRules` is answered. Raises Refusal(TEMPORARILY_UNAVAILABLE)."""
        told: dict[str, Any] = await self._ask(
            words.TellRules(), dict[str, Any], seconds_max=QUICK_SECONDS_MAX
        )
        return told

    async def catch_up(self) -> None:
        with trio.move_on_after(CATCH_UP_SECONDS_MAX):
            if not self.follows:
                why_not = await why_others_may_have_more(self._core)
                if why_not is not None:
                    raise why_not
                return
            if await self._views_have(await self._how_far(self._questions), CATCH_UP_SECONDS_MAX):
                return
        raise _unavailable(
            "this node is behind others, and does not know yet whether this exists; try again",
            retry_after_seconds=1,
        )

    async def _how_far(self, begun: int) -> int:
        """As the leader says, in answer to a question that was begun after so many."""
        async with self._asking:
            if self._questions == begun or self._far is None:
                self._questions += 1
                self._far = None
                self._far = (await self._answered(words.HowFar())).seq
            return self._far

    async def _ask(
        self,
        question: words.Asked,
        answer: Any,
        *,
        party: str | None = None,
        seconds_max: float = ANSWER_SECONDS_MAX,
        writes: bool = False,
    ) -> Any:
        """What it is answered by, or what that raises; where it `writes`, when the views here have what the leader's
        have."""
        answered = await self._answered(question, party=party, seconds_max=seconds_max, writes=writes)
        if writes:
            # Whoever is cancelled now has been answered: it is done.
            with trio.CancelScope(shield=True):
                if not await self._views_have(answered.seq, OWN_WRITE_SECONDS_MAX):
                    self._lines.say(logging.WARNING, "node.answered_early", seq=answered.seq, seen=self._seen)
        if answered.raised is not None:
            try:
                error = carried.made(answered.raised)
            except _UNREADABLE:
                raise _may_be_done("it has answered what this node does not understand") from None
            raise error
        try:
            return msgspec.msgpack.decode(answered.value, type=answer)
        except _UNREADABLE:
            raise _may_be_done("it has answered what this node does not understand") from None

    async def _answered(
        self,
        question: words.Asked,
        *,
        party: str | None = None,
        seconds_max: float = ANSWER_SECONDS_MAX,
        writes: bool = False,
    ) -> words.Answered:
        octets = _encode(question)
        why = "no node leads at this moment"
        for _ in range(2):
            leader = self._leader()
            if leader is None or leader.name == self._name:
                # We lead by now, and are asked by who thought that we follow: he may come again.
                break
            try:
                answered = await self._links.ask(
                    leader, octets, party, seconds_max=seconds_max, writes=writes
                )
            except NotAskedError as error:
                why = str(error)
                continue
            except LostError as error:
                self._counted.labels("lost").inc()
                self._lines.say(logging.WARNING, "node.answer_lost", because=str(error))
                raise _may_be_done("the node that leads did not answer") from None
            self._counted.labels("answered").inc()
            try:
                return _decode_answered(answered)
            except _UNREADABLE:
                raise _may_be_done("it has answered what this node does not understand") from None
        self._counted.labels("not_asked").inc()
        self._lines.say(logging.INFO, "node.not_asked", because=why)
        raise _unavailable("no node leads at this moment; nothing was done: try again")

    # ------------------------------------------------------------------------------------------- how far we are

    def observe(self, recorded: Sequence[Recorded]) -> None:
        """Called once a batch, right after its views can be read."""
        self._seen = recorded[-1].seq
        while self._waiting and self._waiting[0][0] <= self._seen:
            heapq.heappop(self._waiting)[2].set()
        if self.follows and any(isinstance(event, ConsoleEpochRaised) for _, _, event in recorded):
            # Links that were made here: whoever raised it has ended its own.
            self._core.console_links.end_all()

    async def _views_have(self, seq: int, seconds_max: float) -> bool:
        if seq <= self._seen:
            return True
        come = trio.Event()
        heapq.heappush(self._waiting, (seq, next(self._numbers), come))
        try:
            with trio.move_on_after(seconds_max):
                await come.wait()
        finally:
            if not come.is_set():
                self._waiting = [one for one in self._waiting if one[2] is not come]
                heapq.heapify(self._waiting)
        return come.is_set()


def _is_vouched(asker: Asker) -> bool:
    """Known to who leads alone."""
    return isinstance(asker, Principal) and asker.is_vouched


def _patience(found: Decision) -> float:
    if found.unhurried:
        return _UNHURRIED_SECONDS_MAX
    return READ_SECONDS_MAX if found.reads else ANSWER_SECONDS_MAX


def _party(asker: Asker) -> str | None:
    if isinstance(asker, Principal):
        return asker.did
    return None if isinstance(asker, Operator) else _STRANGERS


def _is_sentence(message: str) -> bool:
    """And no request id."""
    return " " in message


def _unavailable(sentence: str, *, retry_after_seconds: int = RETRY_AFTER_SECONDS) -> Refusal:
    return Refusal("TEMPORARILY_UNAVAILABLE", sentence, retry_after_seconds=retry_after_seconds)


def _may_be_done(because: str) -> Refusal:
    return _unavailable(
        f"{because}; what was asked for may have been done, or be done yet: ask again with the same Idempotency-Key to "
        "be safe from doing it twice, or look first"
    )


_MaybeWhy: Final[Any] = words.Why | None
