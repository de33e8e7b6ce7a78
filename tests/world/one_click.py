"""A recipient who unsubscribes: the link out of a mail that was received, and what a mail client does with it."""

from __future__ import annotations

import email
import email.policy
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.world.relay import World

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ONE_CLICK = b"List-Unsubscribe=One-Click"


class Page(NamedTuple):
    status: int
    text: str
    headers: Any


async def visit(world: World, method: str, path: str, **arguments: Any) -> Page:
    """What is answered below `/u/` is a page, whatever it says."""
    answer = await world.client.open(path, method=method, **arguments)
    assert answer.content_type == "text/html; charset=utf-8"
    assert "Location" not in answer.headers
    return Page(answer.status_code, await answer.get_data(as_text=True), answer.headers)


async def one_click(world: World, path: str) -> Page:
    """What a mail client does."""
    return await visit(world, "POST", path, headers=FORM, data=ONE_CLICK)


def link_of(world: World, number: int = -1) -> str:
    """The path of the unsubscribe link in a mail that was received."""
    message = email.message_from_bytes(world.mx.messages[number].data, policy=email.policy.SMTP)
    assert message.get_all("List-Unsubscribe-Post") == ["List-Unsubscribe=One-Click"]
    (value,) = message.get_all("List-Unsubscribe", [])
    url = urlsplit(value.removeprefix("<").removesuffix(">"))
    assert f"{url.scheme}://{url.netloc}" == world.core.config.public_url
    return url.path


async def delivered(world: World, **fields: Any) -> tuple[int, str]:
    """Send a bulk mail; its message id and the path of its link."""
    message_id = await world.send(**fields)
    assert (await world.until_final(message_id))["status"] == "sent"
    return message_id, link_of(world)


def unsubscribe_path(message: bytes) -> str:
    url = message.split(b"\r\nList-Unsubscribe: <")[1].split(b">")[0].decode()
    return url.removeprefix("https://relay.example")
