"""`/openapi.json` is OpenAPI 3.1, has the paths of the application and no others, and describes what is answered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trio.testing import wait_all_tasks_blocked

from relay.api import create_app
from relay.api.app import OPERATIONS as SERVED
from relay.api.app import App
from relay.api.openapi import openapi_document
from tests.world.relay import DOMAIN, OTHER_DID, World, open_world, run
from tests.world.schema import Schema, mismatches, references, resolve

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
DOCUMENT = openapi_document(SERVED, "https://relay.example")


def operations() -> Iterator[tuple[str, str, Schema]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


OPERATIONS = [pytest.param(*operation, id=f"{operation[1]} {operation[0]}") for operation in operations()]


# ------------------------------------------------------------------------------------------------ the document


def test_it_is_served_as_it_is_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", enrol=False) as world:
            status, answer, _ = await world.request("GET", "/openapi.json")
            assert (status, answer) == (200, DOCUMENT)
            assert answer["servers"] == [{"url": world.core.config.public_url}]

    run(main)


def test_its_head_is_that_of_openapi_3_1() -> None:
    assert re.fullmatch(r"3\.1\.\d+", DOCUMENT["openapi"])
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert DOCUMENT.keys() <= {"openapi", "info", "servers", "paths", "components", "security", "tags"}
    assert DOCUMENT["components"].keys() <= {"schemas", "securitySchemes", "parameters", "responses"}


def test_every_reference_leads_somewhere_and_every_schema_is_referred_to() -> None:
    found = set(references(DOCUMENT))
    for reference in found:
        resolve(reference, DOCUMENT)
    assert found == {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}


def test_operation_ids_are_unique() -> None:
    ids = Counter(operation["operationId"] for _, _, operation in operations())
    assert set(ids.values()) == {1}


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_operation_is_well_formed(path: str, method: str, operation: Schema) -> None:
    assert path.startswith("/")
    assert method in METHODS
    allowed = {"operationId", "summary", "description", "security", "parameters", "requestBody", "responses"}
    assert {"operationId", "responses"} <= operation.keys() <= allowed
    for requirement in operation.get("security", []):
        assert requirement.keys() <= DOCUMENT["components"]["securitySchemes"].keys()
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        assert {"name", "in", "required", "schema"} <= parameter.keys()
        assert parameter["in"] in ("path", "query", "header", "cookie")
    in_path = [parameter for parameter in parameters if parameter["in"] == "path"]
    assert sorted(parameter["name"] for parameter in in_path) == sorted(re.findall(r"{(\w+)}", path))
    assert all(parameter["required"] for parameter in in_path)
    assert any(re.fullmatch(r"[23]\d\d|101", status) for status in operation["responses"])
    for status, response in operation["responses"].items():
        assert re.fullmatch(r"[1-5]\d\d", status)
        assert response["description"]
        for media_type, content in response.get("content", {}).items():
            assert re.fullmatch(r"[a-z]+/[a-z.+-]+", media_type)
            assert content.keys() == {"schema"}


# ------------------------------------------------------------------------------------------------ the routes


def routes_of(app: App) -> set[tuple[str, str]]:
    """(method, path) that Quart serves, the names of what is in the path left out."""
    return {
        (method.lower(), re.sub(r"<[^>]*>", "{}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_the_pages_are_in_the_document_and_no_others_are(tmp_path: Path) -> None:
    """What is no page is served by the operations that the document is made of."""

    async def main() -> None:
        async with open_world(tmp_path / "data", enrol=False) as world:
            pages = [each for each in SERVED if each.handler is None]
            described = {(each.method.lower(), re.sub(r"{[^}]*}", "{}", each.path)) for each in pages}
            assert described == routes_of(create_app(world.core.edge))

    run(main)


# ------------------------------------------------------------------------------------------------ the answers


class Answers:
    """Asks, and holds each answer against the document."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: set[tuple[str, str, int]] = set()

    async def ask(self, method: str, path: str, template: str | None = None, **request: Any) -> Any:
        template = template or path.partition("?")[0]
        status, answer, headers = await self.world.request(method.upper(), path, **request)
        responses = DOCUMENT["paths"][template][method]["responses"]
        assert str(status) in responses, f"{method} {template} answers {status}, which is not described"
        content = responses[str(status)]["content"]
        schema = content[headers["content-type"]]["schema"]
        assert list(mismatches(answer, schema, DOCUMENT)) == []
        self.seen.add((method, template, status))
        return answer


MAIL = {"from": f"you@{DOMAIN}", "to": ["friend@example.com"], "subject": "Hello", "text": "Hi"}
ONE = "/v1/messages/{messageId}"


