"""Links to other nodes: how a follower asks whoever leads (`relay.nodes.wire` has the protocol).

    async with open_links(certificates) as links:
        answered = await links.ask(leader, question, party)

The contract of `ask`. Returned: the answer. Raises, by what has become of the question:

- `NotAskedError`: not one octet of it was sent, or the other node has said that it will not carry it out. Another try,
  at that node or another one, does no harm.
- `LostError`: it was sent, at least in part, and there is no answer. It may have been carried out, or be about to be.
  **It is never sent again by anybody here.**
- Cancelled: it was not carried out. The other node was told, and has said so, or not all of the question was sent: that
  is awaited, for CANCELLED_SECONDS_MAX. Where it had been carried out already, the answer is returned; where nothing is
  heard, LostError is raised.

Connections are kept, one question at a time on each, LINKS_MAX to all nodes together; one that its other side has
closed is seen to be so before it is used. Whoever finds none free waits for its turn (`relay.turns`), TURN_SECONDS_MAX
at most; and so for OCTETS_MAX of questions that are under way, of which no party has more than a quarter.

A machine that is gone is noticed by the kernel in some seconds (`relay.nodes.wire.mind_the_peer`). A process that does
not answer although it is there is waited for, ANSWER_SECONDS_MAX; but where another node leads by then, `drop_all_but`
ends that at once.
"""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import h11
import trio

from relay.buffers import Buffers
from relay.internet.tcp import OpenStream
from relay.nodes import wire
from relay.nodes.certificates import NodeCertificates, host_of, identity_shown
from relay.nodes.words import Node
from relay.turns import Turns

#: What 128 clients of a follower ask at a time waits at most one turn.
LINKS_MAX: Final = 64
OCTETS_MAX: Final = 128 * 1024 * 1024
TURN_SECONDS_MAX: Final = 3.0
#: TCP and TLS.
CONNECT_SECONDS_MAX: Final = 3.0
SEND_SECONDS_MAX: Final = 10.0
#: More than a decision takes that is not `unhurried`.
ANSWER_SECONDS_MAX: Final = 75.0
CANCELLED_SECONDS_MAX: Final = 5.0


class NotAskedError(Exception):
    """See the module docstring; the sentence says why."""


class NotLeadingError(NotAskedError):
    """That node does not lead."""


class LostError(Exception):
    """See the module docstring; the sentence says why."""


@asynccontextmanager
async def open_links(
    certificates: NodeCertificates, open_stream: OpenStream = trio.open_tcp_stream
) -> AsyncIterator[Links]:
    """Links of this node while the block runs; at its end they are closed. `open_stream`: how a connection is made."""
    links = Links(certificates, open_stream)
    try:
        yield links
    finally:
        links.drop_all_but(None)
        with trio.CancelScope(shield=True):
            await links.close_dropped()


