"""The last requests to each endpoint, for who looks why it fails. In memory, and bounded. Pure.

The invariant: of one webhook the last ATTEMPTS_KEPT are there, and of all together RECENT_MAX at most: of more, those
of the webhook go whose last request is the longest ago.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

from relay.webhooks.attempts import ATTEMPTS_KEPT, WebhookAttempt

RECENT_MAX: Final = 50_000


class RecentAttempts:
    def __init__(self) -> None:
        #: The webhook that was asked the longest ago first.
        self._by_webhook: OrderedDict[str, deque[WebhookAttempt]] = OrderedDict()
        self._kept = 0

    def add(self, webhook_id: str, attempt: WebhookAttempt) -> None:
        of_it = self._by_webhook.setdefault(webhook_id, deque(maxlen=ATTEMPTS_KEPT))
        self._by_webhook.move_to_end(webhook_id)
        self._kept -= len(of_it)
        of_it.append(attempt)
        self._kept += len(of_it)
        while self._kept > RECENT_MAX:
            _, oldest = self._by_webhook.popitem(last=False)
            self._kept -= len(oldest)

    def of(self, webhook_id: str) -> Sequence[WebhookAttempt]:
        """The newest last."""
        return tuple(self._by_webhook.get(webhook_id, ()))

    def forget(self, webhook_id: str) -> None:
        self._kept -= len(self._by_webhook.pop(webhook_id, ()))