def test_what_is_answered_is_what_is_described(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            answers = Answers(world)
            good = world.credentials
            wrong = {**good, "Authorization": "Bearer atmos_wrong"}
            for path in ("/healthz", "/readyz", "/openapi.json"):
                await answers.ask("get", path, headers={})
            recipients = ["friend@example.com", "permfail@example.com", "tempfail-1@example.com"]
            accepted = await answers.ask("post", "/v1/send", json={**MAIL, "to": recipients})
            await answers.ask("post", "/v1/send", json={**MAIL, "subject": None})
            await answers.ask("post", "/v1/send", json=MAIL, headers=wrong)
            await answers.ask("post", "/v1/send", json={**MAIL, "from": "you@other.example"})
            await answers.ask("post", "/v1/send", data=b" " * (1024 * 1024 + 1))
            await answers.ask("post", "/v1/send", data=b"{}", headers={**good, "Content-Type": "text/plain"})
            for entry in accepted["accepted"]:
                message_id = entry["messageId"]
                await world.until_final(message_id)
                await answers.ask("get", f"/v1/messages/{message_id}", ONE)
            under_way = await world.send(to="hang@example.net")
            await wait_all_tasks_blocked()
            await answers.ask("get", f"/v1/messages/{under_way}", ONE)
            await answers.ask("get", "/v1/messages/1", ONE)
            await answers.ask("get", "/v1/messages/1", ONE, headers={})
            await answers.ask("get", "/v1/messages/1", ONE, headers={**wrong, "X-Atmos-DID": OTHER_DID})
            await answers.ask("get", "/v1/messages")
            await answers.ask("get", "/v1/messages?limit=1")
            await answers.ask("get", "/v1/messages?limit=0")
            await answers.ask("get", "/v1/messages", headers=wrong)
            await answers.ask("get", "/v1/events?limit=1000")
            await answers.ask("get", "/v1/events?cursor=x")
            await answers.ask("get", "/v1/events", headers=wrong)
            await answers.ask("get", "/v1/stream")
            await answers.ask("post", "/v1/stream/ticket")
            world.core.stopping = True
            await answers.ask("post", "/v1/send", json=MAIL)
            await answers.ask("get", "/readyz", headers={})
            assert answers.seen >= {
                ("post", "/v1/send", status) for status in (200, 400, 401, 403, 413, 415, 503)
            } | {("get", ONE, status) for status in (200, 400, 401, 404)} | {
                ("get", "/v1/messages", status) for status in (200, 400, 401)
            } | {("get", "/readyz", status) for status in (200, 503)}

    run(main)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, None),
        ({"to": "friend@example.com"}, None),
        ({"category": "login-link", "headers": {"X-A": "b"}, "replyTo": None}, None),
        ({"to": 5}, "$.to"),
        ({"to": [5]}, "$.to"),
        ({"ccs": "x@example.com"}, "$: ccs is not in the schema"),
        ({"cc": ["x@example.com"], "category": "login-link", "tag": "a", "metadata": {"b": "c"}}, None),
        ({"metadata": {"b": 1}}, "$.metadata"),
        ({"category": "Bulk"}, "$.category"),
        ({"headers": {"X-A": 1}}, "$.headers"),
    ],
)
def test_what_is_described_is_what_is_taken(tmp_path: Path, change: Schema, complaint: str | None) -> None:
    mail = {**MAIL, **change}
    schema = DOCUMENT["paths"]["/v1/send"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    found = list(mismatches(mail, schema, DOCUMENT))

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, _ = await world.post_send(**change)
            assert status == (200 if complaint is None else 400)

    run(main)
    if complaint is None:
        assert found == []
    else:
        assert [sentence for sentence in found if sentence.startswith(complaint)]


# ------------------------------------------------------------------------------------------------ the checker itself


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, {"type": "string"}),
        (True, {"type": "integer"}),
        (None, {"type": "object"}),
        ("c", {"enum": ["a", "b"]}),
        (1, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ([1, "x"], {"type": "array", "items": {"type": "integer"}}),
        ({}, {"type": "object", "required": ["a"]}),
        ({"a": 1}, {"type": "object", "properties": {"a": {"type": "string"}}}),
        ({"b": 1}, {"type": "object", "properties": {"a": {"type": "string"}}}),
        ({"b": 1}, {"type": "object", "additionalProperties": {"type": "string"}}),
        (0, {"type": "integer", "minimum": 1}),
        (2, {"type": "integer", "maximum": 1}),
        ({"error": "x"}, {"$ref": "#/components/schemas/ErrorAnswer"}),
    ],
)
def test_the_checker_sees(value: Any, schema: Schema) -> None:
    assert list(mismatches(value, schema, DOCUMENT))


def test_the_checker_does_not_look_away_from_what_it_does_not_know() -> None:
    with pytest.raises(AssertionError, match="teach this checker pattern"):
        list(mismatches("x", {"type": "string", "pattern": "^y"}, DOCUMENT))
