"""`POST /v1/send`: from bytes to a 200 that means durable (SPEC 1.1 and 1.2).

The order of checks is SPEC's: who asks, then the body while it is read, then whether it is a replay, then its fields,
then what the member may do. An answer never takes longer than 8 s: reading the body and reaching the disk have a limit
each.

`Idempotency-Key`: the first answer again, byte for byte. It is made from the accepted event, like the first one was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import trio

from relay.api.answers import Answer
from relay.api.authentication import identify
from relay.api.plain import Handler, Request
from relay.codec import Recorded
from relay.core import Core, unavailable
from relay.decisions.send import Origin, accept_send
from relay.events import MessageQueued, SendAccepted
from relay.presentation import Accepted, SendAnswer, rejected_recipient
from relay.principals import Principal
from relay.refusals import Refusal
from relay.requests import BODY_BYTES_MAX, parse_send
from relay.views import idempotency

PATH = "/v1/send"

BODY_SECONDS_MAX = 4.0
#: Waiting for the log's writer; once it has the send, the log says itself when the disk does not answer.
APPEND_SECONDS_MAX = 1.5

_KEY = re.compile(r"[ -~]{1,255}")


def handler(core: Core) -> Handler:
    async def send(request: Request) -> Answer:
        did = request.header(b"x-atmos-did") or request.argument("did")
        principal = identify(core, did, request.header(b"authorization"))
        key = _idempotency_key(request)
        with trio.move_on_after(
            BODY_SECONDS_MAX
        ) as limit:  # one scope for both waits: each costs a few per cent
            body = await _read_body(request)
            limit.deadline = trio.current_time() + APPEND_SECONDS_MAX
            if key is None:
                return Answer.of(
                    answer_of(await _accept(core, principal, None, body, request.client_address))
                )
            async with core.reservations.key_in_turn(principal.did, key):
                first = _first_answer(core, principal, key, body)
                if first is not None:
                    return Answer.of(answer_of(first), 200, ("Idempotent-Replayed", "true"))
                return Answer.of(answer_of(await _accept(core, principal, key, body, request.client_address)))
        if not request.is_over:
            raise Refusal(
                "REQUEST_TIMEOUT", f"the request body did not arrive within {BODY_SECONDS_MAX:.0f} s"
            )
        raise unavailable()

    return send


async def _accept(
    core: Core, principal: Principal, key: str | None, body: bytes, client_address: str | None
) -> Sequence[Recorded]:
    parsed = parse_send(body)
    origin = Origin(
        client_address=client_address,
        message_id_entropy=f"{core.surroundings.dice.getrandbits(64):016x}",
        operator_stem=core.operator_stem,
        idempotency_key=key,
        body_sha256=None if key is None else hashlib.sha256(body).hexdigest(),
    )
    with core.store.read() as view:
        events = accept_send(
            view,
            core.config,
            principal,
            parsed,
            origin,
            reserved=core.reservations.recipients,
            now_us=core.store.now_us(),
        )
    core.check_accepting()
    with core.reservations.hold(events):
        return await core.store.append(events, patient=False)


def answer_of(recorded: Sequence[Recorded]) -> SendAnswer:
    """The answer to a send, from its events: the same now and on every replay.

    Raises Refusal(IDEMPOTENCY_CONFLICT) where part of them was erased by an order meanwhile: it was sent, and must not
    be sent again, but the answer cannot be given any more.
    """
    send = recorded[0].event
    assert isinstance(send, SendAccepted)
    if any(item.event.personal is None for item in recorded):
        raise Refusal(
            "IDEMPOTENCY_CONFLICT",
            "Idempotency-Key: the mail was accepted, and its personal data have been erased since; use a new key for "
            "a new mail",
        )
    assert send.personal is not None
    accepted = []
    for seq, _, event in recorded[1:]:
        assert isinstance(event, MessageQueued)
        assert event.personal is not None
        accepted.append(Accepted(event.personal.given, seq))
    return SendAnswer(
        accepted, [rejected_recipient(given, reason) for given, reason in send.personal.rejected]
    )


def _first_answer(core: Core, principal: Principal, key: str, body: bytes) -> list[Recorded] | None:
    """The events of the send that this key stands for. Raises Refusal where it stands for another body."""
    with core.store.read() as view:
        first = idempotency.first_use(view, principal.did, key, core.store.now_us())
    if first is None:
        return None
    if first.body_sha256 != hashlib.sha256(body).hexdigest():
        raise Refusal(
            "IDEMPOTENCY_CONFLICT",
            "Idempotency-Key: it was used for another request in the last 24 hours; use a new key for a new mail",
        )
    accepted = core.store.get(first.seq)
    assert isinstance(accepted.event, SendAccepted)
    return [accepted, *(core.store.get(first.seq + index + 1) for index in range(accepted.event.recipients))]


def _idempotency_key(request: Request) -> str | None:
    """SHA-256 of the Idempotency-Key, hex; what a member puts into it is nobody else's business."""
    given = request.header(b"idempotency-key")
    if given is None:
        return None
    if not _KEY.fullmatch(given):
        raise Refusal("INVALID_REQUEST", "Idempotency-Key: expected 1 to 255 printable ASCII characters")
    return hashlib.sha256(given.encode()).hexdigest()


async def _read_body(request: Request) -> bytes:
    if request.media_type not in ("", "application/json"):
        raise Refusal("UNSUPPORTED_MEDIA_TYPE", "Content-Type: send application/json")
    return await request.body(BODY_BYTES_MAX)
