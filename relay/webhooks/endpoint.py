"""What one endpoint is sent next, and what its answer means. Pure: time and dice are given.

The invariant: **a place in the log moves only forward, only from where the request began, and only when it was taken.**
So the outcome of a request that was under way while its webhook was rewound, paused or disabled undoes none of that.

What an answer means; the first row that fits holds:

| | answer | then |
| --- | --- | --- |
| a | 2xx | the events were taken: the next ones are due at once |
| b | 2xx, to the event behind one that was refused | that one is skipped, which is an event in the log |
| c | 410 | disabled, `gone` |
| d | any, and none was taken for five days | disabled, `failing` |
| e | 4xx to more than one event | half of them are tried at once, until the one is found |
| f | 4xx to one event, which has been refused for a day | the one behind it is tried at once |
| g | anything else | the same events again after the back-off, or after Retry-After where that is longer |

4xx is what says that the event is refused for good: not 408, 410, 425 and 429, which speak of the moment, or of the
endpoint. Where the event behind is not taken either, the endpoint is down, and not the event wrong: nothing is skipped.
Nor is it where there is none behind, until there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from relay.decisions.retry import next_attempt_at
from relay.events import (
    WebhookDisabled,
    WebhookEvent,
    WebhookPaused,
    WebhookProgressed,
    WebhookRemoved,
    WebhookResumed,
    WebhookRewound,
    WebhookSkipped,
)
from relay.times import DAY_US, SECOND_US
from relay.views.webhooks import Replay, WebhookState

#: After failure 1, 2, 3 ... of the same request; the last one repeats.
DELAYS_SECONDS: Final = (5, 30, 120, 300, 900, 1800, 3600)
RETRY_AFTER_SECONDS_MAX: Final = 3600
#: So long an event is refused before the one behind it is tried.
SKIP_AFTER_US: Final = DAY_US
#: So long nothing is taken before the webhook is disabled.
DISABLE_AFTER_US: Final = 5 * DAY_US

_OF_THE_MOMENT: Final = frozenset({408, 410, 425, 429})


class Answer(NamedTuple):
    """What came of a request: a status, or a word that says why there is none."""

    status: int | None
    error: str | None = None
    retry_after_seconds: int = 0

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_refused(self) -> bool:
        """For good."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in _OF_THE_MOMENT


class Wanted(NamedTuple):
    """What the next request brings: at most `events` of those in (`after`, `until`] that the webhook is told."""

    after: int
    #: None: as far as there are events.
    until: int | None
    events: int
    #: Of a replay: how often it had been rewound then.
    rewinds: int
    is_replay: bool
    #: This one is left out: whether the one behind it is taken is the question.
    beside: int | None = None


class Brought(NamedTuple):
    """The events that a request brought."""

    first_seq: int
    last_seq: int
    events: int


