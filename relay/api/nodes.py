"""What HTTP is told at one of several nodes, beside what it is told at a relay of one machine.

- `GET /leader`: 200 at the node that leads, 503 at the others: for balancers that want to send writes to it directly.
  It needs no key, costs nothing, and names nobody. One that led, and cannot know whether another does by now, is none.
- `Atmos-Lag` on every answer: so many seconds old is what stands in it, at most. `0` at the node that leads and is sure
  of it; at all others, how long ago it was last known to have had all that was acknowledged by then; `unknown` where it
  never was, since its start. An answer to a write that
  this node took is never too old for that write (`relay.nodes.forwarding`).
- *Not known here* is not the same as *not there*: a key that was made a moment ago at another node, a message with a
  number that has not come here yet. Before anybody is told 401 or 404 for that, this node catches up; where it cannot,
  or led and may lead no more, he is told 503 (`relay.elsewhere.OwnNode.catch_up`).

- *A node whose log is unfit*, since it has parted from the one that all have agreed on, or lacks what the database has
  no more, answers no member at all: 503, and its `/readyz` says why (`check_fit`).

Nothing here is done, or in the way, where there is one machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from relay.api.answers import Answer
from relay.api.credentials import is_unknown
from relay.api.operations import Described, operation
from relay.api.request import Request, Send
from relay.edge import Edge
from relay.elsewhere import OwnNode
from relay.refusals import Refusal

Found = TypeVar("Found")

#: The arguments of a query that name a place in the log.
_PLACES: Final = ("cursor", "asOf")
_is_number: Final = re.compile(r"[0-9]{1,16}").fullmatch
_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


@operation(
    "GET",
    "/leader",
    "leader",
    "Whether this node leads",
    answers={200: Described("It does", dict)},
    errors=(503,),
    for_members=False,
)
async def leader(edge: Edge, request: Request) -> Answer:
    assert edge.node is not None
    # One that led, and cannot be sure any more, is late.
    if edge.node.role != "leader" or edge.node.lag_seconds:
        raise Refusal("TEMPORARILY_UNAVAILABLE", "another node leads, or none at this moment")
    return Answer.of({"role": "leader"})


def saying_how_late(node: OwnNode, send: Send) -> Send:
    """The same, but each answer says how late this node is."""

    async def send_with_lag(message: Any) -> None:
        if message["type"] in _STARTS:
            message = {**message, "headers": [*message["headers"], (b"atmos-lag", _lag_of(node))]}
        await send(message)

    return send_with_lag


def _lag_of(node: OwnNode) -> bytes:
    lag = node.lag_seconds
    if node.role == "leader" and not lag:
        return b"0"
    return b"unknown" if math.isinf(lag) else b"%.1f" % lag


async def found(edge: Edge, look: Callable[[], Found]) -> Found:
    """What `look` finds. A node that follows says that there is no such thing when it has caught up, and not before.

    Raises Refusal, as `look` does, and as `OwnNode.catch_up` does.
    """
    try:
        return look()
    except Refusal as refusal:
        if edge.node is None or refusal.code != "NOT_FOUND":
            raise
    await edge.node.catch_up()
    return look()


def check_fit(edge: Edge) -> None:
    """Raises Refusal(TEMPORARILY_UNAVAILABLE)."""
    if edge.node is not None and edge.node.is_unfit:
        raise unfit()


def unfit() -> Refusal:
    return Refusal(
        "TEMPORARILY_UNAVAILABLE",
        "this node's log is not that of the other nodes, or lacks much of it: ask another",
    )


async def wait_until_known(edge: Edge, request: Request) -> None:
    """Where there are several nodes: until whoever asks, and the places in the log that he names, are known here, or
    are known to no node.

    Raises Refusal(TEMPORARILY_UNAVAILABLE) where that cannot be said, also by a node that led until now, and cannot
    know whether another has taken its place.
    """
    node = edge.node
    if node is None:
        return
    if _names_what_is_to_come(edge, request) or is_unknown(edge, request):
        await node.catch_up()


def _names_what_is_to_come(edge: Edge, request: Request) -> bool:
    named = [*request.in_path.values(), *(request.argument(place) for place in _PLACES)]
    numbers = [int(text) for text in named if text is not None and _is_number(text)]
    if not numbers:
        return False
    with edge.store.read() as view:
        return max(numbers) > view.position
