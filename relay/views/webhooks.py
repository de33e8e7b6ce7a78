"""Webhooks, as they are now: how far each has got, how its endpoint does, and which secrets sign.

A webhook has two places in the log. Its *cursor* only goes forward: all up to it was told. A *replay* is a place of its
own before it, with an end; events are told again from there, and after that it goes on from the cursor.

One that was removed has no row. What is said of it afterwards changes nothing: an answer of its endpoint may have been
on its way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from relay.codec import Recorded
from relay.events import (
    NOBODY,
    WebhookAdded,
    WebhookDisabled,
    WebhookEvent,
    WebhookPaused,
    WebhookProgressed,
    WebhookRemoved,
    WebhookResumed,
    WebhookRewound,
    WebhookSecretRotated,
    WebhookSkipped,
)
from relay.times import DAY_US
from relay.views import members
from relay.views.keys import owned
from spool.views import Snapshot, Transaction

#: webhook id -> its state
_WEBHOOKS = "webhooks"
#: DID, webhook id -> nothing
_OF = "webhooks_of"

#: So long the secret before signs as well.
BOTH_SIGN_US = DAY_US


class Secret(NamedTuple):
    """What one of its secrets is derived from: `relay.webhooks.secrets`."""

    version: int
    #: The number of the pepper.
    pepper: int


class OldSecret(NamedTuple):
    """It signs, too, until that time."""

    version: int
    pepper: int
    until_us: int


class Replay(NamedTuple):
    """Events in (`position`, `until`] are told again."""

    position: int
    until: int


class WebhookState(msgspec.Struct, array_like=True):
    webhook_id: str
    #: NOBODY: it is the operator's, and is told of all members' events.
    did: str
    #: Sequence number of its `webhook.added`, which has its URL.
    added_seq: int
    added_at: int
    #: Types of events that are told; none: all.
    types: tuple[str, ...]
    #: How many events one request may bring.
    batch: int
    #: It is signed with Ed25519, too.
    ed25519: bool
    #: All events up to this one were told, or are none that it is told of.
    cursor: int
    secret: Secret
    previous_secret: OldSecret | None = None
    status: Literal["active", "paused", "disabled"] = "active"
    #: `gone` or `failing`.
    disabled_because: str | None = None
    replay: Replay | None = None
    #: Of the member's key by which it was made.
    key_id: str | None = None
    #: That key, the one that made it, and so on, as they were then: who takes back one of these can take it back, too.
    made_by: tuple[str, ...] = ()
    #: Requests that failed since the last that was taken, and since when; the first event was refused for good since.
    failures: int = 0
    failing_since: int | None = None
    refused_since: int | None = None
    #: The last failure, also where others were taken since.
    failed_at: int | None = None
    http_status: int | None = None
    error: str | None = None

    @property
    def url_seq(self) -> int:
        return self.added_seq

    @property
    def is_operators(self) -> bool:
        return self.did == NOBODY

    def secrets_at(self, now_us: int) -> list[Secret]:
        """Those that sign then, the newest first."""
        old = self.previous_secret
        if old is None or now_us >= old.until_us:
            return [self.secret]
        return [self.secret, Secret(old.version, old.pepper)]


_state = msgspec.msgpack.Decoder(WebhookState)
_encode = msgspec.msgpack.Encoder().encode


class WebhooksProjector:
    """Asks for the keys of members: it comes behind `MembersProjector`."""

    name = "webhooks"
    version = 2
    tables = (_WEBHOOKS, _OF)
    minds = (WebhookEvent,)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case WebhookAdded():
                state = WebhookState(
                    event.webhook_id,
                    event.did,
                    recorded.seq,
                    recorded.time_us,
                    tuple(event.types),
                    event.batch,
                    event.ed25519,
                    event.cursor,
                    Secret(1, event.pepper),
                    key_id=event.key_id,
                    made_by=tuple(_ancestors(tx, event.did, event.key_id)),
                )
                tx.put(_OF, owned(event.did) + event.webhook_id.encode(), b"")
                _put(tx, state)
            case WebhookRemoved():
                tx.delete(_WEBHOOKS, event.webhook_id.encode())
                tx.delete(_OF, owned(event.did) + event.webhook_id.encode())
            case WebhookEvent():
                known = webhook(tx, event.webhook_id)
                if known is not None:
                    _change(known, recorded.time_us, event)
                    _put(tx, known)
            case _:
                pass


def _put(tx: Transaction, state: WebhookState) -> None:
    tx.put(_WEBHOOKS, state.webhook_id.encode(), _encode(state))


def _change(state: WebhookState, time_us: int, event: WebhookEvent) -> None:
    match event:
        case WebhookPaused():
            state.status, state.disabled_because = "paused", None
        case WebhookResumed():
            state.status, state.disabled_because = "active", None
            # The time after which it is given up begins anew.
            state.failures, state.failing_since, state.refused_since = 0, None, None
        case WebhookRewound():
            state.replay = Replay(event.after_seq, event.until_seq)
        case WebhookSecretRotated():
            old = state.secret
            state.previous_secret = OldSecret(old.version, old.pepper, time_us + BOTH_SIGN_US)
            state.secret = Secret(event.secret_version, event.pepper)
        case WebhookProgressed():
            _progressed(state, event)
        case WebhookSkipped():
            if state.replay is not None and event.skipped_seq <= state.replay.until:
                state.replay = _moved(state.replay, event.skipped_seq)
            state.cursor = max(state.cursor, event.skipped_seq)
            state.refused_since = None
        case WebhookDisabled():
            state.status, state.disabled_because = "disabled", event.because
            state.cursor = max(state.cursor, event.until_seq)
            state.failed_at, state.http_status, state.error = time_us, event.http_status, event.error
        case _:
            pass  # it is part of its story, and changes nothing


def _progressed(state: WebhookState, event: WebhookProgressed) -> None:
    state.cursor = max(state.cursor, event.until_seq)
    if state.replay is not None:
        state.replay = None if event.replayed_seq is None else _moved(state.replay, event.replayed_seq)
    state.failures, state.failing_since = event.failures, event.failing_since
    state.refused_since = event.refused_since
    if event.failed_at is not None:
        state.failed_at, state.http_status, state.error = event.failed_at, event.http_status, event.error


def _moved(replay: Replay, seq: int) -> Replay | None:
    """None: it is over."""
    return Replay(max(replay.position, seq), replay.until) if seq < replay.until else None


def _ancestors(view: Snapshot, did: str, key_id: str | None) -> Iterator[str]:
    """A key, the key that made it, and so on. A key is made by one that was there before, so this ends."""
    while key_id is not None:
        yield key_id
        key = members.key(view, did, key_id)
        key_id = None if key is None else key.issued_by


def webhook(view: Snapshot, webhook_id: str) -> WebhookState | None:
    """For an id of a form that ids have: what a stranger writes can be longer than a table's key may be."""
    value = view.get(_WEBHOOKS, webhook_id.encode())
    return None if value is None else _state.decode(value)


def webhooks_of(view: Snapshot, did: str) -> list[WebhookState]:
    """The member's, or with NOBODY the operator's, the first that was made first."""
    prefix = owned(did)
    ids = [key[len(prefix) :].decode() for key, _ in view.scan_prefix(_OF, prefix)]
    states = [state for webhook_id in ids if (state := webhook(view, webhook_id)) is not None]
    return sorted(states, key=lambda state: state.added_seq)


def all_webhooks(view: Snapshot) -> Iterator[WebhookState]:
    """Everybody's, by their ids."""
    for _, value in view.scan(_WEBHOOKS):
        yield _state.decode(value)
