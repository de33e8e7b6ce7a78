"""A node that led, and does not know yet that another does: it denies nothing that the other may have."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from spool.replicated.table import Row
from tests.world.machines import open_machines
from tests.world.relay import run
from tests.world.table import FakeConnection


def test_who_may_have_been_deposed_does_not_say_that_a_message_is_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            before = await machines.until_led()
            before.table.cut_off()
            after = await machines.until_led_by_another(before)
            message_id = await after.world.send(to="friend@example.com")
            assert before.leads  # as far as it knows
            for path in (f"/v1/messages/{message_id}", f"/v1/events?cursor={message_id}"):
                status, answer, _ = await before.world.request("GET", path)
                assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE"), path
            # It is no leader to send writes to, and says how old its answers are.
            status, _, headers = await before.world.request("GET", "/leader")
            assert status == 503
            assert float(dict(headers)["atmos-lag"]) > 0
            # Nor does it refuse a key that was made since.
            credentials = await after.world.enrol("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "other.example")
            status, _, _ = await before.world.request("GET", "/v1/events", headers=credentials)
            assert status == 503
            before.table.rejoin()
            await before.until_ended()
            await before.begin()
            await machines.until_level()
            assert (await before.world.message(message_id))["status"]

    run(main)


def test_a_leader_that_is_sure_says_at_once_that_a_message_is_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            began = trio.current_time()
            status, _, _ = await leader.world.request("GET", "/v1/messages/4711")
            assert status == 404
            assert trio.current_time() == began

    run(main)


def test_who_is_back_while_the_lease_is_still_its_own_does_not_say_that_it_leads(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna") as machines:
            leader = await machines.until_led()
            leader.kill()
            await leader.until_ended()
            leader.rejoin()
            await leader.begin()
            await trio.sleep(1)
            assert leader.node.level_at > float("-inf")
            assert not leader.leads
            status, _, _ = await leader.world.request("GET", "/leader")
            assert status == 503
            _, ready, _ = await leader.world.request("GET", "/readyz")
            assert (ready["role"], ready["accepting"]) == ("follower", False)
            assert await machines.until_led() is leader

    run(main)


def test_nor_does_a_node_that_is_cut_off_together_with_it(tmp_path: Path) -> None:
    """The two reach each other and not the database. Who leads by now cannot be known there."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl") as machines:
            before = await machines.until_led()
            beside, after = (one for one in machines.all if one is not before)
            await machines.until_level()
            before.table.cut_off()
            beside.table.cut_off()
            assert await machines.until_led_by_another(before) is after
            message_id = await after.world.send(to="friend@example.com")
            credentials = await after.world.enrol("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "other.example")
            assert before.leads  # as far as the two know
            for path in (f"/v1/messages/{message_id}", f"/v1/events?cursor={message_id}"):
                status, answer, _ = await beside.world.request("GET", path)
                assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE"), path
            status, _, _ = await beside.world.request("GET", "/v1/events", headers=credentials)
            assert status == 503

    run(main)


@pytest.mark.parametrize("who_is_asked", ["the leader", "a third node"])
def test_what_a_node_has_shown_is_denied_by_no_other_while_the_leader_waits_for_the_database_s_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who_is_asked: str
) -> None:
    """The database has said that the row has a witness to whoever follows, before it answers the leader."""
    is_held, let_go = trio.Event(), trio.Event()
    append = FakeConnection.append

    async def held(self: FakeConnection, row: Row, holder: bytes) -> bool:
        added = await append(self, row, holder)
        is_held.set()
        await let_go.wait()
        return added

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl") as machines:
            leader = await machines.until_led()
            shows, other = (machine for machine in machines.all if machine is not leader)
            await machines.until_level()
            asked = leader if who_is_asked == "the leader" else other
            if asked is other:
                other.table.cut_off()
            monkeypatch.setattr(FakeConnection, "append", held)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(leader.world.send, to="friend@example.com"))
                await is_held.wait()
                before = leader.seq
                await machines.until(lambda: shows.seq > before)
                path = f"/v1/events?cursor={shows.seq}"
                assert (await shows.world.request("GET", path))[0] == 200
                assert (await asked.world.request("GET", path))[0] == 503
                assert leader.seq == before
                let_go.set()
            other.table.rejoin()
            await machines.until_level()
            assert (await asked.world.request("GET", path))[0] == 200

    run(main)
