"""A node that was removed does not start, and neither does one with another pepper than the one that leads."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.message.key_files import PEPPER_OCTETS, KeyFileError, pepper_name
from relay.message.keys import Pepper, Peppers
from relay.nodes.facts import to_row
from relay.nodes.may_start import PATIENCE_SECONDS, check_may_start
from relay.nodes.members import removal
from relay.nodes.seal import pepper_digests
from relay.refusals import Refusal
from relay.service import open_relay
from relay.surroundings import Surroundings
from spool.replicated.table import HOLDER_OCTETS, Lease
from tests.nodes.test_facts import facts
from tests.world.machines import open_machines
from tests.world.outcomes import Outcome
from tests.world.relay import call_here, run, virtual_clock
from tests.world.servers import put_lease, put_node
from tests.world.table import DATABASE_EPOCH_US, FakeDatabase

OURS = Peppers({1: Pepper(b"a" * 32), 2: Pepper(b"b" * 32)})
ONE_OTHER = Peppers({1: Pepper(b"a" * 32), 2: Pepper(b"c" * 32)})
OTHER = Peppers({1: Pepper(b"x" * 32)})
FEWER = Peppers({1: Pepper(b"a" * 32)})


def database(leader: str | None, **peppers: Peppers) -> FakeDatabase:
    made = FakeDatabase()
    server = made.servers.primary
    for name, of in peppers.items():
        server.write(put_node(name, to_row(facts(name, peppers=pepper_digests(of)))))
    if leader is not None:
        lease = Lease(2, b"h" * HOLDER_OCTETS, f"{leader} {leader}.example:1", 1, 0, bytes(32))
        server.write(put_lease(lease))
    return made


@pytest.mark.parametrize(("theirs", "file"), [(OTHER, "pepper"), (ONE_OTHER, "pepper.2")])
def test_another_pepper_than_the_leader_s(theirs: Peppers, file: str) -> None:
    async def story() -> None:
        with pytest.raises(KeyFileError, match=rf"^{file}: is another one than that of one, which leads"):
            await check_may_start(database("one", one=theirs).table(), OURS, name="two", identity="22")

    run(story)


@pytest.mark.parametrize(
    "made",
    [
        lambda: database("one", one=OURS),
        lambda: database("one", one=FEWER),
        # It is the one that leads that is right, and of itself this node knows.
        lambda: database("one", one=OURS, three=OTHER),
        lambda: database("two", two=OTHER),
        lambda: database(None, one=OTHER),
        lambda: database("one"),
        lambda: FakeDatabase(head=None),
    ],
)
def test_nothing_else_is_in_the_way(made: object) -> None:
    async def story() -> None:
        assert callable(made)
        await check_may_start(made().table(), OURS, name="two", identity="22")

    run(story)


@pytest.mark.parametrize("latency", [0.0, PATIENCE_SECONDS])
def test_a_database_that_does_not_answer_is_not_waited_for(latency: float) -> None:
    async def story() -> None:
        slow = database("one", one=OTHER)
        slow.latency_seconds = latency
        slow.choose = lambda number, name, table: Outcome.ANSWERED if latency else Outcome.CUT_BEFORE
        await check_may_start(slow.table(), OURS, name="two", identity="22")

    run(story)


def removed(*, again: str = "") -> FakeDatabase:
    made = database("one", one=OURS)
    made.servers.primary.write(put_node(*removal("two", "22", DATABASE_EPOCH_US)))
    if again:
        made.servers.primary.write(put_node("two", to_row(facts("two", identity=again))))
    return made


@pytest.mark.parametrize("again", ["", "33", "22"], ids=["gone", "given anew", "written once more"])
def test_who_was_removed(again: str) -> None:
    """Whatever stands under its name by now."""

    async def story() -> None:
        with pytest.raises(
            Refusal, match=r"^two: this node was removed .* at 2023-11-14T22:13:20.000000Z. To bring"
        ):
            await check_may_start(removed(again=again).table(), OURS, name="two", identity="22")

    run(story)


def test_whose_name_another_machine_has() -> None:
    async def story() -> None:
        await check_may_start(removed(again="33").table(), OURS, name="two", identity="33")
        await check_may_start(removed().table(), OURS, name="two", identity="33")
        with pytest.raises(Refusal, match=r"^two: another machine is the node of this name"):
            await check_may_start(removed(again="33").table(), OURS, name="two", identity="44")

    run(story)


def test_its_relay_does_not_start(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_machines(tmp_path, "anna", "bert", enrol=False) as machines:
            leader = await machines.until_led()
            other = next(machine for machine in machines.all if machine is not leader)
            await other.stop()
            pepper = other.directory / pepper_name(1)
            pepper.chmod(0o600)
            pepper.write_bytes(b"x" * PEPPER_OCTETS)
            surroundings = Surroundings(clock=virtual_clock, offload=call_here, table=other.table)
            with pytest.RaisesGroup(
                pytest.RaisesExc(KeyFileError, match="which leads"),
                allow_unwrapped=True,
            ):
                async with open_relay(other.directory, surroundings):
                    raise AssertionError("it serves")

    run(story)
