"""To whom a member's mail may not go, and the calls that tell the member of it."""

from __future__ import annotations

from relay.events.base import Personal, RecipientEvent


class SuppressedRecipient(Personal, frozen=True, kw_only=True, omit_defaults=True):
    address: str
    #: A free note of the member, beside the reason `manual`.
    note: str | None = None


class RecipientSuppressed(RecipientEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The member's mail may not go to this address any more, for this reason as well as for those it had.

    Its payload stays for the life of the member. Version 2 has `key_id` and `by`.
    """

    TYPE = "recipient.suppressed"
    VERSION = 2
    STREAMED = True
    #: `unsubscribe`, `complaint`, `manual` or `bounced` (a final bounce said that there is no such mailbox any more).
    reason: str
    #: The message that was complained about, whose link was followed, or that bounced.
    message_id: int | None = None
    #: When the member's own unsubscribe URL is to be called; None where it gave none.
    call_at: int | None = None
    #: Of a `manual` one: the member's key by which it was ordered, or which of the operator's people ordered it.
    key_id: str | None = None
    by: str | None = None
    personal: SuppressedRecipient | None = None


class RecipientUnsuppressed(RecipientEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The member took back its reasons: all but `complaint`. Version 2 has `key_id` and `by`."""

    TYPE = "recipient.unsuppressed"
    VERSION = 2
    STREAMED = True
    key_id: str | None = None
    by: str | None = None
    personal: SuppressedRecipient | None = None


class CallResult(Personal, frozen=True, kw_only=True, omit_defaults=True):
    #: What went wrong, in a sentence.
    error: str | None = None


class UnsubscribeCalled(RecipientEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The member's own unsubscribe URL was called, once more or for the last time (`next_attempt_at` None)."""

    TYPE = "unsubscribe.called"
    STREAMED = False
    #: The `recipient.suppressed` event that it is about.
    suppressed_seq: int
    message_id: int
    attempt: int
    #: The HTTP status of the answer; None where there was none.
    status: int | None = None
    next_attempt_at: int | None = None
    personal: CallResult | None = None
