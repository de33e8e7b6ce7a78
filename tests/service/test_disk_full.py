"""Before the disk is full the relay takes no more mail, goes on delivering what it has, and recovers when there is
room."""

import os
from pathlib import Path

import lmdb
import pytest

from relay.events import MemberAdded
from relay.file_names import LOG_DIRECTORY
from relay.views import relay_views
from spool.disk import RealDisk
from spool.reader import LogReader
from tests.campaigns.crash import can_mount
from tests.campaigns.crash_troubles import small_disk
from tests.world.process import configure
from tests.world.relay import World, make_directory, open_world, run

FREE_BYTES_MIN = 1_000_000


class RoomyDisk(RealDisk):
    """A disk whose free space is what the test says."""

    def __init__(self) -> None:
        self.free = 10 * FREE_BYTES_MIN

    def free_bytes(self, directory: Path) -> int:
        return self.free


async def assert_queue_full(world: World) -> None:
    """A send is refused, says when to come again, and has changed nothing."""
    last_seq = world.core.store.last_seq
    mail = {"from": "you@yourdomain.com", "to": "late@example.com", "subject": "Late", "text": "Hi\n"}
    headers = {**world.credentials, "Idempotency-Key": "late"}
    status, answer, answered = await world.request("POST", "/v1/send", json=mail, headers=headers)
    assert (status, answer["code"]) == (503, "QUEUE_FULL")
    assert int(answered["retry-after"]) > 0
    assert world.core.store.last_seq == last_seq
    # It is no reason for anybody to take the relay out of service: reading back costs no disk.
    status, answer, _ = await world.request("GET", "/readyz")
    assert (status, answer["accepting"], answer["code"]) == (200, False, "QUEUE_FULL")
    assert "full" in answer["reason"]
    assert (await world.request("GET", "/v1/messages"))[0] == 200


async def assert_recovered(world: World) -> None:
    """The very request that was refused is taken now: the refusal has not used up its key."""
    mail = {"from": "you@yourdomain.com", "to": "late@example.com", "subject": "Late", "text": "Hi\n"}
    headers = {**world.credentials, "Idempotency-Key": "late"}
    status, answer, answered = await world.request("POST", "/v1/send", json=mail, headers=headers)
    assert status == 200
    assert "idempotent-replayed" not in answered
    message = await world.until_final(answer["accepted"][0]["messageId"])
    assert message["status"] == "sent"
    status, answer, _ = await world.request("GET", "/readyz")
    assert (status, answer["accepting"], answer["reason"]) == (200, True, None)


def test_a_disk_that_is_almost_full_takes_no_more_but_delivers(tmp_path: Path) -> None:
    disk = RoomyDisk()
    make_directory(tmp_path / "data")
    configure(tmp_path / "data", spool=f"free_bytes_min = {FREE_BYTES_MIN}")

    async def main() -> None:
        async with open_world(tmp_path / "data", disk=disk) as world:
            queued = await world.send(to="tempfail@example.com")
            await world.until(queued, "deferred")
            disk.free = FREE_BYTES_MIN - 1
            await assert_queue_full(world)
            # Its second attempt is made, and recorded, while there is no room for new mail.
            assert (await world.until_final(queued))["status"] == "sent"
            await assert_queue_full(world)
            disk.free = 2 * FREE_BYTES_MIN  # and room for the mail itself
            await assert_recovered(world)

    run(main)


def test_a_log_that_has_grown_to_its_limit_takes_no_more_but_delivers(tmp_path: Path) -> None:
    make_directory(tmp_path / "data")
    configure(tmp_path / "data", spool="bytes_max = 20000")

    async def main() -> None:
        accepted = []
        async with open_world(tmp_path / "data") as world:
            credentials = world.credentials
            for number in range(100):
                status, answer = await world.post_send(to=f"tempfail+{number}@example.com", text="x" * 2000)
                if status != 200:
                    break
                accepted.append(answer["accepted"][0]["messageId"])
            assert 1 < len(accepted) < 10
            for message_id in accepted:
                await world.until(message_id, "deferred")
            await assert_queue_full(world)
            for message_id in accepted:
                message = await world.until_final(message_id)
                assert (message["status"], message["attempts"]) == ("sent", 2)
            await assert_queue_full(world)
        allow(tmp_path / "data", "bytes_max = 20000", "bytes_max = 200000")
        async with open_world(tmp_path / "data", enrol=False) as world:
            world.credentials = credentials
            await assert_recovered(world)

    run(main)


def allow(directory: Path, before: str, after: str) -> None:
    config = directory / "relay.toml"
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("left", "said"),
    [(0, "No space left on device"), (20 * 4096, "Input/output error")],
    ids=["full", "almost full"],
)
def test_views_are_sound_where_the_disk_was_full_to_the_last_byte(
    tmp_path: Path, left: int, said: str
) -> None:
    """LMDB undoes the transaction, also where only half of a write had room: nothing is to be built anew."""
    if not can_mount():
        pytest.skip("only root can mount a small disk")

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.core.store.append(
                [MemberAdded(did=f"did:plc:{number:024}") for number in range(1000)]
            )

    run(main)
    with LogReader(tmp_path / "data" / LOG_DIRECTORY) as reader:
        records = list(reader.read(1))
    with small_disk(tmp_path / "small") as disk:
        views = relay_views(disk / "views")
        views.open()
        views.apply(records[:10])
        filler = os.open(disk / "filler", os.O_CREAT | os.O_WRONLY)
        with pytest.raises(OSError, match="No space left"):
            while True:
                os.write(filler, bytes(4096))
        os.ftruncate(filler, os.fstat(filler).st_size - left)
        os.close(filler)
        with pytest.raises(lmdb.Error, match=said):
            views.apply(records[10:])
        views.close()
        (disk / "filler").unlink()

        views = relay_views(disk / "views")
        views.open()
        assert views.rebuilt_because is None
        assert views.position == 10
        views.apply(records[10:])
        fresh = relay_views(tmp_path / "fresh")
        fresh.open()
        fresh.apply(records)
        assert views.digests() == fresh.digests()
        views.close()
        fresh.close()
