"""The frame of a console: from a request to a page, for every page in the same way.

    door = Frame(edge, [Mount("/console", PAGES, is_members=True)], ...)
    await door.serve(scope, receive, send)

The contract. *Who asks* is found out by the cookie, for each request anew; who has not signed in is shown where to.
*What changes something is a POST* that brings the token of its session and comes from a page of the console itself:
`Sec-Fetch-Site: same-origin`, or, of a browser that does not say that, an Origin that is this console's. (With
`Referrer-Policy: no-referrer` browsers send `Origin: null` with a page's own forms, so the other field is looked at
first.) *Every answer* is `no-store` and has the headers below; a page may say otherwise for itself, and the preview of
an HTML mail is the only one that does. *Errors* are pages, a defect too, with a request id. A form has 64 KiB at most,
and a request the time that it has at the API. What one member asks at a time is bounded as at the API (`relay.quota`).

Nothing redirects but a POST that was done (303), `/console` without its slash, and a visitor who has to sign in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from relay.api.answers import Answer, error_answer, give
from relay.api.operations import Router
from relay.api.request import Receive, Request, Send
from relay.console.pages import Page, See
from relay.console.rendering import OWN_STATIC, OWN_TEMPLATES, Templates
from relay.console.sessions import form_token, is_form_token
from relay.console.visit import Visit, form_in
from relay.dids import is_valid_did
from relay.edge import Edge
from relay.message.tokens import ConsoleSession
from relay.principals import Asker, Principal
from relay.refusals import Refusal
from relay.views import members

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
_HTML: Final = "text/html; charset=utf-8"
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Visitor(NamedTuple):
    """Somebody who has signed in."""

    asker: Asker
    session: ConsoleSession
    #: How the pages call him.
    name: str


class Access(Protocol):
    """How a door knows who comes."""

    async def visitor(self, request: Request, now_us: int) -> Visitor | None:
        """Who has signed in, looked at anew; None: nobody, or not any more."""

    def origins(self, request: Request) -> Collection[str]:
        """As which `scheme://host:port` this console's own pages come."""


@dataclass(frozen=True)
class Mount:
    """Pages, and where they stand. Below a `{did}` they are that member's; else the visitor's own."""

    prefix: str
    pages: Sequence[Page]
    #: They are a member's: of the one in the path, or of the one who asks.
    of_member: bool = False


class _Mounted(NamedTuple):
    method: str
    path: str
    page: Page
    mount: Mount


class NavEntry(NamedTuple):
    title: str
    path: str
    is_current: bool


