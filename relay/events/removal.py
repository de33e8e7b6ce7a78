"""The end of an enrolment and of a membership."""

from __future__ import annotations

import msgspec

from relay.events.base import DomainEvent, MemberEvent
from relay.events.queue import OperatorsReason


class DomainRemoved(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The member's enrolment of the domain has ended; what waits of it is cancelled.

    `because`: `operator`, who ordered it; `member`, which was removed; or `proved`: it had never been verified, and
    another member has proved the name to be its own.
    """

    TYPE = "domain.removed"
    STREAMED = True
    because: str
    #: Of the keys that signed for it, or were to: they are kept until nothing signed with them needs them.
    selector_stems: list[str] = msgspec.field(default_factory=list)
    #: The Unix user who gave the order. It stays for good, as in `message.held`.
    by: str | None = None
    personal: OperatorsReason | None = None


class MemberRemoved(MemberEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The DID is no member any more. Its keys were revoked and its domains removed with it, in the same batch; its
    suppression list stays, for it and for whoever clicks a link in its mail."""

    TYPE = "member.removed"
    STREAMED = True
    by: str | None = None
    personal: OperatorsReason | None = None
