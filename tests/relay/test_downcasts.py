"""What an older node cannot read is said as it can, and whoever adds a version of an event says how."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from relay import codec
from relay.codec import (
    UnsayableError,
    decode,
    decode_raw,
    encode,
    encode_as,
    versions_read_by_all,
    versions_read_here,
)
from relay.events import EVENT_TYPES, Event, MessageSent
from spool.record import Entry
from tests.golden_events import literals
from tests.relay.test_golden_events import recorded

#: What the first relays of several machines can read. It never changes.
FIRST = """
    alarm.queued=1 attempt.interrupted=1 attempt.started=1 confirmation.queued=1
    console.epoch_raised=1 domain.added=2 domain.check_failed=1 domain.forward_confirmed=1
    domain.forward_set=3 domain.key_created=1 domain.key_switched=1 domain.paused=3
    domain.removed=1 domain.resumed=3 domain.unverified=1 domain.verified=1 dsn.queued=3
    forward.queued=1 held.released=1 key.issued=3 key.revoked=3 log.stripped=1 log.torn_tail_cut=1
    log.views_rebuilt=1 mail.received=1 member.added=2 member.handle_check_failed=1
    member.handle_lost=1 member.handle_set=1 member.handle_verified=1 member.limits_set=2
    member.removed=1 member.resumed=3 member.suspended=2 message.bounce_reported=1
    message.bounced=4 message.complained=2 message.deferred=3 message.held=2 message.queued=2
    message.released=1 message.rescheduled=2 message.sent=3 node.leads=1 operator.key_created=1
    operator.key_switched=1 payload.erased=2 pepper.rotated=1 provider.reported=1
    recipient.suppressed=2 recipient.unsuppressed=2 send.accepted=4 signing_key.deleted=1
    source.delisted=1 source.listed=1 unsubscribe.called=1 webhook.added=1 webhook.disabled=1
    webhook.paused=1 webhook.progressed=1 webhook.removed=1 webhook.resumed=1 webhook.rewound=1
    webhook.secret_rotated=1 webhook.skipped=1 webhook_notice.queued=1
"""


def sent() -> Event:
    return literals.EVENTS["message.sent", 3]


def without_provider(skeleton: dict[str, Any], payload: dict[str, Any] | None) -> Any:
    del skeleton["provider"]
    return skeleton, payload


def without_attempt(skeleton: dict[str, Any], payload: dict[str, Any] | None) -> Any:
    return (skeleton, {"text": "as before"}) if skeleton["attempt"] < 99 else None


def raw(entry: Entry) -> Any:
    return decode_raw(recorded(entry))


def test_every_later_version_says_what_older_nodes_get() -> None:
    """One of these fails where a type or a version was added and `relay.codec.DOWNCASTS` says nothing of it."""
    first = {name: int(version) for name, version in (one.split("=") for one in FIRST.split())}
    later = {
        (name, version)
        for name, event_type in EVENT_TYPES.items()
        for version in range(first.get(name, 0) + 1, event_type.VERSION + 1)
    }
    assert set(codec.DOWNCASTS) == later
    assert first.keys() <= EVENT_TYPES.keys()


def test_an_event_is_said_one_version_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    downcasts = {("message.sent", 3): without_provider, ("message.sent", 2): without_attempt}
    monkeypatch.setattr(codec, "DOWNCASTS", downcasts)
    now = raw(encode(sent()))
    assert raw(encode_as(sent(), 3)) == now
    assert raw(encode_as(sent(), 4)) == now
    del now["data"]["provider"]
    assert raw(encode_as(sent(), 2)) == {**now, "version": 2}
    assert raw(encode_as(sent(), 1)) == {
        **now,
        "version": 1,
        "data": {**now["data"], "personal": {"text": "as before"}},
    }
    read = decode(recorded(encode_as(sent(), 2))).event
    assert isinstance(read, MessageSent)
    assert read.provider is None


def test_what_cannot_be_said_is_not_said_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    downcasts = {("message.sent", 3): without_provider, ("message.sent", 2): None}
    monkeypatch.setattr(codec, "DOWNCASTS", downcasts)
    for version in (1, 0):
        with pytest.raises(UnsayableError, match="version 2 cannot be said in the version before"):
            encode_as(sent(), version)
    monkeypatch.setattr(codec, "DOWNCASTS", {})
    with pytest.raises(UnsayableError, match="version 3 cannot"):
        encode_as(sent(), 2)


def test_a_payload_is_blinded_whatever_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "DOWNCASTS", {("message.sent", 3): without_provider})
    payload = encode_as(sent(), 2, lambda count: b"x" * count).payload
    assert payload is not None
    assert cbor2.loads(payload)[""] == b"x" * codec.BLIND_OCTETS


def test_what_every_node_reads_stands_before_what_is_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        codec, "DOWNCASTS", {("message.sent", 3): without_provider, ("alarm.queued", 1): None}
    )
    assert versions_read_by_all() == versions_read_here() | {"message.sent": 2, "alarm.queued": 0}
