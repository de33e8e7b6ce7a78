"""A console without a browser: requests with the cookies that a browser has, and with any header one likes."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from tests.browser.conftest import Door
from tests.world.process import PATIENCE_SECONDS

#: As a browser says it of a console's own form.
FROM_HERE = {"Sec-Fetch-Site": "same-origin"}


class Answered(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str


def ask(
    door: Door,
    method: str,
    path: str,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] = FROM_HERE,
    *,
    cookies: bool = True,
) -> Answered:
    """Nothing is followed."""
    where = urlsplit(door.url)
    all_headers = dict(headers)
    if cookies:
        all_headers["Cookie"] = "; ".join(f"{each['name']}={each['value']}" for each in door.state["cookies"])
    body = None
    if form is not None:
        body = urlencode(form)
        all_headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection = http.client.HTTPConnection(where.hostname or "", where.port or 0, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, body, all_headers)
        answer = connection.getresponse()
        named: Any = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, named, answer.read().decode())
    finally:
        connection.close()


def form_token(door: Door, home: str) -> str:
    """That of this session."""
    found = re.search(r'name="token" value="(\w+)"', ask(door, "GET", home).text)
    assert found is not None, "no page of this session has a form"
    return found[1]
