"""What the class of an event says, and that this is enough: an event that nothing else knows has its place everywhere.

The three at the end are such events. They are folded by all views and shaped for members as they would be if somebody
added them tomorrow and touched no other file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import msgspec
import pytest

import relay.events
from relay.codec import Recorded, encode
from relay.events import (
    EVENT_TYPES,
    About,
    DomainAdded,
    DomainEvent,
    Event,
    MemberAdded,
    MemberEvent,
    MessageEvent,
    MessageQueued,
    OwnedEvent,
    Recipient,
    SendAccepted,
)
from relay.presentation import timeline_entry
from relay.stream_events import Labels, stream_event
from relay.views import messages, relay_views
from relay.views.stream import sequence_numbers
from spool.record import Record
from spool.views import Views

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
DOMAIN = "news.example"
AT_US = 1_790_000_000_123_456
AT = "2026-09-21T14:13:20.123456Z"

every_kind = pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=EVENT_TYPES)


# ------------------------------------------------------------------------------------------------ what a class says


@every_kind
def test_a_class_says_what_it_is_about_and_for_itself_whether_it_is_streamed(kind: type[Event]) -> None:
    assert kind.ABOUT in get_args(About)
    assert vars(kind)["STREAMED"] in (True, False)


@every_kind
def test_what_is_streamed_belongs_to_somebody(kind: type[Event]) -> None:
    assert not kind.STREAMED or issubclass(kind, OwnedEvent)


@every_kind
def test_whoever_imports_it_finds_it_in_the_room_itself(kind: type[Event]) -> None:
    assert getattr(relay.events, kind.__name__) is kind
    assert kind.__name__ in relay.events.__all__


def test_no_two_classes_have_one_type() -> None:
    def kinds(of: type[Event]) -> Iterator[type[Event]]:
        for kind in of.__subclasses__():
            if "TYPE" in vars(kind) and kind.__module__.startswith("relay."):
                yield kind
            yield from kinds(kind)

    found = list(kinds(Event))
    assert found
    assert sorted(kind.TYPE for kind in found) == sorted(EVENT_TYPES)
    assert all(EVENT_TYPES[kind.TYPE] is kind for kind in found)


def test_what_is_about_a_message_says_which_message() -> None:
    """By its `message_id`, or because the message begins with it: then its own sequence number is the id."""
    begin = {kind.TYPE for kind in EVENT_TYPES.values() if kind.ABOUT == "message"} - {
        kind.TYPE for kind in EVENT_TYPES.values() if issubclass(kind, MessageEvent)
    }
    notices = {"dsn.queued", "confirmation.queued", "forward.queued", "webhook_notice.queued", "alarm.queued"}
    assert begin == {"message.queued", *notices}


# ------------------------------------------------------------------------------------------------ and nothing else


class MessagePraised(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "message.praised"
    STREAMED = True
    stars: int


class DomainRenewed(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "domain.renewed"
    STREAMED = True
    until: int


class MemberWarned(MemberEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A note among operators."""

    TYPE = "member.warned"
    STREAMED = False
    why: str


STORY: list[Event] = [
    MemberAdded(did=DID),
    DomainAdded(did=DID, domain=DOMAIN, selector_stem="s", rsa_public="r", ed25519_public="e"),
    SendAccepted(
        did=DID,
        domain=DOMAIN,
        category="bulk",
        recipients=1,
        key_id="k",
        selector_stem="s",
        operator_domain="relay.example",
        operator_stem="o",
        message_id_entropy="m",
    ),
    MessageQueued(
        did=DID,
        domain=DOMAIN,
        category="bulk",
        index=1,
        next_attempt_at=AT_US,
        give_up_at=AT_US,
        personal=Recipient(given="bob@example.com", address="bob@example.com"),
    ),
]
MESSAGE_ID = 4
PRAISED = MessagePraised(did=DID, message_id=MESSAGE_ID, stars=5)
RENEWED = DomainRenewed(did=DID, domain=DOMAIN, until=1)
WARNED = MemberWarned(did=DID, why="patience")


def record_of(seq: int, event: Event) -> Record:
    return Record(seq, AT_US, seq, True, *encode(event), bytes(32), seq.to_bytes(32), False, 1, seq)


@contextmanager
def folded(*more: Event) -> Iterator[Views[Recorded]]:
    """The views of the story with these behind it."""
    with tempfile.TemporaryDirectory() as name:
        views = relay_views(Path(name))
        views.open()
        try:
            views.apply([record_of(seq, event) for seq, event in enumerate([*STORY, *more], 1)])
            yield views
        finally:
            views.close()


@pytest.fixture
def _they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (MessagePraised, DomainRenewed, MemberWarned):
        monkeypatch.setitem(EVENT_TYPES, kind.TYPE, kind)


def tables_that_differ(event: Event) -> set[str]:
    with folded() as before, folded(event) as after:
        was, now = before.digests(), after.digests()
    differ = {table for table, digest in now.items() if was[table] != digest}
    return differ - {"index"}  # the log's own: where each record stands


def shown(event: Event) -> dict[str, object]:
    recorded = Recorded(9, AT_US, event)
    found: dict[str, object] = msgspec.to_builtins(
        stream_event(recorded, lambda message_id: Labels("bob@example.com"))
    )
    return found


@pytest.mark.usefixtures("_they_are_known")
def test_what_happens_to_a_message_is_in_its_timeline_and_in_the_stream() -> None:
    assert tables_that_differ(PRAISED) == {"timeline", "stream"}
    with folded(PRAISED) as views, views.read() as view:
        assert messages.timeline(view, MESSAGE_ID) == [MESSAGE_ID, 5]
        assert sequence_numbers(view, DID, after=MESSAGE_ID, limit=9) == [5]
    entry = {"seq": 9, "time": AT, "type": "message.praised"}
    assert msgspec.to_builtins(timeline_entry(Recorded(9, AT_US, PRAISED), MESSAGE_ID)) == entry
    assert shown(PRAISED) == entry | {"messageId": MESSAGE_ID, "recipient": "bob@example.com"}


@pytest.mark.usefixtures("_they_are_known")
def test_what_happens_to_a_domain_is_in_the_stream() -> None:
    assert tables_that_differ(RENEWED) == {"stream"}
    assert shown(RENEWED) == {"seq": 9, "time": AT, "type": "domain.renewed", "domain": DOMAIN}
    with pytest.raises(AssertionError, match=r"domain\.renewed is in no message's timeline"):
        timeline_entry(Recorded(9, AT_US, RENEWED), MESSAGE_ID)


@pytest.mark.usefixtures("_they_are_known")
def test_what_is_not_streamed_is_shown_to_no_member() -> None:
    assert tables_that_differ(WARNED) == set()
    with pytest.raises(AssertionError, match=r"member\.warned is in no member's stream"):
        shown(WARNED)
