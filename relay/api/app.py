"""The application: which operations there are, and one way through it for all of them.

Every error is `{"error": ..., "code": ...}`, also 404, 405, 413 and 500 (SPEC 1), but below `/emails`, where it has
the shape of Resend's API, and below `/u/` and `/confirm/`, where people come: there it is a page, and Quart serves it.
Nothing redirects: a path with a slash too many is simply not found. A body over its limit is refused as soon as it is
known to be larger, a defect is a 500 with a request id, and an answer that comes before the request is whole leaves no
dead connection (`relay.api.exchange` says why). What is below `/console` is the console's (`relay.console`), where
there is one: it is handed in, and this module knows nothing of it but its contract, `Console`.

Whose request it is, is found out here, for all that comes after (`relay.api.clients`): `scope["client"]` is the address
that a trusted proxy forwards. What is for monitors is not there for anybody else: 404, whatever the method, as for any
path that leads nowhere. A 403 would tell every scanner that there is something to come back for.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from relay.api import (
    batch,
    confirm,
    domains,
    emails,
    events,
    health,
    keys,
    member,
    message_orders,
    messages,
    nodes,
    send,
    stream,
    suppressions,
    unsubscribe,
    unsubscribe_page,
    webhooks,
)
from relay.api.answers import Answer, error_answer, give, path_answer
from relay.api.clients import AtWork, Clients, says_forwarded
from relay.api.exchange import Exchange
from relay.api.listener import too_many
from relay.api.openapi import openapi_operation
from relay.api.operations import Operation, Router
from relay.api.request import Receive, Request, Send
from relay.edge import Edge
from relay.networks import LOOPBACK, is_within, parse_address, parse_networks
from relay.refusals import Refusal, unavailable

logger = logging.getLogger(__name__)

#: In the order in which the document shows them.
_DESCRIBED: tuple[Operation, ...] = (
    send.send,
    batch.send_batch,
    messages.list_messages,
    messages.one_message,
    message_orders.reschedule,
    message_orders.cancel,
    member.member_status,
    member.member_deliverability,
    member.set_forward_to,
    suppressions.list_suppressions,
    suppressions.suppress,
    suppressions.unsuppress,
    domains.list_domains,
    domains.enrol_domain,
    domains.verify_domain,
    keys.list_keys,
    keys.issue_key,
    keys.revoke_key,
    *webhooks.OPERATIONS,
    events.list_events,
    events.no_websocket,
    events.stream_ticket,
    *emails.OPERATIONS,
    *unsubscribe.OPERATIONS,
    *confirm.OPERATIONS,
    health.metrics,
    health.healthz,
    health.readyz,
)
OPERATIONS = (*_DESCRIBED, openapi_operation(_DESCRIBED))
#: What there is besides where the relay runs on several nodes. It is for who balances them.
_OF_NODES: tuple[Operation, ...] = (nodes.leader,)
_OF_BODY = ("Content-Type", "Content-Length")
_FOR_MONITORS = frozenset(each.path for each in OPERATIONS if each.for_monitors)


class Console(Protocol):
    """Pages of its own below `/console`; it answers for all that goes wrong there."""

    async def serve(self, scope: Any, receive: Receive, send: Send) -> None: ...


class App(QuartTrio):
    """Quart for pages, and a way past it for everything else; nobody's path gets into the log."""

    def __init__(self, edge: Edge, console: Console | None = None) -> None:
        super().__init__("relay", static_folder=None)
        self._edge = edge
        self._console = console
        served = OPERATIONS if edge.node is None else (*OPERATIONS, *_OF_NODES)
        self._router = Router(each for each in served if each.handler is not None)
        self._clients = Clients(lambda: edge.config.http.trusted_proxies)
        self._at_work = AtWork(lambda: edge.config.http.connections_per_address_max)

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await super().asgi_app(scope, receive, send)
            return
        if self._edge.node is not None:
            send = nodes.saying_how_late(self._edge.node, send)
        client = self._clients.of(scope)
        if client is None or client.is_trusted:
            await self._dispatch(scope, receive, send)
            return
        turn = self._at_work.begin(client)
        if turn is None:
            await self._turn_away(scope, receive, send)
            return
        try:
            await self._dispatch(
                scope, receive, send if scope["type"] == "http" else turn.until_accepted(send)
            )
        finally:
            turn.end()

    async def _dispatch(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self._console is not None and _is_console(scope["path"]):
            if self._edge.node is not None and self._edge.node.is_unfit:
                answer, _ = error_answer(nodes.unfit(), method=scope["method"], route=scope["path"])
                await give(answer, Request(scope, receive), send)
            elif self._edge.config.console.members:
                await self._console.serve(scope, receive, send)
            else:
                await self._serve(scope, receive, send)
        elif scope["type"] == "http" and not _is_page(scope["path"]):
            await self._serve(scope, receive, send)
        elif scope["type"] != "websocket":
            await super().asgi_app(scope, receive, send)
        elif scope["path"] == stream.PATH:
            await stream.serve_stream(self._edge, scope, receive, send)
        else:
            await receive()  # websocket.connect
            answer, _ = path_answer(404)
            await stream.answer_by_http(send, answer)

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request, from its head to the end of its answer."""
        by_method, in_path = self._router.find(scope["path"])
        if scope["path"] in _FOR_MONITORS and not self._is_monitor(scope):
            by_method = {}
        found = by_method.get(scope["method"])
        request = Request(scope, receive, in_path, found.query if found else ())
        if found is not None:
            answer = await self._answer(found, request)
        else:
            allow = ", ".join(sorted(by_method)) or None
            answer, code = path_answer(404 if allow is None else 405, allow=allow)
            if any(each.counts_refusals for each in by_method.values()):
                self._count(code)
            answer = _shaped(answer, scope["path"])
        await give(answer, request, send)

    def _is_monitor(self, scope: Any) -> bool:
        """Whether this is for whoever asks. What a proxy forwards without saying for whom, is for nobody."""
        client = scope.get("client")
        if not client:
            return False
        address, http = parse_address(client[0]), self._edge.config.http
        is_forwarded = any(says_forwarded(name) for name, _ in scope["headers"])
        if is_forwarded and is_within(address, parse_networks(http.trusted_proxies)):
            return False
        return is_within(address, (*LOOPBACK, *parse_networks(http.monitors)))

    async def _turn_away(self, scope: Any, receive: Any, send: Any) -> None:
        """There are as many requests of this client at work as may be. 429 and not 503: a proxy takes a 503 for the
        relay's own trouble, and would keep everybody else from it."""
        self._edge.metrics.http_turned_away.labels("requests_per_address").inc()
        answer = too_many("requests")
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            await stream.answer_by_http(send, answer)
            return
        answer = _shaped(answer, scope["path"])
        if _is_page(scope["path"]):
            page = _page(answer, scope["path"])
            headers = tuple((name, value) for name, value in page.headers.items() if name not in _OF_BODY)
            body, media_type = await page.get_data(as_text=False), page.content_type or ""
            answer = Answer(answer.status, body, headers, media_type=media_type)
        await give(answer, Request(scope, receive), send)

    async def _answer(self, found: Operation, request: Request) -> Answer:
        assert found.handler is not None
        try:
            if not found.for_members:
                request.check_arguments()
            if self._edge.node is not None:
                if found.for_members:
                    nodes.check_fit(self._edge)
                await nodes.wait_until_known(self._edge, request)
            if found.body is None:
                return await found.handler(self._edge, request)
            with request.limit:
                return await found.handler(self._edge, request)
            if request.is_over:
                raise unavailable()
            raise Refusal(
                "REQUEST_TIMEOUT", f"the request body did not arrive within {request.body_seconds:.0f} s"
            )
        except Exception as error:  # noqa: BLE001 (the one place that answers for a defect)
            answer, code = error_answer(error, method=request.method, route=found.path)
            if found.counts_refusals:
                self._count(code)
            return _shaped(answer, found.path)
        finally:
            for end in request.at_end:
                end()

    def _count(self, code: str) -> None:
        self._edge.metrics.refused.labels(code).inc()

    def log_exception(self, exception_info: Any) -> None:
        logger.error("http.unhandled", exc_info=exception_info)


def _is_page(path: str) -> bool:
    """Whether people come there."""
    return unsubscribe.is_below(path) or confirm.is_below(path)


def _is_console(path: str) -> bool:
    return path == "/console" or path.startswith("/console/")


def _shaped(error: Answer, path: str) -> Answer:
    """An error, as who asks there reads it."""
    return emails.as_theirs(error) if emails.is_below(path) else error


def create_app(edge: Edge, console: Console | None = None) -> App:
    app = App(edge, console)
    app.config["MAX_CONTENT_LENGTH"] = max(unsubscribe.BODY_BYTES_MAX, confirm.BODY_BYTES_MAX)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.asgi_http_class = Exchange
    app.register_blueprint(unsubscribe.pages(edge))
    app.register_blueprint(confirm.pages(edge))

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        allow = next((value for name, value in error.get_headers() if name == "Allow"), None)
        answer, _ = path_answer(error.code or 500, error.description or "", allow=allow)
        return _page(answer, request.path)

    @app.errorhandler(Exception)
    async def other_error(error: Exception) -> Response:
        answer, _ = error_answer(error, method=request.method, route=_route())
        return _page(answer, request.path)

    return app


def _page(answer: Answer, path: str) -> Response:
    """What went wrong, for a person."""
    error_page = confirm.error_page if confirm.is_below(path) else unsubscribe_page.error_page
    page = error_page(answer.status, answer.request_id)
    page.headers.extend(answer.headers)
    return page


def _route() -> Any:
    """The rule that matched, not the path: a path can hold an address."""
    return request.url_rule.rule if request.url_rule else None
