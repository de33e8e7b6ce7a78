"""A click on an unsubscribe link: whose link it is, and the suppression that follows (RFC 8058; SPEC 3.3).

Who clicks is a stranger; what proves the right to be unsubscribed is the token, which this relay sealed. Nothing else
is needed, and nothing that retention removes, but for the member's own URL, which is then not called.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.core import Core
from relay.data_directory import ReadableStore
from relay.decisions.suppression import suppress
from relay.events import Event
from relay.message.tokens import Unsubscribe, UnsubscribeTokens
from relay.principals import Stranger
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.unsubscribe_calls import members_url
from relay.views import members, messages
from spool.views import Snapshot


class Click(Arguments, frozen=True, kw_only=True):
    """The arguments of `unsubscribe`."""

    token: str


class Link(NamedTuple):
    """What an unsubscribe link stands for."""

    who: Unsubscribe
    #: The message that it came in. Unknown to a relay that was set up again from an older copy of its log: who
    #: unsubscribes is suppressed all the same.
    message: messages.MessageState | None

    @property
    def sending_domain(self) -> str | None:
        return None if self.message is None else self.message.domain


def opened(tokens: UnsubscribeTokens, store: ReadableStore, token: str) -> Link:
    """Whose link it is, also of a member that was removed since. Raises Refusal(NOT_FOUND) for what this relay did not
    seal."""
    who = tokens.open(token)
    if who is None:
        raise Refusal("NOT_FOUND", "this is no unsubscribe link of this relay")
    with store.read() as view:
        if not members.was_member(view, who.did):
            raise Refusal("NOT_FOUND", "this is no unsubscribe link of this relay")
        message = messages.message(view, who.message_id)
    return Link(who, message if message is not None and message.did == who.did else None)


@decision(by=Stranger)
async def unsubscribe(core: Core, click: Click, stranger: Stranger) -> None:
    """Suppress whoever the link was for. A repeat changes nothing. Raises Refusal(NOT_FOUND)."""
    who, message = opened(core.composer.unsubscribe, core.store, click.token)
    calls = message is not None and members_url(core.store, message) is not None

    def decide(view: Snapshot) -> list[Event]:
        return suppress(
            view,
            who.did,
            who.recipient,
            "unsubscribe",
            message_id=None if message is None else message.message_id,
            call_at=core.store.now_us() if calls else None,
        )

    await core.writes.decide(stranger, decide)
