"""`POST /emails` and its relatives: Resend's API, for programs that were written for it.

A program changes its base URL and its key, and nothing else: the key alone says who asks. Everything here is an
adapter: what is sent goes through the decisions that `/v1/send` goes through, and errors, whoever has raised them, get
the shape, names and statuses of that API (`as_theirs`), which is the one exception from `{"error", "code"}`.

It differs where what is sent must be repeatable, and in one order:

- `template`, `topic_id` and an attachment's `path` are refused by name, and so is a time in words.
- Several recipients see each other, as there. So that is for the transactional class, which the key's category says.
- A recipient on the suppression list cannot be told of in the answer: it becomes a message that bounces at once.
- `id` is the number of the send. `last_event` is that of the latest event of any recipient; cancelling and another time
  hold for all recipients or none.
- A batch is strict: all of it is accepted, at one moment, or none.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from relay import acceptance
from relay.acceptance import Idempotency, Send, Sent
from relay.api.answers import Answer
from relay.api.arguments import number_in
from relay.api.credentials import reader_by_key, writer_by_key
from relay.api.operations import Described, Parameter, operation
from relay.api.request import Request
from relay.api.send import APPEND_SECONDS_MAX, sha256_of
from relay.batches import SENDS_MAX, AllSent, SendAll, about
from relay.edge import Edge
from relay.fields import moment_in
from relay.json_body import HAS_MORE, JsonBody, array_of_raw, items_of
from relay.own_messages import OwnMessages, RescheduleMessages
from relay.presentation import ErrorAnswer
from relay.refusals import Refusal, invalid
from relay.requests import DEFAULT_CATEGORY
from relay.resend import (
    Email,
    EmailBatch,
    EmailBody,
    EmailChanged,
    EmailError,
    EmailId,
    EmailTime,
    email_error,
    email_of,
    request_of_email,
)
from relay.views import messages

PATH = "/emails"
ORDER_BYTES_MAX = 16 * 1024

_TIME = JsonBody(EmailTime)
_KEY = re.compile(r"[ -~]{1,256}")
_KEY_PARAMETER = Parameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 256},
    "The same key and body within 24 h gives the first answer again.",
    where="header",
)
_ID = Parameter("id", {"type": "string"}, where="path")
_WRITES = (400, 401, 403, 408, 409, 413, 415, 422, 429, 500, 503)
_ORDERS = (401, 403, 404, 422, 429, 500, 503)
#: What all operations here have.
_SHAPE: dict[str, Any] = {"by_key_alone": True, "error": EmailError}


@operation(
    "POST",
    PATH,
    "sendEmail",
    "Send as by Resend's API",
    parameters=(_KEY_PARAMETER,),
    body=EmailBody,
    answers={200: Described("Accepted: durable on the relay's disk", EmailId)},
    errors=_WRITES,
    counts_refusals=True,
    **_SHAPE,
)
async def send_email(edge: Edge, request: Request) -> Answer:
    member = writer_by_key(edge, request)
    key = _key(request, "email")
    with edge.receiving.held(member.did) as held:
        body = await request.json(edge.config.http.send_bytes_max, held, then_seconds=APPEND_SECONDS_MAX)
        async with edge.heavy_work.turn(member.did, len(body)) as do:
            sha256 = await do(sha256_of, body)
            idempotency = None if key is None else Idempotency(key, sha256)
            first = idempotency and acceptance.first_use(edge.store, member, idempotency)
            if first is not None:
                return _sent(EmailId(str(first.seq)), is_replay=True)
            parsed = await do(request_of_email, body, member.category or DEFAULT_CATEGORY)
        wanted = Send(
            request=parsed,
            client_address=request.client_address,
            idempotency=idempotency,
            body_sha256=sha256,
            size=len(body),
        )
        sent: Sent = await edge.decide("send", wanted, member)
    return _sent(EmailId(str(sent.seq)), is_replay=sent.is_replay)


@operation(
    "POST",
    f"{PATH}/batch",
    "sendEmails",
    "Send up to 100 as by Resend's API: all of them, or none",
    parameters=(
        _KEY_PARAMETER,
        Parameter("X-Batch-Validation", {"type": "string", "enum": ["strict"]}, where="header"),
    ),
    body={
        "application/json": {
            "schema": {
                "type": "array",
                "minItems": 1,
                "maxItems": SENDS_MAX,
                "items": {"$ref": "#/components/schemas/EmailBody"},
            }
        }
    },
    answers={200: Described("All are accepted: durable on the relay's disk", EmailBatch)},
    errors=_WRITES,
    counts_refusals=True,
    **_SHAPE,
)
async def send_emails(edge: Edge, request: Request) -> Answer:
    member = writer_by_key(edge, request)
    key = _key(request, "emails")
    if request.header(b"x-batch-validation") not in (None, "strict"):
        raise invalid("x-batch-validation", "a batch is accepted as a whole or not at all; say `strict`")
    with edge.receiving.held(member.did) as held:
        body = await request.json(edge.config.http.send_bytes_max, held, then_seconds=APPEND_SECONDS_MAX)
        async with edge.heavy_work.turn(member.did, len(body)) as do:
            entries = await do(_entries, body)
            sha256 = await do(sha256_of, body)
        sends: list[Send] = []
        for number, entry in enumerate(entries):
            async with edge.heavy_work.turn(member.did, len(entry)) as do:
                try:
                    parsed = await do(request_of_email, entry, member.category or DEFAULT_CATEGORY)
                except Refusal as refusal:
                    raise about(number, refusal) from refusal
            sends.append(
                Send(
                    request=parsed,
                    client_address=request.client_address,
                    body_sha256=sha256,
                    size=len(entry),
                )
            )
        idempotency = None if key is None else Idempotency(key, sha256)
        sent: AllSent = await edge.decide("send_all", SendAll(sends=sends, idempotency=idempotency), member)
    return _sent(EmailBatch([EmailId(str(seq)) for seq in sent.seqs]), is_replay=sent.is_replay)


@operation(
    "GET",
    f"{PATH}/{{id}}",
    "getEmail",
    "A send as Resend's API shows it",
    parameters=(_ID,),
    answers={200: Described("The send", Email)},
    errors=(401, 403, 404, 422, 500),
    **_SHAPE,
)
async def get_email(edge: Edge, request: Request) -> Answer:
    member = await reader_by_key(edge, request)
    seq = _id(request)
    with edge.store.read() as view:
        states = list(messages.messages_of_send(view, seq))
    if not states or states[0].did != member.did:
        raise Refusal("NOT_FOUND", "id: you have sent no email with this id")
    return Answer.of(email_of(states, edge.store.get, edge.store.now_us()))


@operation(
    "PATCH",
    f"{PATH}/{{id}}",
    "updateEmail",
    "Give a scheduled send another time, until its first attempt",
    parameters=(_ID,),
    body=EmailTime,
    answers={200: Described("It has this time: durable on the relay's disk", EmailChanged)},
    errors=(*_ORDERS, 408, 413, 415),
    **_SHAPE,
)
async def update_email(edge: Edge, request: Request) -> Answer:
    member = writer_by_key(edge, request)
    seq = _id(request)
    fields = _TIME.decode(await request.json(ORDER_BYTES_MAX))
    if fields.send not in (None, str(seq)):
        raise invalid("id", "is another one in the path; leave it out")
    at = moment_in("scheduled_at", fields.scheduled_at)
    await edge.decide("reschedule_messages", RescheduleMessages(send_seq=seq, scheduled_at=at), member)
    return Answer.of(EmailChanged(str(seq)))


@operation(
    "POST",
    f"{PATH}/{{id}}/cancel",
    "cancelEmail",
    "Cancel a send that waits for its first attempt",
    parameters=(_ID,),
    answers={200: Described("It will not be sent: durable on the relay's disk", EmailChanged)},
    errors=_ORDERS,
    **_SHAPE,
)
async def cancel_email(edge: Edge, request: Request) -> Answer:
    member = writer_by_key(edge, request)
    seq = _id(request)
    await edge.decide("cancel_messages", OwnMessages(send_seq=seq), member)
    return Answer.of(EmailChanged(str(seq)))


OPERATIONS = (send_email, send_emails, get_email, update_email, cancel_email)


def _sent(answer: EmailId | EmailBatch, *, is_replay: bool) -> Answer:
    return Answer.of(answer, 200, *((("Idempotent-Replayed", "true"),) if is_replay else ()))


def _id(request: Request) -> int:
    number = number_in(request.in_path["id"])
    if number is None:
        raise Refusal("NOT_FOUND", "id: you have sent no email with this id")
    return number


def _key(request: Request, door: str) -> str | None:
    """What the Idempotency-Key stands for: another thing at another door."""
    given = request.header(b"idempotency-key")
    if given is None:
        return None
    if not _KEY.fullmatch(given):
        raise invalid("Idempotency-Key", "expected 1 to 256 printable ASCII characters")
    return sha256_of(f"{door}\0{given}".encode())


_entries_in = msgspec.json.Decoder(array_of_raw(SENDS_MAX)).decode


def _entries(body: bytes) -> list[bytes]:
    """Each as it is written, to be decoded by itself."""
    try:
        entries = items_of(_entries_in(body))
    except msgspec.ValidationError as error:
        if HAS_MORE in str(error):
            raise invalid("the body", f"has over {SENDS_MAX} emails; expected 1 to {SENDS_MAX}") from None
        raise invalid("the body", "expected an array of emails") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid("the body", f"is not JSON in UTF-8: {error}") from error
    if not entries:
        raise invalid("the body", f"has no emails; expected 1 to {SENDS_MAX}")
    return entries


def is_below(path: str) -> bool:
    return path == PATH or path.startswith(f"{PATH}/")


def as_theirs(answer: Answer) -> Answer:
    """An error that was answered in our shape, in theirs."""
    error = email_error(msgspec.json.decode(answer.body, type=ErrorAnswer), answer.status)
    status = error.status_code
    headers = [header for header in answer.headers if header[0] != "WWW-Authenticate"]
    if status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    return Answer.of(error, status, *headers)._replace(request_id=answer.request_id)
