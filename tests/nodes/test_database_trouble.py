"""What becomes of the machines of a relay when their database fails over, is unsafe for a while, or an old primary
comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay.events import MessageSent, NodeLeads
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run
from tests.world.table import FakeTable, Outcome


def epochs(machine: Machine) -> list[int]:
    return [event.epoch for event in machine.world.events() if isinstance(event, NodeLeads)]


async def deliver(machines: Machines, to: str) -> None:
    """By whoever leads, however long it takes until somebody may. Returned: it is sent, and that is recorded."""
    with trio.fail_after(600):
        while True:
            leader = await machines.until_led()
            status, answer = await leader.world.post_send(to=to)
            if status == 200:
                break
            assert status == 503, answer
            await trio.sleep(1)
    (accepted,) = answer["accepted"]

    def is_recorded() -> bool:
        events = [event for machine in machines.all if machine.is_up for event in machine.world.events()]
        return any(
            isinstance(event, MessageSent) and event.message_id == accepted["messageId"] for event in events
        )

    await machines.until(is_recorded)
    assert sum(message.rcpt_to == (to,) for message in machines.mx.messages) == 1


@pytest.mark.parametrize("old_comes_back", [False, True])
def test_the_leader_goes_on_at_the_new_primary(tmp_path: Path, old_comes_back: bool) -> None:
    """An old primary that comes back by itself takes writes, and shows what is over."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            await deliver(machines, "before@example.com")
            machines.database.servers.fail_over(old_comes_back=old_comes_back)
            await deliver(machines, "after@example.com")
            await trio.sleep(60)
            await deliver(machines, "later@example.com")
            await machines.until_level()
            assert leader.leads
            assert len(epochs(leader)) == 1

    run(main)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.WARNED,
        Outcome.WARNED_AND_LOST,
        Outcome.HUNG,
        Outcome.LOST,
        Outcome.LOST_BUT_SHOWN,
        Outcome.FAILED_OVER,
        Outcome.EMPTIED_BEFORE,
        Outcome.EMPTIED_MEANWHILE,
        Outcome.VANISHED,
        Outcome.CUT_AFTER,
        Outcome.LATE,
    ],
)
@pytest.mark.parametrize("statement", ["take_head", "append"])
def test_whatever_becomes_of_a_statement_mail_goes_out_once_when_the_operator_has_come(
    tmp_path: Path, statement: str, outcome: Outcome
) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            await deliver(machines, "before@example.com")
            is_due, is_accepted = True, False

            def choose(number: int, name: str, table: FakeTable) -> Outcome:
                nonlocal is_due
                if is_due and name == statement:
                    is_due = False
                    return outcome
                return Outcome.ANSWERED

            machines.database.choose = choose
            if statement == "take_head":
                leader = await machines.until_led()
                leader.kill()
                await leader.until_ended()
                await leader.begin()
            else:
                leader = await machines.until_led()
                status, _ = await leader.world.post_send(to="meanwhile@example.com")
                is_accepted = status == 200
            await trio.sleep(30)
            machines.database.mend()
            for machine in machines.all:
                if not machine.is_up:
                    await machine.begin()
            await deliver(machines, "after@example.com")
            await machines.until_level()
            assert not is_due
            await trio.sleep(60)
            sent = [message.rcpt_to for message in machines.mx.messages]
            assert len(sent) == len(set(sent))
            assert ("meanwhile@example.com",) in sent or not is_accepted

    run(main)


def test_standbys_that_have_nothing_flushed_are_told_of_by_all_nodes(tmp_path: Path) -> None:
    """The primary answers, and the lease is renewed; but nothing becomes durable."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            await machines.until_level()
            machines.database.servers.stall_standbys()
            # The first one, too, which waits until it is clear that nothing comes.
            status, answer = await leader.world.post_send(to="meanwhile@example.com")
            assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
            assert "the database in which the nodes of this relay agree does not answer" in answer["error"]
            for machine in machines.all:
                status, answer = await machine.world.post_send(to="later@example.com")
                assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
                assert "database" in answer["error"]
                status, ready, _ = await machine.world.request("GET", "/readyz")
                if machine is leader:
                    assert (status, "database" in ready["error"]) == (503, True)
                else:
                    assert (status, ready["accepting"], "database" in ready["reason"]) == (200, False, True)
            # Its lease has no witness either, so another may lead by now, as far as it knows.
            status, _, _ = await leader.world.request("GET", "/v1/messages/4711")
            assert status == 503
            machines.database.servers.go_on()
            await deliver(machines, "after@example.com")
            status, _, _ = await leader.world.request("GET", "/v1/messages/4711")
            assert status == 404

    run(main)
