"""What waits, by site and lane, and the operator's hand on it: hurry, hold, let go, cancel.

An order is shown before it is given: how many messages wait that it would be about, and the first of them. It is then
about these and no later ones (`until`), in pieces of so many as one order takes; what is left of it is one click more.
"""

from __future__ import annotations

from typing import Any, Final

from relay.console.pages import Context, See, page
from relay.console.visit import Form, Visit
from relay.refusals import Refusal, invalid

SITES_MAX: Final = 200
MESSAGES_MAX: Final = 100
#: Act -> the command, what it is called, and whether it needs a reason.
ACTS: Final = {
    "flush": ("queue_flush", "Try now", False),
    "hold": ("queue_hold", "Hold", True),
    "release": ("queue_release", "Release", False),
    "cancel": ("queue_cancel", "Cancel", True),
}


@page("GET", "/queue", "operator_queue.html", "Queue", nav="Queue", arguments=("site", "member"))
async def queue(visit: Visit) -> Context:
    site, did = visit.argument("site"), visit.argument("member")
    selection = {"site": site, "did": did}
    messages: Any = None
    if site is not None or did is not None:
        messages = await visit.order("queue_list", **selection, limit=MESSAGES_MAX)
    sites: Any = {"sites": [], "total": 0}
    if messages is None:
        sites = await visit.order("queue_list", limit=SITES_MAX)
    most = max((each["waiting"] for each in sites["sites"]), default=0)
    return {
        "site": site or "",
        "member": did or "",
        "sites": sites["sites"],
        "total": sites["total"],
        "most": most,
        "messages": messages,
        "acts": ACTS,
    }


@page("POST", "/queue/preview", "operator_queue_preview.html", "Before this order is given", again=queue)
async def preview(visit: Visit) -> Context:
    form = await visit.form()
    act = _act_in(form)
    selection = _selection_in(form)
    shown = {name: value for name, value in selection.items() if name != "everything"}
    waiting = await visit.order("queue_list", **shown, each=True, limit=20)
    newest = await visit.order("status")
    return {
        "act": act,
        "label": ACTS[act][1],
        "needs_reason": ACTS[act][2],
        "waiting": waiting,
        "fields": [*_fields(form), ("until", str(newest["lastSeq"]))],
    }


@page("POST", "/queue/order", "operator_queue_done.html", "Order given", again=queue)
async def give_order(visit: Visit) -> Context | See:
    form = await visit.form()
    act = _act_in(form)
    command, label, needs_reason = ACTS[act]
    reason = form.one("reason")
    if needs_reason and not reason:
        raise Refusal("INVALID_REQUEST", f"reason: say why; it is kept with each message ({label.lower()})")
    answer = await visit.order(
        command,
        **_selection_in(form),
        reason=reason or None,
        after=_number_in(form, "after") or 0,
        until=_number_in(form, "until"),
    )
    following = [(name, value) for name, value in _fields(form) if name not in ("after", "until")]
    if answer["next"] is not None:
        following += [("after", str(answer["next"])), ("until", str(answer["until"])), ("reason", reason)]
    return {"act": act, "label": label, "answer": answer, "fields": following}


def _act_in(form: Form) -> str:
    act = form.one("act")
    if act not in ACTS:
        raise invalid("act", f"expected one of {', '.join(ACTS)}")
    return act


def _selection_in(form: Form) -> dict[str, Any]:
    """Which messages: never all that wait because a field was empty."""
    numbers = [_number(each) for each in form.all("message")]
    return {
        "message": numbers or None,
        "did": form.one("did") or None,
        "site": form.one("site") or None,
        "everything": form.one("everything") == "yes",
    }


def _fields(form: Form) -> list[tuple[str, str]]:
    """The selection and the act, for the form that follows."""
    single = [(name, form.one(name)) for name in ("act", "did", "site", "everything")]
    return [
        *((name, value) for name, value in single if value),
        *(("message", each) for each in form.all("message")),
    ]


def _number_in(form: Form, name: str) -> int | None:
    text = form.one(name)
    return _number(text) if text else None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise invalid("message", f"{text[:30]!r} is no number")
    return int(text)


PAGES: Final = (queue, preview, give_order)
