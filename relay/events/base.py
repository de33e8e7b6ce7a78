"""What all events share, and what those that are about the same kind of thing share.

An event's class says what it is about (`ABOUT`) and whether its member sees it (`STREAMED`). The views, the stream and
the timelines go by these two, and by the classes here: an event that is new to them has its place in them already.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

#: In whose story an event stands. `message`: it is in that message's timeline, and its payload goes with the message's
#: (that of a report that came in by mail at a time of its own).
About = Literal["member", "key", "domain", "send", "message", "recipient", "webhook", "log", "relay"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What all events share. `TYPE` and `VERSION` stand in the log; class names do not.

    A field that the class does not know is an error: left out of a fold in silence, it would make the views a lie.
    """

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    ABOUT: ClassVar[About]
    #: Whether the member to whom it belongs sees it, on the stream and in `/v1/events`. Each class says it for itself:
    #: what is shown to members is decided, and never inherited.
    STREAMED: ClassVar[bool]

    personal: Any = None


class Personal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The part of an event that retention removes."""


class OwnedEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """It belongs to a member. All that is streamed does."""

    did: str


class MemberEvent(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """It changes what a member may do."""

    ABOUT = "member"


class KeyEvent(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """It is about one of a member's API keys."""

    ABOUT = "key"
    key_id: str


class DomainEvent(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """It is about a member's sending domain."""

    ABOUT = "domain"
    domain: str


class MessageEvent(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """It happened to a message after that was queued."""

    ABOUT = "message"
    message_id: int


class RecipientEvent(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """It is about somebody to whom a member writes, or must not write."""

    ABOUT = "recipient"


class RelayEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """It is about the relay itself: its own keys and secrets."""

    ABOUT = "relay"


class LogEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """It tells what was done to the log itself."""

    ABOUT = "log"
