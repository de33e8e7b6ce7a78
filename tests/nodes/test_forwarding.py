"""What a follower has the leader decide, what it answers itself, and what it says where nobody can be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.console_logins import RedeemConsoleLink, StillSignedIn
from relay.core import Core
from relay.edge import DecisionFailedError
from relay.events import SendAccepted
from relay.nodes.forwarding import CATCH_UP_SECONDS_MAX, OWN_WRITE_SECONDS_MAX
from relay.nodes.links import ANSWER_SECONDS_MAX
from relay.nodes.words import Node
from relay.operator.commands import make_all_known, order
from relay.own_domains import OwnDomains
from relay.own_keys import IssueOwnKey, OwnKeys
from relay.principals import Operator, Principal, Stranger
from relay.refusals import Refusal
from relay.registry import DECISIONS
from relay.self_service import Suppress
from relay.streams import Streams
from relay.views import members, messages, suppressions
from tests.edges.test_acceptance_seam import member_of, sends, wanted
from tests.world.gate import Gate
from tests.world.nodes import LEADER, Follower, open_follower
from tests.world.relay import DID, World, open_world, run

make_all_known()

Test = Callable[[World, Follower, Principal], Awaitable[None]]


def with_follower(tmp_path: Path, test: Test, **options: Any) -> None:
    async def main() -> None:
        async with (
            open_world(tmp_path / "a", **options) as world,
            open_follower(world, tmp_path / "b") as follower,
        ):
            await test(world, follower, member_of(world)._replace(scope="full"))

    run(main)


async def command(core: Core, name: str, **arguments: Any) -> Any:
    """As the admin socket of that core gives it."""
    found = DECISIONS[name]
    return await order(core, found, found.arguments(**arguments), Operator("root"))


async def refused(asked: Awaitable[Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await asked
    return caught.value


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
        assert await world.core.decide("suppress", suppress, member) is True
        follower.feed.go_on()
        assert await follower.core.decide("suppress", suppress, member) is False
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
        made = await command(follower.core, "console_login", did=DID)
        token = made["url"].partition("link=")[2]
        vouched = await follower.core.decide(
            "redeem_console_link", RedeemConsoleLink(token=token), Stranger()
        )
        session = Principal(vouched.did, vouched.key_id, vouched.scope)
        for core in (world.core, follower.core):
            await core.decide("still_signed_in", StillSignedIn(), session)
            await core.decide("own_keys", OwnKeys(), session)
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


# ------------------------------------------------------------------------------------------- nobody to ask


def test_without_a_leader_nothing_is_decided(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.leader = None
        for asked in (
            follower.core.decide("send", wanted(), member),
            follower.core.take_message("192.0.2.1"),
            command(follower.core, "member_suspend", did=DID),
            follower.core.stream_places.held().take(DID, None, "console:0:1"),
        ):
            refusal = await refused(asked)
            assert refusal.code == "TEMPORARILY_UNAVAILABLE"
            assert refusal.retry_after_seconds
        why = await follower.core.why_not_accepting()
        assert why is not None
        assert why.code == "TEMPORARILY_UNAVAILABLE"
        assert sends(world) == []

    with_follower(tmp_path, test)


def test_a_leader_that_cannot_be_reached(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.network.is_cut = True
        refusal = await refused(follower.core.decide("send", wanted(), member))
        assert (refusal.code, "nothing was done" in refusal.message) == ("TEMPORARILY_UNAVAILABLE", True)
        follower.network.is_cut = False
        assert (await follower.core.decide("send", wanted(), member)).messages == 1

    with_follower(tmp_path, test)


def test_one_that_does_not_lead_is_asked_no_more_than_once_again(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        asked = 0

        def leads() -> bool:
            nonlocal asked
            asked += 1
            return asked == succeeds_at

        follower.door._leads = leads
        succeeds_at = 2
        assert (await follower.core.decide("send", wanted(), member)).messages == 1
        asked, succeeds_at = 0, 3
        refusal = await refused(follower.core.decide("send", wanted(), member))
        assert (refusal.code, asked) == ("TEMPORARILY_UNAVAILABLE", 2)
        assert len(sends(world)) == 1

    with_follower(tmp_path, test)


def test_what_was_sent_is_not_sent_again(tmp_path: Path) -> None:
    """The connection ends while the leader writes: nobody knows what became of it, and it is said so."""
    gate = Gate()

    async def test(world: World, follower: Follower, member: Principal) -> None:
        refusals: list[Refusal] = []

        async def send() -> None:
            refusals.append(await refused(follower.core.decide("send", wanted(), member)))

        async with trio.open_nursery() as nursery:
            gate.shut()
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            follower.network.end_connections()
            await wait_all_tasks_blocked()
            gate.open()
        await wait_all_tasks_blocked()
        (refusal,) = refusals
        assert (refusal.code, "may have been done" in refusal.message) == ("TEMPORARILY_UNAVAILABLE", True)
        # It had been with the writer.
        assert len(sends(world)) == 1
        assert follower.links.made == 1

    with_follower(tmp_path, test, offload=gate.offload)


def test_a_leader_that_hangs_is_not_waited_for_when_another_leads(tmp_path: Path) -> None:
    gate = Gate()

    async def test(world: World, follower: Follower, member: Principal) -> None:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                assert (
                    "may have been done"
                    in (await refused(follower.core.decide("send", wanted(), member))).message
                )
                assert trio.current_time() - begun < 1

            gate.shut()
            begun = trio.current_time()
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            follower.leader = Node("c", "c.example", 1)
        gate.open()
        follower.leader = LEADER

    with_follower(tmp_path, test, offload=gate.offload)


def test_one_that_answers_never_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> Any:
        await trio.sleep_forever()

    async def test(world: World, follower: Follower, member: Principal) -> None:
        monkeypatch.setattr("relay.acceptance._accept", never)
        begun = trio.current_time()
        refusal = await refused(follower.core.decide("send", wanted(), member))
        assert "may have been done" in refusal.message
        assert trio.current_time() - begun == ANSWER_SECONDS_MAX

    with_follower(tmp_path, test)


def test_a_node_that_was_taken_out_is_answered_nothing(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        assert (await follower.core.decide("send", wanted(), member)).messages == 1
        follower.nodes.discard("b")
        refusal = await refused(follower.core.decide("send", wanted(), member))
        assert refusal.code == "TEMPORARILY_UNAVAILABLE"
        assert len(sends(world)) == 1

    with_follower(tmp_path, test)


# ------------------------------------------------------------------------------------------- catching up


def test_catching_up_waits_for_what_the_leader_had(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.feed.hold()
        issued = await world.core.decide("issue_own_key", IssueOwnKey(), member)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.forwarding.catch_up)
            await wait_all_tasks_blocked()
            follower.feed.go_on()
        with follower.core.store.read() as view:
            assert members.key(view, DID, issued.state.key_id) is not None

    with_follower(tmp_path, test)


def test_it_is_not_waited_for_long_nor_where_nobody_leads(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        await follower.forwarding.catch_up()
        follower.feed.hold()
        await world.core.decide("suppress", Suppress(address="a@example.com"), member)
        begun = trio.current_time()
        assert (await refused(follower.forwarding.catch_up())).code == "TEMPORARILY_UNAVAILABLE"
        assert trio.current_time() - begun == CATCH_UP_SECONDS_MAX
        follower.leader = None
        assert (await refused(follower.forwarding.catch_up())).code == "TEMPORARILY_UNAVAILABLE"
        follower.leader = Node("b", "b.example", 1)
        await follower.forwarding.catch_up()
        follower.leader = LEADER
        follower.feed.go_on()

    with_follower(tmp_path, test)


def test_many_at_a_time_ask_twice_at_most(tmp_path: Path) -> None:
    """Whoever comes while a question is under way needs another one, but all of them the same."""

    async def test(world: World, follower: Follower, member: Principal) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                for _ in range(10):
                    nursery.start_soon(follower.forwarding.catch_up)
                await trio.lowlevel.checkpoint()
        assert follower.forwarding._questions == 2

    with_follower(tmp_path, test)


def test_who_gives_up_leaves_the_question_to_the_others(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        done = 0

        async def catch_up(scope: trio.CancelScope) -> None:
            nonlocal done
            with scope:
                await follower.forwarding.catch_up()
                done += 1

        for steps in range(12):
            first, done = trio.CancelScope(), 0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(catch_up, first)
                for _ in range(10):
                    nursery.start_soon(catch_up, trio.CancelScope())
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                first.cancel()
            assert done >= 10

    with_follower(tmp_path, test)


# ------------------------------------------------------------------------------------------- streams


def test_a_ticket_opens_one_stream_whichever_nodes_are_asked(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        # The leader is a node, too: it has the same key for tickets.
        world.core.ticket_key = follower.core.ticket_key
        at_leader, here = world.core.streams, follower.core.streams
        ticket, _ = here.issue_ticket(member, follower.core.store.now_us())

        async def opens(streams: Streams) -> bool:
            opened = streams.open_ticket(ticket)
            assert opened is not None
            try:
                async with streams.open(*opened):
                    return True
            except Refusal as refusal:
                return refusal.code != "AUTH_FAILED"

        assert await opens(at_leader)
        assert not await opens(here)
        ticket, _ = at_leader.issue_ticket(member, world.core.store.now_us())
        assert await opens(here)
        assert not await opens(at_leader)

    with_follower(tmp_path, test)


def test_who_takes_the_lead_takes_no_ticket_of_before(tmp_path: Path) -> None:
    """Which of them were used, the one before it knew."""

    async def test(world: World, follower: Follower, member: Principal) -> None:
        streams = follower.core.streams
        before, _ = streams.issue_ticket(member, follower.core.store.now_us())
        await trio.sleep(1)
        follower.leader = Node("b", "b.example", 1)
        await trio.sleep(1)
        after, _ = streams.issue_ticket(member, follower.core.store.now_us())
        opened = streams.open_ticket(before)
        assert opened is not None
        with pytest.raises(Refusal):
            async with streams.open(*opened):
                pass
        opened = streams.open_ticket(after)
        assert opened is not None
        async with streams.open(*opened):
            pass

    with_follower(tmp_path, test)


def test_streams_go_on_without_a_leader(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.leader = None
        async with follower.core.streams.open(member) as subscriber, trio.open_nursery() as nursery:
            nursery.start_soon(subscriber.wait)
            await wait_all_tasks_blocked()
            await world.core.decide("send", wanted(), member)

    with_follower(tmp_path, test)


# ------------------------------------------------------------------------------------------- how it is


def test_lag_and_role_are_shown(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.feed.hold()
        await world.core.decide("send", wanted(), member)
        await trio.sleep(3)
        assert follower.forwarding.lag_seconds >= 3
        await follower.core.take_message("192.0.2.1")
        page = (await follower.core.metrics_page.text()).decode()
        assert "\natmos_node_leads 0.0\n" in page
        assert "\natmos_node_lag_seconds 3" in page
        assert '\natmos_node_questions_total{result="answered"} 1.0\n' in page
        follower.feed.go_on()
        await wait_all_tasks_blocked()
        assert follower.forwarding.lag_seconds < 1
        assert "atmos_node" not in (await world.core.metrics_page.text()).decode()

    with_follower(tmp_path, test)


def test_after_the_last_node_a_core_is_its_own_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "a") as world:
            async with open_follower(world, tmp_path / "b") as follower:
                core = follower.core
                assert core.elsewhere is not None
            assert core.elsewhere is None
            assert core.node is None

    run(main)
