"""Which rows of the table go, and when."""

from __future__ import annotations

from pathlib import Path

import trio

from relay.nodes.tail import LOOK_SECONDS, PART_SECONDS
from spool.errors import TailGoneError
from tests.world.machines import open_machines
from tests.world.relay import run


def test_old_rows_go_and_a_node_that_was_away_for_longer_says_that_it_is_to_be_filled(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl", nodes="tail_hours = 1") as machines:
            leader = await machines.until_led()
            await machines.until_level()
            away = next(machine for machine in machines.all if machine is not leader)
            seq = away.seq
            away.kill()
            await away.until_ended()
            await leader.world.until(await leader.world.send(to="friend@example.com"), "sent")
            await trio.sleep(PART_SECONDS - LOOK_SECONDS)
            assert machines.database.shown.rows[0].first_seq == 1, "nothing is old"
            await trio.sleep(PART_SECONDS + 4 * LOOK_SECONDS)
            assert all(row.first_seq > seq + 1 for row in machines.database.shown.rows)
            # Who has all of them goes on.
            await leader.world.until(await leader.world.send(to="friend@example.com"), "sent")
            await machines.until_level()
            await away.begin()
            await away.until_ended()
            assert isinstance(away.ended_by, TailGoneError)

    run(main)
