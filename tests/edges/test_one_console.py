"""The members' console of a relay with two edges: a session is good at each, guesses are counted for both together, and
a link of the operator's lets in once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trio

from tests.world.edge_processes import EdgeRelay
from tests.world.http import Answer, open_http
from tests.world.process import PATIENCE_SECONDS, make_process_directory
from tests.world.relay import DID

CONNECTIONS = 12


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[tuple[EdgeRelay, str]]:
    directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9", service="edges = 2")
    relay = EdgeRelay(directory)
    key = relay.enrol()["Authorization"].removeprefix("Bearer ")
    with relay.running():
        relay.wait_edges(2)
        yield relay, key
        assert relay.stop() == 0
        for event in ("http.defect", "edge.defect", "worker.killed"):
            assert not relay.log_lines(event)


def ask(relay: EdgeRelay, requests: list[tuple[str, str, dict[str, str], dict[str, str]]]) -> list[Answer]:
    """Each on a connection of its own, all at once: both edges have some."""
    answers: list[Answer] = []

    async def one(method: str, path: str, headers: dict[str, str], form: dict[str, str]) -> None:
        said = {"Sec-Fetch-Site": "same-origin", **headers}
        if method == "POST":
            said["Content-Type"] = "application/x-www-form-urlencoded"
        async with open_http(relay.address) as http:
            body = urlencode(form).encode() if method == "POST" else b""
            answers.append(await http.request(method, f"/console{path}", said, body))

    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                for request in requests:
                    nursery.start_soon(one, *request)

    trio.run(main)
    return answers


def cookie_of(answer: Answer) -> dict[str, str]:
    assert (answer.status, answer.headers["location"]) == (303, "/console/"), answer
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def test_a_session_is_good_at_every_edge_and_guesses_count_at_all(relay: tuple[EdgeRelay, str]) -> None:
    running, key = relay
    (signed_in,) = ask(running, [("POST", "/sign-in", {}, {"did": DID, "key": key})])
    by_key = cookie_of(signed_in)
    assert {each.status for each in ask(running, [("GET", "/", by_key, {})] * CONNECTIONS)} == {200}

    guess = ("POST", "/sign-in", {"X-Forwarded-For": "192.0.2.1"}, {"did": DID, "key": "atmos_guessed"})
    statuses = sorted(each.status for each in ask(running, [guess] * CONNECTIONS))
    assert statuses == [401] * 10 + [429] * (CONNECTIONS - 10)

    link = running.command("console", "login", "--did", DID).split()
    token = next(word for word in link if "link=" in word).partition("link=")[2]
    answers = ask(running, [("POST", "/sign-in", {}, {"link": token})] * CONNECTIONS)
    (let_in,) = [each for each in answers if each.status == 303]
    assert {each.status for each in answers if each is not let_in} == {401}
    by_link = cookie_of(let_in)
    assert {each.status for each in ask(running, [("GET", "/messages", by_link, {})] * CONNECTIONS)} == {200}

    running.command("console", "logout", "--all")
    for cookie in (by_key, by_link):
        over = ask(running, [("GET", "/", cookie, {})] * CONNECTIONS)
        assert {each.headers.get("location") for each in over} == {"/console/sign-in"}
