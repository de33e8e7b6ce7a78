"""Answers: JSON, and the one shape of everything that goes wrong (SPEC 1)."""

from __future__ import annotations

import logging
import secrets
from typing import Any, NamedTuple

import msgspec

from relay.api.request import Request, Send
from relay.edge import LOG_UNAVAILABLE, DecisionFailedError
from relay.presentation import ErrorAnswer
from relay.refusals import STATUS_OF_CODE, Refusal, unavailable
from spool.errors import ReadersFullError

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode

_OF_STATUS = {
    404: ("NOT_FOUND", "there is nothing at this path; /openapi.json lists what there is"),
    405: ("METHOD_NOT_ALLOWED", "this path does not take this method; see the Allow header"),
    408: ("REQUEST_TIMEOUT", "the request body did not arrive in time"),
    413: ("PAYLOAD_TOO_LARGE", "the request body is too large for this path"),
}


class Answer(NamedTuple):
    """An answer, whose body is JSON unless `media_type` says otherwise."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    #: With INTERNAL_ERROR: what to look for in the relay's log.
    request_id: str | None = None
    media_type: str = "application/json"

    @classmethod
    def of(cls, value: Any, status: int = 200, *headers: tuple[str, str]) -> Answer:
        return cls(status, _encode(value), headers)

    @classmethod
    def nothing(cls) -> Answer:
        """204: it is done, and there is nothing to say."""
        return cls(204, b"")

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """All headers, as ASGI wants them."""
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers]
        if self.status == 204:  # it has no content to be of a type or length (RFC 9110 8.6)
            return headers
        return [
            (b"content-type", self.media_type.encode()),
            (b"content-length", b"%d" % len(self.body)),
            *headers,
        ]


def path_answer(status: int, sentence: str = "", *, allow: str | None = None) -> tuple[Answer, str]:
    """The answer where the path, the method or the request itself is wrong, and its code."""
    code, sentence = _OF_STATUS.get(
        status, ("INVALID_REQUEST", sentence or "the request cannot be understood")
    )
    headers = () if allow is None else (("Allow", allow),)
    return Answer.of(ErrorAnswer(sentence, code), STATUS_OF_CODE[code], *headers), code


def error_answer(error: Exception, *, method: str, route: Any) -> tuple[Answer, str]:
    """The answer to what a handler raised, and its code. What nobody expected is logged with a request id.

    `route` is the rule that matched, not the path: a path can hold an address.
    """
    if isinstance(error, (*LOG_UNAVAILABLE, ReadersFullError)):
        error = unavailable()
    if not isinstance(error, Refusal):
        request_id = error.request_id if isinstance(error, DecisionFailedError) else secrets.token_hex(8)
        extra = {"request_id": request_id, "method": method, "route": route}
        logger.error("http.defect", exc_info=error, extra=extra)
        sentence = f"a defect of the relay; its log has it under request id {request_id}"
        answer = Answer.of(ErrorAnswer(sentence, "INTERNAL_ERROR", request_id), 500)
        return answer._replace(request_id=request_id), "INTERNAL_ERROR"
    headers = []
    if error.retry_after_seconds is not None:
        headers.append(("Retry-After", str(error.retry_after_seconds)))
    if error.code == "AUTH_FAILED":
        headers.append(("WWW-Authenticate", "Bearer"))
    return Answer.of(ErrorAnswer(error.message, error.code), error.http_status, *headers), error.code


async def give(answer: Answer, request: Request, send: Send) -> None:
    """Answer, and read what is still to come of the request."""
    body = b"" if request.method == "HEAD" else answer.body
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers()})
    if request.is_over:
        await send({"type": "http.response.body", "body": body})
        return
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await request.drop_the_rest()
    await send({"type": "http.response.body", "body": b""})
