"""How the operator signs in and out: by a link of `atmos-relay console login`, on this machine as well.

The link leads to a page with one button, and only the button uses it up: what fetches links before anybody has clicked
does no harm, and a cookie that other sites' requests never bring (SameSite=Strict) is there from the first page on.

Ten links that are no good, of one address in ten minutes, and the next are answered with "wait". One that is good is
good all the same: nobody guesses it, and on a machine of several users one of them could keep the operator out.
"""

from __future__ import annotations

import logging
import secrets

import trio

from relay.api.answers import Answer
from relay.console.pages import Context, Page, See, page
from relay.console.sessions import Sessions
from relay.console.signing_in import PATH, page_to_sign_in
from relay.console.visit import Visit
from relay.core import Core
from relay.lockout import LOCKED_SECONDS
from relay.message.tokens import SESSION_SECRET_OCTETS
from relay.refusals import Refusal
from relay.views import console

logger = logging.getLogger(__name__)


def pages(core: Core, sessions: Sessions) -> tuple[Page, ...]:
    """Of the operator's door."""
    sign_in_page = page_to_sign_in("operator_sign_in.html", directory=str(core.directory))

    @page("POST", PATH, "operator_sign_in.html", "Sign in", is_open=True, again=sign_in_page)
    async def sign_in(visit: Visit) -> Context | See | Answer:
        form = await visit.form()
        user = _redeemed(core, form.one("link"), f"operator {visit.request.client_address or ''}")
        with core.store.read() as view:
            epoch = console.epoch(view)
        session = sessions.begin("", "", epoch, visit.now_us, secrets.token_bytes(SESSION_SECRET_OCTETS))
        # Whatever this session orders is recorded under its id; here stands who that is.
        logger.info("console.operator_session", extra={"session": session.session_id[:8], "by": user})
        return Answer(303, b"", (("Location", "/"), ("Set-Cookie", sessions.cookie(session))))

    @page("POST", "/sign-out", "operator_sign_in.html", "Sign in")
    async def sign_out(visit: Visit) -> Context | See | Answer:
        assert visit.session is not None
        sessions.end(visit.session)
        return Answer(303, b"", (("Location", f"{PATH}?done=out"), ("Set-Cookie", sessions.no_cookie())))

    return sign_in_page, sign_in, sign_out


def _redeemed(core: Core, token: str, address: str) -> str:
    """The Unix user who had the link made. Raises Refusal(AUTH_FAILED or RATE_LIMITED)."""
    now, guesses = trio.current_time(), core.console_guesses
    try:
        return core.console_links.redeem_operators(token, core.store.now_us())
    except Refusal:
        if guesses.refuses(address, now):
            raise Refusal(
                "RATE_LIMITED",
                "too many links that are no good came from your address; wait ten minutes",
                retry_after_seconds=int(LOCKED_SECONDS),
            ) from None
        guesses.failed(address, now, is_trusted=False)
        raise
