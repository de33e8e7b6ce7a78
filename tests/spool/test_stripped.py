"""The progress of stripping is never beyond the log: what a crash cuts comes again, with all its payloads."""

from __future__ import annotations

import pytest

from spool import Log, Received
from spool.errors import LogPoisonedError
from spool.record import CHAIN_START, Entry
from spool.segment import segment_name
from spool.stripped import STRIPPED_NAME, decode_stripped, encode_stripped, read_stripped, write_stripped
from tests.world.agreed import received
from tests.world.batches import make_batch
from tests.world.disk import FakeDisk
from tests.world.spool import DIRECTORY, open_fake, run


def batches(count: int) -> list[Received]:
    made: list[Received] = []
    chain = CHAIN_START
    for number in range(1, count + 1):
        records = make_batch([Entry(b"an event", b"personal")], first_seq=number, previous_chain=chain)
        made.append(received(records, chain))
        chain = records[-1].chain
    return made


def test_what_is_written_is_read() -> None:
    for seq in (0, 1, 2**63):
        assert decode_stripped(encode_stripped(seq)) == seq


@pytest.mark.parametrize("at", range(24))
def test_damage_says_nothing(at: int) -> None:
    data = bytearray(encode_stripped(77))
    data[at] ^= 0x10
    assert decode_stripped(bytes(data)) == 0
    assert decode_stripped(encode_stripped(77)[:at]) == 0
    assert decode_stripped(encode_stripped(77) + b"\0") == 0


async def fill(log: Log) -> None:
    await log.receive(batches(4))
    await log.sync()
    await log.note_stripped(2)
    assert log.stripped_through == 2


def test_it_is_there_at_the_next_start() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk, follows=True) as log:
            assert log.stripped_through == 0
            await fill(log)
        async with open_fake(disk, follows=True) as log:
            assert log.stripped_through == 2

    run(main)


def test_it_goes_back_to_the_end_of_the_log_before_anything_is_received() -> None:
    """At whatever step of the start it is killed: what was cut came with its payloads again."""

    async def main() -> None:
        disk = FakeDisk()
        async with open_fake(disk, follows=True) as log:
            await fill(log)
            await log.receive(batches(8)[4:])
            # It is said of what this machine's disk has not.
            await log.note_stripped(8)
            disk = disk.crash(frozenset())
        assert read_stripped(disk, DIRECTORY) == 8
        step = 0
        while True:
            step += 1
            killed = disk.copy()
            killed.fail_at = killed.operations + step
            try:
                async with open_fake(killed, follows=True) as log:
                    assert log.last_seq == log.stripped_through == 4
                    await log.receive(batches(8)[4:])
                    assert read_stripped(killed, DIRECTORY) == 4
            except (OSError, LogPoisonedError, BaseExceptionGroup):
                pass
            restarted = killed.crash(frozenset())
            async with open_fake(restarted, follows=True) as log:
                # 4, or as far as the log came that received it again and was closed.
                assert log.stripped_through == 4
            if killed.fail_at > killed.operations:
                break
        assert step > 5

    run(main)


def test_a_log_of_one_machine_has_none() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk) as log:
            await log.append([Entry(b"an event", b"personal")])
            assert log.stripped_through == 0
            with pytest.raises(AssertionError, match="a log of one machine"):
                await log.note_stripped(1)
        assert STRIPPED_NAME not in disk.list_names(DIRECTORY)
        assert segment_name(1) in disk.list_names(DIRECTORY)

    run(main)


def test_a_file_that_another_start_left_half_written_changes_nothing() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk, follows=True) as log:
            await fill(log)
        handle = disk.create(DIRECTORY / f"{STRIPPED_NAME}.tmp")
        disk.write(handle, b"half", 0)
        disk.close(handle)
        async with open_fake(disk, follows=True) as log:
            assert log.stripped_through == 2
        write_stripped(disk, DIRECTORY, 3)
        assert read_stripped(disk, DIRECTORY) == 3

    run(main)
