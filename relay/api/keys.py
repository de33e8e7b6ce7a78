"""`/v1/keys`: a member's API keys, to see, to make and to revoke (SPEC 4). They want a key of scope `full`.

A key itself is shown once, in the answer that made it. Of those that were revoked the last hundred are listed.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from relay.api.answers import Answer
from relay.api.arguments import flag_of, flag_parameter
from relay.api.credentials import reader_of, writer_of
from relay.api.operations import Described, Parameter, operation
from relay.api.request import Request
from relay.edge import Edge
from relay.json_body import JsonBody
from relay.own_keys import IssuedKey, IssueOwnKey, OwnKeys, Revoked, RevokeOwnKey
from relay.principals import Scope
from relay.send_body import Category
from relay.times import rfc3339, rfc3339_or_none
from relay.views.members import KeyState

BODY_BYTES_MAX = 16 * 1024


class KeyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `POST /v1/keys`. `null` in an optional field is the same as leaving it out."""

    scope: Annotated[
        Scope | None,
        msgspec.Meta(
            description="`send`: to send, and to read messages, events and suppressions. `full`: for everything. "
            "Default: `send` where there is a category, else `full`."
        ),
    ] = None
    category: Annotated[
        Category | None,
        msgspec.Meta(
            description="Of the sends by this key that name none. Default: none, and they are `bulk`."
        ),
    ] = None


class ApiKey(msgspec.Struct, rename="camel", kw_only=True):
    """A key of the member, without the key itself."""

    key_id: str
    #: `active` or `revoked`.
    status: str
    scope: Scope
    category: str | None
    #: The key that made it; null: the operator did, or that one was revoked long ago.
    issued_by: str | None
    issued_at: str
    revoked_at: str | None


class ListedKey(ApiKey, kw_only=True, rename="camel"):
    #: It is the one that this request came with.
    is_yours: bool


class NewApiKey(ApiKey, kw_only=True, rename="camel"):
    #: Shown only here.
    api_key: str


class KeyList(msgspec.Struct, rename="camel"):
    #: In the order in which they were issued.
    keys: list[ListedKey]


class MadeWebhook(msgspec.Struct, rename="camel"):
    webhook_id: str
    #: `removed`, or as it goes on.
    status: str


class RevokedKey(msgspec.Struct, rename="camel"):
    key_id: str
    status: str
    #: The keys that came of it and were active until now. Those that still are go on.
    made: list[ApiKey]
    #: The webhooks that came of it.
    webhooks: list[MadeWebhook]


_BODY = JsonBody(KeyBody)


@operation(
    "GET",
    "/v1/keys",
    "listKeys",
    "The member's API keys",
    description="Wants a key of scope `full`.",
    answers={200: Described("The keys, without their secrets", KeyList)},
    errors=(400, 401, 403, 500, 503),
)
async def list_keys(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    states: list[KeyState] = await edge.decide("own_keys", OwnKeys(), member)
    return Answer.of(KeyList([listed_key(state, member.key_id) for state in states]))


@operation(
    "POST",
    "/v1/keys",
    "issueKey",
    "Make another API key",
    description="Wants a key of scope `full`. The new one is shown only in this answer.",
    body=KeyBody,
    answers={201: Described("Made: durable on the relay's disk", NewApiKey)},
    errors=(400, 401, 403, 408, 409, 413, 415, 429, 500, 503),
)
async def issue_key(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    fields = _BODY.decode(await request.json(BODY_BYTES_MAX))
    wanted = IssueOwnKey(scope=fields.scope, category=fields.category or None)
    issued: IssuedKey = await edge.decide("issue_own_key", wanted, member)
    shown = NewApiKey(**_fields(issued.state), api_key=issued.api_key)
    return Answer.of(shown, 201, ("Cache-Control", "no-store"))


@operation(
    "DELETE",
    "/v1/keys/{keyId}",
    "revokeKey",
    "Revoke an API key, at once",
    description="Wants a key of scope `full`. What the revoked key has open, such as a stream, ends.",
    parameters=(
        Parameter("keyId", {"type": "string"}, "As the list has it.", where="path"),
        flag_parameter("self", "The key that asks may be revoked."),
        flag_parameter(
            "allOfIt", "Also the keys and webhooks that came of it; even where it was revoked before."
        ),
    ),
    answers={200: Described("Revoked, and what came of the key", RevokedKey)},
    errors=(400, 401, 403, 404, 409, 429, 500, 503),
)
async def revoke_key(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    wanted = RevokeOwnKey(
        key_id=request.in_path["keyId"],
        all_of_it=flag_of(request, "allOfIt"),
        self_too=flag_of(request, "self"),
    )
    revoked: Revoked = await edge.decide("revoke_own_key", wanted, member)
    keys = [ApiKey(**_fields(state)) for state in revoked.keys]
    webhooks = [MadeWebhook(*each) for each in revoked.webhooks]
    return Answer.of(RevokedKey(wanted.key_id, "revoked", keys, webhooks))


def listed_key(state: KeyState, yours: str) -> ListedKey:
    """`yours`: the id of the key that this request came with."""
    return ListedKey(**_fields(state), is_yours=state.key_id == yours)


def _fields(state: KeyState) -> dict[str, Any]:
    return {
        "key_id": state.key_id,
        "status": "active" if state.revoked_at is None else "revoked",
        "scope": state.scope,
        "category": state.category,
        "issued_by": state.issued_by,
        "issued_at": rfc3339(state.issued_at),
        "revoked_at": rfc3339_or_none(state.revoked_at),
    }
