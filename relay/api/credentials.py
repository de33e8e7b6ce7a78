"""Who asks: the credentials of a request, which are the same for every path."""

from __future__ import annotations

import re

from relay.api.request import Request
from relay.authentication import authenticate, authenticate_key, check_not_suspended, is_active_key
from relay.dids import is_valid_did, why_no_did
from relay.edge import Edge
from relay.principals import Principal
from relay.refusals import Refusal
from relay.stream_places import TicketUse, no_such_ticket

_READING = frozenset({"GET", "HEAD"})
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)


def writer_of(edge: Edge, request: Request) -> Principal:
    """The member that sent this request, which changes something. Raises Refusal in the order of SPEC 1.1."""
    member = _member(edge, request)
    edge.quota.take_write(member.did)
    return member


async def reader_of(edge: Edge, request: Request) -> Principal:
    """The member that sent this request, which only reads: a suspended one may, and so many at a time. Raises
    Refusal."""
    return await _in_turn(edge, request, _member(edge, request, suspended_may=True))


def writer_by_key(edge: Edge, request: Request) -> Principal:
    """As `writer_of`, of a request that names no member: its key does."""
    member = _holder(edge, request)
    edge.quota.take_write(member.did)
    return member


async def reader_by_key(edge: Edge, request: Request) -> Principal:
    """As `reader_of`, by the key alone."""
    return await _in_turn(edge, request, _holder(edge, request, suspended_may=True))


async def _in_turn(edge: Edge, request: Request, member: Principal) -> Principal:
    await edge.quota.begin_read(member.did)
    request.at_end.append(lambda: edge.quota.end_read(member.did))
    with edge.store.read() as view:  # its turn may have been long in coming
        if not is_active_key(view, member):
            raise Refusal("AUTH_FAILED", "the API key was revoked")
    return member


def listener_of(edge: Edge, request: Request) -> tuple[Principal, TicketUse | None]:
    """The member that asks for a stream, which may be a suspended one: by headers, or by a ticket, which is used up
    when the stream is opened.

    Raises Refusal.
    """
    ticket = request.argument("ticket")
    if ticket is None:
        return _member(edge, request, suspended_may=True), None
    request.check_arguments()
    opened = edge.streams.open_ticket(ticket)
    if opened is not None:
        issued_to, _ = opened
        with edge.store.read() as view:
            if is_active_key(view, issued_to):
                return opened
    raise no_such_ticket()


def is_unknown(edge: Edge, request: Request) -> bool:
    """Whether this request shows a key that is none, or wants something changed for a member that is suspended, as far
    as is known at this node. What else is wrong with it is nobody's question here."""
    ticket = request.argument("ticket")
    opened = None if ticket is None else edge.streams.open_ticket(ticket)
    did = request.header(b"x-atmos-did") or request.argument("did")
    key = _bearer(request.header(b"authorization"))
    with edge.store.read() as view:
        if opened is not None:
            return not is_active_key(view, opened[0])
        if not key or (did and not is_valid_did(did)):
            return False
        try:
            if did:
                _, member = authenticate(view, edge.pepper, did, key)
            else:
                _, member = authenticate_key(view, edge.pepper, key)
            if request.method not in _READING:
                check_not_suspended(member)
        except Refusal:
            return True
    return False


def _member(edge: Edge, request: Request, *, suspended_may: bool = False) -> Principal:
    did = request.header(b"x-atmos-did") or request.argument("did")
    key = _bearer(request.header(b"authorization"))
    if not did or not key:
        raise Refusal(
            "AUTH_REQUIRED",
            "send your DID in the X-Atmos-DID header and your API key as `Authorization: Bearer atmos_...`",
        )
    if not is_valid_did(did):
        raise Refusal("INVALID_DID", f"X-Atmos-DID: {why_no_did(did)}")
    with edge.store.read() as view:
        principal, member = authenticate(view, edge.pepper, did, key)
    if not suspended_may:
        check_not_suspended(member)
    request.check_arguments()
    return principal


def _holder(edge: Edge, request: Request, *, suspended_may: bool = False) -> Principal:
    key = _bearer(request.header(b"authorization"))
    if not key:
        raise Refusal("AUTH_REQUIRED", "send your API key as `Authorization: Bearer atmos_...`")
    with edge.store.read() as view:
        principal, member = authenticate_key(view, edge.pepper, key)
    if not suspended_may:
        check_not_suspended(member)
    request.check_arguments()
    return principal


def _bearer(authorization: str | None) -> str | None:
    found = _BEARER.fullmatch(authorization or "")
    return found[1] if found else None
