"""Refusals: the answers of the relay that are not 'yes', with a code for programs and a sentence for people.

The codes and their HTTP statuses are those of SPEC 1.1 and 12, wherever a refusal is given: the HTTP API, the admin
socket, the command line.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

STATUS_OF_CODE = {
    "AUTH_REQUIRED": 400,
    "INVALID_DID": 400,
    "INVALID_REQUEST": 400,
    "AUTH_FAILED": 401,
    "MEMBER_SUSPENDED": 403,
    "SCOPE_INSUFFICIENT": 403,
    "SELF_SERVICE_OFF": 403,
    "DOMAIN_MISMATCH": 403,
    "DOMAIN_UNVERIFIED": 403,
    "DOMAIN_PAUSED": 403,
    "RECIPIENT_SUPPRESSED": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "REQUEST_TIMEOUT": 408,
    "CONFLICT": 409,
    "NOT_CANCELLABLE": 409,
    "SUPPRESSION_LOCKED": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "IDEMPOTENCY_CONFLICT": 422,
    "RATE_LIMITED": 429,
    "TOO_MANY_REPORTS": 429,
    "INTERNAL_ERROR": 500,
    "QUEUE_FULL": 503,
    "TEMPORARILY_UNAVAILABLE": 503,
}


MESSAGE_CHARACTERS_MAX = 1000


class Refusal(Exception):
    """A request was understood and refused, or could not be understood. Nothing was changed."""

    def __init__(self, code: str, message: str, *, retry_after_seconds: int | None = None) -> None:
        # It may quote what the client sent, which may be long.
        message = (
            message if len(message) <= MESSAGE_CHARACTERS_MAX else message[:MESSAGE_CHARACTERS_MAX] + "…"
        )
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    @property
    def http_status(self) -> int:
        return STATUS_OF_CODE[self.code]


def invalid(field: str, problem: str) -> Refusal:
    """A 400 that names the field."""
    return Refusal("INVALID_REQUEST", f"{field}: {problem}")


def nearest_of(given: str, known: Collection[str]) -> str | None:
    """What somebody may have meant who wrote `given`; None: nothing that is near it."""
    plain = {_plain(name): name for name in known}
    found = get_close_matches(_plain(given), plain, n=1, cutoff=0.7)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    """Without what tells `replyTo` from `reply_to`. What is too long to be a name is not compared at length."""
    return name[:64].replace("_", "").replace("-", "").lower()


def crowded() -> Refusal:
    """There is no room for so large a body now: this member has as many under way as one may, or all have."""
    return Refusal(
        "TEMPORARILY_UNAVAILABLE",
        "too many large requests are under way; send fewer at a time, and this one again",
        retry_after_seconds=5,
    )


def unavailable() -> Refusal:
    """The log cannot be written now, or not in time."""
    return Refusal(
        "TEMPORARILY_UNAVAILABLE",
        "the relay cannot write its log now; try again, with an Idempotency-Key to be safe from sending twice",
        retry_after_seconds=5,
    )
