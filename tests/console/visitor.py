"""Somebody at the member's console, without a browser: what is asked and answered, octet by octet.

visitor = Visitor(world)
await visitor.sign_in()
page = await visitor.get("/messages")
done = await visitor.post("/messages/1/cancel", {})
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from tests.world.relay import DID, World

HOME = "/console"

#: Of each answer of a console, spelled out: what is compared with the relay's own table says nothing of that.
HEADERS_WANTED: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex, nofollow",
}


class Seen(NamedTuple):
    status: int
    html: str
    headers: dict[str, str]

    @property
    def location(self) -> str:
        return self.headers["location"]


class Visitor:
    def __init__(self, world: World, address: str = "127.0.0.1") -> None:
        self.world = world
        self._address = address
        self.cookie = ""

    async def sign_in(self, did: str = DID, key: str | None = None) -> Seen:
        if key is None:
            key = self.world.credentials["Authorization"].removeprefix("Bearer ")
        seen = await self.post("/sign-in", {"did": did, "key": key}, token=None)
        self.keep(seen)
        return seen

    def keep(self, seen: Seen) -> None:
        """The cookie that came with this answer, if one did."""
        if "set-cookie" in seen.headers:
            self.cookie = seen.headers["set-cookie"].partition(";")[0]

    async def get(self, path: str, **more: Any) -> Seen:
        return await self._open("GET", path, {"Sec-Fetch-Site": "same-origin"}, **more)

    async def post(
        self,
        path: str,
        form: dict[str, Any],
        *,
        token: str | None = "",
        headers: dict[str, str] | None = None,
    ) -> Seen:
        """`token`: "" for that of this session, None for none."""
        if token == "":
            found = re.search(r'name="token" value="(\w+)"', (await self.get("/")).html)
            assert found is not None, "no page of this session has a form"
            token = found[1]
        fields = form if token is None else {**form, "token": token}
        said = {"Sec-Fetch-Site": "same-origin"} if headers is None else headers
        return await self._open("POST", path, said, form=fields)

    async def _open(self, method: str, path: str, headers: dict[str, str], **more: Any) -> Seen:
        cookie = {"Cookie": self.cookie} if self.cookie else {}
        scope = {"client": (self._address, 0)}
        answer = await self.world.client.open(
            HOME + path, method=method, headers={**headers, **cookie}, scope_base=scope, **more
        )
        return Seen(answer.status_code, (await answer.get_data()).decode(), _lower(answer.headers))


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


async def signed_in(world: World) -> Visitor:
    visitor = Visitor(world)
    await visitor.sign_in()
    return visitor
