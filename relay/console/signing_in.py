"""Signing in, with a DID and one of its API keys or by a link that the operator had made; and signing out.

The key is in the request once, and never kept: what is kept is the cookie. Wrong is wrong: an unknown DID and a wrong
key are one answer. A link leads to a page with one button, and only the button uses it up: what fetches links before
anybody has clicked does no harm, and the cookie, which requests from other sites never bring, is there from the first
page on. (These forms have no session whose token they could carry; that they come from this very site is judged as of
all others.)
"""

from __future__ import annotations

import secrets
from typing import Final

from relay.api.answers import Answer
from relay.console.pages import Context, Page, See, page
from relay.console.sessions import Sessions
from relay.console.visit import Visit
from relay.console_logins import LeaveConsole, RedeemConsoleLink, VouchedFor
from relay.console_sign_in import ConsoleSignIn, SignedIn
from relay.message.tokens import SESSION_SECRET_OCTETS
from relay.networks import counted_as, parse_address
from relay.principals import Principal, Stranger
from relay.views import console

PATH: Final = "/sign-in"


def page_to_sign_in(template: str, **more: str) -> Page:
    """Of either door; its template is given `more` besides."""

    @page(
        "GET",
        PATH,
        template,
        "Sign in",
        is_open=True,
        arguments=("link",),
        says={"out": "You have signed out."},
    )
    async def sign_in_page(visit: Visit) -> Context:
        return {
            "is_signed_in": visit.session is not None,
            # A browser keeps the cookie back where another site has led here, and brings it with the next click.
            "came_from_elsewhere": visit.request.header(b"sec-fetch-site") == "cross-site",
            "link": visit.argument("link") or "",
            **more,
        }

    return sign_in_page


def pages(sessions: Sessions) -> tuple[Page, ...]:
    """Of the members' door."""
    sign_in_page = page_to_sign_in("sign_in.html")

    @page("POST", PATH, "sign_in.html", "Sign in", is_open=True, again=sign_in_page)
    async def sign_in(visit: Visit) -> Context | See | Answer:
        form = await visit.form()
        with visit.store.read() as view:
            # Before who it is: a session that was asked for before the epoch was raised is over.
            epoch = console.epoch(view)
        if form.one("link"):
            did, key_id = await _by_link(visit, form.one("link"))
        else:
            did, key_id = await _by_key(visit, form.one("did"), form.one("key"))
        secret = secrets.token_bytes(SESSION_SECRET_OCTETS)
        session = sessions.begin(did, key_id, epoch, visit.now_us, secret)
        return Answer(303, b"", (("Location", f"{visit.home}/"), ("Set-Cookie", sessions.cookie(session))))

    @page("POST", "/sign-out", "sign_in.html", "Sign in")
    async def sign_out(visit: Visit) -> Context | See | Answer:
        if isinstance(visit.asker, Principal) and visit.asker.is_vouched:
            await visit.decide("leave_console", LeaveConsole())
        location = f"{visit.home}{PATH}?done=out"
        return Answer(303, b"", (("Location", location), ("Set-Cookie", sessions.no_cookie())))

    return sign_in_page, sign_in, sign_out


async def _by_key(visit: Visit, did: str, api_key: str) -> tuple[str, str]:
    """Whose it is, and by which key. Raises Refusal."""
    wanted = ConsoleSignIn(did=did[:1024], api_key=api_key[:1024], address=_counted_as(visit))
    signed: SignedIn = await visit.edge.decide("console_sign_in", wanted, Stranger())
    return signed.did, signed.key_id


async def _by_link(visit: Visit, token: str) -> tuple[str, str]:
    """Whom the operator vouches for, and under which name. Raises Refusal."""
    vouched: VouchedFor = await visit.edge.decide(
        "redeem_console_link", RedeemConsoleLink(token=token[:1024]), Stranger()
    )
    return vouched.did, vouched.key_id


def _counted_as(visit: Visit) -> str:
    """What this visitor's address is counted under."""
    address = visit.request.client_address
    return "" if address is None else counted_as(parse_address(address))
