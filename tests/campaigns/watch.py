"""What only the moment shows, looked at while a simulated relay lives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from relay.codec import Recorded
from relay.events import AttemptStarted, MessageBounced, MessageSent
from tests.world.internet import Internet, Receipt
from tests.world.mx_options import ReceivedMessage


class WatchedInternet(Internet):
    """An internet that says at once what a receiver has got."""

    def __init__(self) -> None:
        super().__init__()
        self.on_receipt: list[Callable[[Receipt], None]] = []

    def receive(self, host: str, message: ReceivedMessage, *, confirmed: bool) -> None:
        super().receive(host, message, confirmed=confirmed)
        for observer in self.on_receipt:
            observer(self.receipts[-1])


class Watch:
    """What must hold when a receiver gets a message: its attempt is durable, and it has no final outcome."""

    def __init__(self, found: list[str], is_blind: Callable[[], bool]) -> None:
        """`is_blind`: a relay is being started, and delivers already, and nobody sees its events yet."""
        self.found = found
        self._is_blind = is_blind
        #: Messages that came meanwhile: they are looked at as soon as their events can be.
        self._unseen: list[int] = []
        self._started: Counter[int] = Counter()
        self._received: Counter[int] = Counter()
        self._final: set[int] = set()

    def see(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            match item.event:
                case AttemptStarted(message_id=message_id):
                    self._started[message_id] += 1
                case MessageSent(message_id=message_id) | MessageBounced(message_id=message_id):
                    self._final.add(message_id)
        if self._is_blind():
            return
        unseen, self._unseen = self._unseen, []
        for number in unseen:
            self._look_whether_started(number)

    def receive(self, receipt: Receipt) -> None:
        number = receipt.message_id
        if self._is_blind():
            self._unseen.append(number)
            return
        self._look_whether_started(number)
        if number in self._final:
            self.found.append(f"message {number} was handed over, and its outcome was in the log before")

    def _look_whether_started(self, number: int) -> None:
        self._received[number] += 1
        if self._received[number] > self._started[number]:
            self.found.append(f"message {number} was handed over before its attempt was durable")
