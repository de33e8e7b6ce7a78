"""The operator's page of mailbox providers: what `providers` answers, and what `provider record` takes."""

from __future__ import annotations

import re
from pathlib import Path

from relay.events import ProviderReported
from tests.console.operator_visitor import at_the_console
from tests.world.relay import open_world, run

PAGE = "/providers/google"


def test_what_a_provider_says_is_written_down_and_judged(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, at_the_console(world) as operator:
            await world.until_final(await world.send())
            (name,) = set(re.findall(r'href="/providers/(\w+)"', (await operator.get("/providers")).html))
            counted = await operator.get(f"/providers/{name}")
            assert "1 sent and 0 bounced" in counted.html
            assert "Write down" not in counted.html, "nobody speaks for the others"
            empty = await operator.get(PAGE)
            assert (empty.status, "There was no mail to it" in empty.html) == (200, True)
            assert (await operator.get("/providers/nobody")).status == 404

            day = "2026-09-21"
            said = {
                "domain": "relay.example",
                "date": day,
                "spam_rate": "0,35",
                "compliance": "dmarc = met\n",
            }
            done = await operator.post(PAGE, said)
            assert (done.status, done.location) == (303, f"{PAGE}?done=recorded")
            (event,) = [event for event in world.events() if isinstance(event, ProviderReported)]
            assert (round(event.spam_rate or 0, 6), event.compliance) == (0.0035, {"dmarc": "met"})
            assert event.by.startswith("console:")
            shown = await operator.get(PAGE)
            assert "0.35 %" in shown.html
            assert "dmarc: met" in shown.html
            assert "1 not met" in (await operator.get("/providers")).html
            for wrong in (
                {"date": "soon"},
                {"spam_rate": "much"},
                {"spam_rate": "nan"},
                {"compliance": "dmarc"},
            ):
                refused = await operator.post(PAGE, {**said, **wrong})
                assert (refused.status, 'value="relay.example"' in refused.html) == (400, True), wrong

    run(main)
