"""Who asks: the credentials of a request, which are the same for every path."""

from __future__ import annotations

from quart import request

from relay.core import Core
from relay.decisions import Principal
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