class Frame:
    def __init__(
        self,
        edge: Callable[[], Edge],
        mounts: Sequence[Mount],
        access: Access,
        *,
        home: str,
        title: str,
        sign_in: str,
        templates: Sequence[Path] = (OWN_TEMPLATES,),
        static: Sequence[Path] = (OWN_STATIC,),
    ) -> None:
        """`home`: the path of the first page, without its slash; `sign_in`: that of the page for who has not signed in,
        below it."""
        self._edge = edge
        #: All that this console has.
        self.mounts: Final = mounts
        self._access = access
        self._home = home
        self._title = title
        self._sign_in = sign_in
        self._templates = Templates(templates)
        self._static = _static_files(static)
        self._router: Router[_Mounted] = Router(
            _Mounted(page.method, mount.prefix + page.path, page, mount)
            for mount in mounts
            for page in mount.pages
        )

    async def serve(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request, to the end of its answer."""
        path = scope["path"]
        by_method, in_path = self._router.find(path)
        found = by_method.get(scope["method"])
        legal = found.page.legal_arguments if found else ()
        request = Request(scope, receive, in_path, legal)
        if path.startswith(f"{self._home}/static/"):
            answer = self._static_file(path.removeprefix(f"{self._home}/static/"))
        elif path == self._home and self._home:
            answer = _see(f"{self._home}/")
        elif found is not None:
            answer = await self._answered(found, request)
        else:
            answer = await self._wrong(by_method)
        await give(_with_headers(answer), request, send)

    async def _answered(self, found: _Mounted, request: Request) -> Answer:
        visit: Visit | None = None
        try:
            with request.limit:
                visitor, visit = await self._visit(found, request)
                if visitor is None and not found.page.is_open:
                    return self._to_sign_in(request)
                request.check_arguments()
                return await self._made(found, visit, visitor)
            raise Refusal("REQUEST_TIMEOUT", f"the form did not arrive within {request.body_seconds:.0f} s")
        except Exception as error:  # noqa: BLE001 (the one place that answers for a defect)
            return await self._error_page(error, request, found.path, visit)
        finally:
            for end in request.at_end:
                end()

    async def _made(self, found: _Mounted, visit: Visit, visitor: Visitor | None) -> Answer:
        page = found.page
        if "did" in visit.request.in_path:
            _check_is_member(visit)
        asker = None if visitor is None else visitor.asker
        member = asker.did if isinstance(asker, Principal) else None
        if page.method == "POST":
            await self._take_form(page, visit, visitor)
            if member is not None:
                visit.edge.quota.take_write(member)
        elif member is not None:
            await visit.edge.quota.begin_read(member)
            visit.request.at_end.append(partial(visit.edge.quota.end_read, member))
        try:
            shown = await page.handler(visit)
        except Refusal as refusal:
            if page.again is None:
                raise
            visit.refused(refusal)
            shown = await page.again.handler(visit)
            answer = await self._as_answer(page.again, found, visit, visitor, shown)
            return answer._replace(headers=(*answer.headers, *_retry_after(refusal)))
        return await self._as_answer(page, found, visit, visitor, shown)

    async def _as_answer(
        self, page: Page, found: _Mounted, visit: Visit, visitor: Visitor | None, shown: Any
    ) -> Answer:
        match shown:
            case Answer():
                return shown
            case See(path, done):
                return _see(visit.path(path) + (f"?done={quote(done)}" if done else ""))
        done = page.says.get(visit.argument("done") or "") if page.says else None
        if done is not None:
            visit.say(done)
        context = {**self._around(page.title, visit, visitor, found), **shown}
        work, octets = visit.edge.heavy_work, visit.page_octets
        body = await self._templates.render(work, visit.did, page.template, context, octets)
        return Answer(visit.status, body, media_type=_HTML)

    # ------------------------------------------------------------------------------------------------ who asks

    async def _visit(self, found: _Mounted, request: Request) -> tuple[Visitor | None, Visit]:
        edge = self._edge()
        visitor = await self._access.visitor(request, edge.store.now_us())
        did, base = "", found.mount.prefix
        if found.mount.of_member:
            if "did" in request.in_path:
                did = _member_in(edge, request.in_path["did"]) if visitor is not None else ""
                base = base.replace("{did}", quote(did, safe=":"))
            elif visitor is not None and isinstance(visitor.asker, Principal):
                did = visitor.asker.did
        visit = Visit(
            edge,
            request,
            home=self._home,
            base=base,
            did=did,
            asker=visitor.asker if visitor else None,
            session=visitor.session if visitor else None,
            token=form_token(visitor.session) if visitor else "",
        )
        return visitor, visit

    def _to_sign_in(self, request: Request) -> Answer:
        if request.method in ("GET", "HEAD"):
            return _see(f"{self._home}{self._sign_in}")
        raise Refusal("AUTH_FAILED", "you have not signed in, or your session is over; nothing was changed")

    async def _take_form(self, page: Page, visit: Visit, visitor: Visitor | None) -> None:
        """Read what a form has sent. Raises Refusal where it is no form of this console."""
        self._check_came_from_here(visit.request)
        form = form_in(await visit.request.form(page.form_bytes_max))
        if visitor is not None and not page.is_open and not is_form_token(visitor.session, form.one("token")):
            raise _foreign("its token is not of your session; load the page again")
        visit.take_form(form)

    def _check_came_from_here(self, request: Request) -> None:
        site = request.header(b"sec-fetch-site")
        if site is not None:
            if site != "same-origin":
                raise _foreign("it came from another site")
        elif request.header(b"origin") not in self._access.origins(request):
            raise _foreign("it does not say that it came from here")

    # ------------------------------------------------------------------------------------------------ answers

    def _around(
        self, title: str, visit: Visit, visitor: Visitor | None, found: _Mounted | None
    ) -> dict[str, Any]:
        """What every template is given."""
        own = found.mount if found is not None else None
        main, of_member = self.mounts[0], own if own is not None and own is not self.mounts[0] else None
        current = found.page if found is not None else None
        return {
            "title": title,
            "console": self._title,
            "home": visit.home,
            "base": visit.base,
            "did": visit.did,
            "now_us": visit.now_us,
            "token": visit.token,
            "said": visit.said,
            "visitor": visitor,
            "by_operator": visit.by_operator,
            "nav": _nav(main, self._home if main.prefix == self._home else main.prefix, current, own is main)
            if visitor
            else [],
            "subnav": _nav(of_member, visit.base, current, True) if of_member and visitor else [],
        }

    async def _error_page(
        self, error: Exception, request: Request, route: str, visit: Visit | None
    ) -> Answer:
        answer, _ = error_answer(error, method=request.method, route=route)
        sentence = str(error) if isinstance(error, Refusal) else "The relay could not do this."
        headers = _retry_after(error) if isinstance(error, Refusal) else ()
        return await self._shown_error(answer.status, sentence, visit, answer.request_id, headers)

    async def _wrong(self, by_method: Mapping[str, _Mounted]) -> Answer:
        if not by_method:
            return await self._shown_error(404, "There is no such page.")
        allow = ", ".join(sorted(by_method))
        return await self._shown_error(405, "This page is not for that.", headers=(("Allow", allow),))

    async def _shown_error(
        self,
        status: int,
        sentence: str,
        visit: Visit | None = None,
        request_id: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        context = {
            "title": HTTPStatus(status).phrase,
            "console": self._title,
            "home": self._home,
            "base": visit.base if visit else self._home,
            "status": status,
            "sentence": sentence,
            "request_id": request_id or "",
            "visitor": None,
            "nav": [],
            "subnav": [],
            "said": [],
        }
        work, party = self._edge().heavy_work, visit.did if visit else ""
        body = await self._templates.render(work, party, "error.html", context)
        return Answer(status, body, tuple(headers), media_type=_HTML)

    def _static_file(self, name: str) -> Answer:
        found = self._static.get(name)
        if found is None:
            return Answer(404, b"there is no such file\n", media_type="text/plain; charset=utf-8")
        return Answer(200, found, media_type=_MEDIA_TYPES[Path(name).suffix])


def _member_in(edge: Edge, did: str) -> str:
    """The member that a path names. Raises Refusal(NOT_FOUND)."""
    if is_valid_did(did):  # what is none may be no key of a table either
        with edge.store.read() as view:
            if members.member(view, did) is not None:
                return did
    raise Refusal("NOT_FOUND", "There is no such member.")


def origin_of(url: str) -> str:
    """`https://relay.example` of an address that begins so, as browsers write it."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port not in (None, {"http": 80, "https": 443}.get(parts.scheme)) else ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def _nav(mount: Mount, base: str, current: Page | None, is_here: bool) -> list[NavEntry]:
    return [
        NavEntry(page.nav, base + page.path, is_here and current is not None and _is_below(current, page))
        for page in mount.pages
        if page.nav is not None and page.method == "GET"
    ]


def _is_below(current: Page, listed: Page) -> bool:
    return current.path == listed.path or (listed.path != "/" and current.path.startswith(f"{listed.path}/"))


def _retry_after(refusal: Refusal) -> Sequence[tuple[str, str]]:
    seconds = refusal.retry_after_seconds
    return () if seconds is None else (("Retry-After", str(seconds)),)


def _check_is_member(visit: Visit) -> None:
    """Whose pages the path names. Raises Refusal(NOT_FOUND)."""
    if is_valid_did(visit.did):
        with visit.store.read() as view:
            if members.member(view, visit.did) is not None:
                return
    raise Refusal("NOT_FOUND", f"did: {visit.did[:300]} is not a member")


def _foreign(why: str) -> Refusal:
    return Refusal("SCOPE_INSUFFICIENT", f"this form was not taken: {why}; nothing was changed")


def _see(location: str) -> Answer:
    return Answer(303, b"", (("Location", location),), media_type="text/plain; charset=utf-8")


def _with_headers(answer: Answer) -> Answer:
    own = {name for name, _ in answer.headers}
    return answer._replace(
        headers=(*answer.headers, *((name, value) for name, value in HEADERS.items() if name not in own))
    )


def _static_files(directories: Sequence[Path]) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for directory in reversed(directories)
        for path in sorted(directory.iterdir())
        if path.suffix in _MEDIA_TYPES
    }
