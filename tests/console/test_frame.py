"""The frame of the console: who gets in, what changes something, and what every answer says."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import trio

from relay.events import RecipientSuppressed
from relay.views import members
from tests.console.visitor import HEADERS_WANTED, Visitor
from tests.world.relay import DID, OTHER_DID, open_world, run


def test_who_has_not_signed_in_is_shown_where_to_and_sees_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor = Visitor(world)
            seen = await visitor.get("/")
            assert (seen.status, seen.location) == (303, "/console/sign-in")
            wrong = await visitor.sign_in(key="atmos_wrong")
            assert wrong.status == 401
            assert "set-cookie" not in wrong.headers
            assert wrong.html.count('role="alert"') == 1
            assert await visitor.sign_in(OTHER_DID) == wrong, "an unknown DID and a wrong key are told apart"
            right = await visitor.sign_in()
            assert (right.status, right.location) == (303, "/console/")
            assert (await visitor.get("/")).status == 200

    run(main)


def test_every_answer_has_the_headers_whatever_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor = Visitor(world)
            await visitor.sign_in()
            paths = {
                "/": 200,
                "": 303,
                "/nowhere": 404,
                "/?x=1": 400,
                "/static/console.css": 200,
                "/sign-in": 200,
            }
            for path, status in paths.items():
                seen = await visitor.get(path)
                assert seen.status == status, path
                assert HEADERS_WANTED.items() <= seen.headers.items(), path

    run(main)


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://relay.example"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://relay.example"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
    ],
)
def test_a_form_counts_where_it_came_from_here(
    tmp_path: Path, headers: dict[str, str], is_taken: bool
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor = Visitor(world)
            await visitor.sign_in()
            seen = await visitor.post("/sign-out", {}, headers=headers)
            assert seen.status == (303 if is_taken else 403)
            assert ("Max-Age=0" in seen.headers.get("set-cookie", "")) == is_taken

    run(main)


def test_a_form_counts_with_the_token_of_its_own_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            one, other = Visitor(world), Visitor(world)
            await one.sign_in()
            await other.sign_in()
            theirs = (await other.get("/")).html.partition('name="token" value="')[2][:32]
            for token in (None, "x", "é", theirs):
                assert (await one.post("/sign-out", {}, token=token)).status == 403, token
            assert (await one.post("/sign-out", {})).status == 303

    run(main)


def test_ten_wrong_sign_ins_of_an_address_and_then_none_for_ten_minutes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            guesser, other = Visitor(world, "192.0.2.1"), Visitor(world, "192.0.2.2")
            for _ in range(10):
                assert (await guesser.sign_in(key="atmos_guessed")).status == 401
            late = await guesser.sign_in()
            assert late.status == 429
            assert late.headers["retry-after"] == "600"
            assert (await other.sign_in()).status == 303
            await trio.sleep(600)
            assert (await guesser.sign_in()).status == 303

    run(main)


def test_a_session_ends_with_its_key_and_after_twelve_hours(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor, later = Visitor(world), Visitor(world)
            await visitor.sign_in()
            assert (await visitor.get("/")).status == 200
            with world.core.store.read() as view:
                (key,) = members.keys_of(view, DID)
            await trio.sleep(12 * 3600 - 1)
            assert (await visitor.get("/")).status == 200
            await later.sign_in()
            await trio.sleep(2)
            assert (await visitor.get("/")).location == "/console/sign-in"
            assert (await later.get("/")).status == 200
            await world.command("key_revoke", did=DID, key_id=key.key_id)
            assert (await later.get("/")).location == "/console/sign-in"
            assert (await later.post("/sign-out", {}, token="x")).status == 401

    run(main)


def test_a_link_of_the_operator_lets_in_once_and_what_is_done_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor, late = Visitor(world), Visitor(world)
            url = (await world.command("console_login", did=DID))["url"]
            path = url.removeprefix("https://relay.example/console")
            assert (await visitor.get(path)).status == 200, "looking at a link uses it up"
            link = {"link": path.partition("=")[2]}
            seen = await visitor.post("/sign-in", link, token=None)
            assert (seen.status, seen.location) == (303, "/console/")
            visitor.keep(seen)
            assert (await late.post("/sign-in", link, token=None)).status == 401
            assert (await visitor.get("/")).status == 200
            await visitor.post("/suppressions", {"recipient": "friend@example.com", "note": ""})
            suppressed = [each for each in world.events() if isinstance(each, RecipientSuppressed)]
            assert [each.key_id.startswith("console:0:") for each in suppressed if each.key_id] == [True]
            await visitor.post("/sign-out", {})
            assert (await visitor.get("/")).location == "/console/sign-in", "its cookie is good still"

    run(main)


def test_all_sessions_end_with_their_epoch(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            by_key, by_link = Visitor(world), Visitor(world)
            await by_key.sign_in()
            url = (await world.command("console_login", did=DID))["url"]
            by_link.keep(await by_link.post("/sign-in", {"link": url.partition("=")[2]}, token=None))
            for each in (by_key, by_link):
                assert (await each.get("/")).status == 200
            await world.command("console_logout")
            for each in (by_key, by_link):
                assert (await each.get("/")).location == "/console/sign-in"
            await by_key.sign_in()
            assert (await by_key.get("/")).status == 200

    run(main)


def test_a_page_leaves_nothing_behind_that_only_the_collector_finds(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.until_final(await world.send(to="friend@example.com"))
            visitor = Visitor(world)
            await visitor.sign_in()
            for path in ("/", "/messages", "/messages/2", "/domains", "/no-such-page"):
                await visitor.get(path)  # what is made once, as compiled templates are
                gc.collect()
                gc.disable()
                try:
                    await visitor.get(path)
                    left = gc.collect()
                finally:
                    gc.enable()
                assert left == 0, path

    run(main)
