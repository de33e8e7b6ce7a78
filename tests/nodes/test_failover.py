"""Two and three machines: one leads, and when it is gone another one does. Nothing that was acknowledged is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.events import AttemptInterrupted, AttemptStarted, MessageSent, NodeLeads
from relay.nodes.lease import CLOCK_OFF_US_MAX
from relay.service import AWAY_SECONDS_MAX
from spool.errors import LogDeposedError
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import DID, run
from tests.world.stream import open_stream

NAMES = ("anna", "bert", "carl")


def leaders_of(machine: Machine) -> list[str]:
    return [event.node for event in machine.world.events() if isinstance(event, NodeLeads)]


def received(machines: Machines) -> Counter[str]:
    return Counter(message.rcpt_to[0] for message in machines.mx.messages)


async def send(machine: Machine, to: str, **fields: Any) -> int:
    return await machine.world.send(to=to, **fields)


def test_one_of_three_leads_and_acts_and_all_have_what_it_appends(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, *NAMES) as machines:
            leader = await machines.until_led()
            message_id = await send(leader, "friend@example.com")
            await leader.world.until(message_id, "sent")
            await machines.until_level()
            assert sum(machine.leads for machine in machines.all) == 1
            assert sum(machine.acts for machine in machines.all) == 1
            for machine in machines.all:
                assert leaders_of(machine) == [leader.name]
                assert (await machine.world.message(message_id))["status"] == "sent"
                # It is at hand where it is delivered, and nowhere else.
                store = machine.world.core.store
                assert (store.get(message_id) is store.get(message_id)) == machine.leads
            assert received(machines) == {"friend@example.com": 1}

    run(main)


def test_another_leads_when_the_leader_is_killed_and_delivers_what_it_had_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, *NAMES) as machines:
            leader = await machines.until_led()
            # They are deferred once, so that each is due later.
            ids = [await send(leader, f"tempfail-1+{number}@example.com") for number in range(5)]
            for message_id in ids:
                await leader.world.until(message_id, "deferred")
            leader.kill()
            await leader.until_ended()
            other = await machines.until_led()
            assert other is not leader
            for message_id in ids:
                await other.world.until(message_id, "sent")
            assert set(received(machines).values()) == {1}
            # The one that was killed comes back, and follows.
            await leader.begin()
            await machines.until_level()
            assert not leader.leads
            assert leaders_of(leader) == [leader.name, other.name]
            assert (await leader.world.message(ids[0]))["status"] == "sent"

    run(main)


def test_what_was_being_sent_by_a_killed_leader_is_named_and_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            # The receiver has it, and never says so, the first time.
            message_id = await send(leader, "hang-after-dot-1@example.com")
            await machines.until(lambda: machines.mx.whole == 1)
            leader.kill()
            await leader.until_ended()
            other = await machines.until_led()
            await other.world.until(message_id, "sent")
            own = [
                event for event in other.world.events() if getattr(event, "message_id", None) == message_id
            ]
            assert [type(event) for event in own] == [
                AttemptStarted,
                AttemptInterrupted,
                AttemptStarted,
                MessageSent,
            ]
            assert machines.mx.whole == 2

    run(main)


def test_a_leader_that_is_cut_off_is_deposed_sends_nothing_more_and_follows_when_it_is_begun_again(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            before = await send(leader, "before@example.com")
            await leader.world.until(before, "sent")
            await machines.until_level()
            leader.table.cut_off()
            other = await machines.until_led_by_another(leader)
            # It does not know yet that another leads, and knows that it may not act.
            status, answer = await leader.world.post_send(to="nobody@example.com")
            assert status == 503
            assert "database" in answer["error"]
            after = await send(other, "after@example.com")
            await other.world.until(after, "sent")
            leader.table.rejoin()
            await leader.until_ended()
            assert isinstance(leader.ended_by, LogDeposedError)
            await leader.begin()
            await machines.until_level()
            assert leaders_of(leader) == [leader.name, other.name]
            assert received(machines) == {"before@example.com": 1, "after@example.com": 1}

    run(main)


def test_a_message_whose_dot_waits_when_the_leader_is_cut_off_is_not_sent_by_it(tmp_path: Path) -> None:
    """The attempt was started, and its message is with the receiver but for the dot."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", drip_seconds=0.5) as machines:
            leader = await machines.until_led()
            message_id = await send(leader, "slow@example.com")
            await machines.until(
                lambda: any(isinstance(event, AttemptStarted) for event in leader.world.events())
            )
            leader.table.cut_off()
            other = await machines.until_led_by_another(leader)
            assert machines.mx.messages == []
            await other.world.until(message_id, "sent")
            leader.table.rejoin()
            await leader.until_ended()
            assert received(machines) == {"slow@example.com": 1}
            assert any(isinstance(event, AttemptInterrupted) for event in other.world.events())

    run(main)


