"""Members' handles: names that people know, and by which a member may log in over SMTP.

A handle has one holder at most. It is *proved* once it was seen to name the member's DID, and the DID's document
to name it.
"""

from __future__ import annotations

from relay.events.base import MemberEvent


class HandleEvent(MemberEvent, frozen=True, kw_only=True, omit_defaults=True):
    """It is about a member's handle."""

    #: In normal form (`relay.handles`).
    handle: str


class MemberHandleSet(HandleEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The member holds this handle from now on, in the place of any other that it held."""

    TYPE = "member.handle_set"
    STREAMED = True
    #: Both directions were seen to be right. False: nobody has looked, or could tell; it is looked at soon.
    proved: bool = False
    #: The member that held it until now: the newer proof wins.
    instead_of: str | None = None
    #: The Unix user who gave the order. It stays for good, as in `message.held`.
    by: str | None = None


class MemberHandleVerified(HandleEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A later look found both directions to be right."""

    TYPE = "member.handle_verified"
    STREAMED = True


class MemberHandleCheckFailed(HandleEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A direction was found to be wrong. The member keeps the handle until the grace time is over."""

    TYPE = "member.handle_check_failed"
    STREAMED = True
    #: Which: `handle` does not name the DID, `document` does not name the handle.
    failed: list[str]


class MemberHandleLost(HandleEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The member has no handle any more.

    `because`: `unproved`, the grace time after a failed check is over; `proved`, another member proved that the
    handle is its own; or `operator`, who took it back.
    """

    TYPE = "member.handle_lost"
    STREAMED = True
    because: str
    #: With `unproved`, as in `member.handle_check_failed`.
    failed: list[str] | None = None
    #: With `operator`: the Unix user.
    by: str | None = None
