"""The member's API keys: to see, to make and to revoke. A key itself is shown once, on the page that made it."""

from __future__ import annotations

from typing import Final

from relay.console.desk import Shown, desk_of
from relay.console.pages import Context, See, page
from relay.console.visit import Form, Visit
from relay.decisions.keys import ACTIVE_KEYS_MAX
from relay.events import BULK_CATEGORIES, TRANSACTIONAL_CATEGORIES
from relay.principals import FULL, SEND, Scope
from relay.refusals import Refusal, invalid

_SAYS: Final = {"revoked": "The key is revoked: it is good for nothing any more."}
_SCOPES: Final[dict[str, Scope]] = {"send": SEND, "full": FULL}


@page("GET", "/keys", "keys.html", "API keys", nav="Keys", says=_SAYS)
async def keys(visit: Visit) -> Context:
    found = await desk_of(visit).keys()
    return {
        "active": [key for key in found if key["status"] == "active"],
        "revoked": sorted(
            (key for key in found if key["status"] != "active"),
            key=lambda key: key["revokedAt"],
            reverse=True,
        ),
        "most": ACTIVE_KEYS_MAX,
        "transactional": TRANSACTIONAL_CATEGORIES,
        "bulk": BULK_CATEGORIES,
    }


@page("POST", "/keys", "key_issued.html", "A new API key", again=keys)
async def issue(visit: Visit) -> Context:
    form = await visit.form()
    made = await desk_of(visit).issue_key(_scope(form), form.one("category") or None)
    return {"key": made}


def _scope(form: Form) -> Scope:
    given = form.one("scope")
    if given not in _SCOPES:
        raise invalid("scope", "expected send or full")
    return _SCOPES[given]


@page("GET", "/keys/{key_id}/revoke", "key_revoke.html", "Revoke a key")
async def revoking(visit: Visit) -> Context:
    """What would end, before anything does."""
    all_keys = await desk_of(visit).keys()
    key = next((key for key in all_keys if key["keyId"] == visit.in_path["key_id"]), None)
    if key is None:
        raise Refusal("NOT_FOUND", f"key: there is no key {visit.in_path['key_id'][:100]}")
    return {"key": key, "made": _came_of(key, all_keys)}


def _came_of(key: Shown, all_keys: list[Shown]) -> list[Shown]:
    """The active keys that it made, that those made, and so on."""
    ids = {key["keyId"]}
    for _ in all_keys:
        ids |= {each["keyId"] for each in all_keys if each["issuedBy"] in ids}
    return [
        each
        for each in all_keys
        if each["keyId"] in ids and each["keyId"] != key["keyId"] and each["status"] == "active"
    ]


@page("POST", "/keys/{key_id}/revoke", "key_revoke.html", "Revoke a key", again=revoking)
async def revoke(visit: Visit) -> See:
    form = await visit.form()
    await desk_of(visit).revoke_key(
        visit.in_path["key_id"],
        all_of_it=form.one("all_of_it") == "yes",
        self_too=form.one("self_too") == "yes",
    )
    return See("/keys", "revoked")


PAGES: Final = (keys, issue, revoking, revoke)
