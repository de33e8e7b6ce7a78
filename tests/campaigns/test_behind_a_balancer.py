"""Three relays behind a balancer lose any one machine under load, and every mail is delivered once.

Clients know the balancer alone, and repeat with their Idempotency-Keys what was not answered 200. What may be received
twice, the timeline names (`tests.world.checker`, by which `settle` judges).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.campaigns.behind_a_balancer import open_behind_a_balancer
from tests.world.postgres import open_servers

pytestmark = pytest.mark.timeout(600)
ANSWERS = 40


def test_any_machine_is_lost_under_load(tmp_path: Path) -> None:
    async def main() -> None:
        with open_servers() as servers:
            async with open_behind_a_balancer(tmp_path, servers, seed=1) as life:
                for number in range(len(life.nodes.all)):
                    async with life.load():
                        await life.wait_answers(ANSWERS)
                        await trio.to_thread.run_sync(life.lose_machine, number)
                        await life.wait_answers(ANSWERS)
                    await life.recover()
                await life.settle()
                assert life.happened["statuses read"] > 0
                assert life.happened["times that somebody took the lead"] > 1
                assert life.happened["replays, at any node"] > 0

    trio.run(main)
