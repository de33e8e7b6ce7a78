"""Which rows of the table go, and what becomes of a node that was away."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay.nodes import facts, tail
from tests.world.machines import open_machines
from tests.world.relay import run


def test_old_rows_go_and_a_node_that_was_away_for_longer_says_that_it_is_to_be_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Machines ask the database all the time, so an hour is a minute here.
    monkeypatch.setattr(tail, "PERIOD_SECONDS", 60.0)
    monkeypatch.setattr(tail, "FIRST_SECONDS", 5.0)
    for module in (tail, facts):
        monkeypatch.setattr(module, "HOUR_US", 60_000_000)

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl", nodes="tail_hours = 1") as machines:
            leader = await machines.until_led()
            await machines.until_level()
            away = next(machine for machine in machines.all if machine is not leader)
            seq = away.seq
            away.kill()
            await away.until_ended()
            await leader.world.until(await leader.world.send(to="friend@example.com"), "sent")
            await trio.sleep(50)
            assert machines.database.shown.rows[0].first_seq == 1, "nothing is old"
            await trio.sleep(80)
            assert all(row.first_seq > seq + 1 for row in machines.database.shown.rows)
            page = leader.world.core.metrics_page
            needed = next(
                line
                for line in (await page.text()).splitlines()
                if line.startswith(b"atmos_node_database_bytes ")
            )
            assert float(needed.split()[1]) == leader.node.tail.octets
            assert leader.node.tail.doubts == []
            # A standby lost its settings.
            machines.database.doubts.append("b.example:5432: it is a standby, and its fsync is off")
            await trio.sleep(60)
            assert b"\natmos_node_database_doubts 1.0\n" in await page.text()
            (line,) = {
                vars(each)["because"] for each in caplog.records if each.message == "node.server_doubtful"
            }
            assert line == "b.example:5432: it is a standby, and its fsync is off"
            # Who has all of them goes on.
            await leader.world.until(await leader.world.send(to="friend@example.com"), "sent")
            await machines.until_level()
            # Who was away for too long says so, and answers no member from what it has.
            await away.begin()
            await machines.until(lambda: away.node.trouble is not None)
            assert "node fill DIR --from NAME" in str(away.node.trouble)
            status, answer, _ = await away.world.request("GET", "/readyz")
            assert (status, answer["error"]) == (503, away.node.trouble)
            for path in ("/v1/events", "/console/"):
                assert (await away.world.request("GET", path))[0] == 503
            assert not away.leads

    run(main)
