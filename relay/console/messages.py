"""A member's messages, newest first, by whatever is looked for: what `find` answers, of this member alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import urlencode

from relay.api.arguments import number_in
from relay.console.pages import Context, page
from relay.console.visit import Visit
from relay.events import BULK_CATEGORIES, DSN_CATEGORY, FORWARD_CATEGORY, TRANSACTIONAL_CATEGORIES
from relay.finding import carried_through
from relay.finding.search import ROWS_OF_MEMBER_MAX, FindAnswer, Search, wanted_in
from relay.message.advice import ADVICE
from relay.refusals import Refusal, invalid
from relay.views.messages import STATUSES

ROWS: Final = 50
#: Query parameter -> the name that `find` has for it.
_FILTERS: Final = {
    "recipient": "recipient",
    "status": "status",
    "class": "bounce_class",
    "category": "category",
    "tag": "tag",
    "since": "since",
    "until": "until",
}
#: Those that are looked for seldom stand behind a word.
_SELDOM: Final = ("class", "category", "tag", "since", "until")
_CATEGORIES: Final = (*TRANSACTIONAL_CATEGORIES, *BULK_CATEGORIES, DSN_CATEGORY, FORWARD_CATEGORY)


@page(
    "GET",
    "/messages",
    "messages.html",
    "Messages",
    nav="Messages",
    arguments=(*_FILTERS, "after"),
)
async def messages(visit: Visit) -> Context:
    given = {name: visit.argument(name) for name in _FILTERS}
    kept = {name: value for name, value in given.items() if value is not None}
    try:
        found = await _found(visit, kept)
    except Refusal as refusal:
        if refusal.code != "INVALID_REQUEST":
            raise
        visit.refused(refusal)
        found = FindAnswer([], None, None)
    return {
        "found": found,
        "given": given,
        "is_filtered": bool(kept),
        "is_refused": visit.status != 200,
        "is_detailed": any(given[name] for name in _SELDOM),
        "keep": urlencode(kept) + "&" if kept else "",
        "is_newest": visit.argument("after") is None,
        "statuses": STATUSES,
        "classes": tuple(ADVICE),
        "categories": _CATEGORIES,
    }


async def _found(visit: Visit, kept: Mapping[str, str]) -> FindAnswer:
    """Raises Refusal(INVALID_REQUEST)."""
    after = visit.argument("after")
    before = None if after is None else number_in(after)
    if after is not None and before is None:
        raise invalid("after", "expected what the link `Older` has")
    wanted = wanted_in(visit.now_us, did=visit.did, **{_FILTERS[name]: value for name, value in kept.items()})
    search = Search(wanted, visit.store.get, limit=ROWS, after=before, rows_max=ROWS_OF_MEMBER_MAX)
    await carried_through(search, visit.store, partial(visit.edge.heavy_work.step, visit.did))
    return search.answer()


PAGES: Final = (messages,)
