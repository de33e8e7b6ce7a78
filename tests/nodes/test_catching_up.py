"""How a follower comes to know what it does not know yet, who may have a stream there, and how late it is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.nodes.forwarding import CATCH_UP_SECONDS_MAX
from relay.nodes.wire import ANSWERED
from relay.nodes.words import AdmitStream, Answered, Node
from relay.own_keys import IssueOwnKey
from relay.principals import Principal
from relay.processes.carried import made
from relay.refusals import Refusal
from relay.self_service import Suppress
from relay.streams import Streams
from relay.views import members
from tests.edges.test_acceptance_seam import member_of, wanted
from tests.nodes.beside_a_leader import refused, with_follower
from tests.world.machines import open_machines
from tests.world.nodes import LEADER, Follower, open_follower
from tests.world.relay import DID, World, open_world, run


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


def test_nor_from_a_node_that_asks_it_in_the_first_moment(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl") as machines:
            before = await machines.until_led()
            streams, member = before.world.core.streams, member_of(before.world)
            ticket, _ = streams.issue_ticket(member, before.world.core.store.now_us())
            opened = streams.open_ticket(ticket)
            assert opened is not None
            async with streams.open(*opened):
                pass
            before.kill()
            others = [one for one in machines.all if one is not before]
            await machines.until(lambda: any(one.leads for one in others))
            after = next(one for one in others if one.leads)
            asked = msgspec.msgpack.encode(AdmitStream(DID, opened[1], None))
            status, answered = await after.node.door.answer("another", asked)
            assert status == ANSWERED
            raised = msgspec.msgpack.decode(answered, type=Answered).raised
            assert raised is not None
            assert made(raised).code == "AUTH_FAILED"

    run(main)


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
