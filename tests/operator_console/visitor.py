"""Somebody at the operator's console, without a browser and without a socket.

async with open_door(world) as operator:
    await operator.sign_in()
    page = await operator.get("/queue")
    done = await operator.post("/queue/order", {"act": "hold", ...})
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

import trio

from relay.operator_console.door import OperatorDoor
from tests.world.relay import World

ADDRESS = "127.0.0.1:8026"
Fields = dict[str, str] | Sequence[tuple[str, str]]


class Seen(NamedTuple):
    status: int
    html: str
    headers: dict[str, str]

    @property
    def location(self) -> str:
        return self.headers["location"]

    @property
    def alerts(self) -> list[str]:
        return re.findall(r'role="alert">.*?<span>(.*?)</span></p>', self.html, re.DOTALL)

    @property
    def text(self) -> str:
        """Without its markup."""
        return " ".join(re.sub(r"<[^>]*>", " ", self.html).split())


class OperatorVisitor:
    def __init__(self, world: World, door: OperatorDoor, host: str = ADDRESS) -> None:
        self.world = world
        self._door = door
        self.host = host
        self.cookie = ""

    async def link(self) -> str:
        """The token of a new link, as `console login` prints it."""
        links = self.world.core.console_links
        links.operator_address = ADDRESS
        answer = await self.world.command("console_login")
        return str(answer["url"]).partition("?link=")[2]

    async def sign_in(self, link: str | None = None, **more: Any) -> Seen:
        token = await self.link() if link is None else link
        seen = await self.post("/sign-in", {"link": token}, token=None, **more)
        if "set-cookie" in seen.headers:
            self.cookie = seen.headers["set-cookie"].partition(";")[0]
        return seen

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Seen:
        return await self._ask("GET", path, headers or {})

    async def token(self) -> str:
        found = re.search(r'name="token" value="(\w+)"', (await self.get("/queue")).html)
        assert found is not None, "no page of this session has a form"
        return found[1]

    async def post(
        self,
        path: str,
        form: Fields,
        *,
        token: str | None = "",
        headers: dict[str, str] | None = None,
    ) -> Seen:
        """`token`: "" for that of this session, None for none."""
        fields = list(form.items()) if isinstance(form, dict) else list(form)
        if token is not None:
            fields.append(("token", token or await self.token()))
        said = {"Sec-Fetch-Site": "same-origin"} if headers is None else headers
        return await self._ask("POST", path, said, urlencode(fields).encode())

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Seen:
        fields = {"Host": self.host, **headers}
        if self.cookie:
            fields["Cookie"] = self.cookie
        if method == "POST":
            fields["Content-Type"] = "application/x-www-form-urlencoded"
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items() if value],
            "client": ("127.0.0.1", 50000),
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._door(scope, receive, send)
        head = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        html = b"".join(message.get("body", b"") for message in sent[1:])
        return Seen(sent[0]["status"], html.decode(), head)


@asynccontextmanager
async def open_door(world: World) -> AsyncIterator[OperatorVisitor]:
    async with trio.open_nursery() as nursery:
        yield OperatorVisitor(world, OperatorDoor(world.core, ADDRESS, nursery))
        nursery.cancel_scope.cancel()
