"""Which messages somebody is dealing with at this moment.

The invariant: **whoever decides something about a waiting message first finds it in nobody's hand, and takes it,
without an `await` between.** So an attempt and an operator's order about the same message exclude each other: what is
being tried can be neither held nor cancelled, and what is being cancelled is not tried, although the views show either
only when its event is durable.

It is lost with the process, and must be: what was in hand then is waiting, or in flight, as the views say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from relay.codec import Recorded
from relay.events import MessageEvent


class InHand(set[int]):
    """Message ids. The deliverer adds and discards its own; others `let_go` of theirs, so that it hears of it."""

    def __init__(self) -> None:
        super().__init__()
        #: Called with the ids that others than the deliverer have let go of. It may have passed over them meanwhile,
        #: so it has to look at them once more: some may be due.
        self.observers: list[Callable[[Sequence[int]], None]] = []
        #: Of an order that was given up on its way to the disk.
        self._in_doubt: set[int] = set()

    def let_go(self, message_ids: Iterable[int]) -> None:
        ids = list(message_ids)
        self.difference_update(ids)
        self._in_doubt.difference_update(ids)
        for observer in self.observers:
            observer(ids)

    def keep(self, message_ids: Iterable[int]) -> None:
        """What was decided about these may become true yet, or the relay will end, or it is known that it never will
        and somebody lets go of them. Until then nobody may begin anything with them."""
        self._in_doubt.update(message_ids)

    def observe(self, recorded: Sequence[Recorded]) -> None:
        """One of the store's observers: these are true, and in the views."""
        if not self._in_doubt:
            return
        events = (item.event for item in recorded)
        true = {event.message_id for event in events if isinstance(event, MessageEvent)} & self._in_doubt
        if true:
            self._in_doubt -= true
            self.let_go(sorted(true))
