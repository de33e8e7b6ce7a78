"""What a batch, a submission and mail of strangers are told at each node while nothing can be decided: come again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from relay.events import MailReceived, MessageBounceReported
from tests.api.test_batch import mails, post
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run
from tests.world.strangers import BOUNCE, OPERATOR_MAILBOX, bounce_address, bring, events, stranger
from tests.world.submitting import submitter

#: Asks a machine, and gives what it said. The number is of a message that was sent.
Asks = Callable[[Machine, int], Awaitable[str]]
OF_THE_DATABASE = "the database in which the nodes of this relay agree does not answer"
AT = ("the leader", "a follower")


async def batch(machine: Machine, message_id: int) -> str:
    """What all of it is answered, or each of its entries."""
    status, answer, headers = await post(machine.world, mails(2))
    if status == 200:
        (said,) = {
            "taken" if "code" not in one else f"{one['code']} {one['error']}" for one in answer["results"]
        }
        return said
    assert (status, int(headers["retry-after"]) > 0) == (503, True)
    return f"{answer['code']} {answer['error']}"


async def submission(machine: Machine, message_id: int) -> str:
    heard = await (await submitter(machine.world)).hand_in()
    assert heard.at == "DATA"
    return f"{heard.said} {heard.reply.text}"


async def report(machine: Machine, message_id: int) -> str:
    async with stranger(machine.world) as talk:
        return await bring(talk, BOUNCE, bounce_address(machine.world, message_id))


@asynccontextmanager
async def open_with_a_message(directory: Path) -> AsyncIterator[tuple[Machines, Machine, Machine, int]]:
    """The leader, a follower, and a message that was sent."""
    inbound = {"inbound": f'operator_mailbox = "{OPERATOR_MAILBOX}"'}
    async with open_machines(directory, "anna", "bert", tables=inbound) as machines:
        leader = await machines.until_led()
        (follower,) = (machine for machine in machines.all if machine is not leader)
        message_id = await leader.world.send(to="friend@example.com")
        await leader.world.until(message_id, "sent")
        await machines.until_level()
        yield machines, leader, follower, message_id


TAKEN = {batch: "taken", submission: "250 2.0.0 accepted as", report: "250 2.0.0 taken"}
NO_DATABASE = {
    batch: f"TEMPORARILY_UNAVAILABLE {OF_THE_DATABASE}",
    submission: f"451 4.3.0 {OF_THE_DATABASE}",
    report: "451 4.3.0 the mail cannot be written down now; come again later",
}
#: A stranger is not told of nodes.
NO_LEADER = {
    batch: "TEMPORARILY_UNAVAILABLE no node ",
    submission: "451 4.3.0 no node ",
    report: NO_DATABASE[report],
}


@pytest.mark.parametrize("asks", [batch, submission, report])
@pytest.mark.parametrize("at", AT)
def test_a_database_that_does_not_answer(tmp_path: Path, at: str, asks: Asks) -> None:
    """The first one waits with the leader until it is clear that nothing comes, and those after it do not."""

    async def main() -> None:
        async with open_with_a_message(tmp_path) as (machines, leader, follower, message_id):
            machine = leader if at == "the leader" else follower
            machines.database.servers.stall_standbys()
            for _ in range(2):
                assert (await asks(machine, message_id)).startswith(NO_DATABASE[asks])
            machines.database.servers.go_on()
            await machines.until(lambda: leader.node.why_not_appending() is None)
            assert (await asks(machine, message_id)).startswith(TAKEN[asks])
            await machines.until_level()

    run(main)


@pytest.mark.parametrize("asks", [batch, submission, report])
def test_nobody_leads(tmp_path: Path, asks: Asks) -> None:
    async def main() -> None:
        async with open_with_a_message(tmp_path) as (machines, leader, follower, message_id):
            follower.table.cut_off()
            leader.kill()
            await leader.until_ended()
            said = await asks(follower, message_id)
            assert said.startswith(NO_LEADER[asks])
            assert not events(follower.world, MailReceived)
            assert not events(follower.world, MessageBounceReported)
            follower.table.rejoin()
            await leader.begin()
            await machines.until_led()
            await trio.sleep(1)
            assert (await asks(follower, message_id)).startswith(TAKEN[asks])

    run(main)
