"""`POST /v1/send`: from bytes to a 200 that means durable (SPEC 1.1 and 1.2).

The order of checks is SPEC's: who asks, then the body while it is read, then whether it is a replay, then its fields,
then what the member may do (`relay.acceptance`). An answer never takes longer than 8 s, of a body over 1 MiB from its
last octet on: reading the body and reaching the disk have a limit each.
"""

from __future__ import annotations

import hashlib
import re

from relay import acceptance
from relay.acceptance import Idempotency, Send, Sent, answer_to
from relay.api.answers import Answer
from relay.api.credentials import writer_of
from relay.api.operations import Described, Parameter, operation
from relay.api.request import Request
from relay.edge import Edge
from relay.presentation import SendAnswer
from relay.refusals import Refusal
from relay.requests import DEFAULT_CATEGORY, parse_send
from relay.send_body import SendBody

#: Waiting for the log's writer; once it has the send, the log says itself when the disk does not answer.
APPEND_SECONDS_MAX = 1.5

_KEY = re.compile(r"[ -~]{1,255}")


@operation(
    "POST",
    "/v1/send",
    "send",
    "Send a mail to one or more recipients",
    parameters=(
        Parameter(
            "Idempotency-Key",
            {"type": "string", "minLength": 1, "maxLength": 255},
            "The same key, DID and body within 24 h gives the first answer again.",
            where="header",
        ),
    ),
    body=SendBody,
    answers={200: Described("Accepted: durable on the relay's disk", SendAnswer)},
    errors=(400, 401, 403, 408, 413, 415, 422, 429, 500, 503),
    counts_refusals=True,
)
async def send(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    key = idempotency_key(request)
    with edge.receiving.held(member.did) as held:
        body = await request.json(edge.config.http.send_bytes_max, held, then_seconds=APPEND_SECONDS_MAX)
        async with edge.heavy_work.turn(member.did, len(body)) as do:
            body_sha256 = await do(sha256_of, body)
            idempotency = None
            if key is not None:
                idempotency = Idempotency(key, body_sha256)
                first = acceptance.first_use(edge.store, member, idempotency)
                if first is not None:
                    return _answer(first)
            parsed = await do(parse_send, body, member.category or DEFAULT_CATEGORY)
        wanted = Send(
            request=parsed,
            client_address=request.client_address,
            idempotency=idempotency,
            body_sha256=body_sha256,
            size=len(body),
        )
        del body  # it may be large, and the disk slow
        return _answer(await edge.decide("send", wanted, member))


def sha256_of(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def _answer(sent: Sent) -> Answer:
    answer = Answer.of(answer_to(sent))
    return answer._replace(headers=(("Idempotent-Replayed", "true"),)) if sent.is_replay else answer


def idempotency_key(request: Request) -> str | None:
    """SHA-256 of the Idempotency-Key, hex."""
    given = request.header(b"idempotency-key")
    if given is None:
        return None
    if not _KEY.fullmatch(given):
        raise Refusal("INVALID_REQUEST", "Idempotency-Key: expected 1 to 255 printable ASCII characters")
    return sha256_of(given.encode())
