"""Nodes are upgraded one by one: a newer version of an event is written when all can read it, and by nobody before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest

from relay import codec
from relay.codec import Recorded, Skeletons, UnknownEventError, encode, versions_read_here
from relay.events import NodeLeads
from relay.nodes import speaking
from relay.nodes.facts import Facts, from_row
from relay.nodes.versions import UnreadRowError, Versions
from spool.received import PlainRecord, Received
from spool.record import NO_DIGEST, Record
from spool.replicated.table import Row
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run

#: What an older version of the relay reads, in these tests: who took a message was not recorded, and nobody could
#: suppress a recipient.
OLDER = {"message.sent": 2, "recipient.suppressed": 0}


def without_provider(skeleton: dict[str, Any], payload: dict[str, Any] | None) -> Any:
    return {name: value for name, value in skeleton.items() if name != "provider"}, payload


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    downcasts = {
        ("message.sent", 3): without_provider,
        ("recipient.suppressed", 1): None,
        ("recipient.suppressed", 2): None,
    }
    monkeypatch.setattr(codec, "DOWNCASTS", downcasts)


@pytest.fixture
def never_unread(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No node is given what it cannot read."""
    yield
    assert "node.needs_upgrade" not in [record.message for record in caplog.get_records("call")]


def versions_of(machine: Machine, name: str) -> list[int]:
    """As they stand in its log."""
    skeletons = [cbor2.loads(record.skeleton) for record in machine.records()]
    return [skeleton["v"] for skeleton in skeletons if skeleton["type"] == name]


async def send(machine: Machine) -> None:
    message_id = await machine.world.send()
    message = await machine.world.until(message_id, "sent")
    assert message["status"] == "sent"


async def suppress(machine: Machine) -> tuple[int, Any]:
    body = {"recipient": "gone@example.com"}
    status, answer, _ = await machine.world.request("POST", "/v1/suppressions", json=body)
    return status, answer


async def upgrade(machines: Machines, machine: Machine) -> None:
    """Stop it, and begin it again with this version of the relay."""
    await machine.stop()
    machine.older = {}
    await machine.begin()
    await machines.until_level()


async def until_all_have_said(machines: Machines) -> None:
    """What each of them reads is known to all: said each second, and read each second."""
    leader = await machines.until_led()

    def are_known() -> bool:
        rows = leader.node.known
        return all(
            machine.name in rows and rows[machine.name]["events"] == machine.node.reads
            for machine in machines.all
        )

    await machines.until(are_known)


def said_of(machines: Machines, name: str) -> Facts:
    facts = from_row(name, json.loads(machines.database.shown.nodes[name]))
    assert isinstance(facts, Facts)
    return facts


# ------------------------------------------------------------------------------------------------ in each order


