"""One message: what happened, in a sentence and step by step, and what to do; as it is, or as it was.

What the mail holds has a page of its own (`message_contents`): it may be large, and this page is what somebody waits
for who asks why a mail did not arrive.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from relay.api.messages import detail_of
from relay.console.message_contents import own_message
from relay.console.pages import Context, See, page
from relay.console.sending_again import AGAIN_OF, send_again
from relay.console.timeline_picture import picture_of
from relay.console.visit import Visit
from relay.own_messages import OwnMessages
from relay.presentation import MessageDetail
from relay.refusals import Refusal, invalid
from relay.story_in_words import Step, last_words, next_attempt, quoted, sentence, steps, what_to_do
from relay.views.messages import WAITING

#: Of a timeline that is longer, the first and the last so many are shown.
STEPS_SHOWN: Final = 20
_is_number: Final = re.compile(r"[1-9][0-9]{0,15}").fullmatch

_SAYS: Final = {
    "cancelled": "It is cancelled, and will not be sent.",
    "again": "This is the new message. The one before stays as it is.",
}


@page(
    "GET",
    "/messages/{message_id}",
    "message.html",
    "Message",
    arguments=("asOf", "step"),
    says=_SAYS,
)
async def message(visit: Visit) -> Context:
    state = own_message(visit)
    now = detail_of(visit.store, visit.did, state.message_id, None)
    shown = _as_asked(visit, now)
    told = steps(shown)
    is_now = len(shown.timeline) == len(now.timeline)
    return {
        "title": shown.subject or f"Message {state.message_id}",
        "message": shown,
        "domain": state.domain,
        "sentence": sentence(shown),
        "to_do": what_to_do(shown),
        "last_words": last_words(shown),
        "next_attempt": next_attempt(shown),
        "quoted": quoted,
        "first_steps": told if len(told) <= 2 * STEPS_SHOWN else told[:STEPS_SHOWN],
        "left_out": max(0, len(told) - 2 * STEPS_SHOWN),
        "last_steps": [] if len(told) <= 2 * STEPS_SHOWN else told[-STEPS_SHOWN:],
        "picture": picture_of(told, visit.now_us if shown.status in WAITING and is_now else None),
        "steps_of_now": now.timeline,
        "step": len(shown.timeline),
        "is_now": is_now,
        "again_of": _again_of(shown),
        "may_cancel": is_now and shown.status == "queued" and not _was_tried(told),
        "may_send_again": is_now
        and now.send_id is not None
        and shown.status not in WAITING
        and now.via == "http",
        "once": secrets.token_hex(16),
    }


def _as_asked(visit: Visit, now: MessageDetail) -> MessageDetail:
    """As of `asOf`, a sequence number or a time; or after so many steps. Raises Refusal."""
    step = visit.argument("step")
    as_of = visit.argument("asOf")
    if step is not None:
        if as_of is not None or not _is_number(step) or int(step) > len(now.timeline):
            raise invalid("step", f"expected a number from 1 to {len(now.timeline)}")
        as_of = str(now.timeline[int(step) - 1].seq)
    return now if as_of is None else detail_of(visit.store, visit.did, now.message_id, as_of)


def _again_of(shown: MessageDetail) -> str | None:
    """The number of the message that this one was made of."""
    given = (shown.metadata or {}).get(AGAIN_OF, "")
    return given if _is_number(given) else None


def _was_tried(told: list[Step]) -> bool:
    return any(step.entry.type == "attempt.started" for step in told)


def _check_is_the_members(visit: Visit) -> None:
    """Raises Refusal: what a member decides about its mail, the operator does not decide in its name."""
    if visit.by_operator:
        raise Refusal(
            "NOT_FOUND", "This is for the member alone. Orders about what waits are given in the queue."
        )


@page("POST", "/messages/{message_id}/cancel", "message.html", "Message", again=message)
async def cancel(visit: Visit) -> See:
    _check_is_the_members(visit)
    state = own_message(visit)
    await visit.decide("cancel_messages", OwnMessages(message_id=state.message_id))
    return See(f"/messages/{state.message_id}", "cancelled")


@page("POST", "/messages/{message_id}/again", "message.html", "Message", again=message)
async def again(visit: Visit) -> See:
    _check_is_the_members(visit)
    form = await visit.form()
    return See(f"/messages/{await send_again(visit, own_message(visit), form.one('once'))}", "again")


PAGES: Final = (message, cancel, again)
