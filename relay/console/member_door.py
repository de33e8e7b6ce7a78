"""The member's console, at `<public_url>/console/`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from relay.api.request import Request
from relay.authentication import is_active_key
from relay.console import signing_in
from relay.console.frame import Frame, Mount, Visitor, origin_of
from relay.console.member_pages import PAGES
from relay.console.sessions import Sessions
from relay.console_logins import StillSignedIn
from relay.edge import Edge
from relay.message.tokens import ConsoleSession
from relay.principals import FULL, Principal
from relay.refusals import Refusal
from relay.views import console, members
from spool.views import Snapshot

HOME: Final = "/console"
COOKIE: Final = "atmos"


class MemberAccess:
    """Members, by their cookies."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.sessions: Final = Sessions(
            edge.pepper, COOKIE, lambda: edge.config.public_url.startswith("https://")
        )

    async def visitor(self, request: Request, now_us: int) -> Visitor | None:
        session = self.sessions.in_cookies(request.header(b"cookie"), now_us)
        if session is None or not session.did:
            return None
        with self._edge.store.read() as view:
            principal = principal_of(view, session)
        if principal is not None and principal.is_vouched:
            # There is no key to look at: the core knows whom the operator has let in.
            try:
                await self._edge.decide("still_signed_in", StillSignedIn(), principal)
            except Refusal as refusal:
                if refusal.code != "AUTH_FAILED":
                    raise
                principal = None
        return None if principal is None else Visitor(principal, session, session.did)

    def origins(self, request: Request) -> Collection[str]:
        return (origin_of(self._edge.config.public_url),)


def principal_of(view: Snapshot, session: ConsoleSession) -> Principal | None:
    """As whom a session acts; None: its epoch is over, or its key was revoked."""
    if session.epoch != console.epoch(view):
        return None
    principal = Principal(session.did, session.key_id, FULL)
    if not principal.is_vouched:
        state = members.key(view, session.did, session.key_id)
        if state is None:
            return None
        principal = Principal(session.did, state.key_id, state.scope, state.category)
    return principal if is_active_key(view, principal) else None


def member_console(edge: Edge) -> Frame:
    """For `relay.api.create_app`."""
    access = MemberAccess(edge)
    pages = (*PAGES, *signing_in.pages(access.sessions))
    return Frame(
        lambda: edge,
        [Mount(HOME, pages, of_member=True)],
        access,
        home=HOME,
        title="Mail console",
        sign_in=signing_in.PATH,
    )