@pytest.mark.usefixtures("never_unread")
def test_the_followers_first_and_the_leader_last(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl", older=OLDER) as machines:
            leader = await machines.until_led()
            await send(leader)
            for follower in [machine for machine in machines.all if machine is not leader]:
                await upgrade(machines, follower)
                await until_all_have_said(machines)
                await send(follower)
            assert versions_of(leader, "message.sent") == [2, 2, 2]
            # The last old one leads: what it does not know, it does not write.
            assert (await suppress(leader))[0] == 503
            await leader.stop()
            other = await machines.until_led_by_another(leader)
            await send(other)
            leader.older = {}
            await leader.begin()
            await until_all_have_said(machines)
            await send(other)
            assert (await suppress(leader))[0] == 201
            await machines.until_level()
            assert versions_of(leader, "message.sent") == [2, 2, 2, 2, 3]

    run(main)


@pytest.mark.usefixtures("never_unread")
def test_the_leader_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", older=OLDER) as machines:
            first = await machines.until_led()
            (old,) = [machine for machine in machines.all if machine is not first]
            await first.stop()
            await machines.until_led_by_another(first)
            # What the old one writes, the new one reads.
            first.older = {}
            await first.begin()
            await until_all_have_said(machines)
            await send(old)
            # Now the new one leads, and is the only one that is up: the old one may come back.
            await old.stop()
            new = await machines.until_led_by_another(old)
            await send(new)
            status, answer = await suppress(new)
            assert status == 503
            assert answer["code"] == "TEMPORARILY_UNAVAILABLE"
            assert f"node {old.name} runs version " in answer["error"]
            assert "cannot read recipient.suppressed" in answer["error"]
            await old.begin()
            await machines.until_level()
            await send(old)
            assert (await suppress(old))[0] == 503
            assert versions_of(old, "message.sent") == [2, 2, 2]
            await upgrade(machines, old)
            await until_all_have_said(machines)
            await send(old)
            assert (await suppress(old))[0] == 201
            assert versions_of(new, "message.sent") == [2, 2, 2, 3]

    run(main)


@pytest.mark.usefixtures("never_unread")
def test_who_begins_to_lead_knows_what_all_read_at_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are read each second, and a node may have come since."""
    monkeypatch.setattr(speaking, "EVERY_SECONDS", 24 * 3600.0)

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl") as machines:
            leader = await machines.until_led()
            old = next(machine for machine in machines.all if machine is not leader)
            await old.stop()
            old.older = OLDER
            # So it does not lead itself.
            old.clock_off_us = 5_000_000
            await old.begin()
            leader.kill()
            await leader.until_ended()
            await send(await machines.until_led_by_another(leader))
            await machines.until_level()
            assert versions_of(old, "message.sent") == [2]

    run(main)


@pytest.mark.usefixtures("never_unread")
def test_what_is_left_out_for_an_older_node_is_left_out_for_all(tmp_path: Path) -> None:
    """Else views would differ, and what a node remembers of its own would not be what its log says."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            (follower,) = [machine for machine in machines.all if machine is not leader]
            await follower.stop()
            follower.older = OLDER
            await follower.begin()
            await until_all_have_said(machines)
            await send(leader)
            await machines.until_level()
            providers = [
                [event.provider for event in machine.world.events() if event.TYPE == "message.sent"]
                for machine in machines.all
            ]
            assert providers == [[None], [None]]
            await upgrade(machines, follower)
            await until_all_have_said(machines)
            await send(leader)
            (_, known) = [event.provider for event in leader.world.events() if event.TYPE == "message.sent"]
            assert known is not None

    run(main)


# ------------------------------------------------------------------------------------------------ met all the same


def test_a_node_that_was_brought_back_stops_in_front_of_what_it_cannot_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl") as machines:
            leader = await machines.until_led()
            stuck = next(machine for machine in machines.all if machine is not leader)
            await machines.until_level()
            await stuck.stop()
            had = len(stuck.records())
            # Nobody knows yet that an older one is to come.
            await send(leader)
            stuck.older = OLDER
            await stuck.begin()
            await machines.until(lambda: said_of(machines, stuck.name).trouble is not None)
            assert "it cannot read event " in (said_of(machines, stuck.name).trouble or "")
            assert "'message.sent' version 3, and takes no more: upgrade it" in (
                said_of(machines, stuck.name).trouble or ""
            )
            assert versions_of(stuck, "message.sent") == []
            assert stuck.seq == len(stuck.records()) >= had
            _, ready, _ = await stuck.world.request("GET", "/readyz")
            assert (ready["accepting"], ready["role"]) == (False, "follower")
            assert "this node runs too old a version of the relay: it cannot read event" in ready["reason"]
            # Nobody waits for it, and what it is asked to read it answers.
            await send(leader)
            assert (await stuck.world.request("GET", "/v1/messages"))[0] == 200
            # Nor does it lead when nobody else does.
            leader.kill()
            await leader.until_ended()
            other = await machines.until_led_by_another(leader)
            assert other is not stuck
            await upgrade(machines, stuck)
            await machines.until(lambda: said_of(machines, stuck.name).trouble is None)
            await send(stuck)
            assert versions_of(stuck, "message.sent")[:2] == [3, 2]

    run(main)
    told = [record for record in caplog.records if record.message == "node.needs_upgrade"]
    assert len(told) == 1
    assert "node.database_trouble" not in {
        record.message for record in caplog.records if "cannot read event" in str(record.__dict__)
    }


def record_of(skeleton: bytes) -> PlainRecord:
    return PlainRecord(skeleton, None, NO_DIGEST, 1)


def skeleton_of(**fields: object) -> bytes:
    return cbor2.dumps(fields, canonical=True)


@pytest.mark.parametrize(
    ("skeleton", "what"),
    [
        (skeleton_of(type="message.sent", v=4), "'message.sent' version 4"),
        (skeleton_of(type="message.sent", v=0), "'message.sent' version 0"),
        (skeleton_of(type="message.sent", v=True), "'message.sent' version True"),
        (skeleton_of(type="message.sent", v=1.0), "'message.sent' version 1.0"),
        (skeleton_of(type="message.shredded", v=1), "'message.shredded' version 1"),
        (skeleton_of(type=["message.sent"], v=1), "what is no event"),
        (skeleton_of(type="message.sent"), "what is no event"),
        (cbor2.dumps([1, 2]), "what is no event"),
        (b"\xff", "what is no event"),
        (b"", "what is no event"),
    ],
)
def test_what_is_none_of_the_events_that_are_known_is_not_taken(skeleton: bytes, what: str) -> None:
    versions = Versions(dict, Skeletons(), clock=lambda: 0, tail_hours=lambda: 24)
    row = Row(7, 8, 1, b"", b"", b"", b"")
    good = record_of(skeleton_of(type="message.sent", v=3))
    versions.check(row, Received(7, b"", b"", [good, good]))
    with pytest.raises(UnreadRowError, match=f"it cannot read event 8, {what}"):
        versions.check(row, Received(7, b"", b"", [good, record_of(skeleton)]))
    assert versions.needs_upgrade is not None
    # Another server shows another row in its place.
    versions.check(row, Received(7, b"", b"", [good, good]))
    assert versions.needs_upgrade is None


def folded_of(skeleton: bytes, seq: int = 7) -> Record:
    return Record(seq, 1, seq, True, skeleton, None, NO_DIGEST, bytes(32), False, 1, 0)


def test_a_skeleton_is_read_once_and_the_fold_is_given_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    skeletons, versions, event = Skeletons(), versions_read_here(), NodeLeads(node="a", epoch=2, address="b")
    skeleton = encode(event).skeleton
    assert skeletons.unread(7, skeleton, versions) is None
    with monkeypatch.context() as context:
        context.setattr(codec.cbor2, "loads", None)
        assert skeletons.decode(folded_of(skeleton)) == Recorded(7, 1, event)
    # What was handed on is used up: it is read anew.
    assert skeletons.decode(folded_of(skeleton)) == Recorded(7, 1, event)


def test_what_is_folded_is_what_its_own_record_holds() -> None:
    """The row that was looked at never came: its place in the log has another."""
    skeletons, versions = Skeletons(), versions_read_here()
    looked_at, event = NodeLeads(node="a", epoch=2, address="b"), NodeLeads(node="c", epoch=3, address="d")
    assert skeletons.unread(7, encode(looked_at).skeleton, versions) is None
    assert skeletons.decode(folded_of(encode(event).skeleton)) == Recorded(7, 1, event)
    with pytest.raises(UnknownEventError):
        skeletons.decode(folded_of(skeleton_of(type="message.shredded", v=1)))


def test_what_was_looked_at_and_never_came_is_not_kept_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_SKELETONS_MAX", 10)
    skeletons, versions = Skeletons(), versions_read_here()
    for seq in range(1, 100):
        assert skeletons.unread(seq, skeleton_of(type="message.sent", v=1), versions) is None
        assert len(skeletons._read) <= 10
