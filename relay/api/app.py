"""The application: its routes, and one JSON shape for everything that goes wrong.

Every error is `{"error": ..., "code": ...}`, also 404, 405, 413 and 500 (SPEC 1), but below `/u/`, where people come:
there it is a page. Nothing redirects: a path with a slash too many is simply not found.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from relay.api import health, member, messages, openapi, send, suppressions, unsubscribe
from relay.api.answers import json_answer
from relay.api.exchange import Exchange
from relay.api.unsubscribe_page import error_page
from relay.core import Core, unavailable
from relay.presentation import ErrorAnswer
from relay.refusals import STATUS_OF_CODE, Refusal
from relay.requests import BODY_BYTES_MAX
from spool.errors import LogClosedError, LogPoisonedError, LogStalledError

logger = logging.getLogger(__name__)

_CODE_OF_STATUS = {
    404: ("NOT_FOUND", "there is nothing at this path; /openapi.json lists what there is"),
    405: ("METHOD_NOT_ALLOWED", "this path does not take this method; see the Allow header"),
    408: ("REQUEST_TIMEOUT", "the request body did not arrive in time"),
    413: ("PAYLOAD_TOO_LARGE", f"the request body is larger than {BODY_BYTES_MAX} bytes"),
}


class _App(QuartTrio):
    """Quart, but that nobody's path gets into the log, and that a websocket where there is none is a JSON 404."""

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await super().asgi_app(scope, receive, send)
            return
        await receive()  # websocket.connect
        code, sentence = _CODE_OF_STATUS[404]
        headers = [(b"content-type", b"application/json")]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        body = msgspec.json.encode(ErrorAnswer(sentence, code))
        await send({"type": "websocket.http.response.body", "body": body, "more_body": False})

    def log_exception(self, exception_info: Any) -> None:
        logger.error("http.unhandled", exc_info=exception_info)


def create_app(core: Core) -> QuartTrio:
    app = _App("relay", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.asgi_http_class = Exchange
    for part in (send, messages, member, suppressions, unsubscribe, health, openapi):
        app.register_blueprint(part.routes(core))

    def count(code: str) -> None:
        if _route() == "/v1/send":
            core.metrics.refused.labels(code).inc()

    @app.errorhandler(Refusal)
    async def refused(error: Refusal) -> Response:
        count(error.code)
        answer = _error_answer(ErrorAnswer(error.message, error.code), error.http_status)
        if error.retry_after_seconds is not None:
            answer.headers["Retry-After"] = str(error.retry_after_seconds)
        if error.code == "AUTH_FAILED":
            answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        code, sentence = _CODE_OF_STATUS.get(
            status, ("INVALID_REQUEST", error.description or "the request cannot be understood")
        )
        count(code)
        answer = _error_answer(ErrorAnswer(sentence, code), STATUS_OF_CODE[code])
        for name, value in error.get_headers():
            if name == "Allow":
                answer.headers[name] = value
        return answer

    @app.errorhandler(LogStalledError)
    @app.errorhandler(LogPoisonedError)
    @app.errorhandler(LogClosedError)
    async def log_unavailable(error: Exception) -> Response:
        return await refused(unavailable())

    @app.errorhandler(Exception)
    async def defect(error: Exception) -> Response:
        request_id = secrets.token_hex(8)
        logger.error(
            "http.defect",
            exc_info=error,
            extra={"request_id": request_id, "method": request.method, "route": _route()},
        )
        count("INTERNAL_ERROR")
        sentence = f"a defect of the relay; its log has it under request id {request_id}"
        return _error_answer(ErrorAnswer(sentence, "INTERNAL_ERROR", request_id), 500)

    return app


def _error_answer(error: ErrorAnswer, status: int) -> Response:
    """JSON for programs; below `/u/`, a page for a person."""
    if unsubscribe.is_below(request.path):
        return error_page(status, error.request_id)
    return json_answer(error, status)


def _route() -> Any:
    """The rule that matched, not the path: a path can hold an address."""
    return request.url_rule.rule if request.url_rule else None
