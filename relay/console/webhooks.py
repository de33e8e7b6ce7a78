"""The member's webhooks: endpoints that are told of events, what they answered last, and orders to them (SPEC 5).

A secret is shown once, on the page that made it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from relay.api.arguments import number_in
from relay.console.desk import Desk, desk_of
from relay.console.pages import Context, Page, See, page
from relay.console.visit import Form, Visit
from relay.decisions.webhooks import BATCH_MAX, STREAMED_TYPES, WEBHOOKS_MAX
from relay.refusals import Refusal, invalid

_SAYS: Final = {
    "removed": "The webhook is removed. Nothing is told to its endpoint any more.",
}
_SAYS_OF_ONE: Final = {
    "paused": "The webhook is paused: nothing is told to it until it is resumed.",
    "resumed": "The webhook is active, and goes on where it stopped.",
    "replayed": "The events are told again, before those that are new.",
}


@page("GET", "/webhooks", "webhooks.html", "Webhooks", nav="Webhooks", says=_SAYS)
async def webhooks(visit: Visit) -> Context:
    return {
        "webhooks": await desk_of(visit).webhooks(),
        "most": WEBHOOKS_MAX,
        "batch_max": BATCH_MAX,
        "types": STREAMED_TYPES,
        "typed": {name: visit.typed(name) for name in ("url", "batch")},
    }


@page("POST", "/webhooks", "webhook_secret.html", "A new webhook", again=webhooks)
async def add(visit: Visit) -> Context:
    form = await visit.form()
    batch = _number(form, "batch") or 1
    if batch > BATCH_MAX:
        raise invalid("batch", f"expected 1 to {BATCH_MAX}")
    return {"webhook": await desk_of(visit).add_webhook(form.one("url"), form.all("type"), batch)}


@page("GET", "/webhooks/{webhook_id}", "webhook.html", "Webhook", says=_SAYS_OF_ONE)
async def webhook(visit: Visit) -> Context:
    return await _as_it_is(visit)


async def _as_it_is(visit: Visit) -> Context:
    return {
        "webhook": await desk_of(visit).webhook(visit.in_path["webhook_id"]),
        "typed": {name: visit.typed(name) for name in ("from", "to")},
    }


def _order(verb: str, done: str, give: Callable[[Desk, str], Awaitable[None]]) -> Page:
    """A button: what is ordered, and the word that then says that it is done."""

    @page("POST", f"/webhooks/{{webhook_id}}/{verb}", "webhook.html", "Webhook", again=webhook)
    async def ordered(visit: Visit) -> See:
        webhook_id = visit.in_path["webhook_id"]
        await give(desk_of(visit), webhook_id)
        return See("/webhooks" if verb == "remove" else f"/webhooks/{webhook_id}", done)

    return ordered


pause = _order("pause", "paused", lambda desk, webhook_id: desk.pause_webhook(webhook_id))
resume = _order("resume", "resumed", lambda desk, webhook_id: desk.resume_webhook(webhook_id))
remove = _order("remove", "removed", lambda desk, webhook_id: desk.remove_webhook(webhook_id))


@page("POST", "/webhooks/{webhook_id}/rotate", "webhook_secret.html", "A new secret", again=webhook)
async def rotate(visit: Visit) -> Context:
    return {"webhook": await desk_of(visit).rotate_webhook(visit.in_path["webhook_id"])}


@page("POST", "/webhooks/{webhook_id}/test", "webhook.html", "Webhook", again=webhook)
async def test(visit: Visit) -> Context:
    """Shown at once: a test that failed is no refusal, and its answer is what was asked for."""
    attempt = await desk_of(visit).test_webhook(visit.in_path["webhook_id"])
    if attempt["taken"]:
        visit.say(f"The test was taken: HTTP {attempt['httpStatus']} in {attempt['seconds']} s.")
    elif attempt["httpStatus"] is not None:
        visit.warn(f"The endpoint did not take the test: it answered HTTP {attempt['httpStatus']}.")
    else:
        visit.warn(f"The endpoint did not take the test: {attempt['error']}.")
    return await _as_it_is(visit)


@page("POST", "/webhooks/{webhook_id}/replay", "webhook.html", "Webhook", again=webhook)
async def replay(visit: Visit) -> See:
    form, webhook_id = await visit.form(), visit.in_path["webhook_id"]
    after = _number(form, "from", zero=True)
    if after is None:
        raise invalid("from", "expected the number of an event, or 0 for all")
    await desk_of(visit).replay_webhook(webhook_id, after, _number(form, "to"))
    return See(f"/webhooks/{webhook_id}", "replayed")


def _number(form: Form, name: str, *, zero: bool = False) -> int | None:
    """None where the field is empty. Raises Refusal(INVALID_REQUEST)."""
    given = form.one(name)
    if not given:
        return None
    number = 0 if zero and given == "0" else number_in(given)
    if number is None:
        raise Refusal("INVALID_REQUEST", f"{name}: expected a number")
    return number


PAGES: Final = (webhooks, add, webhook, pause, resume, remove, rotate, test, replay)
