"""Reports pause domains and alarm the operator as bounces and complaints at once do; and policies tried on the log
mind them."""

import logging
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.events import DomainPaused, MessageBounceReported
from relay.past.simulation import POLICY_PROJECTORS, simulate
from spool.views.scratch import open_scratch
from tests.api.test_metrics import scrape
from tests.world.inbound_log import GONE
from tests.world.policies import DOMAINS, STRICT, Draft, policy, simulated
from tests.world.relay import DID, World, open_world, run
from tests.world.reporting import complain, report

SMALL = "\n[reputation]\nmessages_min = 4\nbounces_min = 3\ncomplaints_min = 2\n"


async def sent(world: World, count: int) -> list[int]:
    ids = [await world.send(to=f"friend+{number}@example.com") for number in range(count)]
    for message_id in ids:
        await world.until_final(message_id)
    return ids


async def pauses(world: World) -> list[DomainPaused]:
    await wait_all_tasks_blocked()
    return [event for event in world.events() if isinstance(event, DomainPaused)]


def test_bounces_that_come_later_pause_the_bulk_class(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=SMALL) as world:
            ids = await sent(world, 6)
            for message_id in ids[:2]:
                await report(world, message_id, raw=b"%d" % message_id)
            # The same bounce said in another mail, and what does not count.
            await report(world, ids[0], raw=b"once more")
            await report(world, ids[3], msgspec.structs.replace(GONE, kind="heuristic"))
            assert await pauses(world) == []
            await report(world, ids[2])
            (pause,) = await pauses(world)
            assert (pause.status, pause.stops) == ("paused_bounce_rate", "bulk")
            assert pause.evidence is not None
            assert (pause.evidence.final, pause.evidence.bounced) == (6, 3)

    run(main)


def test_bounces_pause_that_come_after_the_window_in_which_the_mail_went_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=SMALL) as world:
            ids = await sent(world, 6)
            await trio.sleep(2 * 86400)
            for message_id in ids:
                await report(world, message_id, raw=b"%d" % message_id)
            (pause,) = await pauses(world)
            assert pause.evidence is not None
            assert (pause.status, pause.evidence.final) == ("paused_bounce_rate", 0)
            # Of all that went out all bounced.
            _, shown, _ = await world.request("GET", "/member/deliverability")
            assert (shown["sent_14d"], shown["bounced_14d"], shown["bounce_rate"]) == (6, 6, 1.0)

    run(main)


def test_complaints_pause_only_where_they_are_authenticated(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=SMALL) as world:
            ids = await sent(world, 5)
            for message_id in ids:
                await complain(world, message_id)
            assert await pauses(world) == []
            await complain(world, ids[0], provider="yahoo.com", raw=b"1")
            await complain(world, ids[0], provider="outlook.com", raw=b"2")
            assert await pauses(world) == []
            await complain(world, ids[1], provider="yahoo.com", raw=b"3")
            (pause,) = await pauses(world)
            assert (pause.status, pause.stops) == ("paused_complaint_rate", "all")

    run(main)


def test_what_a_report_tells_of_the_relay_alarms_the_operator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = msgspec.structs.replace(GONE, bounce_class="spam_block", enhanced="5.7.1")

    async def main() -> None:
        async with open_world(tmp_path / "data", settings=SMALL) as world:
            ids = await sent(world, 5)
            await report(world, ids[0], msgspec.structs.replace(listed, kind="heuristic"))
            assert not [item for item in caplog.records if item.message == "reputation.relay_refused"]
            for message_id in ids:
                await report(world, message_id, listed, raw=b"%d" % message_id)
            assert await pauses(world) == []
            assert (await scrape(world))["atmos_relay_refused_total{bounce_class=spam_block}"] == 5
        (alarm,) = [item for item in caplog.records if item.message == "reputation.relay_refused"]
        assert (alarm.levelno, vars(alarm)["bounce_class"]) == (logging.WARNING, "spam_block")

    run(main)


def test_a_policy_that_is_tried_on_the_log_judges_by_reports() -> None:
    draft = Draft()
    ids = [draft.send() + 1 for _ in range(4)]
    for message_id in ids:
        draft.after(1).fares(message_id, "sent")
    for number, message_id in enumerate(ids[:2]):
        draft.after(1).add(
            MessageBounceReported(
                did=DID,
                message_id=message_id,
                kind="dsn",
                bounce_class="invalid_recipient",
                enhanced="5.1.1",
                is_failure=True,
                sha256=f"{number:064x}",
                size=1,
            )
        )
    (pause,) = simulated(draft.log, policy(reputation=STRICT)).pauses
    assert (pause.domain, pause.status, pause.seq) == (DOMAINS[0], "paused_bounce_rate", len(draft.log))
    assert (pause.evidence.final, pause.evidence.bounced) == (4, 2)
    # Of a send that this policy refuses nothing is reported either.
    with open_scratch(POLICY_PROJECTORS) as tables:
        strict = policy(reputation=STRICT, verified=True)
        found = simulate(draft.log, strict, tables)
    assert (len(found.refused), found.pauses) == (4, [])