class Links:
    """Made by `open_links`."""

    def __init__(self, certificates: NodeCertificates, open_stream: OpenStream) -> None:
        self._certificates = certificates
        self._open_stream = open_stream
        self._turns = Turns(LINKS_MAX)
        self._octets = Buffers(lambda: OCTETS_MAX)
        #: That rest, the one that was used last at the end.
        self._kept: list[_Link] = []
        self._in_use: set[_Link] = set()
        self._dropped: list[_Link] = []
        #: How many connections were made.
        self.made = 0

    async def ask(
        self,
        node: Node,
        question: bytes,
        party: str | None,
        *,
        seconds_max: float = ANSWER_SECONDS_MAX,
        writes: bool = True,
    ) -> bytes:
        """The answer of that node; see the module. `party`: in whose turn; None: goes first. Not `writes`: nothing is
        done for it, so it may be cancelled at once."""
        if len(question) > wire.BODY_BYTES_MAX:
            raise NotAskedError(f"a question of {len(question)} octets is too large")
        with self._octets.held(party or "") as held:
            with trio.move_on_after(TURN_SECONDS_MAX) as waiting:
                await held.take(len(question))
                await self._turns.acquire(party)
            if waiting.cancelled_caught:
                raise NotAskedError("too much is asked of the node that leads at this moment")
            try:
                link = await self._link_to(node)
                self._in_use.add(link)
                try:
                    status, body = await link.ask(question, seconds_max, writes=writes)
                finally:
                    self._in_use.discard(link)
                    if link.is_reusable:
                        self._kept.append(link)
                    else:
                        with trio.CancelScope(shield=True):  # an answer may have come all the same
                            await link.close()
            finally:
                self._turns.release()
        return _judged(status, body)

    def drop_all_but(self, node: Node | None) -> None:
        """Close the links to all others; what was asked by one and not answered is lost."""
        self._dropped += [link for link in self._kept if link.node != node]
        self._kept = [link for link in self._kept if link.node == node]
        for link in self._in_use:
            if link.node != node:
                link.drop()

    async def close_dropped(self) -> None:
        """Those that rested. Nothing waits for it."""
        while self._dropped:
            await self._dropped.pop().close()

    @property
    def open(self) -> int:
        return len(self._kept) + len(self._in_use)

    async def _link_to(self, node: Node) -> _Link:
        await self.close_dropped()
        while link := next((link for link in reversed(self._kept) if link.node == node), None):
            self._kept.remove(link)
            if link.is_quiet():
                return link
            # Others use and drop links meanwhile.
            await link.close()
        while self.open >= LINKS_MAX:
            # They rest, and are to others than who leads.
            await self._kept.pop(0).close()
        return await self._connect(node)

    async def _connect(self, node: Node) -> _Link:
        because = "it did not answer in time"
        with trio.move_on_after(CONNECT_SECONDS_MAX):
            try:
                transport = await self._open_stream(node.host, node.port)
            except OSError as error:
                raise NotAskedError(f"no connection to node {node.name}: {error}") from error
            wire.mind_the_peer(transport)
            stream = trio.SSLStream(
                transport,
                self._certificates.for_client(),
                server_hostname=host_of(node.name),
                https_compatible=True,
            )
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                await trio.aclose_forcefully(stream)
                raise NotAskedError(
                    f"no TLS with node {node.name}: {error.__cause__ or 'it hung up'}"
                ) from error
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            if node.identity is not None and node.identity != identity_shown(
                stream.getpeercert(binary_form=True)
            ):
                await trio.aclose_forcefully(stream)
                raise NotAskedError(
                    f"who is at {node.host}:{node.port} has another key than node {node.name}"
                )
            self.made += 1
            return _Link(node, transport, wire.Spoken(stream, h11.CLIENT))
        raise NotAskedError(f"no connection to node {node.name}: {because}")