def test_a_stream_goes_on_at_another_machine_with_the_same_cursor(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            first = await send(leader, "first@example.com")
            await leader.world.until(first, "sent")
            async with open_stream(leader.world, cursor=0) as stream:
                seen = [await stream.next() for _ in range(4)]
            leader.kill()
            await leader.until_ended()
            other = await machines.until_led()
            second = await send(other, "second@example.com")
            await other.world.until(second, "sent")
            async with open_stream(other.world, cursor=seen[-1]["seq"]) as stream:
                while seen[-1].get("messageId") != second or seen[-1].get("status") != "sent":
                    seen.append(await stream.next())
            async with open_stream(other.world, cursor=0) as stream:
                assert seen == [await stream.next() for _ in seen], "without gap or repeat"

    run(main)


def test_a_send_at_a_follower_is_decided_by_the_leader_and_seen_at_the_follower(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            follower = next(machine for machine in machines.all if machine is not leader)
            await machines.until_level()
            await machines.until(lambda: follower.name in leader.node.members.identities)
            message_id = await send(follower, "friend@example.com")
            assert (await follower.world.message(message_id))["messageId"] == message_id
            await follower.world.until(message_id, "sent")
            assert received(machines) == {"friend@example.com": 1}

    run(main)


def test_a_node_with_a_wrong_clock_does_not_lead_and_gives_up_the_lead(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            other = next(machine for machine in machines.all if machine is not leader)
            leader.clock_off_us = CLOCK_OFF_US_MAX + 500_000
            await leader.until_ended()
            assert isinstance(leader.ended_by, LogDeposedError)
            await leader.begin()
            assert await machines.until_led() is other
            other.kill()
            await other.until_ended()
            await trio.sleep(60)
            assert not leader.leads
            leader.clock_off_us = 0
            assert await machines.until_led() is leader

    run(main)


#: So long a stop may wait for a database that is away, and then for what it is asked last; `grace_seconds` is 30.
STOP_SECONDS_MAX = 12


@pytest.mark.parametrize("is_whole", [False, True], ids=["before the dot", "behind the dot"])
def test_a_stop_does_not_wait_for_a_database_that_is_away(tmp_path: Path, is_whole: bool) -> None:
    """What was being sent is named by the node that leads next, and is sent by it."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", drip_seconds=0.5) as machines:
            leader = await machines.until_led()
            to = "hang-after-dot@example.com" if is_whole else "slow@example.com"
            message_id = await send(leader, to)
            await machines.until(
                lambda: any(isinstance(event, AttemptStarted) for event in leader.world.events())
            )
            await machines.until(lambda: machines.mx.whole == is_whole)
            leader.table.cut_off()
            await trio.sleep(1)
            with trio.fail_after(STOP_SECONDS_MAX):
                await leader.stop()
            other = await machines.until_led()
            assert other is not leader
            assert any(isinstance(event, AttemptInterrupted) for event in other.world.events())
            assert machines.mx.whole == is_whole
            if not is_whole:
                await other.world.until(message_id, "sent")
                assert received(machines) == {to: 1}

    run(main)


def test_a_stop_records_what_came_of_a_message_when_the_database_is_soon_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", drip_seconds=0.5) as machines:
            leader = await machines.until_led()
            message_id = await send(leader, "slow@example.com")
            await machines.until(
                lambda: any(isinstance(event, AttemptStarted) for event in leader.world.events())
            )
            for machine in machines.all:
                machine.table.cut_off()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leader.stop)
                await trio.sleep(AWAY_SECONDS_MAX - 1)
                for machine in machines.all:
                    machine.table.rejoin()
            assert leader.ended_by is None
            other = await machines.until_led()
            await other.world.until(message_id, "sent")
            assert received(machines) == {"slow@example.com": 1}
            assert not any(isinstance(event, AttemptInterrupted) for event in other.world.events())

    run(main)


def test_keys_that_the_leader_made_are_on_the_node_that_leads_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            await leader.world.command("pepper_rotate")
            await leader.world.command("domain_add", did=DID, domain="new.example")
            issued = await leader.world.command("key_issue", did=DID)
            machines.credentials["Authorization"] = f"Bearer {issued['apiKey']}"
            await machines.until_level()
            leader.kill()
            await leader.until_ended()
            other = await machines.until_led()
            message_id = await send(other, "friend@example.com", **{"from": "you@new.example"})
            await other.world.until(message_id, "sent")

    run(main)
