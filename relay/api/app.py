"""The application: its routes, and one JSON shape for everything that goes wrong.

Every error is `{"error": ..., "code": ...}`, also 404, 405, 413 and 500 (SPEC 1), but below `/u/`, where people come:
there it is a page. Nothing redirects: a path with a slash too many is simply not found.
"""

from __future__ import annotations

import logging
from typing import Any

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from relay.api import events, health, member, messages, openapi, send, stream, suppressions, unsubscribe
from relay.api.answers import Answer, error_answer, path_answer
from relay.api.exchange import Exchange
from relay.api.plain import PlainPath
from relay.api.unsubscribe_page import error_page
from relay.core import Core
from relay.requests import BODY_BYTES_MAX

logger = logging.getLogger(__name__)


class _App(QuartTrio):
    """Quart, but that `POST /v1/send` and websockets go past it, and that nobody's path gets into the log."""

    def __init__(self, core: Core, plain: PlainPath) -> None:
        super().__init__("relay", static_folder=None)
        self._core = core
        self._plain = plain

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == self._plain.path:
            await self._plain(scope, receive, send)
        elif scope["type"] != "websocket":
            await super().asgi_app(scope, receive, send)
        elif scope["path"] == stream.PATH:
            await stream.serve_stream(self._core, scope, receive, send)
        else:
            await receive()  # websocket.connect
            answer, _ = path_answer(404)
            await stream.answer_by_http(send, answer)

    def log_exception(self, exception_info: Any) -> None:
        logger.error("http.unhandled", exc_info=exception_info)


def create_app(core: Core) -> QuartTrio:
    def count(code: str) -> None:
        core.metrics.refused.labels(code).inc()

    app = _App(core, PlainPath(send.PATH, send.handler(core), count))
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.asgi_http_class = Exchange
    for part in (messages, events, member, suppressions, unsubscribe, health, openapi):
        app.register_blueprint(part.routes(core))

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        allow = next((value for name, value in error.get_headers() if name == "Allow"), None)
        answer, _ = path_answer(error.code or 500, error.description or "", allow=allow)
        return _respond(answer)

    @app.errorhandler(Exception)
    async def other_error(error: Exception) -> Response:
        answer, _ = error_answer(error, method=request.method, route=_route())
        return _respond(answer)

    return app


def _respond(answer: Answer) -> Response:
    """JSON for programs; below `/u/`, a page for a person."""
    if not unsubscribe.is_below(request.path):
        return answer.as_response()
    page = error_page(answer.status, answer.request_id)
    page.headers.extend(answer.headers)
    return page


def _route() -> Any:
    """The rule that matched, not the path: a path can hold an address."""
    return request.url_rule.rule if request.url_rule else None
