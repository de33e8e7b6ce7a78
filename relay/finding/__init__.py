"""Questions about many messages, answered from the views: `search` (which messages?), `totals` (what became of how
many?), `hindrances` (why may this domain, or this member, not send?).

The invariant: **no question reads the whole log, and none holds anybody up.** Each is an object with a `step` that
looks at a bounded number of rows of one snapshot and says whether it is done; between steps whoever asks lets others
work (`carried_through`). So one code answers the operator's commands, the console's pages and a member's own, in the
core and in edges. What a question may look at in all is bounded, too: an answer says where it stopped looking.

May import the views, the words and `presentation`. It must never decide, write, read a clock, or look into the log for
more than the rows that it shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from relay.data_directory import ReadableStore
from spool.views import Snapshot


class Question(Protocol):
    def step(self, view: Snapshot) -> bool:
        """Look a little further, in a view of now. False: there is nothing more to look at."""


#: Calls the function, with what is given behind it, when it is somebody's turn; what it returns. Of an edge it is
#: `partial(edge.heavy_work.step, did)`, of the operator's commands `relay.operator.finding.in_turn`.
InTurn = Callable[..., Awaitable[Any]]


async def carried_through(question: Question, store: ReadableStore, in_turn: InTurn) -> None:
    """Until there is nothing more to look at. Cancelled, it has done nothing."""

    def step() -> bool:
        with store.read() as view:
            return question.step(view)

    while await in_turn(step):
        pass
