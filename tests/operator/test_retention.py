"""Personal data go when their time is over or when the operator says so, and nothing else changes (SPEC 8).

Every world asserts at its end that the views are a fresh fold of the log as it is then: after the strip.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from relay.codec import decode, encode
from relay.core import open_core
from relay.events import Event, LogStripped, PayloadErased
from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.operator import retention
from relay.refusals import Refusal
from relay.store import Store
from relay.surroundings import Surroundings
from relay.views import PROJECTORS, relay_views
from spool import LogReader, Record
from spool.disk import Disk, RealDisk
from spool.verify.verify import verify
from spool.views import fold
from tests.world.directories import names_in
from tests.world.disk import Directory, FakeDisk, File, State, surviving_subsets
from tests.world.erasing import erase
from tests.world.one_click import unsubscribe_path
from tests.world.orders import order
from tests.world.relay import (
    DID,
    DOMAIN,
    OTHER_DID,
    OTHER_DOMAIN,
    World,
    call_here,
    open_world,
    run,
    virtual_clock,
)
from tools.cli import cli

DAY = 24 * 3600
FRIEND = "friend@example.com"


def skeletons(directory: Path) -> list[tuple[int, int, bytes, bytes, bytes]]:
    """What no strip may change."""
    with LogReader(directory / LOG_DIRECTORY) as reader:
        return [
            (record.seq, record.time_us, record.skeleton, record.payload_sha256, record.chain)
            for record in reader.read(1)
        ]


def of_type(world: World, event_type: type[Event]) -> list[Any]:
    return [event for event in world.events() if isinstance(event, event_type)]


async def listed(world: World, query: str = "") -> list[int]:
    status, answer, _ = await world.request("GET", f"/v1/messages{query}")
    assert status == 200
    return [entry["messageId"] for entry in answer["messages"]]


def test_after_thirty_days_they_go_and_the_rest_stays(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send(to=FRIEND, subject="Only for you", category="bulk")
            bounced = await world.send(to="refuse-message@example.com")
            before = await world.until_final(message_id)
            await world.until_final(bounced)
            link = unsubscribe_path(world.mx.messages[0].data)
            old = skeletons(directory)
            await trio.sleep(29.5 * DAY)
            assert (await world.message(message_id)) == before
            late = await world.send(to="late@example.com")
            await world.until_final(late)

            await trio.sleep(2 * DAY)
            after = await world.message(message_id)
            assert (after["recipient"], after["subject"], after["status"]) == (None, None, "sent")
            for entry in (*before["timeline"], *after["timeline"]):
                for field in ("mx", "mxAddress", "text", "reply"):
                    entry.pop(field, None)
            assert [entry["type"] for entry in after["timeline"]] == [
                entry["type"] for entry in before["timeline"]
            ]
            assert await listed(world) == [late, bounced, message_id]
            assert await listed(world, f"?recipient={FRIEND}") == []
            assert await listed(world, "?recipient=late@example.com") == [late]
            assert skeletons(directory)[: len(old)] == old

            # Two days, two runs: what was final on the first and what was accepted with it.
            erased = of_type(world, PayloadErased)
            assert {message for event in erased for message in event.message_ids} == {message_id, bounced}
            assert {event.because for event in erased} == {"retention"}
            assert sum(event.payloads for event in of_type(world, LogStripped)) > 4
            for text in (FRIEND, "refuse-message@example.com", "Only for you"):
                assert names_in(directory, text) == []
            assert names_in(directory, "late@example.com") != []

            # The link in the mail works without them, and the suppression has the address again.
            answer = await world.client.post(link, form={"List-Unsubscribe": "One-Click"})
            assert answer.status_code == 200
            _, refused = await world.post_send(to=FRIEND, category="bulk")
            assert refused["accepted"] == []

    run(main)


def test_a_send_whose_recipients_were_all_rejected_goes_by_its_own_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.request("POST", "/v1/suppressions", json={"recipient": FRIEND})
            _, answer = await world.post_send(to=FRIEND, subject="Nobody gets this")
            assert answer["accepted"] == []
            assert names_in(tmp_path / "data", "Nobody gets this") != []
            await trio.sleep(31.5 * DAY)
            assert names_in(tmp_path / "data", "Nobody gets this") == []
            (erased,) = of_type(world, PayloadErased)
            assert (erased.message_ids, len(erased.send_ids)) == ([], 1)
            # The suppression is in force, and keeps what it needs.
            _, answer = await world.post_send(to=FRIEND)
            assert answer["accepted"] == []

    run(main)


def test_what_is_still_needed_waits(tmp_path: Path) -> None:
    """A notification under way quotes the message; a call of the member's URL needs the URL; a queue needs its mail."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="tempfail-9@elsewhere.example")
            waiting = await world.send(to="tempfail-9@example.com")
            await world.until(waiting, "deferred")
            with pytest.raises(Refusal, match="not final"):
                await erase(world, message=waiting)
            answer = await erase(world, recipient="tempfail-9@example.com")
            assert answer["messages"] == 0
            assert answer["kept"][0]["messageId"] == waiting

            bounced = await world.send(to="refuse-message@example.com")
            await world.until_final(bounced)
            with pytest.raises(Refusal, match="notification of its bounce"):
                await erase(world, message=bounced)

            headers = {"List-Unsubscribe": "<https://member.example/off>"}
            called = await world.send(to=FRIEND, category="bulk", headers=headers)
            await world.until_final(called)
            link = unsubscribe_path(next(m.data for m in world.mx.messages if b"To: friend@" in m.data))
            await world.client.post(link, form={"List-Unsubscribe": "One-Click"})
            with pytest.raises(Refusal, match="still to be called"):
                await erase(world, message=called)
            await trio.sleep(2 * DAY)  # given up, all of them
            for message_id in (called, bounced):
                assert (await erase(world, message=message_id))["messages"] == 1
                assert (await erase(world, message=message_id))["messages"] == 0
            with pytest.raises(Refusal, match="no message 1"):
                await erase(world, message=1)

    run(main)


