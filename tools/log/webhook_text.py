"""What an event of a webhook says, in words for people: what somebody ordered, or how its endpoint does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.output import counted

_Data = dict[str, Any]

_ENDS = {"key_revoked": ", with the key that made it", "member_removed": ", with its member"}
_CAUSES = {"gone": "its endpoint is gone", "failing": "it took nothing for five days"}


def told_of_webhook(name: str, data: _Data) -> str:
    """Without who ordered it."""
    whose = data["did"] or "the operator"
    return f"webhook {data['webhook_id']} of {whose} {_STORIES[name](data)}"


def _added(data: _Data) -> str:
    types = ", ".join(data.get("types", [])) or "all events"
    return f"is added: it is told of {types} after {data['cursor']}"


def _removed(data: _Data) -> str:
    return "is removed" + _ENDS.get(data.get("because", ""), "")


def _rewound(data: _Data) -> str:
    return f"is told again of the events after {data['after_seq']} and up to {data['until_seq']}"


def _progressed(data: _Data) -> str:
    told = f"was told of everything up to {data['until_seq']}"
    if data.get("replayed_seq") is not None:
        told += f", and again up to {data['replayed_seq']}"
    if data.get("failures"):
        told += f"; {counted(data['failures'], 'request')} failed since then, the last with {_outcome(data)}"
    return told


def _rotated(data: _Data) -> str:
    return f"has secret {data['secret_version']}, made by pepper {data['pepper']}"


def _skipped(data: _Data) -> str:
    return f"is not told of {data['skipped_seq']}, which it refused for a day with HTTP {data['http_status']}"


def _disabled(data: _Data) -> str:
    cause = _CAUSES.get(data["because"], data["because"])
    return f"is disabled at {data['until_seq']}: {cause}, and answered last with {_outcome(data)}"


def _outcome(data: _Data) -> str:
    status = data.get("http_status")
    return f"HTTP {status}" if status is not None else str(data.get("error") or "nothing")


_STORIES: dict[str, Callable[[_Data], str]] = {
    "webhook.added": _added,
    "webhook.disabled": _disabled,
    "webhook.paused": lambda data: "is paused",
    "webhook.progressed": _progressed,
    "webhook.removed": _removed,
    "webhook.resumed": lambda data: "goes on",
    "webhook.rewound": _rewound,
    "webhook.secret_rotated": _rotated,
    "webhook.skipped": _skipped,
}
WEBHOOK_TYPES = tuple(_STORIES)
