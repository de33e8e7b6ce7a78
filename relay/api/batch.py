"""`POST /v1/batch`: up to a hundred sends in one request, each with the answer that `POST /v1/send` would give it.

The whole is refused only for what is wrong with the whole: who asks, its size, its form. Then the answer is 200,
whatever becomes of each; `results` has them in the order of `messages`. Entries are checked one by one, so that nobody
waits for a hundred of them, and then decided together (`relay.batches`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from relay.acceptance import Idempotency, Send, answer_to
from relay.api.answers import Answer
from relay.api.credentials import writer_of
from relay.api.operations import Described, Parameter, operation
from relay.api.request import Request
from relay.api.send import APPEND_SECONDS_MAX, idempotency_key, sha256_of
from relay.batches import SENDS_MAX, Outcome, Refused, SendBatch
from relay.edge import Edge
from relay.json_body import JsonBody, array_of_raw
from relay.presentation import Accepted, Rejected
from relay.principals import Principal
from relay.refusals import Refusal, invalid
from relay.requests import DEFAULT_CATEGORY, parse_send
from relay.send_body import SendBody


class BatchBody(msgspec.Struct, kw_only=True):
    """JSON body of `POST /v1/batch`."""

    messages: Annotated[
        list[SendBody],
        msgspec.Meta(
            min_length=1,
            max_length=SENDS_MAX,
            description="Each as the body of `POST /v1/send`, with any field.",
        ),
    ]


_Messages = msgspec.defstruct(
    "_Messages", [("messages", array_of_raw(SENDS_MAX))], forbid_unknown_fields=True
)


class BatchResult(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What became of one of `messages`: `accepted` and `rejected`, or `error` and `code`."""

    accepted: list[Accepted] | None = None
    rejected: list[Rejected] | None = None
    error: str | None = None
    code: str | None = None
    #: Of a refusal that time mends: in so many seconds.
    retry_after: int | None = None


class BatchAnswer(msgspec.Struct):
    #: In the order of `messages`.
    results: list[BatchResult]


_BODY = JsonBody(_Messages)


@operation(
    "POST",
    "/v1/batch",
    "sendBatch",
    "Send up to 100 mails, each with its own answer",
    parameters=(
        Parameter(
            "Idempotency-Key",
            {"type": "string", "minLength": 1, "maxLength": 255},
            "It stands for each entry at its place in `messages`: within 24 h, those that were accepted are answered "
            "as they were, and the others are tried again.",
            where="header",
        ),
    ),
    body=BatchBody,
    answers={200: Described("Each entry's own answer, also where all are refused", BatchAnswer)},
    errors=(400, 401, 403, 408, 413, 415, 422, 429, 500, 503),
    counts_refusals=True,
)
async def send_batch(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    key = idempotency_key(request)
    with edge.receiving.held(member.did) as held:
        body = await request.json(edge.config.http.send_bytes_max, held, then_seconds=APPEND_SECONDS_MAX)
        async with edge.heavy_work.turn(member.did, len(body)) as do:
            entries: list[bytes] = await do(_BODY.decode_outside, body, SENDS_MAX)
        if not entries:
            raise invalid("messages", f"has 0 entries; expected 1 to {SENDS_MAX}")
        refused: dict[int, Refused] = {}
        sends: list[Send | None] = []
        for number, entry in enumerate(entries):
            async with edge.heavy_work.turn(member.did, len(entry)) as do:
                read = await do(_read, entry, number, key, member, request.client_address)
            if isinstance(read, Refused):
                refused[number] = read
            sends.append(read if isinstance(read, Send) else None)
        outcomes: list[Outcome] = await edge.decide("send_batch", SendBatch(sends=sends), member)
    results = [
        _result(refused.get(number) or outcome.refused, outcome) for number, outcome in enumerate(outcomes)
    ]
    for result in results:
        if result.code is not None:
            edge.metrics.refused.labels(result.code).inc()
    answer = Answer.of(BatchAnswer(results))
    if all(outcome.sent is not None and outcome.sent.is_replay for outcome in outcomes):
        answer = answer._replace(headers=(("Idempotent-Replayed", "true"),))
    return answer


def _read(
    entry: bytes, number: int, key: str | None, member: Principal, client_address: str | None
) -> Send | Refused:
    """One entry, as a send of its own. Pure."""
    sha256 = sha256_of(entry)
    try:
        parsed = parse_send(entry, member.category or DEFAULT_CATEGORY)
    except Refusal as refusal:
        return Refused.by(refusal)
    idempotency = None
    if key is not None:
        of_entry = sha256_of(f"batch\0{key}\0{number}".encode())
        idempotency = Idempotency(of_entry, sha256)
    return Send(
        request=parsed,
        client_address=client_address,
        idempotency=idempotency,
        body_sha256=sha256,
        size=len(entry),
    )


def _result(refused: Refused | None, outcome: Outcome) -> BatchResult:
    if refused is None:
        assert outcome.sent is not None
        try:
            answer = answer_to(outcome.sent)
        except Refusal as refusal:
            refused = Refused.by(refusal)
        else:
            return BatchResult(accepted=answer.accepted, rejected=answer.rejected)
    return BatchResult(error=refused.message, code=refused.code, retry_after=refused.retry_after_seconds)