def test_an_order_works_at_once_and_says_what_stays(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            _, answer = await world.post_send(to=[FRIEND, "other@example.com"], subject="For both")
            first, second = [entry["messageId"] for entry in answer["accepted"]]
            upper = await world.send(to="Friend@example.com", subject="Shouted")
            for message_id in (first, second, upper):
                await world.until_final(message_id)
            await world.request("POST", "/v1/suppressions", json={"recipient": FRIEND})
            torn = directory / LOG_DIRECTORY / "torn"
            torn.mkdir()
            (torn / "00000000000000000001-80.bytes").write_bytes(b"...Friend@Example.com...")
            (torn / "00000000000000000001-90.bytes").write_bytes(b"nobody")

            said = await erase(world, recipient=FRIEND)
            assert said["messages"] == 2
            assert said["tornCopies"] == 1
            assert [path.name for path in torn.iterdir()] == ["00000000000000000001-90.bytes"]
            assert said["stillNamed"] == {"recipient.suppressed": 1}
            assert names_in(directory, "Shouted") == []
            # The content of a send is its recipients' together.
            assert (await world.message(first))["recipient"] is None
            assert (await world.message(second))["subject"] == "For both"
            await erase(world, message=second)
            assert (await world.message(second))["subject"] is None
            assert names_in(directory, "other@example.com") == []

            for event in of_type(world, PayloadErased):
                assert (event.did, event.because, event.by) == (DID, "operator", "maria")
                assert event.reason == "ticket 4711"
            with pytest.raises(Refusal, match="must not name an address"):
                await world.command("log_erase", by="maria", reason=f"for {FRIEND}", message=second)
            # In the segment that is written now, and after it was sealed by the order, all goes on.
            assert (await world.until_final(await world.send(to="new@example.com")))["status"] == "sent"

    run(main)


def test_of_a_message_too_it_is_said_where_its_address_still_stands(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await world.send(to=FRIEND), await world.send(to="Friend@example.com")]
            for message_id in ids:
                await world.until_final(message_id)
            await world.request("POST", "/v1/suppressions", json={"recipient": FRIEND})
            said = await erase(world, message=ids[0])
            assert (said["messages"], said["tornCopies"]) == (1, 0)
            assert said["stillNamed"] == {"message.queued": 1, "recipient.suppressed": 1}
            # Nobody knows any more whose it was.
            assert (await erase(world, message=ids[0]))["stillNamed"] is None
            assert (await erase(world, message=ids[1]))["stillNamed"] == {"recipient.suppressed": 1}

    run(main)


def test_an_order_may_mean_one_member(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            mine = await world.send(to=FRIEND)
            own, world.credentials = world.credentials, other
            theirs = await world.send(to=FRIEND, **{"from": f"them@{OTHER_DOMAIN}"})
            await world.until_final(theirs)
            world.credentials = own
            await world.until_final(mine)
            with pytest.raises(Refusal, match="there is no message"):
                await erase(world, message=mine, did=OTHER_DID)
            said = await erase(world, recipient=FRIEND, did=OTHER_DID)
            assert (said["messages"], said["stillNamed"]) == (1, {"message.queued": 1})
            assert (await world.message(mine))["recipient"] == FRIEND
            assert (await erase(world, recipient=FRIEND))["messages"] == 1

    run(main)


def test_a_replay_of_an_erased_send_sends_nothing_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            mail = {"from": f"you@{DOMAIN}", "to": FRIEND, "subject": "Once", "text": "Hi\n"}
            headers = {**world.credentials, "Idempotency-Key": "once"}
            _, answer, _ = await world.request("POST", "/v1/send", json=mail, headers=headers)
            message_id = answer["accepted"][0]["messageId"]
            await world.until_final(message_id)
            await erase(world, message=message_id)
            status, answer, _ = await world.request("POST", "/v1/send", json=mail, headers=headers)
            assert (status, answer["code"]) == (422, "IDEMPOTENCY_CONFLICT")
            assert len(world.mx.messages) == 1

    run(main)


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.until_final(await world.send(to=FRIEND))
            await trio.sleep(3 * DAY)
            last_seq = world.core.store.log.last_seq
            said = await world.command("log_strip", older_than=2, dry_run=True)
            assert (said["messages"], said["segments"]) == (1, [])
            assert world.core.store.log.last_seq == last_seq
            said = await world.command("log_strip", older_than=4)
            assert said["messages"] == 0
            said = await world.command("log_strip", older_than=2)
            assert (said["messages"], len(said["segments"])) == (1, 1)
            assert names_in(tmp_path / "data", FRIEND) == []

    run(main)


def test_what_stays_of_a_payload_cannot_be_tried_out(tmp_path: Path) -> None:
    """Its digest: whoever knows all but the address must not be able to find the address by trying."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await world.send(to=FRIEND, subject="The same") for _ in range(2)]
            for message_id in ids:
                await world.until_final(message_id)
            reader = world.core.store.log.reader
            records = [reader.get(seq) for message_id in ids for seq in (message_id - 1, message_id)]
            assert len({record.payload_sha256 for record in records}) == 4
            for record in records:
                guess = encode(decode(record).event)
                assert guess.skeleton == record.skeleton
                assert hashlib.sha256(guess.payload or b"").digest() != record.payload_sha256

    run(main)


# ------------------------------------------------------------------------------------------------ while a relay runs


def test_mail_is_sent_and_read_while_segments_are_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "MOVED_RECORDS_PER_TRANSACTION", 1)

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await world.send(to=f"friend{number}@example.com") for number in range(20)]
            for message_id in ids:
                await world.until_final(message_id)
            kept = ids[1::2]
            before = [await world.message(message_id) for message_id in kept]
            sent: list[int] = []
            walks = count_walks(world.core.store, monkeypatch)

            async def go_on_reading(task_status: trio.TaskStatus[None]) -> None:
                task_status.started()
                while True:
                    sent.append(await world.send(to="busy@example.com"))
                    assert [await world.message(message_id) for message_id in kept] == before

            async with trio.open_nursery() as nursery:
                await nursery.start(go_on_reading)
                for message_id in ids[::2]:
                    assert (await erase(world, message=message_id))["messages"] == 1
                nursery.cancel_scope.cancel()
            assert len(sent) >= 5
            assert walks == []  # every record was found at its place, and no segment was searched for one
            for message_id in sent[:-1]:
                assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def count_walks(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    walks: list[int] = []
    read = store.log.reader.read

    def counted(from_seq: int, to_seq: int | None = None) -> Any:
        walks.append(from_seq)
        return read(from_seq, to_seq)

    monkeypatch.setattr(store.log.reader, "read", counted)
    return walks


def test_who_reads_by_place_with_an_old_file_open_does_not_find_what_was_removed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            assert world.core.store.get(message_id).event.personal is not None
            await erase(world, message=message_id)
            # The first removed payload has not moved its own record.
            assert world.core.store.get(message_id - 1).event.personal is None
            assert world.core.store.get(message_id).event.personal is None

    run(main)


# ------------------------------------------------------------------------------------------------ broken off


class FailingDisk(RealDisk):
    """Its operation number `fail_at` on a segment that is being rewritten fails, and those after it."""

    def __init__(self) -> None:
        self.fail_at = 0
        self.operations = 0

    def create(self, path: Path) -> int:
        self._count()
        return super().create(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)

    def sync_directory(self, directory: Path) -> None:
        self._count()
        super().sync_directory(directory)

    def _count(self) -> None:
        self.operations += 1
        if self.operations == self.fail_at:
            raise OSError(errno.ENOSPC, "no space left on device")


@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_a_full_disk_is_reported_and_the_rest_is_done_later(
    tmp_path: Path, fail_at: int, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FailingDisk()

    async def main() -> None:
        async with open_world(tmp_path / "data", disk=disk) as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            await world.core.store.log.rotate()
            await trio.sleep(29.9 * DAY)
            disk.operations, disk.fail_at = 0, fail_at
            await trio.sleep(1.01 * DAY)
            assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
                "retention.failed"
            ]
            # For everybody who asks it is gone; the relay is well; an hour later the log has followed.
            assert await listed(world, f"?recipient={FRIEND}") == []
            await trio.sleep(3600)
            assert names_in(tmp_path / "data", FRIEND) == []
            assert len(of_type(world, PayloadErased)) == len(of_type(world, LogStripped)) == 1

    run(main)


def test_who_gives_an_order_on_a_full_disk_is_told_what_is_left(tmp_path: Path) -> None:
    disk = FailingDisk()

    async def main() -> None:
        async with open_world(tmp_path / "data", disk=disk) as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            await world.core.store.log.rotate()
            disk.operations, disk.fail_at = 0, 2
            with pytest.raises(Refusal) as told:
                await erase(world, recipient=FRIEND)
            assert str(tmp_path / "data" / LOG_DIRECTORY) in told.value.message
            assert "`log strip` does the rest" in told.value.message
            assert await listed(world, f"?recipient={FRIEND}") == []
            assert names_in(tmp_path / "data", FRIEND) != []
            assert (await world.command("log_strip"))["messages"] == 0
            assert names_in(tmp_path / "data", FRIEND) == []

    run(main)


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_a_relay_killed_in_the_middle_finishes_at_its_next_start(
    tmp_path: Path, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the rename, when the index was corrected in part."""
    monkeypatch.setattr(fold, "MOVED_RECORDS_PER_TRANSACTION", 1)
    directory, copy = tmp_path / "data", tmp_path / "copy"

    async def main() -> None:
        async with open_world(directory) as world:
            ids = [await world.send(to=f"friend{number}@example.com") for number in range(3)]
            for message_id in ids:
                await world.until_final(message_id)
            move = world.core.store.views.move

            def broken_off(*moved: Any) -> Any:
                for number, piece in enumerate(move(*moved)):
                    if number == pieces:
                        shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("admin.sock"))
                    yield piece

            monkeypatch.setattr(world.core.store.views, "move", broken_off)
            await erase(world, message=ids[0])
        monkeypatch.undo()
        # Whoever looks now, with no relay running, is told what it is.
        told = CliRunner().invoke(cli, ["log", "verify", str(copy)])
        assert "a removal that was interrupted: index has old places of records" in told.output
        assert told.exit_code == 0, told.output
        async with open_world(copy, enrol=False) as again:
            await trio.testing.wait_all_tasks_blocked()
            assert names_in(copy / LOG_DIRECTORY, "friend0@example.com") == []
            assert [again.core.store.get(message_id).seq for message_id in ids] == ids
            assert isinstance(again.events()[-1], LogStripped)
        assert verify(copy / LOG_DIRECTORY, copy / VIEWS_DIRECTORY, PROJECTORS, decode).ok

    run(main)


def test_older_views_that_are_brought_back_learn_where_records_stand_now(tmp_path: Path) -> None:
    """They have seen neither the strip nor its crash, and nobody owes them anything: found by seed 10032."""
    directory, views, older = tmp_path / "data", tmp_path / "data" / VIEWS_DIRECTORY, tmp_path / "older"

    async def main() -> None:
        async with open_world(directory) as world:
            ids = [await world.send(to=f"friend{number}@example.com") for number in range(3)]
            for message_id in ids:
                await world.until_final(message_id)
        shutil.copytree(views, older)
        async with open_world(directory, enrol=False) as world:
            await erase(world, message=ids[0])
        shutil.rmtree(views)
        shutil.copytree(older, views)
        async with open_world(directory, enrol=False) as world:  # which compares its index with a fresh one's
            assert world.core.store.get(ids[1]).event.personal.address == "friend1@example.com"

    run(main)


class FailsOnce(RealDisk):
    """The next sync of a directory fails, once it is told so: what a strip does last."""

    is_told = False

    def sync_directory(self, directory: Path) -> None:
        if self.is_told:
            self.is_told = False
            raise OSError(errno.EIO, "the disk was told to fail", str(directory))
        super().sync_directory(directory)


def test_a_disk_that_fails_in_the_last_step_leaves_an_index_that_is_right(tmp_path: Path) -> None:
    """The new segment has its name by then: found by seed 20510, whose relay stopped in order before the next try."""
    disk = FailsOnce()

    async def main() -> None:
        async with open_world(tmp_path / "data", disk=disk) as world:
            message_id = await world.send(to=FRIEND, text="x" * 300)
            await world.until_final(message_id)
            await world.core.store.log.rotate()
            disk.is_told = True
            with pytest.raises(Refusal, match="told to fail"):
                await erase(world, message=message_id)
            assert not disk.is_told
            assert not of_type(world, LogStripped)

    run(main)


def test_a_relay_that_stops_in_a_strip_leaves_an_index_that_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "MOVED_RECORDS_PER_TRANSACTION", 1)
    stopping = trio.CancelScope()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await world.send(to=f"friend{number}@example.com", text="x" * 300) for number in range(3)]
            for message_id in ids:
                await world.until_final(message_id)
            moves = world.core.store.views.move
            monkeypatch.setattr(
                world.core.store.views, "move", lambda *where: (stopping.cancel(), moves(*where))[1]
            )
            with stopping:
                await erase(world, message=ids[0])
            assert stopping.cancelled_caught
            assert not of_type(world, LogStripped)

    run(main)


