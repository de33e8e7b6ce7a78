"""`/v1/suppressions`: a member's suppression list, to read, to add to and to take from (SPEC 1.3, 3.4 and 12).

Several reasons can hold at once. The list has one entry an address, the one that was suppressed last first; its
`reason`, `since` and `seq` are those of the first reason, which also orders the pages, and `reasons` has them all.

An address stands in the path percent-encoded, as in `/v1/suppressions/jo%2Bnews%40example.com`. It is all of the
rest of the path: an address may have slashes, and may begin with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from relay.api.answers import Answer
from relay.api.arguments import AFTER, before_of, limit_of, limit_parameter
from relay.api.credentials import reader_of, writer_of
from relay.api.operations import MEMBERS_ERRORS, Described, Parameter, operation
from relay.api.pace import rows_of
from relay.api.request import Request
from relay.edge import Edge
from relay.fields import NOTE_CHARACTERS_MAX, address_in, note_in
from relay.json_body import JsonBody
from relay.presentation import SuppressedAddress, SuppressionPage, suppressed_address
from relay.refusals import unavailable
from relay.self_service import Suppress, Suppressing, Unsuppress
from relay.views.suppressions import Suppression, suppressions_of
from spool.views import Snapshot

BODY_BYTES_MAX = 16 * 1024


class SuppressionBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `POST /v1/suppressions`. `null` in an optional field is the same as leaving it out."""

    recipient: Annotated[
        str, msgspec.Meta(description="The bare address.", examples=["recipient@example.com"])
    ]
    reason: Annotated[
        str | None,
        msgspec.Meta(
            description=f"A free note, at most {NOTE_CHARACTERS_MAX} characters, kept beside the reason `manual`."
        ),
    ] = None


_BODY = JsonBody(SuppressionBody)


@operation(
    "GET",
    "/v1/suppressions",
    "listSuppressions",
    "The member's suppression list, the newest first",
    parameters=(AFTER, limit_parameter()),
    answers={200: Described("A page of suppressed addresses", SuppressionPage)},
    errors=MEMBERS_ERRORS,
)
async def list_suppressions(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    return Answer.of(await suppression_page(edge, member.did, before_of(request), limit_of(request)))


async def suppression_page(edge: Edge, did: str, before: int | None, limit: int) -> SuppressionPage:
    """The next addresses of a member's list, the newest first."""

    def scan(view: Snapshot, before: int | None) -> Iterator[Suppression]:
        return suppressions_of(view, did, before=before)

    states = await rows_of(edge, did, scan, lambda state: state.seq, before, limit + 1)
    page = states[:limit]
    following = str(page[-1].seq) if len(states) > limit else None
    return SuppressionPage([suppressed_address(state) for state in page], following)


@operation(
    "POST",
    "/v1/suppressions",
    "suppress",
    "Suppress an address",
    description="Wants a key of scope `full`.",
    body=SuppressionBody,
    answers={
        200: Described("It was suppressed by the member already", SuppressedAddress),
        201: Described("Suppressed: durable on the relay's disk", SuppressedAddress),
    },
    errors=(400, 401, 403, 408, 409, 413, 415, 429, 500, 503),
)
async def suppress(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    wanted = _checked(_BODY.decode(await request.json(BODY_BYTES_MAX)))
    done: Suppressing = await edge.decide("suppress", wanted, member)
    if done.now is None:
        # It was taken back since. To ask again does no harm.
        raise unavailable()
    return Answer.of(done.now, 201 if done.is_new else 200)


@operation(
    "DELETE",
    "/v1/suppressions/{recipient...}",
    "unsuppress",
    "Take back the reasons `unsubscribe`, `manual` and `bounced`; a complaint stays",
    description="Wants a key of scope `full`.",
    parameters=(
        Parameter("recipient", {"type": "string"}, "The bare address, percent-encoded.", where="path"),
    ),
    answers={204: Described("Taken back")},
    errors=(400, 401, 403, 404, 409, 429, 500, 503),
)
async def unsuppress(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    address = address_in("recipient", request.in_path["recipient"])
    await edge.decide("unsuppress", Unsuppress(address=address), member)
    return Answer.nothing()


def _checked(fields: SuppressionBody) -> Suppress:
    """Raises Refusal(INVALID_REQUEST)."""
    note = note_in("reason", fields.reason)
    return Suppress(address=address_in("recipient", fields.recipient), note=note)
