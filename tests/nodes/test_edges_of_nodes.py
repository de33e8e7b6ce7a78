"""A node that follows, whose doors are served by an edge: what is asked goes from the edge to its core, and from there
to the node that leads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionClosed

from relay.edge import DecisionFailedError
from relay.edges import words
from relay.edges.asking import ToldNode
from relay.edges.host import serve_by_edges
from relay.listening import listen
from relay.own_keys import IssueOwnKey
from relay.principals import Principal
from relay.refusals import Refusal
from relay.self_service import Suppress
from tests.edges.test_acceptance_seam import member_of, of_five, sends, wanted
from tests.nodes.beside_a_leader import refused, with_follower
from tests.world.carriers import Door, open_channel
from tests.world.http import open_http
from tests.world.nodes import LEADER, Follower, open_follower
from tests.world.relay import DID, World, open_world
from tools.watch import open_websocket


def test_an_edge_is_answered_by_the_node_that_leads(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        async with open_channel(follower.core) as door:
            sent = await door.decide("send", wanted(), member)
            assert follower.core.store.get(sent.seq).event == world.core.store.get(sent.seq).event
            assert await door.why_not_accepting() is None
            await door.take_message("192.0.2.1")
            follower.leader = None
            assert (await refused(door.decide("send", wanted(), member))).code == "TEMPORARILY_UNAVAILABLE"
            assert await door.why_not_accepting() is not None
        assert len(sends(world)) == 1

    with_follower(tmp_path, test)


def test_writes_are_counted_by_the_node_that_leads(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        of_five(world)

        async def write(door: Door) -> None:
            door.quota.take_write(member.did)
            await door.decide("send", wanted(), member)

        async with open_channel(follower.core) as one, open_channel(follower.core) as other:
            for door in (one, other, one, other):
                await write(door)
            await world.core.decide("send", wanted(), member, is_counted=False)
            assert (await refused(write(one))).code == "RATE_LIMITED"
        assert len(sends(world)) == 5

    with_follower(tmp_path, test)


def test_a_defect_at_the_leader_has_its_request_id_at_an_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*_: Any, **__: Any) -> Any:
        raise KeyError("a defect")

    async def test(world: World, follower: Follower, member: Principal) -> None:
        monkeypatch.setattr("relay.acceptance.accept_send", defect)
        async with open_channel(follower.core) as door:
            with pytest.raises(DecisionFailedError) as failed:
                await door.decide("send", wanted(), member)
        (line,) = [record for record in caplog.records if record.message == "node.defect"]
        assert vars(line)["request_id"] == failed.value.request_id

    with_follower(tmp_path, test)


def test_an_edge_catches_up_by_its_core(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        async with open_channel(follower.core) as door:
            assert door.catch_up is not None
            node = ToldNode(words.NodeIs("follower", 1.5), door.catch_up)
            await trio.sleep(2)
            assert (node.role, node.lag_seconds) == ("follower", 3.5)
            follower.feed.hold()
            await world.core.decide("suppress", Suppress(address="a@example.com"), member)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.catch_up)
                await wait_all_tasks_blocked()
                follower.feed.go_on()
            assert follower.core.store.last_seq == world.core.store.last_seq
            follower.leader = None
            with pytest.raises(Refusal):
                await node.catch_up()
            node.hear(words.NodeIs("leader", 0))
            await trio.sleep(1)
            assert (node.role, node.lag_seconds) == ("leader", 0)
            await trio.sleep(2)  # the core stands still
            assert (node.role, node.lag_seconds) == ("leader", 3)
            node.hear(words.NodeIs("leader", 1.5))  # it cannot be sure
            await trio.sleep(0.5)
            assert (node.role, node.lag_seconds) == ("leader", 2)

    with_follower(tmp_path, test)


def test_a_real_edge_of_a_follower(tmp_path: Path) -> None:
    """A process of its own, on real sockets."""

    async def main() -> None:
        with trio.fail_after(120):
            async with (
                open_world(tmp_path / "a") as world,
                open_follower(world, tmp_path / "b") as follower,
                trio.open_nursery() as nursery,
            ):
                close = trio.Event()
                listened = await listen(follower.core.config)
                served = await nursery.start(serve_by_edges, follower.core, 1, None, listened, close)
                async with open_http(served.http) as http:
                    assert (await http.request("GET", "/leader")).status == 503
                    sent = await http.post_send(world.credentials)
                    assert sent.status == 200, sent
                    number = json.loads(sent.body)["accepted"][0]["messageId"]
                    found = await http.request("GET", f"/v1/messages/{number}", world.credentials)
                    assert found.status == 200
                    assert float(found.headers["atmos-lag"]) >= 0
                    member = member_of(world)._replace(scope="full")
                    made = await world.core.decide("issue_own_key", IssueOwnKey(), member)
                    new = {"X-Atmos-DID": DID, "Authorization": f"Bearer {made.api_key}"}
                    assert (await http.request("GET", "/member/status", new)).status == 200
                    follower.leader = None
                    assert (await http.post_send(world.credentials)).status == 503
                    assert (await http.request("GET", "/v1/messages/99999", new)).status == 503
                    assert (await http.request("GET", "/v1/messages", new)).status == 200
                    follower.leader = LEADER._replace(name="b")
                    while (await http.request("GET", "/leader")).status != 200:
                        await trio.lowlevel.checkpoint()
                headers = [(name.encode(), value.encode()) for name, value in new.items()]
                async with open_websocket(f"ws://{served.http}/v1/stream", headers) as stream:
                    # As a node has it whose log has parted from the others'.
                    follower.forwarding._is_unfit = lambda: True
                    with pytest.raises(ConnectionClosed) as closed:
                        await stream.get_message()
                    assert closed.value.reason.code == 1001
                close.set()

    trio.run(main)
