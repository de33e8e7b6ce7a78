"""Members' handles: who gets one, who keeps it, and who loses it, day after day."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.decisions.handles import GRACE_SECONDS
from relay.domains.verification import CHECK_SECONDS, RETRY_SECONDS
from relay.events import MemberHandleCheckFailed, MemberHandleLost, MemberHandleSet
from relay.refusals import Refusal
from tests.world.handles import (
    DID,
    HANDLE,
    OTHER_DID,
    OTHER_HANDLE,
    Atproto,
    document_page,
    drip,
    open_handles,
    with_handles,
)
from tests.world.https import Stream
from tests.world.relay import DOMAIN, OTHER_DOMAIN, run
from tools.log.event_text import as_line, show

HOUR = 3600


async def add(atproto: Atproto, did: str = DID, domain: str = DOMAIN, **arguments: Any) -> Any:
    return await atproto.command("member_add", did=did, domains=[domain], **arguments)


def sentences(atproto: Atproto) -> list[str]:
    """What `log cat` tells of handles."""
    lines = [as_line(show(record)) for record in atproto.core.store.records(1)]
    return [line.split("  ")[-1].strip() for line in lines if "member.handle" in line]


async def refused(awaitable: Awaitable[Any]) -> Refusal:
    with pytest.raises(Refusal) as raised:
        await awaitable
    return raised.value


# ------------------------------------------------------------------------------------------------ at enrolment


def test_the_handle_in_the_document_is_found(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(DID, HANDLE)
        answer = await add(atproto)
        assert (answer["handle"], answer["handleProved"]) == (HANDLE, True)
        assert atproto.events() == [MemberHandleSet(did=DID, handle=HANDLE, proved=True, by=_by(atproto))]
        # It is looked at no more today.
        asked = len(atproto.dns.asked)
        await trio.sleep(CHECK_SECONDS - HOUR)
        assert len(atproto.dns.asked) == asked
        (row,) = await atproto.command("member_list")
        assert (row["handle"], row["handleProved"]) == (HANDLE, True)

    with_handles(tmp_path, story)


def _by(atproto: Atproto) -> str | None:
    first = atproto.events()[0]
    assert isinstance(first, MemberHandleSet)
    assert first.by
    return first.by


def test_a_document_whose_handle_is_not_right_gives_none(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.document(DID, [f"at://{HANDLE}"])
        atproto.name(HANDLE, OTHER_DID)
        assert (await add(atproto))["handle"] is None
        assert (atproto.held(), atproto.events()) == (None, [])

    with_handles(tmp_path, story)


def test_a_found_handle_that_cannot_be_told_is_proved_later(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(DID, HANDLE)
        atproto.dns.broken |= {f"_atproto.{HANDLE}", HANDLE}
        answer = await add(atproto)
        assert (answer["handle"], answer["handleProved"]) == (HANDLE, False)
        await trio.sleep(30 * CHECK_SECONDS)  # trouble takes nothing
        assert (atproto.held(), atproto.told()) == (HANDLE, ["set"])
        atproto.dns.broken.clear()
        await trio.sleep(RETRY_SECONDS + 1)
        assert atproto.told() == ["set", "verified"]
        assert atproto.state().proved

    with_handles(tmp_path, story)


@pytest.mark.parametrize("written", [HANDLE, HANDLE.upper(), f"@{HANDLE}", f"at://{HANDLE}"])
def test_a_handle_that_is_given_is_checked(tmp_path: Path, written: str) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.document(DID, [f"at://{HANDLE}"])
        refusal = await refused(add(atproto, handle=written))
        assert refusal.code == "CONFLICT"
        assert f"there is no TXT record did= at _atproto.{HANDLE}" in str(refusal)
        atproto.dns.broken |= {f"_atproto.{HANDLE}", HANDLE}
        refusal = await refused(add(atproto, handle=written))
        assert refusal.code == "TEMPORARILY_UNAVAILABLE"
        assert "--offline" in str(refusal)
        atproto.dns.broken.clear()
        atproto.name(HANDLE, DID)
        atproto.document(DID, [f"at://{OTHER_HANDLE}", f"at://{HANDLE}"])
        refusal = await refused(add(atproto, handle=written))
        assert refusal.code == "CONFLICT"
        assert f"names {OTHER_HANDLE}" in str(refusal)
        assert await atproto.command("member_list") == []  # refused, and nothing in between
        atproto.publish(DID, HANDLE)
        assert (await add(atproto, handle=written))["handle"] == HANDLE

    with_handles(tmp_path, story)


def test_offline_has_what_was_given_and_a_running_relay_looks_soon(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(DID, HANDLE)
        atproto.dns.broken |= {f"_atproto.{HANDLE}", HANDLE}
        answer = await add(atproto, handle=HANDLE, offline=True)
        assert (answer["handle"], answer["handleProved"]) == (HANDLE, False)
        assert not atproto.state().proved
        await trio.sleep(1)
        atproto.dns.broken.clear()
        await trio.sleep(RETRY_SECONDS)
        assert atproto.told() == ["set", "verified"]

    with_handles(tmp_path, story)


def test_offline_without_a_handle_asks_nobody(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(DID, HANDLE)
        assert (await add(atproto, offline=True))["handle"] is None
        await trio.sleep(30 * CHECK_SECONDS)
        assert (atproto.dns.asked, atproto.connected) == ([], [])

    with_handles(tmp_path, story)


@pytest.mark.parametrize(
    "handle", ["mira", "", "mira.local", "did:plc:" + "a" * 24, "x" * 5000, "a.com\r\nHost: b"]
)
def test_what_is_no_handle_is_refused_and_asked_of_nobody(tmp_path: Path, handle: str) -> None:
    async def story(atproto: Atproto) -> None:
        assert (await refused(add(atproto, handle=handle))).code == "INVALID_REQUEST"
        assert (atproto.dns.asked, atproto.connected) == ([], [])

    with_handles(tmp_path, story)


# ------------------------------------------------------------------------------------------------ set and cleared


def test_a_handle_is_set_changed_and_cleared_later(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        await add(atproto, offline=True)
        order = atproto.command
        assert (await refused(order("member_set_handle", did=DID, handle=HANDLE))).code == "CONFLICT"
        atproto.publish(DID, HANDLE)
        assert await order("member_set_handle", did=DID, handle=HANDLE) == {
            "did": DID,
            "handle": HANDLE,
            "handleProved": True,
        }
        atproto.publish(DID, OTHER_HANDLE)
        await order("member_set_handle", did=DID, handle=OTHER_HANDLE)
        assert atproto.held() == OTHER_HANDLE
        await order("member_set_handle", did=DID, handle=OTHER_HANDLE)  # once more: as good as a look
        assert (
            await refused(order("member_set_handle", did=DID, handle=OTHER_HANDLE, offline=True))
        ).code == "CONFLICT"
        # The one that it had is free.
        await add(atproto, OTHER_DID, OTHER_DOMAIN, handle=HANDLE, offline=True)
        await order("member_set_handle", did=DID, handle="")
        assert (atproto.held(), atproto.held(OTHER_DID)) == (None, HANDLE)
        assert (await refused(order("member_set_handle", did=DID, handle=""))).code == "NOT_FOUND"
        assert (
            await refused(order("member_set_handle", did="did:plc:" + "c" * 24, handle=""))
        ).code == "NOT_FOUND"
        assert atproto.told() == ["set", "set", "verified", "set", "lost"]

    with_handles(tmp_path, story)


# ------------------------------------------------------------------------------------------------ two want one


def test_the_newer_proof_wins_and_the_event_says_so(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(DID, HANDLE)
        await add(atproto)
        atproto.publish(OTHER_DID, HANDLE)  # it has changed hands
        await add(atproto, OTHER_DID, OTHER_DOMAIN)
        assert (atproto.held(), atproto.held(OTHER_DID)) == (None, HANDLE)
        by = _by(atproto)
        assert atproto.events()[1:] == [
            MemberHandleLost(did=DID, handle=HANDLE, because="proved"),
            MemberHandleSet(did=OTHER_DID, handle=HANDLE, proved=True, instead_of=DID, by=by),
        ]
        assert sentences(atproto) == [
            f"{DID} has the handle {HANDLE} by {by}",
            f"{DID} has the handle {HANDLE} no more: another member proved it",
            f"{OTHER_DID} has the handle {HANDLE} in the place of {DID} by {by}",
        ]
        await trio.sleep(5 * CHECK_SECONDS + HOUR)
        assert atproto.told()[3:] == ["verified"] * 5

    with_handles(tmp_path, story)


def test_who_proves_nothing_takes_no_handle(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.document(DID, [f"at://{HANDLE}"])
        atproto.dns.broken |= {f"_atproto.{HANDLE}", HANDLE}
        await add(atproto, handle=HANDLE, offline=True)
        assert not atproto.state().proved
        refusal = await refused(add(atproto, OTHER_DID, OTHER_DOMAIN, handle=HANDLE, offline=True))
        assert (refusal.code, DID in str(refusal)) == ("CONFLICT", True)
        # Nor does one that was only found, and could not be told.
        atproto.document(OTHER_DID, [f"at://{HANDLE}"])
        assert (await add(atproto, OTHER_DID, OTHER_DOMAIN))["handle"] is None
        assert atproto.held() == HANDLE

    with_handles(tmp_path, story)


def test_a_proof_that_took_its_time_is_not_the_newer_one(tmp_path: Path) -> None:
    """Whoever had the name yesterday answers so slowly that the new owner is done before."""

    async def story(atproto: Atproto) -> None:
        await add(atproto, offline=True)
        await add(atproto, OTHER_DID, OTHER_DOMAIN, offline=True)
        atproto.document(OTHER_DID, [f"at://{HANDLE}"])
        atproto.document(DID, [f"at://{HANDLE}"])
        status, body = atproto.pages[document_page(DID)]  # type: ignore[misc]

        async def slowly(stream: Stream) -> None:
            await trio.sleep(10)
            await stream.send_all(b"HTTP/1.1 200 Said\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        assert status == 200
        atproto.pages[document_page(DID)] = slowly

        async def old_owner() -> None:
            refusal = await refused(atproto.command("member_set_handle", did=DID, handle=HANDLE))
            assert (refusal.code, "try again" in str(refusal)) == ("CONFLICT", True)

        atproto.name(HANDLE, DID)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old_owner)
            await trio.sleep(5)
            atproto.name(HANDLE, OTHER_DID)
            await atproto.command("member_set_handle", did=OTHER_DID, handle=HANDLE)
        assert (atproto.held(), atproto.held(OTHER_DID)) == (None, HANDLE)

    with_handles(tmp_path, story)


def test_a_removed_member_leaves_its_handle_free(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        await add(atproto, handle=HANDLE, offline=True)
        await atproto.command("member_remove", did=DID)
        assert atproto.held() is None
        await add(atproto, OTHER_DID, OTHER_DOMAIN, handle=HANDLE, offline=True)
        assert atproto.held(OTHER_DID) == HANDLE
        await add(atproto, DID, offline=True)  # as it begins again, it has none
        assert atproto.held() is None

    with_handles(tmp_path, story)


# ------------------------------------------------------------------------------------------------ every day


def test_a_handle_is_looked_at_every_day(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(DID, HANDLE)
        await add(atproto)
        proved_at = atproto.state().proved_at
        atproto.dns.asked.clear()
        await trio.sleep(10 * CHECK_SECONDS + HOUR)
        assert atproto.told() == ["set"] + ["verified"] * 10
        assert atproto.dns.asked.count(("TXT", f"_atproto.{HANDLE}")) == 10
        assert atproto.state().proved_at == proved_at

    with_handles(tmp_path, story)


@pytest.mark.parametrize("direction", ["handle", "document"])
def test_a_handle_that_is_wrong_is_lost_after_the_grace_time(tmp_path: Path, direction: str) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(DID, HANDLE)
        await add(atproto)
        if direction == "handle":
            atproto.name(HANDLE, OTHER_DID)
        else:
            atproto.document(DID, [f"at://{OTHER_HANDLE}"])
        await trio.sleep(CHECK_SECONDS + GRACE_SECONDS - HOUR)
        assert atproto.told() == ["set"] + ["check_failed"] * 3
        assert atproto.held() == HANDLE
        await trio.sleep(2 * HOUR)
        assert atproto.held() is None
        assert atproto.events()[-2:] == [
            MemberHandleCheckFailed(did=DID, handle=HANDLE, failed=[direction]),
            MemberHandleLost(did=DID, handle=HANDLE, because="unproved", failed=[direction]),
        ]
        assert sentences(atproto)[-2:] == [
            f"{HANDLE} is not seen to be the handle of {DID}: ['{direction}']",
            f"{DID} has the handle {HANDLE} no more: it is not the DID's ({direction})",
        ]
        asked = len(atproto.dns.asked)
        await trio.sleep(10 * CHECK_SECONDS)
        assert len(atproto.dns.asked) == asked

    with_handles(tmp_path, story)


def test_one_that_is_right_again_has_the_whole_grace_time_again(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(DID, HANDLE)
        await add(atproto)
        for _ in range(3):
            atproto.name(HANDLE, OTHER_DID)
            await trio.sleep(3 * CHECK_SECONDS)
            assert atproto.state().failing_since is not None
            atproto.name(HANDLE, DID)
            await trio.sleep(CHECK_SECONDS)
            assert (atproto.state().failing_since, atproto.state().failed) == (None, ())
        assert atproto.held() == HANDLE

    with_handles(tmp_path, story)


def test_an_unproved_one_that_is_wrong_has_its_grace_time_too(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.document(DID, [])
        await add(atproto, handle=HANDLE, offline=True)
        await trio.sleep(GRACE_SECONDS - HOUR)
        assert (atproto.held(), atproto.told()) == (HANDLE, ["set"] + ["check_failed"] * 3)
        await trio.sleep(2 * HOUR)
        assert atproto.held() is None

    with_handles(tmp_path, story)


def test_what_was_set_anew_meanwhile_is_not_judged_by_the_old_look(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(DID, HANDLE)
        await add(atproto)
        atproto.dns.txt.clear()
        atproto.file(HANDLE, drip)
        await trio.sleep(CHECK_SECONDS + 1)  # it is being looked at
        await atproto.command("member_set_handle", did=DID, handle="")
        await trio.sleep(HOUR)
        assert atproto.told() == ["set", "lost"]

    with_handles(tmp_path, story)


def test_the_days_are_counted_across_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        directory = tmp_path / "data"
        async with open_handles(directory) as atproto:
            atproto.publish(DID, HANDLE)
            await add(atproto)
            atproto.name(HANDLE, OTHER_DID)
            await trio.sleep(CHECK_SECONDS + HOUR)
            assert atproto.told() == ["set", "check_failed"]
        async with open_handles(directory, atproto):
            await trio.sleep(HOUR)
            assert atproto.told() == ["set", "check_failed"]
        await trio.sleep(GRACE_SECONDS)
        async with open_handles(directory, atproto):
            await trio.sleep(1)
            assert atproto.told() == ["set", "check_failed", "lost"]

    run(main)
