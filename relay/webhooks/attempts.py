"""What one request to an endpoint came to. The last ones are kept in memory, for who looks why it fails. Pure."""

from __future__ import annotations

import msgspec

#: Of one webhook.
ATTEMPTS_KEPT = 100


class WebhookAttempt(msgspec.Struct, frozen=True, kw_only=True):
    #: When it began.
    at_us: int
    #: Sequence numbers of the first and the last event that it brought; of a test neither.
    first_seq: int | None = None
    last_seq: int | None = None
    #: How many events it brought.
    events: int = 0
    is_replay: bool = False
    is_test: bool = False
    #: The answer's; None: there was none.
    http_status: int | None = None
    #: A word where there was no answer: `timeout`, `dns`, `tls` ...
    error: str | None = None
    seconds: float = 0.0

    @property
    def is_taken(self) -> bool:
        return self.http_status is not None and 200 <= self.http_status < 300
