"""The operator's door: its own address, its own cookie, and a login for everybody, on this machine, too.

The contract. A request is for the console under a name that cannot be anybody else's (`relay.operator_console.hosts`),
or it is 421 and nothing is done. Who asks is an operator whose session this very door has begun, by a link, in the
epoch that holds; each request looks at that. (An edge has what cookies are sealed with, too, so a seal is not enough.)
What changes something comes from one of these pages (`relay.console.frame`). Nobody is redirected elsewhere, and no
other site may frame a page.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from ipaddress import ip_address
from typing import Any, Final

import hypercorn
import trio

from relay.api.answers import Answer, give
from relay.api.places import Places
from relay.api.request import Receive, Request, Send
from relay.api.server import serve_http
from relay.console.frame import HEADERS, Frame, Mount, Visitor
from relay.console.member_pages import PAGES as MEMBER_PAGES
from relay.console.rendering import OWN_TEMPLATES
from relay.console.sessions import Sessions
from relay.console.signing_in import PATH as SIGN_IN
from relay.core import Core
from relay.listening import Listening
from relay.operator.commands import make_all_known
from relay.operator_console import signing_in
from relay.operator_console.command_line import CommandLine
from relay.operator_console.hosts import is_ours
from relay.operator_console.orders import operators_edge
from relay.operator_console.pages import PAGES_OF_A_MEMBER, TEMPLATES, operator_pages
from relay.principals import Operator
from relay.views import console

logger = logging.getLogger(__name__)

COOKIE: Final = "atmos-operator"
#: Of more, the one that was begun first is over. They are over with the process, too.
SESSIONS_MAX: Final = 100
#: Of one person, with several tabs.
CONNECTIONS_MAX: Final = 100
#: What is being answered has so long when the relay is stopped.
GRACE_SECONDS: Final = 5


class OperatorAccess:
    """The operator, by a cookie. Browsers give cookies to all ports of a host alike, so its name has the port."""

    def __init__(self, core: Core, port: int) -> None:
        self._core = core
        self.sessions: Final = Sessions(
            core.pepper, f"{COOKIE}-{port}", lambda: False, remembered_max=SESSIONS_MAX
        )

    async def visitor(self, request: Request, now_us: int) -> Visitor | None:
        session = self.sessions.in_cookies(request.header(b"cookie"), now_us)
        if session is None or session.did or session.key_id:
            return None
        with self._core.store.read() as view:
            if session.epoch != console.epoch(view):
                return None
        return Visitor(Operator(f"console:{session.session_id[:8]}"), session, "operator")

    def origins(self, request: Request) -> Collection[str]:
        """The Host field was looked at before; a proxy in front may speak https."""
        host = request.header(b"host")
        return (f"http://{host}", f"https://{host}")


class OperatorDoor:
    """An ASGI application."""

    def __init__(self, core: Core, address: str, nursery: trio.Nursery) -> None:
        self._bind = core.config.console.operator_bind
        access = OperatorAccess(core, int(address.rpartition(":")[2]))
        edge = operators_edge(core)
        pages = operator_pages(core, CommandLine(core.directory), nursery)
        self.frame: Final = Frame(
            lambda: edge,
            [
                Mount("", (*pages, *signing_in.pages(core, access.sessions))),
                Mount("/members/{did}", (*MEMBER_PAGES, *PAGES_OF_A_MEMBER), of_member=True),
            ],
            access,
            home="",
            title="Operator's console",
            sign_in=SIGN_IN,
            templates=(TEMPLATES, OWN_TEMPLATES),
        )

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await _live(receive, send)
            case "http":
                await self._serve(scope, receive, send)
            case _:
                await receive()  # websocket.connect
                await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1 and is_ours(hosts[0], self._bind):
            await self.frame.serve(scope, receive, send)
            return
        text = b"The operator's console is asked for by the address of its machine, or as localhost.\n"
        answer = Answer(421, text, tuple(HEADERS.items()), media_type="text/plain; charset=utf-8")
        await give(answer, Request(scope, receive), send)


async def _live(receive: Receive, send: Send) -> None:
    """There is nothing to begin and nothing to end."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def serve_operator_console(
    core: Core,
    listening: Listening,
    close: trio.Event,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Until `close`. Reports the address, `127.0.0.1:8026`, when it serves."""
    make_all_known()
    host, _, _ = listening.address.rpartition(":")
    if not ip_address(host.strip("[]")).is_loopback:
        logger.warning("console.not_on_loopback", extra={"address": listening.address})
    config = hypercorn.Config()
    config.graceful_timeout = GRACE_SECONDS
    config.keep_alive_timeout = 75
    config.max_app_queue_size = 10
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    async with trio.open_nursery() as nursery:
        door: Any = OperatorDoor(core, listening.address, nursery)
        await serve_http(
            door,
            config,
            listening,
            places=Places(lambda: CONNECTIONS_MAX),
            close=close,
            task_status=task_status,
        )
        nursery.cancel_scope.cancel()