class _Link:
    """One connection."""

    def __init__(self, node: Node, transport: trio.abc.Stream, spoken: wire.Spoken) -> None:
        self.node: Final = node
        self._transport = transport
        self._spoken = spoken
        self._scope = trio.CancelScope()
        #: The end of the last request, which goes with the next one.
        self._owed = b""
        #: What has come of the answer.
        self._response: h11.Response | None = None
        self._body: list[bytes] = []
        self._body_octets = 0
        self._is_dropped = False
        self.is_reusable = False

    def drop(self) -> None:
        """Its other side is not to be waited for any more."""
        self._is_dropped = True
        self._scope.cancel()

    def is_quiet(self) -> bool:
        """Nothing has come while nothing was asked. (Where that cannot be seen, asking will tell.)"""
        if not isinstance(self._transport, trio.SocketStream):
            return True
        look = select.poll()
        look.register(self._transport.socket.fileno(), select.POLLIN)
        return not look.poll(0)

    async def close(self) -> None:
        await self._spoken.close()

    async def ask(self, question: bytes, seconds_max: float, *, writes: bool) -> tuple[int, bytes]:
        """Status and body. Raises as `Links.ask`."""
        self.is_reusable = False
        spoken = self._spoken
        request = h11.Request(
            method="POST",
            target=wire.TARGET,
            headers=[("Host", host_of(self.node.name)), ("Transfer-Encoding", "chunked")],
        )
        octets = self._owed + spoken.octets_of(
            request, h11.Data(data=wire.LENGTH.pack(len(question)) + question)
        )
        del question
        await trio.lowlevel.checkpoint_if_cancelled()  # the last moment
        with trio.CancelScope(deadline=trio.current_time() + seconds_max) as self._scope:
            try:
                await self._send(octets)
                del octets
                return await self._answer()
            except trio.Cancelled:
                if self._scope.cancel_called:
                    why = "another node leads now" if self._is_dropped else "it does not answer"
                    raise LostError(f"node {self.node.name}: {why}") from None
                answer = await self._cancelled() if writes else None
                if answer is None:
                    raise
                return answer
        raise AssertionError("this scope catches nothing")

    async def _cancelled(self) -> tuple[int, bytes] | None:
        """Whoever asked wants no answer any more. None: nothing was done."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CANCELLED_SECONDS_MAX):
            await self._send(self._spoken.octets_of(h11.Data(data=wire.CANCEL)))
            status, body = await self._answer()
            return None if status != wire.ANSWERED else (status, body)
        raise LostError(f"node {self.node.name}: it was told that no answer is wanted, and says nothing")

    async def _send(self, octets: bytes) -> None:
        """Not cancelled half way: what has gone has gone."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + SEND_SECONDS_MAX):
            try:
                await self._spoken.stream.send_all(octets)
            except trio.BrokenResourceError as error:
                raise LostError(f"node {self.node.name}: it hung up") from error
            return
        raise LostError(f"node {self.node.name}: it does not read")

    async def _answer(self) -> tuple[int, bytes]:
        spoken = self._spoken
        try:
            while not isinstance(event := await spoken.next_event(), h11.EndOfMessage):
                # Kept where the next call finds it: this one may be cancelled at each step.
                if isinstance(event, h11.Response):
                    self._response, self._body, self._body_octets = event, [], 0
                elif isinstance(event, h11.Data) and self._body_octets <= wire.BODY_BYTES_MAX:
                    self._body.append(bytes(event.data))
                    self._body_octets += len(event.data)
                elif isinstance(event, h11.Data):
                    raise LostError(f"node {self.node.name}: its answer is too large")
                else:
                    raise LostError(f"node {self.node.name}: it hung up")
        except h11.RemoteProtocolError as error:
            # Its end within an answer is one to h11, too.
            because = "it hung up" if spoken.has_ended else error
            raise LostError(f"node {self.node.name}: {because}") from error
        except trio.BrokenResourceError as error:
            raise LostError(f"node {self.node.name}: {error.__cause__ or 'it hung up'}") from error
        if spoken.http.their_state is h11.DONE:
            self._owed = spoken.octets_of(h11.EndOfMessage())
            spoken.http.start_next_cycle()
            self.is_reusable = spoken.http.trailing_data == (b"", False) and not self._is_dropped
        body, self._body = b"".join(self._body), []
        assert self._response is not None
        return self._response.status_code, body


_REFUSED: Final[dict[int, Callable[[], NotAskedError]]] = {
    wire.NOT_LEADING: lambda: NotLeadingError("that node does not lead"),
    wire.NO_NODE: lambda: NotAskedError("it says that this is no node of the relay any more"),
    wire.NO_ROOM: lambda: NotAskedError("it has no room for this"),
    wire.NO_QUESTION: lambda: NotAskedError(
        "it does not understand what is asked: is it of another version?"
    ),
}


def _judged(status: int, body: bytes) -> bytes:
    if status == wire.ANSWERED:
        return body
    refused = _REFUSED.get(status)
    if refused is None:
        raise LostError(f"an answer of status {status}")
    raise refused()
