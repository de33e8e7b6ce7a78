"""A member's first page says what is wrong, what may be sent, and how the last days went."""

from __future__ import annotations

import re
from pathlib import Path

import trio

from relay.console.days_picture import days_picture
from relay.console.rendering import duration, relative, size
from relay.times import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from relay.views.counting import Traffic
from tests.console.visitor import Visitor
from tests.world.relay import DID, DOMAIN, open_world, run

NOW_US = 1_790_000_000_000_000
WARMING = "\n[warming]\ntiers = [ { until_day = 3, hour = 10, day = 40 }, { hour = 100, day = 400 } ]\n"


def test_what_is_wrong_and_what_is_used_of_the_limits(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=WARMING) as world:
            for recipient in ("friend@example.com", "permfail@example.com"):
                await world.until_final(await world.send(to=recipient))
            visitor = Visitor(world)
            await visitor.sign_in()

            async def text() -> str:
                seen = await visitor.get("/")
                assert seen.status == 200
                return " ".join(re.sub(r"<[^>]*>", " ", seen.html).split())

            told = await text()
            assert "What needs attention" not in told
            assert "✓ active 2 of 10 2 of 40 100 an hour, 400 a day in 3 days" in told
            assert "invalid recipient 1 Nobody has this address: take it off the list." in told
            await trio.sleep(3 * 24 * 3600)
            await visitor.sign_in()
            assert "0 of 100 0 of 400 stays so" in await text()
            await world.command("domain_pause", domain=DOMAIN, did=DID, reason="a look")
            assert "The operator has paused its mail. See why, and what to do." in await text()
            await world.command("member_suspend", did=DID, reason="a look")
            assert "This membership is suspended" in await text()

    run(main)


def test_a_picture_is_to_scale_and_what_there_is_any_of_is_seen() -> None:
    traffic = [Traffic(), Traffic(sent=1000), Traffic(sent=500, bounced={"bad_domain": 500, "": 1})]
    picture = days_picture(traffic, NOW_US)
    empty, most, both = picture.days
    assert (empty.sent_height, empty.bounced_height) == (0, 0)
    assert picture.most == 1001
    assert abs(both.sent_height + both.bounced_height - most.sent_height * 1.001) < 0.2
    assert abs(both.bounced_y + both.bounced_height - both.sent_y) < 0.2
    few = days_picture([Traffic(sent=1), Traffic(sent=100_000)], NOW_US).days[0]
    assert few.sent_height >= 2
    assert [day.name for day in picture.days] == ["19 Sep", "20 Sep", "21 Sep"]


def test_times_and_sizes_are_said_in_their_largest_unit() -> None:
    lengths = (4_000, SECOND_US, 99 * SECOND_US, 100 * SECOND_US, 100 * MINUTE_US, 48 * HOUR_US, 9 * DAY_US)
    assert [duration(each) for each in lengths] == ["4 ms", "1 s", "99 s", "1 min", "1 h", "2 days", "9 days"]
    assert relative(NOW_US - HOUR_US, NOW_US) == "60 min ago"
    assert relative(NOW_US + 3 * DAY_US, NOW_US) == "in 3 days"
    sizes = (0, 999, 1000, 12_345, 3_400_000, 5 * 10**15)
    assert [size(each) for each in sizes] == ["0 B", "999 B", "1.0 KB", "12 KB", "3.4 MB", "5000 TB"]
