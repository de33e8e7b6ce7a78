"""What is done to a message that waits: it is held, let go of, given another time."""

from __future__ import annotations

from relay.events.base import MessageEvent, OwnedEvent, Personal


class OperatorsReason(Personal, frozen=True, kw_only=True, omit_defaults=True):
    """Why the operator gave an order. What people type may name people: retention removes it."""

    why: str


class MessageHeld(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The message must not be tried now. Its status stays; it waits to be released.

    `because`: `domain` (its sending domain is paused) or `member` (its member is suspended), found when it came up for
    an attempt, and `held.released` releases it after that was resumed; or `operator`, who ordered it, and
    `message.released` releases it. One holder holds a message: the operator's hold takes the place of another, which
    comes back, where it still must, when the message comes up again.

    Version 2 has `by` and the reason.
    """

    TYPE = "message.held"
    VERSION = 2
    STREAMED = True
    because: str
    #: The Unix user who gave the order. It stays for good: months later, somebody asks who it was.
    by: str | None = None
    personal: OperatorsReason | None = None


class MessageReleased(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The operator holds the message no more: it is due again at its old time."""

    TYPE = "message.released"
    STREAMED = True
    by: str
    personal: OperatorsReason | None = None


class MessageRescheduled(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The operator, or the member, gave a waiting message another time for its next attempt.

    Version 2 has `give_up_at` and `key_id`, and can have no `by`.
    """

    TYPE = "message.rescheduled"
    VERSION = 2
    STREAMED = True
    next_attempt_at: int
    #: The Unix user who gave the order; None: the member did, by this key.
    by: str | None = None
    key_id: str | None = None
    #: None: it stays as it is.
    give_up_at: int | None = None
    personal: OperatorsReason | None = None


class HeldReleased(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """These messages of the member are held no more by their domain or their member (`because`), which may send again:
    each is due at its old time. One that something else holds by now stays held.

    It names many, because a resume may release a hundred thousand, and an event and a row in the timeline of each would
    tell nobody anything: the member's stream has what resumed them, and their timelines have what comes next.
    """

    TYPE = "held.released"
    ABOUT = "member"
    STREAMED = False
    #: `domain` or `member`, as in `message.held`.
    because: str
    message_ids: list[int]
