"""`/v1/webhooks`: endpoints of the member that are told of its events, in the order of the log (docs/WEBHOOKS.md).

All of it wants a key of scope `full`. A secret is shown in the answer that made it, and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from relay.api.answers import Answer
from relay.api.credentials import reader_of, writer_of
from relay.api.operations import Described, Parameter, operation
from relay.api.request import Request
from relay.decisions.webhooks import BATCH_MAX, CURSOR_MAX
from relay.edge import Edge
from relay.json_body import JsonBody
from relay.own_webhooks import AddWebhook, OneWebhook, OwnWebhooks, ReplayWebhook
from relay.webhooks.shown import Attempt, NewWebhook, Webhook

BODY_BYTES_MAX = 16 * 1024

_WANTS = "Wants a key of scope `full`."
_READING = (400, 401, 403, 404, 500, 503)
_WRITING = (400, 401, 403, 404, 409, 429, 500, 503)
_WITH_BODY = (400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 503)

Cursor = Annotated[int, msgspec.Meta(ge=0, le=CURSOR_MAX)]


class WebhookBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `POST /v1/webhooks`. `null` in an optional field is the same as leaving it out."""

    url: Annotated[
        str,
        msgspec.Meta(
            description="Where events are posted to: https, at a public address.",
            examples=["https://yourdomain.com/hooks/mail"],
        ),
    ]
    types: Annotated[
        list[str] | None,
        msgspec.Meta(
            description="The types of events that are told. Default: all of the stream.",
            examples=[["message.sent", "message.bounced"]],
        ),
    ] = None
    from_: Annotated[
        Cursor | Literal["now"] | None,
        msgspec.Meta(
            description="A cursor, as everywhere: the events after it are told, 0 for all that there are. "
            "Default: `now`."
        ),
    ] = msgspec.field(default=None, name="from")
    batch: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=BATCH_MAX)] | None,
        msgspec.Meta(description="How many events a request may bring. Default: 1."),
    ] = None
    ed25519: Annotated[
        bool | None,
        msgspec.Meta(description="Sign with Ed25519, too (`v1a`). Default: false."),
    ] = None


class ReplayBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `POST /v1/webhooks/{webhookId}/replay`."""

    from_: Annotated[Cursor, msgspec.Meta(description="The events after this one are told again.")] = (
        msgspec.field(name="from")
    )
    to: Annotated[
        Cursor | None,
        msgspec.Meta(description="And up to this one, with it. Default: all that were told."),
    ] = None


class WebhookList(msgspec.Struct):
    #: The first that was made first.
    webhooks: list[Webhook]


class RemovedWebhook(msgspec.Struct, rename="camel"):
    webhook_id: str
    status: str


class AttemptList(msgspec.Struct, rename="camel"):
    #: The last hundred since the relay was started, the newest first.
    attempts: list[Attempt]


_BODY = JsonBody(WebhookBody, {"events": "write `types`", "cursor": "write `from`"})
_REPLAY = JsonBody(ReplayBody, {"cursor": "write `from`"})
_ID = (Parameter("webhookId", {"type": "string"}, "As the list has it.", where="path"),)


@operation(
    "GET",
    "/v1/webhooks",
    "listWebhooks",
    "The member's webhooks",
    description=_WANTS,
    answers={200: Described("The webhooks, without their secrets", WebhookList)},
    errors=(400, 401, 403, 500, 503),
)
async def list_webhooks(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    found: list[Webhook] = await edge.decide("own_webhooks", OwnWebhooks(), member)
    return Answer.of(WebhookList(found))


@operation(
    "POST",
    "/v1/webhooks",
    "addWebhook",
    "Have events posted to an endpoint, in their order",
    description=f"{_WANTS} Ten at most. Its secret is shown only in this answer.",
    body=WebhookBody,
    answers={201: Described("Added: durable on the relay's disk", NewWebhook)},
    errors=(400, 401, 403, 408, 409, 413, 415, 429, 500, 503),
)
async def add_webhook(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    fields = _BODY.decode(await request.json(BODY_BYTES_MAX))
    wanted = AddWebhook(
        url=fields.url,
        types=tuple(fields.types or ()),
        batch=fields.batch or 1,
        ed25519=fields.ed25519 or False,
        cursor=fields.from_ if isinstance(fields.from_, int) else None,
    )
    return _made(await edge.decide("add_own_webhook", wanted, member), 201)


@operation(
    "GET",
    "/v1/webhooks/{webhookId}",
    "getWebhook",
    "One webhook: how far it has got, and how its endpoint does",
    description=_WANTS,
    parameters=_ID,
    answers={200: Described("The webhook, without its secret", Webhook)},
    errors=_READING,
)
async def one_webhook(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    found: Webhook = await edge.decide("own_webhook", _asked(request), member)
    return Answer.of(found)


@operation(
    "DELETE",
    "/v1/webhooks/{webhookId}",
    "removeWebhook",
    "Remove a webhook",
    description=f"{_WANTS} A request that is on its way is not called back.",
    parameters=_ID,
    answers={200: Described("Removed", RemovedWebhook)},
    errors=_WRITING,
)
async def remove_webhook(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    wanted = _asked(request)
    await edge.decide("remove_own_webhook", wanted, member)
    return Answer.of(RemovedWebhook(wanted.webhook_id, "removed"))


@operation(
    "POST",
    "/v1/webhooks/{webhookId}/pause",
    "pauseWebhook",
    "Tell nothing to it until it is resumed",
    description=_WANTS,
    parameters=_ID,
    answers={200: Described("Paused", Webhook)},
    errors=_WRITING,
)
async def pause_webhook(edge: Edge, request: Request) -> Answer:
    return await _ordered(edge, request, "pause_own_webhook")


@operation(
    "POST",
    "/v1/webhooks/{webhookId}/resume",
    "resumeWebhook",
    "Go on where it stopped",
    description=f"{_WANTS} Nothing is left out of what happened meanwhile.",
    parameters=_ID,
    answers={200: Described("Active", Webhook)},
    errors=_WRITING,
)
async def resume_webhook(edge: Edge, request: Request) -> Answer:
    return await _ordered(edge, request, "resume_own_webhook")


@operation(
    "POST",
    "/v1/webhooks/{webhookId}/rotate",
    "rotateWebhookSecret",
    "Make a new secret; for 24 hours both sign",
    description=f"{_WANTS} The new secret is shown only in this answer. The one before the last signs no more.",
    parameters=_ID,
    answers={200: Described("Rotated", NewWebhook)},
    errors=_WRITING,
)
async def rotate_webhook(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    return _made(await edge.decide("rotate_own_webhook", _asked(request), member), 200)


@operation(
    "POST",
    "/v1/webhooks/{webhookId}/replay",
    "replayWebhook",
    "Tell events again, before what is new",
    description=f"{_WANTS} It takes the place of a replay that is under way.",
    parameters=_ID,
    body=ReplayBody,
    answers={200: Described("Recorded; it begins at once where the webhook is active", Webhook)},
    errors=_WITH_BODY,
)
async def replay_webhook(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    fields = _REPLAY.decode(await request.json(BODY_BYTES_MAX))
    wanted = ReplayWebhook(
        webhook_id=request.in_path["webhookId"], after_seq=fields.from_, until_seq=fields.to
    )
    replayed: Webhook = await edge.decide("replay_own_webhook", wanted, member)
    return Answer.of(replayed)


@operation(
    "POST",
    "/v1/webhooks/{webhookId}/test",
    "testWebhook",
    "Post a `webhook.test` now, and say what was answered",
    description=f"{_WANTS} Once in ten seconds; also where it is paused or disabled.",
    parameters=_ID,
    answers={200: Described("What came of it", Attempt)},
    errors=_WRITING,
)
async def test_webhook(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    attempt: Attempt = await edge.decide("test_own_webhook", _asked(request), member)
    return Answer.of(attempt)


@operation(
    "GET",
    "/v1/webhooks/{webhookId}/attempts",
    "listWebhookAttempts",
    "The last requests to its endpoint",
    description=f"{_WANTS} They are kept in memory; the last failure is in the webhook itself.",
    parameters=_ID,
    answers={200: Described("The requests", AttemptList)},
    errors=_READING,
)
async def list_attempts(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    found: list[Attempt] = await edge.decide("own_webhook_attempts", _asked(request), member)
    return Answer.of(AttemptList(found))


OPERATIONS = (
    list_webhooks,
    add_webhook,
    one_webhook,
    remove_webhook,
    pause_webhook,
    resume_webhook,
    rotate_webhook,
    replay_webhook,
    test_webhook,
    list_attempts,
)


async def _ordered(edge: Edge, request: Request, name: str) -> Answer:
    member = writer_of(edge, request)
    found: Webhook = await edge.decide(name, _asked(request), member)
    return Answer.of(found)


def _asked(request: Request) -> OneWebhook:
    return OneWebhook(webhook_id=request.in_path["webhookId"])


def _made(made: NewWebhook, status: int) -> Answer:
    return Answer.of(made, status, ("Cache-Control", "no-store"))
