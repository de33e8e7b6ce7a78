"""Calls members' own unsubscribe URLs: who brought a List-Unsubscribe of its own learns of the click too (SPEC 3.3).

Contract. For each `recipient.suppressed` with a `call_at`, the https URL that was kept with its message gets
`POST List-Unsubscribe=One-Click` until it answers 2xx, or until the next try would come later than 24 h after the
click. Each try is one `unsubscribe.called` event, with the answer's status or what went wrong, and when the next is
due (with its jitter: a fold needs no dice). A redirect is an answer other than 2xx, and not followed. The suppression
itself waits for none of this.

Whom it talks to is `relay.internet.https`'s business: public addresses only, verified TLS, bounded time and size. Here
is the bound on how many calls are made at once.

A call whose event is not durable yet when the relay stops or is killed is made once more at the next start: at least
once, and a one-click POST is idempotent by nature.

It reads views and writes nothing but events. URL, address and answer are in the event's payload and in no log line.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

import trio

from relay.alarm import Alarm
from relay.codec import Recorded
from relay.core import Core
from relay.decisions.retry import is_given_up, next_attempt_at
from relay.events import CallResult, RecipientSuppressed, SendAccepted, UnsubscribeCalled
from relay.internet.https import FetchError, FetchLimits, fetch
from relay.store import Store
from relay.surroundings import Surroundings
from relay.times import SECOND_US
from relay.views import calls, messages

logger = logging.getLogger(__name__)

BODY = b"List-Unsubscribe=One-Click"
#: After try 1, 2, 3 ...; the last one repeats. Nine tries fit into 24 h.
DELAYS_SECONDS = (60, 300, 900, 3600, 3 * 3600, 6 * 3600)
GIVE_UP_SECONDS = 24 * 3600
CONCURRENT_MAX = 16

#: Only the status is of interest.
LIMITS = FetchLimits(seconds_max=20.0, body_bytes_max=0)

#: `await post(url)` sends BODY there and returns the status of the answer. Raises FetchError where there is none.
Post = Callable[[str], Awaitable[int]]


def one_click_post(surroundings: Surroundings) -> Post:
    """The real thing, by `relay.internet.https`."""
    resolver = cache(surroundings.dns)  # made when first wanted

    async def post(url: str) -> int:
        answer = await fetch(
            "POST",
            url,
            body=BODY,
            headers=[("Content-Type", "application/x-www-form-urlencoded")],
            resolver=resolver(),
            open_stream=surroundings.open_stream,
            tls=surroundings.tls,
            limits=LIMITS,
        )
        return answer.status

    return post


def members_url(store: Store, message: messages.MessageState) -> str | None:
    """The member's own unsubscribe URL that was taken out of this message; None where it had none or it was erased."""
    if message.is_notice:
        return None
    send = store.get(message.send_seq).event
    assert isinstance(send, SendAccepted)
    return None if send.personal is None else send.personal.unsubscribe_url


async def call_members(
    core: Core, post: Post, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Make the calls that are due, and those that become due, until cancelled.

    An unexpected exception ends it, and with it the process.
    """
    caller = _Caller(core, post)
    observers = core.store.observers
    observers.append(caller.observe)
    try:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await caller.wait_for_next(caller.start_due(nursery))
    finally:
        observers.remove(caller.observe)


class _Heard(NamedTuple):
    """What came of a try: `error` is None where it was heard."""

    status: int | None
    error: str | None
    #: Nothing can come of another try.
    final: bool = False


class _Caller:
    def __init__(self, core: Core, post: Post) -> None:
        self._store = core.store
        self._dice = core.surroundings.dice
        self._post = post
        self._core = core
        #: By their `recipient.suppressed`: the calls that are being made.
        self._under_way: set[int] = set()
        self._alarm = Alarm(core.store.now_us)

    def observe(self, recorded: Sequence[Recorded]) -> None:
        """Called with all new events as they become true."""
        for item in recorded:
            if isinstance(item.event, RecipientSuppressed) and item.event.call_at is not None:
                self._alarm.ring()

    def start_due(self, nursery: trio.Nursery) -> int | None:
        """Start what is due, and return when the next call will be; None where news will tell."""
        now = self._store.now_us()
        with self._store.read() as view:
            # Those under way are among the first: their time has come and was not moved yet.
            first = list(islice(calls.calls(view), 2 * CONCURRENT_MAX))
        for call in first:
            if call.suppressed_seq in self._under_way:
                continue
            if len(self._under_way) >= CONCURRENT_MAX:
                return None
            if call.at_us > now:
                return call.at_us
            self._under_way.add(call.suppressed_seq)
            nursery.start_soon(self._call, call)
        return None

    async def wait_for_next(self, at_us: int | None) -> None:
        """Until a call becomes due, or something has changed."""
        await self._alarm.wait(at_us)

    async def _call(self, call: calls.Call) -> None:
        """One try, which ends in one event."""
        try:
            suppressed = self._store.get(call.suppressed_seq).event
            assert isinstance(suppressed, RecipientSuppressed)
            answer = await self._try(suppressed)
            await self._store.append([self._event(call, suppressed, answer)])
        finally:
            self._under_way.discard(call.suppressed_seq)
            self._alarm.ring()
        logger.info("unsubscribe.called", extra={"seq": call.suppressed_seq, "status": answer.status})

    async def _try(self, suppressed: RecipientSuppressed) -> _Heard:
        assert suppressed.message_id is not None
        with self._store.read() as view:
            message = messages.message(view, suppressed.message_id)
        assert message is not None
        url = members_url(self._store, message)
        if url is None:
            return _Heard(None, "the URL was removed with the message's content", final=True)
        await self._core.before_acting()
        try:
            status = await self._post(url)
        except FetchError as error:
            return _Heard(None, str(error))
        if 200 <= status < 300:
            return _Heard(status, None, final=True)
        redirect = "; redirects are not followed" if 300 <= status < 400 else ""
        return _Heard(status, f"the server answered {status}{redirect}")

    def _event(self, call: calls.Call, suppressed: RecipientSuppressed, answer: _Heard) -> UnsubscribeCalled:
        assert suppressed.message_id is not None
        assert suppressed.call_at is not None
        attempt = call.attempts + 1
        next_at: int | None = None
        if not answer.final:
            next_at = next_attempt_at(DELAYS_SECONDS, attempt, self._store.now_us(), self._dice.random())
            if is_given_up(next_at, suppressed.call_at + GIVE_UP_SECONDS * SECOND_US):
                next_at = None
        return UnsubscribeCalled(
            did=suppressed.did,
            suppressed_seq=call.suppressed_seq,
            message_id=suppressed.message_id,
            attempt=attempt,
            status=answer.status,
            next_attempt_at=next_at,
            personal=None if answer.error is None else CallResult(error=answer.error),
        )
