"""The operator's questions: which messages (Find), and what became of how many (Top)."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from relay.console.pages import Context, page
from relay.console.visit import Visit
from relay.finding.totals import BYS, ORDERS
from relay.message.advice import ADVICE
from relay.providers import PROVIDERS
from relay.refusals import Refusal
from relay.views.messages import STATUSES

#: Field of the form -> its label, and an example.
FIELDS: Final = (
    ("recipient", "Recipient", "friend@example.com"),
    ("from", "From", "you@yourdomain.com"),
    ("domain", "Sending domain", "yourdomain.com"),
    ("did", "Member", "did:plc:…"),
    ("status", "Status", "bounced"),
    ("class", "Class of failure", "invalid_recipient"),
    ("provider", "Provider", "google"),
    ("mx", "MX host", "mx.example.com"),
    ("since", "Since", "2h, yesterday, 2026-11-30"),
    ("until", "Until", ""),
)
#: Of fields that take one of a few words.
CHOICES: Final = {"status": STATUSES, "class": tuple(ADVICE), "provider": tuple(PROVIDERS)}
MESSAGES_MAX: Final = 50
ROWS_MAX: Final = 50


@page(
    "GET",
    "/find",
    "operator_find.html",
    "Find messages",
    nav="Find",
    arguments=(*(name for name, _, _ in FIELDS), "after"),
)
async def find(visit: Visit) -> Context:
    given = {name: value for name, _, _ in FIELDS if (value := visit.argument(name)) is not None}
    found, said = None, ""
    # The newest of all, where nothing is asked.
    try:
        found = await visit.order(
            "find", **given, limit=MESSAGES_MAX, after=_after_in(visit.argument("after"))
        )
    except Refusal as refusal:
        said = refusal.message
    return {
        "fields": FIELDS,
        "choices": CHOICES,
        "given": given,
        "found": found,
        "said_wrong": said,
        "keep": f"{urlencode(given)}&" if given else "",
    }


def _after_in(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 17 else text


@page(
    "GET",
    "/top",
    "operator_top.html",
    "What became of how many",
    nav="Top",
    arguments=("by", "order", "since", "until"),
)
async def top(visit: Visit) -> Context:
    by, order = visit.argument("by") or "receiver", visit.argument("order") or "messages"
    since, until = visit.argument("since") or "7d", visit.argument("until")
    answer, said = None, ""
    try:
        answer = await visit.order("top", by=by, order=order, since=since, until=until, limit=ROWS_MAX)
    except Refusal as refusal:
        said = refusal.message
    return {
        "bys": BYS,
        "orders": ORDERS,
        "by": by,
        "order": order,
        "since": since,
        "until": until or "",
        "answer": answer,
        "said_wrong": said,
        "link_field": {
            "receiver": "mx",
            "class": "class",
            "domain": "domain",
            "member": "did",
            "provider": "provider",
        }.get(by, ""),
    }


PAGES: Final = (find, top)
