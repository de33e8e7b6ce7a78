"""`console login` and `console logout`: a link is good once, for a minute, at its own door, and all can be put out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from relay.authentication import is_active_key
from relay.console_links import LINKS_MAX
from relay.console_logins import LeaveConsole, RedeemConsoleLink, StillSignedIn, VouchedFor
from relay.operator.without_relay import carry_out_on
from relay.principals import FULL, Principal, Stranger
from relay.refusals import Refusal
from relay.self_service import Suppress
from relay.views import console, suppressions
from tests.world.relay import DID, OTHER_DID, World, make_directory, open_world, run


def token_of(link: dict[str, Any]) -> str:
    return str(link["url"]).partition("?link=")[2]


async def redeem(world: World, token: str) -> Principal:
    vouched: VouchedFor = await world.core.decide(
        "redeem_console_link", RedeemConsoleLink(token=token), Stranger()
    )
    return Principal(vouched.did, vouched.key_id, vouched.scope)


async def refused(world: World, name: str, arguments: Any, asker: Any) -> str:
    with pytest.raises(Refusal) as caught:
        await world.core.decide(name, arguments, asker)
    return caught.value.code


def test_a_members_link_opens_one_session_that_acts_as_one_vouched_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_world(tmp_path / "data") as world:
            link = await world.command("console_login", did=DID)
            assert link["url"].startswith("https://relay.example/console/sign-in?link=")
            assert link["did"] == DID
            token = token_of(link)
            member = await redeem(world, token)
            assert (member.did, member.scope) == (DID, FULL)
            assert member.key_id.startswith("console:0:")
            assert await refused(
                world, "redeem_console_link", RedeemConsoleLink(token=token), Stranger()
            ) == ("AUTH_FAILED")

            assert (await world.core.decide("suppress", Suppress(address="a@b.example"), member)).is_new
            with world.core.store.read() as view:
                assert suppressions.suppression(view, DID, "a@b.example") is not None

            # Nobody else's, and none that was made up.
            for forged in (
                member._replace(did=OTHER_DID),
                member._replace(key_id="console:0:0123456789abcdef"),
                member._replace(key_id="console:"),
            ):
                assert await refused(world, "still_signed_in", StillSignedIn(), forged) == "AUTH_FAILED"
                assert (
                    await refused(world, "suppress", Suppress(address="c@b.example"), forged) == "AUTH_FAILED"
                )

            await world.core.decide("leave_console", LeaveConsole(), member)
            assert await refused(world, "still_signed_in", StillSignedIn(), member) == "AUTH_FAILED"

    run(test)


def test_a_link_is_good_for_a_minute_and_a_session_for_twelve_hours(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_world(tmp_path / "data") as world:
            early = token_of(await world.command("console_login", did=DID))
            late = token_of(await world.command("console_login", did=DID))
            await trio.sleep(59)
            member = await redeem(world, early)
            await trio.sleep(1)
            with pytest.raises(Refusal, match="not good any more"):
                await redeem(world, late)

            await trio.sleep(12 * 3600 - 2)
            await world.core.decide("still_signed_in", StillSignedIn(), member)
            await trio.sleep(1)
            assert await refused(world, "still_signed_in", StillSignedIn(), member) == "AUTH_FAILED"

    run(test)


def test_each_door_takes_its_own_links_and_only_so_many_wait(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_world(tmp_path / "data") as world:
            links, now_us = world.core.console_links, world.core.store.now_us()
            operators, _ = links.make(None, "root", now_us)
            members_token = token_of(await world.command("console_login", did=DID))
            with pytest.raises(Refusal):
                await redeem(world, operators)
            with pytest.raises(Refusal):
                links.redeem_operators(members_token, now_us)
            # The wrong door has used up neither.
            assert links.redeem_operators(operators, now_us) == "root"
            await redeem(world, members_token)

            tokens = [token_of(await world.command("console_login", did=DID)) for _ in range(LINKS_MAX + 1)]
            with pytest.raises(Refusal):
                await redeem(world, tokens[0])
            await redeem(world, tokens[1])

    run(test)


def test_logout_ends_all_sessions_and_all_links_for_good(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_world(tmp_path / "data") as world:
            member = await redeem(world, token_of(await world.command("console_login", did=DID)))
            unused = token_of(await world.command("console_login", did=DID))
            with world.core.store.read() as view:
                assert is_active_key(view, member)
            assert await world.command("console_logout") == {"epoch": 1}

            assert await refused(world, "still_signed_in", StillSignedIn(), member) == "AUTH_FAILED"
            with pytest.raises(Refusal):
                await redeem(world, unused)
            with world.core.store.read() as view:
                # What an edge can see by itself.
                assert not is_active_key(view, member)
                assert console.epoch(view) == 1
            assert await world.command("console_logout") == {"epoch": 2}
            later = await redeem(world, token_of(await world.command("console_login", did=DID)))
            assert later.key_id.startswith("console:2:")

    run(test)


def test_who_is_no_member_any_more_is_let_in_anew_when_added_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_world(tmp_path / "data") as world:
            begun = await redeem(world, token_of(await world.command("console_login", did=DID)))
            unused = token_of(await world.command("console_login", did=DID))
            await world.command("member_remove", did=DID, reason="left")
            await world.command("member_add", did=DID, domains=["later.example"], offline=True)
            assert await refused(world, "still_signed_in", StillSignedIn(), begun) == "AUTH_FAILED"
            wanted = RedeemConsoleLink(token=unused)
            assert await refused(world, "redeem_console_link", wanted, Stranger()) == "AUTH_FAILED"
            again = await redeem(world, token_of(await world.command("console_login", did=DID)))
            await world.core.decide("still_signed_in", StillSignedIn(), again)

    run(test)


def test_where_a_link_would_lead_nowhere_none_is_made(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")

    async def test() -> None:
        with pytest.raises(Refusal, match="no relay runs"):
            await carry_out_on(directory, "console_login", {})
        async with open_world(tmp_path / "world") as world:
            with pytest.raises(Refusal, match="operator_bind"):
                await world.command("console_login")
            with pytest.raises(Refusal, match=OTHER_DID):
                await world.command("console_login", did=OTHER_DID)

    run(test)