def test_every_crash_of_a_strip_leaves_a_log_that_says_the_same(tmp_path: Path) -> None:
    """Power fails after every operation of the disk, from the event to the end, and any part of what was not synced
    survives. The views are lost as well, and are folded from what is there."""
    directory = tmp_path / "data"
    ids: list[int] = []

    async def live() -> None:
        async with open_world(directory) as world:
            for number in range(3):
                ids.append(await world.send(to=f"friend{number}@example.com", text="x" * 300))
                await world.until_final(ids[-1])

    run(live)
    log = directory / LOG_DIRECTORY
    disk = disk_with(log)
    crashes: dict[State, FakeDisk] = {}
    acknowledged: list[Record] = []

    def crash_here() -> None:
        for surviving in surviving_subsets(len(disk.pending)):
            crashed = disk.crash(surviving)
            crashes.setdefault(crashed.state(), crashed)

    async def strip() -> None:
        async with open_core(directory, surroundings(disk)) as core:
            acknowledged.extend(core.store.log.reader.read(1))
            disk.after_operation = crash_here
            await order(core, "log_erase", by="maria", reason="ticket", message=ids[0])
            disk.after_operation = None

    run(strip)
    assert len(crashes) > 40
    stages = {run_again(directory, crashed, acknowledged, ids[0]) for crashed in crashes.values()}
    assert stages == {"before", "owed", "settled"}


