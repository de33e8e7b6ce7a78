"""Two and three machines: one leads, and when it is gone another one does."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.world.machines import open_machines
from tests.world.relay import run


def test_one_of_two_leads_and_mail_goes_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            message_id = await leader.world.send(to="friend@example.com")
            await leader.world.until(message_id, "sent")
            await machines.until_level()
            assert len(machines.mx.messages) == 1
            assert sum(machine.leads for machine in machines.all) == 1
            assert sum(machine.acts for machine in machines.all) == 1

    run(main)
