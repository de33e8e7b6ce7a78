"""What schemathesis is told of this relay beyond its document, loaded by `tests.campaigns.api` (SCHEMATHESIS_HOOKS).

The document cannot say which `from` is enrolled, which message ids exist, or what a page's `next` was. So in three
quarters of the calls, chosen by what the call is (the same seed makes the same), those values that would lead to a
refusal are replaced by ones that earlier answers gave, or that the campaign knows; everything else stays as
schemathesis made it. The rest is sent untouched. At the end the statuses of each operation are written to the file
that API_CAMPAIGN_STATUSES names.
"""

import atexit
import hashlib
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any, get_args

import schemathesis

from relay.send_body import Category

FROM_DOMAIN = os.environ.get("API_CAMPAIGN_DOMAIN", "")
RECIPIENTS = ("ann@friends.example", "Bob <bob@friends.example>", "carol@example.com", "süß@bücher.example")

#: One of them is sent to, besides others, so that some are rejected.
SUPPRESSED = ("dora@friends.example", "emil@friends.example")
OPTIONAL = ("after", "cursor")
_SEND_FIELDS: dict[str, type | tuple[type, ...]] = {
    "subject": str,
    "text": str,
    "html": str,
    "replyTo": str,
    "headers": dict,
    "category": str,
}
_CATEGORIES = get_args(Category)

statuses: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
#: What answers gave: message ids, cursors, pages, addresses.
known: dict[str, list[Any]] = defaultdict(list)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    dice = _dice(case)
    if not FROM_DOMAIN or dice % 4 == 0:
        return
    dice //= 4
    match case.operation.label:
        case "POST /v1/send" if isinstance(case.body, dict):
            case.body = _acceptable(case.body, dice)
            # Few keys are invented, and each stands for one send; the same call again is a replay.
            case.headers["Idempotency-Key"] = f"{dice:x}"
        case "PUT /member/forward-to" if isinstance(case.body, dict):
            case.body = {
                **case.body,
                "domain": FROM_DOMAIN,
                "forward_to": (None, "ops@friends.example")[dice % 2],
            }
        case "POST /v1/suppressions" if isinstance(case.body, dict):
            case.body = {**case.body, "recipient": SUPPRESSED[dice % 2]}
        case "POST /v1/domains/{domain}/verify":
            case.path_parameters["domain"] = FROM_DOMAIN
        case "POST /v1/keys":
            case.body = {
                "scope": ("send", "full")[dice % 2],
                "category": _CATEGORIES[dice % len(_CATEGORIES)],
            }
        case "DELETE /v1/keys/{keyId}":
            _replace(case.path_parameters, "keyId", "key", dice)
        case "GET /v1/messages/{messageId}":
            _replace(case.path_parameters, "messageId", "message", dice)
        case "GET /u/{token}" | "POST /u/{token}":
            case.path_parameters["token"] = os.environ["API_CAMPAIGN_TOKEN"]
        case "DELETE /v1/suppressions/{recipient}":
            _replace(case.path_parameters, "recipient", "suppressed", dice)
        case "GET /v1/messages":
            _replace(case.query, "after", "page of messages", dice)
            case.query["recipient"] = RECIPIENTS[0]
            case.query.pop("status", None)
        case "GET /v1/suppressions":
            _replace(case.query, "after", "page of suppressions", dice)
        case "GET /v1/events":
            _replace(case.query, "cursor", "cursor", dice)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    label = case.operation.label
    statuses[label][response.status_code] += 1
    if response.status_code not in (200, 201) or "json" not in response.headers.get("content-type", [""])[0]:
        return
    answer = response.json()
    match label:
        case "POST /v1/send":
            known["message"] += [item["messageId"] for item in answer["accepted"]]
        case "GET /v1/messages":
            known["page of messages"] += filter(None, [answer.get("next")])
        case "GET /v1/suppressions":
            known["page of suppressions"] += filter(None, [answer.get("next")])
        case "POST /v1/suppressions":
            known["suppressed"].append(answer["recipient"])
        case "GET /v1/events":
            known["cursor"].append(answer["cursor"])
        case "POST /v1/keys":  # never the campaign's own, which it needs
            known["key"].append(answer["keyId"])


def _acceptable(body: dict[str, Any], dice: int) -> dict[str, Any]:
    """The send with a sender who is enrolled, recipients that are addresses, and a body.

    In a third of the cases whatever else is wrong stays; in the others what has a wrong type, or no meaning, is left
    out. Subject, texts, category and some headers are what they were.
    """
    changed = dict(body)
    if dice % 3:
        changed = {
            name: value for name, value in body.items() if isinstance(value, _SEND_FIELDS.get(name, ()))
        }
        changed.setdefault("subject", "")
        if changed.get("category") not in (None, *_CATEGORIES):
            del changed["category"]
    dice //= 3
    changed["from"] = f"you@{FROM_DOMAIN}" if dice % 3 else f"Grüße, you <you@{FROM_DOMAIN}>"
    changed["to"] = RECIPIENTS[dice % 4] if dice % 5 else [*RECIPIENTS, SUPPRESSED[0]]
    if changed.get("replyTo") is not None:
        changed["replyTo"] = RECIPIENTS[0]
    if not isinstance(changed.get("text"), str) and not isinstance(changed.get("html"), str):
        changed["text"] = str(changed.get("subject"))
    if dice % 4:
        changed.pop("headers", None)
    return changed


def _replace(place: Any, name: str, what: str, dice: int) -> None:
    if known[what]:
        place[name] = known[what][dice % len(known[what])]
    elif name in OPTIONAL:
        place.pop(name, None)


def _dice(case: Any) -> int:
    """A number that depends on the call alone."""
    text = repr((case.operation.label, case.path_parameters, case.query, case.body))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:6], "big")


def _write_statuses() -> None:
    path = os.environ.get("API_CAMPAIGN_STATUSES")
    if path:
        Path(path).write_text(json.dumps(statuses))


atexit.register(_write_statuses)
