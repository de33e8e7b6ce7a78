"""What a follower has the leader decide, what it answers itself, and that it finds what it has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.console_logins import LeaveConsole, RedeemConsoleLink, StillSignedIn
from relay.edge import DecisionFailedError
from relay.events import SendAccepted
from relay.nodes.forwarding import OWN_WRITE_SECONDS_MAX
from relay.nodes.words import Node
from relay.own_domains import OwnDomains
from relay.own_keys import OwnKeys
from relay.principals import Principal, Stranger
from relay.self_service import Suppress
from relay.times import HOUR_US, rfc3339
from relay.views import members, messages, suppressions
from tests.edges.test_acceptance_seam import sends, wanted
from tests.nodes.beside_a_leader import command, refused, with_follower
from tests.world.nodes import LEADER, Follower
from tests.world.relay import DID, World

# ------------------------------------------------------------------------------------------- read your own write


def test_a_returned_write_is_in_the_views_of_the_node_that_was_asked(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        sent = await follower.core.decide("send", wanted(["a@example.com", "b@example.com"]), member)
        for core in (follower.core, world.core):
            with core.store.read() as view:
                assert all(messages.message(view, number) is not None for number in sent.ids)
        assert len(sends(world)) == 1

    with_follower(tmp_path, test)


def test_the_answer_waits_until_they_have_it(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        answers: list[Any] = []

        async def send() -> None:
            answers.append(await follower.core.decide("send", wanted(), member))

        follower.feed.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            assert len(sends(world)) == 1
            assert not answers
            follower.feed.go_on()
        assert len(answers) == 1

    with_follower(tmp_path, test)


def test_a_node_that_is_behind_answers_all_the_same_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.feed.hold()
        begun = trio.current_time()
        sent = await follower.core.decide("send", wanted(), member)
        assert trio.current_time() - begun == OWN_WRITE_SECONDS_MAX
        assert sent.messages == 1
        assert [record for record in caplog.records if record.message == "node.answered_early"]
        assert follower.forwarding._waiting == []
        follower.feed.go_on()

    with_follower(tmp_path, test)


def test_an_answer_that_is_given_early_is_what_the_leader_says(tmp_path: Path) -> None:
    """And not what this node's views say, which are behind it."""

    async def test(world: World, follower: Follower, member: Principal) -> None:
        at = {"scheduledAt": rfc3339(world.core.store.now_us() + HOUR_US)}
        message_id = await world.send(to="friend@example.com", **at)
        await wait_all_tasks_blocked()
        follower.feed.hold()
        later = {"scheduledAt": rfc3339(world.core.store.now_us() + 2 * HOUR_US)}
        path = f"/v1/messages/{message_id}"
        status, moved, _ = await follower.request("PATCH", path, headers=world.credentials, json=later)
        assert (status, moved["scheduledAt"]) == (200, later["scheduledAt"])
        status, cancelled, _ = await follower.request("POST", f"{path}/cancel", headers=world.credentials)
        assert (status, cancelled["status"], cancelled["messageId"]) == (200, "bounced", message_id)
        assert cancelled["lastReply"]["text"] == "cancelled by its sender"
        wanted = {"recipient": "a@example.com"}
        for answered in (201, 200):
            status, suppressed, _ = await follower.request(
                "POST", "/v1/suppressions", headers=world.credentials, json=wanted
            )
            assert (status, suppressed["recipient"], suppressed["reason"]) == (
                answered,
                "a@example.com",
                "manual",
            )
        follower.feed.go_on()

    with_follower(tmp_path, test)


def test_who_is_cancelled_while_the_views_are_waited_for_is_answered(tmp_path: Path) -> None:
    """It is written: saying anything else would have it sent twice."""

    async def test(world: World, follower: Follower, member: Principal) -> None:
        answers: list[Any] = []
        scope = trio.CancelScope()

        async def send() -> None:
            with scope:
                answers.append(await follower.core.decide("send", wanted(), member))

        follower.feed.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            follower.feed.go_on()
        assert len(answers) == len(sends(world)) == 1

    with_follower(tmp_path, test)


def test_what_the_leader_knows_already_is_known_here_with_the_answer(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        suppress = Suppress(address="a@example.com")
        follower.feed.hold()
        assert (await world.core.decide("suppress", suppress, member)).is_new is True
        follower.feed.go_on()
        assert (await follower.core.decide("suppress", suppress, member)).is_new is False
        with follower.core.store.read() as view:
            assert suppressions.suppression(view, DID, "a@example.com") is not None

    with_follower(tmp_path, test)


def test_a_key_is_looked_at_again_by_who_decides(tmp_path: Path) -> None:
    """The follower does not know yet that it was revoked."""

    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.feed.hold()
        await world.command("key_revoke", did=DID, key_id=member.key_id)
        refusal = await refused(follower.core.decide("send", wanted(), member))
        assert refusal.code == "AUTH_FAILED"
        assert sends(world) == []
        follower.feed.go_on()

    with_follower(tmp_path, test)


def test_a_defect_over_there_is_named_by_its_request_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*_: Any, **__: Any) -> Any:
        raise KeyError("a defect")

    async def test(world: World, follower: Follower, member: Principal) -> None:
        with monkeypatch.context() as planted:
            planted.setattr("relay.acceptance.accept_send", defect)
            with pytest.raises(DecisionFailedError) as failed:
                await follower.core.decide("send", wanted(), member)
        (line,) = [record for record in caplog.records if record.message == "node.defect"]
        assert vars(line)["request_id"] == failed.value.request_id
        assert (await follower.core.decide("send", wanted(), member)).messages == 1

    with_follower(tmp_path, test)