def surroundings(disk: Disk) -> Surroundings:
    return Surroundings(clock=virtual_clock, offload=call_here, disk=disk)


def disk_with(log: Path) -> FakeDisk:
    """A fake disk that holds the log's files."""
    disk = FakeDisk()
    place = disk.root
    for part in log.parts[1:]:
        below = Directory()
        place.content[part] = place.durable[part] = below
        place = below
    for path in log.glob("*.seg"):
        data = path.read_bytes()
        place.content[path.name] = place.durable[path.name] = File(bytearray(data), bytearray(data))
    return disk


def run_again(directory: Path, disk: FakeDisk, acknowledged: list[Record], erased_id: int) -> str:
    """Start after the crash, look, let what is owed be done, look again. Says how far the strip had come."""
    log = directory / LOG_DIRECTORY
    shutil.rmtree(directory / VIEWS_DIRECTORY)
    stage = ""

    async def main() -> None:
        nonlocal stage
        async with open_core(directory, surroundings(disk)) as core:
            check_records(list(core.store.log.reader.read(1)), acknowledged, erased_id)
            found = [core.store.get(seq).event for seq in range(1, core.store.log.last_seq + 1)]
            has_event = any(isinstance(event, PayloadErased) for event in found)
            has_end = any(isinstance(event, LogStripped) for event in found)
            assert has_event or not has_end
            stage = "settled" if has_end else "owed" if has_event else "before"
            payloads = [core.store.get(seq).event.personal for seq in (erased_id - 1, erased_id)]
            if stage == "before":
                assert None not in payloads
            await retention.strip(core, 30)
            payloads = [core.store.get(seq).event.personal for seq in (erased_id - 1, erased_id)]
            assert payloads == [None, None] if has_event else None not in payloads
            check_records(list(core.store.log.reader.read(1)), acknowledged, erased_id)
            live = core.store.views.digests()
        fresh = relay_views(directory / "fresh")
        fresh.open()
        with LogReader(log, disk=disk) as reader:
            fresh.catch_up(reader)
        assert fresh.digests() == live
        fresh.close()
        shutil.rmtree(directory / "fresh")

    run(main)
    return stage


def check_records(found: list[Record], acknowledged: list[Record], erased_id: int) -> None:
    assert len(found) >= len(acknowledged)
    for now, then in zip(found, acknowledged, strict=False):
        if now.stripped:
            assert now.payload is None
            now = now._replace(payload=then.payload, stripped=False)
        assert now._replace(segment=0, offset=0) == then._replace(segment=0, offset=0)
        assert then.seq >= erased_id - 1 or not now.stripped


def test_planted_payloads_that_go_before_their_event_are_found(tmp_path: Path) -> None:
    """The order is everything: payloads that go without their event leave views that the log does not give."""

    async def main() -> None:
        async with open_world(tmp_path / "data", stop=False) as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            await world.core.store.log.rotate()
            await retention._strip_segments(world.core, {message_id})
        verdict = verify(
            tmp_path / "data" / LOG_DIRECTORY, tmp_path / "data" / VIEWS_DIRECTORY, PROJECTORS, decode
        )
        assert verdict.log.problems == []
        assert {view.name for view in verdict.views if not view.ok} == {"by_recipient", "recipient_of"}

    run(main)