class Endpoint:
    """One webhook's, in the memory of a running relay."""

    def __init__(self, state: WebhookState) -> None:
        self.webhook_id = state.webhook_id
        self.did = state.did
        self.batch = state.batch
        self.is_active = state.status == "active"
        self.cursor = state.cursor
        self.replay = state.replay
        #: No request is made before.
        self.next_at = 0
        self.failures = state.failures
        self.failing_since = state.failing_since
        self.refused_since = state.refused_since
        self.failed_at = state.failed_at
        self.http_status = state.http_status
        self.error = state.error
        #: Orders about it since this relay's start: who has decided something looks whether there was one meanwhile.
        self.orders = 0
        self._rewinds = 0
        #: Of the back-off.
        self._tries = state.failures
        #: What failed is asked again as it was, so that its id is the same.
        self._end: int | None = None
        self._count = state.batch
        #: Up to here stands an event that was refused in company.
        self._narrow_until = 0
        #: It was refused for a day, and the one behind it is tried.
        self._beside: int | None = None
        self._refused_status = 0
        #: When the next request is due if that comes to nothing.
        self._rest_until = 0

    @property
    def position(self) -> int:
        return self.cursor if self.replay is None else self.replay.position

    @property
    def is_slow(self) -> bool:
        """The last request failed."""
        return self.failures > 0

    def wanted(self) -> Wanted:
        if self._beside is not None:
            until = None if self.replay is None else self.replay.until
            return Wanted(self.position, until, 1, self._rewinds, self.replay is not None, self._beside)
        if self.replay is None:
            return Wanted(self.cursor, self._end, self._count, self._rewinds, False)
        until = self.replay.until if self._end is None else min(self._end, self.replay.until)
        return Wanted(self.replay.position, until, self._count, self._rewinds, True)

    def stands(self, wanted: Wanted) -> bool:
        """Whether that is still the place from which it goes on."""
        if wanted.is_replay:
            return self._rewinds == wanted.rewinds and self.position == wanted.after
        return self.cursor == wanted.after

    # ---------------------------------------------------------------- what came of it

    def passed(self, wanted: Wanted, to: int) -> None:
        """There is nothing up to `to` that it would be told of. With `beside`: nothing behind that one."""
        if not self.stands(wanted):
            return
        if wanted.beside is not None:
            self._beside = None
            self.next_at = self._rest_until
            return
        self._move(wanted, to)

    def taken(self, wanted: Wanted, brought: Brought) -> list[WebhookEvent]:
        """2xx. What must be true before it goes on."""
        self.failures = self._tries = 0
        self.failing_since = self.refused_since = None
        if self.is_active:
            self.next_at = 0
        if not self.stands(wanted):
            return []
        events: list[WebhookEvent] = []
        if wanted.beside is not None:
            events.append(
                WebhookSkipped(
                    did=self.did,
                    webhook_id=self.webhook_id,
                    skipped_seq=wanted.beside,
                    http_status=self._refused_status,
                )
            )
        self._move(wanted, brought.last_seq)
        return events

    def failed(
        self, wanted: Wanted, brought: Brought, answer: Answer, now_us: int, dice: float
    ) -> list[WebhookEvent]:
        """Anything but 2xx. What must be true before it goes on. `dice` is uniform in [0, 1)."""
        if not self.is_active or not self.stands(wanted):
            return []
        self.failures += 1
        self.failing_since = self.failing_since or now_us
        self.failed_at, self.http_status, self.error = now_us, answer.status, answer.error
        self._beside = None
        if answer.status == 410:
            return [self._disabled("gone")]
        if now_us - self.failing_since >= DISABLE_AFTER_US:
            return [self._disabled("failing")]
        if wanted.beside is not None:
            self.next_at = max(self._rest_until, now_us + _waited(answer))
            return []
        if answer.is_refused and brought.events > 1:
            self._end, self._count = None, brought.events // 2
            self._narrow_until = max(self._narrow_until, brought.last_seq)
            self.next_at = now_us + _waited(answer)
            return []
        self._tries += 1
        self._end = brought.last_seq
        delayed = next_attempt_at(DELAYS_SECONDS, self._tries, now_us, dice)
        self.next_at = max(delayed, now_us + _waited(answer))
        if answer.is_refused:
            self.refused_since = self.refused_since or now_us
            if now_us - self.refused_since >= SKIP_AFTER_US:
                assert answer.status is not None
                self._beside, self._refused_status = brought.last_seq, answer.status
                self._rest_until, self.next_at = self.next_at, now_us + _waited(answer)
        return []

    def _disabled(self, because: str) -> WebhookDisabled:
        return WebhookDisabled(
            did=self.did,
            webhook_id=self.webhook_id,
            because="gone" if because == "gone" else "failing",
            until_seq=self.cursor,
            http_status=self.http_status,
            error=self.error,
        )

    def _move(self, wanted: Wanted, to: int) -> None:
        self._end = self._beside = None
        if to >= self._narrow_until:
            self._count, self._narrow_until = self.batch, 0
        self.refused_since = None
        if not wanted.is_replay:
            self.cursor = max(self.cursor, to)
        elif self.replay is not None:
            self.replay = Replay(to, self.replay.until) if to < self.replay.until else None

    # ---------------------------------------------------------------- what is ordered meanwhile

    def heed(self, event: WebhookEvent) -> None:
        """An event about it has become true."""
        match event:
            case WebhookProgressed() | WebhookSkipped():
                return  # ours
            case WebhookPaused() | WebhookDisabled() | WebhookRemoved():
                self.is_active = False
            case WebhookResumed():
                self.is_active = True
                self.failures = self._tries = self.next_at = 0
                self.failing_since = self.refused_since = self._beside = None
            case WebhookRewound():
                self._rewinds += 1
                self.replay = Replay(event.after_seq, event.until_seq)
                self._end = self._beside = self.refused_since = None
                self._count, self._narrow_until = self.batch, 0
            case _:
                pass
        self.orders += 1

    def catch_up(self, to: int) -> None:
        """It rests, and there is nothing up to `to` that it would be told of."""
        if self.replay is None:
            self.cursor = max(self.cursor, to)

    def progress(self) -> WebhookProgressed:
        return WebhookProgressed(
            did=self.did,
            webhook_id=self.webhook_id,
            until_seq=self.cursor,
            replayed_seq=None if self.replay is None else self.replay.position,
            failures=self.failures,
            failing_since=self.failing_since,
            failed_at=self.failed_at,
            http_status=self.http_status,
            error=self.error,
            refused_since=self.refused_since,
        )


def retry_after_seconds(headers: Iterable[tuple[str, str]], now_us: int) -> int:
    """What an answer's Retry-After asks for (RFC 9110, 10.2.3), at most an hour; 0: nothing that can be read."""
    for name, value in headers:
        if name == "retry-after":
            seconds = _seconds_of(value.strip(), now_us)
            return max(0, min(seconds, RETRY_AFTER_SECONDS_MAX))
    return 0


def _seconds_of(value: str, now_us: int) -> int:
    if re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    try:
        moment = parsedate_to_datetime(value[:64])
        at = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return round((at - datetime.fromtimestamp(now_us / SECOND_US, UTC)).total_seconds())
    except (ValueError, OverflowError):
        return 0


def _waited(answer: Answer) -> int:
    return answer.retry_after_seconds * SECOND_US
