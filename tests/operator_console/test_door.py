"""Who gets in at the operator's door: nobody without a link, not on this machine either, and no other site's page."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay.operator_console.hosts import is_ours
from tests.console.visitor import HEADERS_WANTED, Visitor
from tests.operator_console.visitor import ADDRESS, open_door
from tests.world.relay import open_world, run

HOLD = {"act": "hold", "everything": "yes", "reason": "a look"}


def test_nobody_sees_anything_before_he_has_signed_in_and_a_link_is_good_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            for path in ("/", "/queue", "/log", "/members/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/"):
                seen = await operator.get(path)
                assert (seen.status, seen.location) == (303, "/sign-in"), path
            assert (await operator.post("/queue/order", HOLD, token="x")).status == 401

            link = await operator.link()
            # To look at it does not use it up.
            assert link in (await operator.get(f"/sign-in?link={link}")).html
            seen = await operator.sign_in(link)
            assert (seen.status, seen.location) == (303, "/")
            cookie = seen.headers["set-cookie"]
            assert cookie.startswith("atmos-operator-8026=")
            assert "HttpOnly; SameSite=Strict" in cookie
            assert (await operator.get("/")).status == 200

            operator.cookie = ""
            again = await operator.sign_in(link)
            assert again.status == 401
            assert "set-cookie" not in again.headers

    run(main)


def test_a_session_ends_with_the_epoch_its_hours_and_by_signing_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            await operator.sign_in()
            await world.command("console_logout")
            assert (await operator.get("/")).status == 303
            await operator.sign_in()
            await trio.sleep(12 * 3600 - 1)
            assert (await operator.get("/")).status == 200
            await trio.sleep(1)
            assert (await operator.get("/")).status == 303
            await operator.sign_in()
            out = await operator.post("/sign-out", {})
            assert "Max-Age=0" in out.headers["set-cookie"]
            assert out.location == "/sign-in?done=out"

    run(main)


def test_a_members_cookie_is_no_operators_and_the_other_way_round(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            member = Visitor(world)
            await member.sign_in()
            sealed = member.cookie.partition("=")[2]
            operator.cookie = f"atmos-operator-8026={sealed}"
            assert (await operator.get("/")).status == 303
            operator.cookie = ""
            await operator.sign_in()
            member.cookie = f"{member.cookie.partition('=')[0]}={operator.cookie.partition('=')[2]}"
            assert (await member.get("/")).status == 303

    run(main)


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": f"http://{ADDRESS}"}, False),
        # Another port of this machine.
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": f"http://{ADDRESS}"}, True),
        ({"Origin": "http://127.0.0.1:8025"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({}, False),
    ],
)
def test_an_order_counts_where_it_came_from_here_and_has_the_sessions_token(
    tmp_path: Path, headers: dict[str, str], is_taken: bool
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            await operator.sign_in()
            seen = await operator.post("/queue/order", HOLD, headers=headers)
            assert seen.status == (200 if is_taken else 403)
            for wrong in ("0" * 32, None):
                assert (await operator.post("/queue/order", HOLD, token=wrong)).status == 403

    run(main)


def test_a_name_that_is_pointed_at_this_machine_gets_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            await operator.sign_in()
            for host in (
                "evil.example",
                "evil.example:8026",
                "127.0.0.1.evil.example",
                "",
                "localhost.evil:1",
            ):
                operator.host = host
                seen = await operator.get("/")
                assert seen.status == 421, host
                assert HEADERS_WANTED.items() <= seen.headers.items()
                stolen = await operator.post("/queue/order", HOLD, token="x")
                assert stolen.status == 421, host
            # As `ssh -L 9000:127.0.0.1:8026` comes.
            operator.host = "localhost:9000"
            assert (await operator.get("/")).status == 200

    run(main)


@pytest.mark.parametrize(
    ("host", "bind", "is_it"),
    [
        ("127.0.0.1:8026", "127.0.0.1:8026", True),
        ("[::1]:8026", "127.0.0.1:8026", True),
        ("LOCALHOST", "127.0.0.1:8026", True),
        ("192.0.2.7:80", "0.0.0.0:8026", True),
        ("relay.internal:8026", "relay.internal:8026", True),
        ("relay.internal:8026", "127.0.0.1:8026", False),
        ("localhost.:8026", "127.0.0.1:8026", False),
        ("127.0.0.1:8026, evil.example", "127.0.0.1:8026", False),
        ("127.1.evil", "127.0.0.1:8026", False),
        (None, "127.0.0.1:8026", False),
    ],
)
def test_names_of_the_console(host: str | None, bind: str, is_it: bool) -> None:
    assert is_ours(host, bind) == is_it


def test_after_ten_links_that_are_no_good_there_is_no_answer_but_wait_yet_a_good_one_lets_in(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            for _ in range(10):
                assert (await operator.sign_in("guessed")).status == 401
            assert (await operator.sign_in("guessed")).status == 429
            assert (await operator.sign_in()).status == 303
            await trio.sleep(600)
            assert (await operator.sign_in("guessed")).status == 401

    run(main)
