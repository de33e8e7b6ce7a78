"""`/openapi.json`: OpenAPI 3.1, made from the types that validate and answer, so that it cannot drift.

A test asks the application for its routes and fails where one is missing here.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec
from quart import Blueprint, Response

from relay.api import events
from relay.api.answers import json_answer
from relay.api.member import ForwardToBody
from relay.api.messages import LIMIT_DEFAULT, LIMIT_MAX
from relay.api.suppressions import SuppressionBody
from relay.api.unsubscribe_page import ONE_CLICK
from relay.core import Core
from relay.presentation import (
    Deliverability,
    ErrorAnswer,
    ForwardTo,
    MemberStatus,
    MessageDetail,
    MessagePage,
    SendAnswer,
    SuppressedAddress,
    SuppressionPage,
)
from relay.requests import SendBody
from relay.stream_events import EventPage, StreamEvent
from relay.views.messages import STATUSES

_TYPES = (
    SendBody,
    SendAnswer,
    ErrorAnswer,
    MessageDetail,
    MessagePage,
    MemberStatus,
    Deliverability,
    ForwardToBody,
    ForwardTo,
    SuppressionBody,
    SuppressedAddress,
    SuppressionPage,
    StreamEvent,
    EventPage,
    events.Ticket,
)
_CURSOR = {"type": "integer", "minimum": 0}
_ONE_CLICK = {
    "type": "object",
    "required": [ONE_CLICK[0]],
    "properties": {ONE_CLICK[0]: {"const": ONE_CLICK[1]}},
}


def routes(core: Core) -> Blueprint:
    blueprint = Blueprint("openapi", __name__)
    document = openapi_document(core.config.public_url)

    @blueprint.get("/openapi.json")
    async def openapi() -> Response:
        return json_answer(document)

    return blueprint


@cache
def openapi_document(server_url: str) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    member: list[dict[str, list[str]]] = [{"did": [], "key": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Atmosphere Mail relay",
            "version": version("atmos-relay"),
            "description": "Send email over HTTP; every message's story can be read back.",
        },
        "servers": [{"url": server_url}],
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "did": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Atmos-DID",
                    "description": "The member's DID; the query parameter `did` is taken instead where it is missing.",
                },
                "key": {"type": "http", "scheme": "bearer", "description": "API key, `atmos_...`"},
            },
        },
        "paths": {
            "/v1/send": {
                "post": {
                    "operationId": "send",
                    "summary": "Send a mail to one or more recipients",
                    "security": member,
                    "parameters": [
                        {
                            "name": "Idempotency-Key",
                            "in": "header",
                            "required": False,
                            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                            "description": "The same key, DID and body within 24 h gives the first answer again.",
                        }
                    ],
                    "requestBody": {"required": True, "content": _json("SendBody")},
                    "responses": {
                        "200": _response("Accepted: durable on the relay's disk", "SendAnswer"),
                        **_errors(400, 401, 403, 408, 413, 415, 422, 429, 500, 503),
                    },
                }
            },
            "/v1/messages": {
                "get": {
                    "operationId": "listMessages",
                    "summary": "The member's messages, newest first",
                    "security": member,
                    "parameters": [
                        _query("status", {"type": "string", "enum": list(STATUSES)}),
                        _query("recipient", {"type": "string"}, "The bare address."),
                        _query("after", {"type": "string"}, "The `next` of the page before."),
                        _query(
                            "limit",
                            {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
                        ),
                    ],
                    "responses": {
                        "200": _response("A page of messages", "MessagePage"),
                        **_errors(400, 401, 500),
                    },
                }
            },
            "/v1/messages/{messageId}": {
                "get": {
                    "operationId": "getMessage",
                    "summary": "One message with its timeline",
                    "security": member,
                    "parameters": [
                        _path("messageId", {"type": "integer", "minimum": 1}),
                        _query(
                            "asOf",
                            {"type": "integer", "minimum": 1},
                            "The message as it was right after the event with this sequence number.",
                        ),
                    ],
                    "responses": {
                        "200": _response("The message", "MessageDetail"),
                        **_errors(400, 401, 404, 500),
                    },
                }
            },
            "/member/status": _member("memberStatus", "The member and its domains", "MemberStatus", member),
            "/member/deliverability": _member(
                "memberDeliverability",
                "How the member's mail fared, and its limits",
                "Deliverability",
                member,
            ),
            "/member/forward-to": {
                "put": {
                    "operationId": "setForwardTo",
                    "summary": "Set who is told of a domain's bounces",
                    "security": member,
                    "requestBody": {"required": True, "content": _json("ForwardToBody")},
                    "responses": {
                        "200": _response("Set: durable on the relay's disk", "ForwardTo"),
                        **_errors(400, 401, 403, 408, 409, 413, 415, 500, 503),
                    },
                }
            },
            "/v1/suppressions": {
                "get": {
                    "operationId": "listSuppressions",
                    "summary": "The member's suppression list, the newest first",
                    "security": member,
                    "parameters": [
                        _query("after", {"type": "string"}, "The `next` of the page before."),
                        _query(
                            "limit",
                            {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
                        ),
                    ],
                    "responses": {
                        "200": _response("A page of suppressed addresses", "SuppressionPage"),
                        **_errors(400, 401, 500),
                    },
                },
                "post": {
                    "operationId": "suppress",
                    "summary": "Suppress an address",
                    "security": member,
                    "requestBody": {"required": True, "content": _json("SuppressionBody")},
                    "responses": {
                        "200": _response("It was suppressed by the member already", "SuppressedAddress"),
                        "201": _response("Suppressed: durable on the relay's disk", "SuppressedAddress"),
                        **_errors(400, 401, 403, 408, 413, 415, 500, 503),
                    },
                },
            },
            "/v1/suppressions/{recipient}": {
                "delete": {
                    "operationId": "unsuppress",
                    "summary": "Take back the reasons `unsubscribe` and `manual`; a complaint stays",
                    "security": member,
                    "parameters": [
                        _path("recipient", {"type": "string"}, "The bare address, percent-encoded.")
                    ],
                    "responses": {
                        "204": {"description": "Taken back"},
                        **_errors(400, 401, 403, 404, 409, 500, 503),
                    },
                }
            },
            "/v1/events": {
                "get": {
                    "operationId": "listEvents",
                    "summary": "The member's events in the order of the log: those of the stream, a page at a time",
                    "security": member,
                    "parameters": [
                        _query(
                            "cursor", _CURSOR, "The `cursor` of the page before; else from the beginning."
                        ),
                        _query(
                            "limit",
                            {
                                "type": "integer",
                                "minimum": 1,
                                "maximum": events.LIMIT_MAX,
                                "default": events.LIMIT_DEFAULT,
                            },
                        ),
                    ],
                    "responses": {
                        "200": _response("A page of events; an empty one gives the cursor back", "EventPage"),
                        **_errors(400, 401, 500),
                    },
                }
            },
            "/v1/stream": {
                "get": {
                    "operationId": "stream",
                    "summary": "The member's events on a websocket, as they happen",
                    "description": "A text frame an event; `FutureCursor` and `OutdatedCursor` as in atproto.",
                    "security": member,
                    "parameters": [
                        _query("cursor", _CURSOR, "The `seq` of the last event seen; else from now."),
                        _query(
                            "ticket", {"type": "string"}, "Instead of the headers, which browsers cannot set."
                        ),
                    ],
                    "responses": {
                        "101": _response("A websocket; each of its text frames is", "StreamEvent"),
                        **_errors(400, 401, 429, 500, 503),
                    },
                }
            },
            "/v1/stream/ticket": {
                "post": {
                    "operationId": "streamTicket",
                    "summary": "A ticket for one stream, for those who cannot set headers",
                    "security": member,
                    "responses": {
                        "200": _response("Good for 60 seconds, once", "Ticket"),
                        **_errors(400, 401, 429, 500),
                    },
                }
            },
            "/u/{token}": {
                "get": {
                    "operationId": "unsubscribePage",
                    "summary": "A page with a button, for people who follow an unsubscribe link; changes nothing",
                    "parameters": [_path("token", {"type": "string"})],
                    "responses": _pages(200, 404, 500),
                },
                "post": {
                    "operationId": "unsubscribe",
                    "summary": "One-click unsubscribe (RFC 8058)",
                    "parameters": [_path("token", {"type": "string"})],
                    "requestBody": {
                        "required": True,
                        "content": {
                            media_type: {"schema": _ONE_CLICK}
                            for media_type in ("application/x-www-form-urlencoded", "multipart/form-data")
                        },
                    },
                    "responses": _pages(200, 400, 404, 408, 413, 500, 503),
                },
            },
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Prometheus text",
                    "responses": {
                        "200": {
                            "description": "Metrics",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
            "/healthz": {"get": _plain("healthz", "The process is alive", "Live")},
            "/readyz": {"get": _plain("readyz", "The relay accepts mail", "Ready", 503)},
            "/openapi.json": {"get": _plain("openapi", "This document", "OpenAPI 3.1")},
        },
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _response(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": _json(schema)}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): _response("Refused; `code` says why", "ErrorAnswer") for status in statuses}


def _pages(*statuses: int) -> dict[str, Any]:
    page = {"text/html": {"schema": {"type": "string"}}}
    return {str(status): {"description": "A page for a person", "content": page} for status in statuses}


def _path(name: str, schema: dict[str, Any], description: str = "") -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": "path", "required": True, "schema": schema}
    return {**parameter, "description": description} if description else parameter


def _query(name: str, schema: dict[str, Any], description: str = "") -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": "query", "required": False, "schema": schema}
    return {**parameter, "description": description} if description else parameter


def _member(operation: str, summary: str, schema: str, security: Any) -> dict[str, Any]:
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "security": security,
            "responses": {"200": _response(summary, schema), **_errors(400, 401, 500)},
        }
    }


def _plain(operation: str, summary: str, description: str, *errors: int) -> dict[str, Any]:
    success = {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": success, **_errors(*errors)},
    }
