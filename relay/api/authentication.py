"""Who asks: the credentials of a request, which are the same for every path."""

from __future__ import annotations

from quart import request

from relay.api.plain import Request
from relay.core import Core
from relay.principals import Principal
from relay.refusals import Refusal


def authenticate(core: Core, *, suspended_may: bool = False) -> Principal:
    """The member that sent this request. Raises Refusal."""
    did = request.headers.get("X-Atmos-DID") or request.args.get("did")
    return identify(core, did, request.headers.get("Authorization"), suspended_may=suspended_may)


def identify(
    core: Core, did: str | None, authorization: str | None, *, suspended_may: bool = False
) -> Principal:
    """The member with these credentials. Raises Refusal."""
    principal, member = core.authenticate(did, authorization)
    if member.status == "suspended" and not suspended_may:
        raise Refusal("MEMBER_SUSPENDED", "this membership is suspended; ask the operator of the relay")
    return principal


def authenticate_stream(core: Core, request: Request) -> Principal:
    """The member that asks for a stream, which may be a suspended one: by headers, or by a ticket, which is used up.

    Raises Refusal.
    """
    ticket = request.argument("ticket")
    if ticket is None:
        did = request.header(b"x-atmos-did") or request.argument("did")
        return identify(core, did, request.header(b"authorization"), suspended_may=True)
    issued_to = core.streams.redeem_ticket(ticket, core.store.now_us())
    if issued_to is None or not core.is_active_key(issued_to):
        raise Refusal("AUTH_FAILED", "the ticket is not known, used, or older than 60 seconds")
    return issued_to