# ------------------------------------------------------------------------------------------- who answers what


def test_reads_are_answered_here(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.leader = None
        (key,) = await follower.core.decide("own_keys", OwnKeys(), member)
        assert key.key_id == member.key_id
        shown = await command(follower.core, "member_list")
        assert [one["did"] for one in shown] == [DID]
        assert follower.links.made == 0

    with_follower(tmp_path, test)


def test_what_only_the_leader_remembers_is_asked_there_and_else_answered_as_by_who_has_begun(
    tmp_path: Path,
) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        asked = await command(follower.core, "queue_list")
        assert follower.links.made == 1
        follower.leader = None
        alone = await command(follower.core, "queue_list")
        assert asked.keys() == alone.keys()
        (domain,) = await follower.core.decide("own_domains", OwnDomains(), member)
        assert domain.domain == "yourdomain.com"

    with_follower(tmp_path, test)


def test_orders_are_recorded_in_the_name_of_who_gave_them_where(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        await command(follower.core, "member_suspend", did=DID)
        with follower.core.store.read() as view:
            state = members.member(view, DID)
            assert state is not None
            assert state.status == "suspended"
        (suspended,) = [event for event in world.events() if type(event).__name__ == "MemberSuspended"]
        assert suspended.by == "root@b"

    with_follower(tmp_path, test)


def test_an_order_that_is_refused_there_is_refused_here(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        assert (await refused(command(follower.core, "member_suspend", did="no did"))).code == "INVALID_DID"
        unknown = "did:plc:zzzzzzzzzzzzzzzzzzzzzzzz"
        assert (await refused(command(follower.core, "member_suspend", did=unknown))).code == "NOT_FOUND"

    with_follower(tmp_path, test)


def test_a_defect_in_an_order_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def defect(*_: Any) -> Any:
        raise KeyError("a defect")

    async def test(world: World, follower: Follower, member: Principal) -> None:
        monkeypatch.setattr("relay.nodes.door.carry_out", defect)
        refusal = await refused(command(follower.core, "member_suspend", did=DID))
        assert refusal.code == "INTERNAL_ERROR"
        assert "the log of the node that leads has it under request id" in refusal.message

    with_follower(tmp_path, test)


def test_each_node_lets_the_operator_into_its_own_console(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        links = follower.core.console_links
        links.is_served, links.operator_address = True, "127.0.0.1:8026"
        made = await command(follower.core, "console_login")
        token = made["url"].partition("link=")[2]
        assert links.redeem_operators(token, follower.core.store.now_us()) == "root"
        assert follower.links.made == 0

    with_follower(tmp_path, test)


def test_a_link_for_a_member_is_good_at_any_node(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        async def signed_in() -> Principal:
            made = await command(follower.core, "console_login", did=DID)
            token = made["url"].partition("link=")[2]
            vouched = await follower.core.decide(
                "redeem_console_link", RedeemConsoleLink(token=token), Stranger()
            )
            return Principal(vouched.did, vouched.key_id, vouched.scope)

        session = await signed_in()
        for core in (world.core, follower.core):
            await core.decide("still_signed_in", StillSignedIn(), session)
            await core.decide("own_keys", OwnKeys(), session)
        async with follower.core.streams.open(session) as stream:
            # Signed out at another node, this one learns it when it is used here the next time.
            await world.core.decide("leave_console", LeaveConsole(), session)
            assert stream.ending is None
            assert (await refused(follower.core.decide("own_keys", OwnKeys(), session))).code == "AUTH_FAILED"
            assert stream.ending is not None
        session = await signed_in()
        async with follower.core.streams.open(session) as stream:
            await follower.core.decide("leave_console", LeaveConsole(), session)
            assert stream.ending is not None
        session = await signed_in()
        # Only who leads knows the session: without it nobody is taken for signed out.
        follower.leader = None
        refusal = await refused(follower.core.decide("still_signed_in", StillSignedIn(), session))
        assert refusal.code == "TEMPORARILY_UNAVAILABLE"
        follower.leader = LEADER
        await command(follower.core, "console_logout")
        refusal = await refused(follower.core.decide("own_keys", OwnKeys(), session))
        assert refusal.code == "AUTH_FAILED"

    with_follower(tmp_path, test)


def test_who_leads_decides_itself(tmp_path: Path) -> None:
    """A follower that takes the lead: from then on its own core decides."""

    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.feed.hold()
        follower.leader = Node("b", "b.example", 1)
        sent = await follower.core.decide("send", wanted(), member)
        assert isinstance(follower.core.store.get(sent.seq).event, SendAccepted)
        assert sends(world) == []
        assert follower.forwarding.role == "leader"

    with_follower(tmp_path, test)
