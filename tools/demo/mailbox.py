"""The mails that arrived in the demo, on a page: `http://127.0.0.1:8027/`.

They are strangers' mail as anywhere else: shown as text; HTML only by a URL of its own, in a sandbox without scripts
and network. Who asks by another name than this machine's gets nothing: a page elsewhere could otherwise read them by
DNS rebinding.

The newest MAILS_MAX are kept, and no more than BYTES_MAX of them: the demo may run for days.
"""

from __future__ import annotations

import email
import logging
from collections import deque
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from typing import Final, NamedTuple

import hypercorn
import trio
from hypercorn.trio import serve
from jinja2 import StrictUndefined
from quart import Response, abort, render_template, request
from quart_trio import QuartTrio

MAILS_MAX: Final = 500
BYTES_MAX: Final = 64 * 1024 * 1024
#: Of one text, as it is shown; the source is whole.
SHOWN_CHARACTERS_MAX: Final = 200_000

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_POLICY_OF_HTML: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
)


class Arrived(NamedTuple):
    """One mail, as it came."""

    number: int
    at: datetime
    mail_from: str
    rcpt_to: str
    octets: bytes

    @property
    def message(self) -> Message:
        return email.message_from_bytes(self.octets)

    @property
    def subject(self) -> str:
        return words(self.message.get("Subject", "")) or "(no subject)"

    @property
    def header(self) -> list[tuple[str, str]]:
        return [(name, words(value)) for name, value in self.message.items()]

    def text_of(self, content_type: str) -> str | None:
        """The first part of this type that is no attachment."""
        for part in self.message.walk():
            if part.get_content_type() == content_type and part.get_filename() is None:
                octets = part.get_payload(decode=True)
                assert isinstance(octets, bytes)
                return decoded(octets, part.get_content_charset("utf-8"))[:SHOWN_CHARACTERS_MAX]
        return None

    @property
    def files(self) -> list[tuple[str, str]]:
        """Name and type of each attachment."""
        return [
            (name, part.get_content_type())
            for part in self.message.walk()
            if (name := part.get_filename()) is not None
        ]


def words(value: object) -> str:
    """A field's value for people. What no reader can decode is shown as it stands."""
    try:
        return str(make_header(decode_header(str(value))))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return str(value)


def decoded(octets: bytes, charset: str) -> str:
    try:
        return octets.decode(charset, errors="replace")
    except LookupError:  # a charset that nobody knows
        return octets.decode("latin-1")


class Mailbox:
    """What arrived, the newest last."""

    def __init__(self) -> None:
        self._mails: deque[Arrived] = deque()
        self._bytes = 0
        self.last = 0

    def put(self, mail_from: str, rcpt_to: str, octets: bytes) -> None:
        self.last += 1
        self._mails.append(Arrived(self.last, datetime.now(UTC), mail_from, rcpt_to, octets))
        self._bytes += len(octets)
        while len(self._mails) > MAILS_MAX or self._bytes > BYTES_MAX:
            self._bytes -= len(self._mails.popleft().octets)

    @property
    def newest_first(self) -> list[Arrived]:
        return [*reversed(self._mails)]

    def mail(self, number: int) -> Arrived | None:
        return next((mail for mail in self._mails if mail.number == number), None)


def create_page(mailbox: Mailbox, moods: dict[str, str]) -> QuartTrio:
    """`moods`: what the receiver does for which mailbox."""
    app = QuartTrio(__name__, static_folder="static", static_url_path="/static")
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    @app.before_request
    async def only_here() -> None:
        if request.host.partition(":")[0] not in ("127.0.0.1", "localhost"):
            abort(421)

    @app.after_request
    async def harmless(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/")
    async def mails() -> str:
        return await render_template("mails.html", mails=mailbox.newest_first, moods=moods, last=mailbox.last)

    @app.get("/last")
    async def last() -> dict[str, int]:
        return {"last": mailbox.last}

    def wanted(number: int) -> Arrived:
        mail = mailbox.mail(number)
        if mail is None:
            abort(404)
        return mail

    @app.get("/mails/<int:number>")
    async def mail(number: int) -> str:
        return await render_template("mail.html", mail=wanted(number))

    @app.get("/mails/<int:number>/html")
    async def html(number: int) -> Response:
        shown = wanted(number).text_of("text/html")
        if shown is None:
            abort(404)
        return Response(
            shown,
            content_type="text/html; charset=utf-8",
            headers={"Content-Security-Policy": _POLICY_OF_HTML},
        )

    @app.get("/mails/<int:number>/source")
    async def source(number: int) -> Response:
        return Response(decoded(wanted(number).octets, "utf-8"), content_type="text/plain; charset=utf-8")

    return app


async def serve_page(app: QuartTrio, port: int, *, task_status: trio.TaskStatus[str]) -> None:
    """On this machine, until cancelled; reports the URL."""
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, app, config)
        task_status.started(f"http://127.0.0.1:{port}/")
