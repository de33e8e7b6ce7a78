"""What is recorded of the log itself: what was removed, cut off or built again."""

from __future__ import annotations

import msgspec

from relay.events.base import LogEvent


class PayloadErased(LogEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The personal data of these messages and records are gone for everybody from here on.

    `relay.operator.retention` has the whole story. Durable before the first byte of a payload is removed;
    `log.stripped` says that all of them were.

    Version 2 has `seqs`.
    """

    TYPE = "payload.erased"
    VERSION = 2
    STREAMED = False
    did: str
    #: `retention`: their time was over. `operator`: by an order.
    because: str
    message_ids: list[int] = msgspec.field(default_factory=list)
    #: `send.accepted`s without a message: all recipients were rejected. Other sends go with the last of their messages.
    send_ids: list[int] = msgspec.field(default_factory=list)
    #: Single records (`relay.views.retention`): those that belong to no message, and reports about one. What is named
    #: is that record alone.
    seqs: list[int] = msgspec.field(default_factory=list)
    #: The Unix user who gave the order, and why: kept for good, so it names nobody.
    by: str | None = None
    reason: str | None = None


class LogStripped(LogEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The payloads that `payload.erased` events up to `until` named are no more in the files of who appended this.

    Where several machines have the log, each of the others removes them from its own.
    """

    TYPE = "log.stripped"
    STREAMED = False
    #: Sequence number of the last of these `payload.erased`.
    until: int
    #: How many segments were written anew, and what that removed.
    segments: int
    payloads: int
    bytes_freed: int


class TornTailCut(LogEvent, frozen=True, kw_only=True, omit_defaults=True):
    """At start-up, bytes that had never been acknowledged were cut off the end of the log; a copy was kept."""

    TYPE = "log.torn_tail_cut"
    STREAMED = False
    segment: str
    offset: int
    bytes_cut: int
    #: False where LMDB's witness was gone too, so that the log alone had to judge.
    loss_ruled_out: bool


class ViewsRebuilt(LogEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The views were built again from the log, and why."""

    TYPE = "log.views_rebuilt"
    STREAMED = False
    because: str
