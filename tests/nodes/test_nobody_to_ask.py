"""What a follower says where nobody can be asked, or does not answer, and that it asks nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.nodes.forwarding import QUICK_SECONDS_MAX, READ_SECONDS_MAX
from relay.nodes.links import ANSWER_SECONDS_MAX
from relay.nodes.words import Node
from relay.principals import Principal
from relay.refusals import Refusal
from tests.edges.test_acceptance_seam import sends, wanted
from tests.nodes.beside_a_leader import command, refused, with_follower
from tests.world.gate import Gate
from tests.world.nodes import LEADER, Follower
from tests.world.relay import DID, World


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


def test_what_changes_nothing_is_not_waited_for_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that was stopped, and has not been missed yet."""

    async def never(*_: Any) -> Any:
        await trio.sleep_forever()

    async def test(world: World, follower: Follower, member: Principal) -> None:
        monkeypatch.setattr(follower.door, "answer", never)
        begun = trio.current_time()
        why = await follower.core.why_not_accepting()
        assert why is not None
        assert trio.current_time() - begun == QUICK_SECONDS_MAX
        assert (await refused(follower.core.take_message("192.0.2.1"))).code == "TEMPORARILY_UNAVAILABLE"
        assert trio.current_time() - begun == 2 * QUICK_SECONDS_MAX
        # And then answered as by who remembers nothing.
        await command(follower.core, "queue_list")
        assert trio.current_time() - begun == 2 * QUICK_SECONDS_MAX + READ_SECONDS_MAX

    with_follower(tmp_path, test)


def test_a_node_that_was_taken_out_is_answered_nothing(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        assert (await follower.core.decide("send", wanted(), member)).messages == 1
        follower.nodes.discard("b")
        refusal = await refused(follower.core.decide("send", wanted(), member))
        assert refusal.code == "TEMPORARILY_UNAVAILABLE"
        assert len(sends(world)) == 1

    with_follower(tmp_path, test)


def test_who_has_the_name_of_a_node_and_not_its_key_is_answered_nothing(tmp_path: Path) -> None:
    """The name was given to another machine; this one has a good certificate, and the authority to make itself more."""

    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.identity = "another machine's"
        refusal = await refused(follower.core.decide("send", wanted(), member))
        assert refusal.code == "TEMPORARILY_UNAVAILABLE"
        assert sends(world) == []

    with_follower(tmp_path, test)


def test_who_has_the_name_of_the_leader_and_not_its_key_is_asked_nothing(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, member: Principal) -> None:
        follower.leader = LEADER._replace(identity="another machine's")
        refusal = await refused(follower.core.decide("send", wanted(), member))
        assert refusal.code == "TEMPORARILY_UNAVAILABLE"
        assert sends(world) == []
        follower.leader = LEADER._replace(identity=follower.leader_identity)
        assert (await follower.core.decide("send", wanted(), member)).messages == 1

    with_follower(tmp_path, test)
