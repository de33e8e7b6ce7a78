"""A webhook as its owner and the operator see it: the JSON shapes, and nothing else.

Nothing here takes long to import: a command that only looks begins with it.
"""

from __future__ import annotations

import msgspec

from relay.data_directory import Readable, ReadableStore
from relay.events import WebhookAdded
from relay.times import rfc3339, rfc3339_or_none
from relay.views.webhooks import WebhookState
from relay.webhooks.attempts import WebhookAttempt


class Failure(msgspec.Struct, rename="camel", kw_only=True):
    time: str
    #: The answer's; null: there was none.
    http_status: int | None
    #: A word where there was no answer, such as `timeout`.
    error: str | None


class UnderWay(msgspec.Struct, rename={"from_": "from"}, kw_only=True):
    """A replay: events after `from` and up to `to` are told again, before those behind the cursor."""

    from_: int
    to: int


class Webhook(msgspec.Struct, rename="camel", kw_only=True):
    webhook_id: str
    #: Null: it was erased.
    url: str | None
    #: Empty: all of the stream.
    types: list[str]
    batch: int
    ed25519: bool
    #: `active`, `paused` or `disabled`.
    status: str
    #: Where it is disabled: `gone` (its endpoint said so, 410) or `failing` (it took nothing for five days).
    disabled_because: str | None
    #: All events up to this one were told, as of the last minute, or are none that it is told of.
    cursor: int
    replay: UnderWay | None
    #: 1, and one more with each rotation.
    secret_version: int
    #: Until then the secret before it signs as well.
    previous_secret_until: str | None
    #: The key that it was made by; null: the operator made it.
    key_id: str | None
    added_at: str
    #: Requests that failed since the last that was taken, and since when.
    failures: int
    failing_since: str | None
    #: The last of all, as of the last minute; null: there was none.
    last_failure: Failure | None


class NewWebhook(Webhook, kw_only=True, rename="camel"):
    #: Shown only here.
    secret: str
    #: With `ed25519`: what its signatures are verified with.
    public_key: str | None


class Attempt(msgspec.Struct, rename="camel", kw_only=True):
    """One request to the endpoint."""

    time: str
    #: Sequence numbers of the first and the last event that it brought; of a test null.
    first_seq: int | None
    last_seq: int | None
    events: int
    is_replay: bool
    is_test: bool
    #: It was answered 2xx.
    taken: bool
    http_status: int | None
    #: A word where there was no answer, such as `timeout`.
    error: str | None
    seconds: float


def url_of(store: ReadableStore, state: WebhookState) -> str | None:
    """Its URL, which the log has; None where it was erased."""
    added = store.get(state.url_seq).event
    assert isinstance(added, WebhookAdded)
    return None if added.personal is None else added.personal.url


def shown(store: ReadableStore, state: WebhookState) -> Webhook:
    old = state.previous_secret
    return Webhook(
        webhook_id=state.webhook_id,
        url=url_of(store, state),
        types=list(state.types),
        batch=state.batch,
        ed25519=state.ed25519,
        status=state.status,
        disabled_because=state.disabled_because,
        cursor=state.cursor,
        replay=state.replay and UnderWay(from_=state.replay.position, to=state.replay.until),
        secret_version=state.secret.version,
        previous_secret_until=None if old is None else rfc3339(old.until_us),
        key_id=state.key_id,
        added_at=rfc3339(state.added_at),
        failures=state.failures,
        failing_since=rfc3339_or_none(state.failing_since),
        last_failure=_last_failure(state),
    )


def _last_failure(state: WebhookState) -> Failure | None:
    if state.failed_at is None:
        return None
    return Failure(time=rfc3339(state.failed_at), http_status=state.http_status, error=state.error)


def attempt_shown(attempt: WebhookAttempt) -> Attempt:
    return Attempt(
        time=rfc3339(attempt.at_us),
        first_seq=attempt.first_seq,
        last_seq=attempt.last_seq,
        events=attempt.events,
        is_replay=attempt.is_replay,
        is_test=attempt.is_test,
        taken=attempt.is_taken,
        http_status=attempt.http_status,
        error=attempt.error,
        seconds=round(attempt.seconds, 3),
    )


def attempts_shown(core: Readable, webhook_id: str) -> list[Attempt]:
    """The last requests since the relay was started, the newest first; none where no relay runs."""
    found = () if core.webhooks is None else core.webhooks.attempts(webhook_id)
    return [attempt_shown(attempt) for attempt in reversed(found)]
