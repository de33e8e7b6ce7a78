"""`/openapi.json`: OpenAPI 3.1, folded from the operations and from the types that validate and answer, so that it
cannot drift from either.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec

from relay.api.answers import Answer
from relay.api.operations import Described, Operation, Parameter, operation
from relay.api.request import Request
from relay.edge import Edge
from relay.presentation import ErrorAnswer

_MEMBER: list[dict[str, list[str]]] = [{"did": [], "key": []}]
_KEY_ALONE: list[dict[str, list[str]]] = [{"key": []}]


def openapi_document(operations: Iterable[Operation], server_url: str) -> dict[str, Any]:
    """The document of a relay that serves these operations at this URL."""
    operations = list(operations)
    types = [each.body for each in operations if isinstance(each.body, type)]
    for each in operations:
        types += [body for answer in each.answers.values() if (body := answer.body) and _is_struct(body)]
    types += [each.error for each in operations if each.errors]
    _, schemas = msgspec.json.schema_components(
        [*dict.fromkeys(types)], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.shown_path, {})[each.method.lower()] = _described(each)
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
        "paths": paths,
    }


def openapi_operation(others: Iterable[Operation]) -> Operation:
    """The operation that serves the document of `others` and of itself."""
    made: dict[str, Answer] = {}

    @operation(
        "GET",
        "/openapi.json",
        "openapi",
        "This document",
        answers={200: Described("OpenAPI 3.1", dict)},
        for_members=False,
    )
    async def openapi(edge: Edge, request: Request) -> Answer:
        url = edge.config.public_url
        if url not in made:
            made[url] = Answer.of(openapi_document([*others, openapi], url))
        return made[url]

    return openapi


def _described(each: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": each.name, "summary": each.summary}
    if each.description:
        described["description"] = each.description
    if each.for_members:
        described["security"] = _KEY_ALONE if each.by_key_alone else _MEMBER
    if each.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in each.parameters]
    if each.body is not None:
        content = _content(Described("", each.body)) if isinstance(each.body, type) else each.body
        described["requestBody"] = {"required": True, "content": content}
    responses = {str(status): _response(answer) for status, answer in each.answers.items()}
    for status in each.errors:
        responses[str(status)] = _response(Described(_why(each.error), each.error))
    described["responses"] = responses
    return described


def _why(error: type) -> str:
    return f"Refused; `{'code' if error is ErrorAnswer else 'name'}` says why"


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "schema": parameter.schema,
    }
    return {**described, "description": parameter.description} if parameter.description else described


def _response(answer: Described) -> dict[str, Any]:
    content = _content(answer)
    return (
        {"description": answer.description, "content": content}
        if content
        else {"description": answer.description}
    )


def _content(answer: Described) -> dict[str, Any]:
    if answer.media_type != "application/json":
        return {answer.media_type: {"schema": {"type": "string"}}}
    if answer.body is None:
        return {}
    if not _is_struct(answer.body):
        return {"application/json": {"schema": {"type": "object"}}}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer.body.__name__}"}}}


def _is_struct(body: type) -> bool:
    return issubclass(body, msgspec.Struct)
