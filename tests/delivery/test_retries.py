"""What is deferred is tried again on its schedule, until it is sent, bounced or given up (SPEC 2)."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.alarm import ASLEEP_SECONDS_MAX
from relay.decisions.retry import is_given_up, next_attempt_at
from relay.events import AttemptStarted, MessageBounced
from tests.world.relay import EPOCH_US, make_directory, open_world, run, virtual_clock

MINUTE = 60.0


def test_greylisting_ends_in_sent_with_the_same_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="tempfail@example.com")
            deferred = await world.until(message_id, "deferred")
            assert deferred["lastReply"] == {
                "code": 451,
                "enhanced": "4.7.1",
                "text": "Greylisted, try again later",
                "mx": "127.0.0.1",
                "bounceClass": "transient_failure",
            }
            assert deferred["nextAttemptAt"] is not None
            sent = await world.until_final(message_id)
            assert (sent["status"], sent["attempts"]) == ("sent", 2)
            assert sent["lastReply"]["bounceClass"] is None
            replies = [entry["reply"] for entry in sent["timeline"] if "reply" in entry]
            assert [reply["bounceClass"] for reply in replies] == ["transient_failure", None]
            assert [(entry["type"], entry.get("attempt")) for entry in sent["timeline"]] == [
                ("message.queued", None),
                ("attempt.started", 1),
                ("message.deferred", 1),
                ("attempt.started", 2),
                ("message.sent", 2),
            ]

    run(main)


def test_every_attempt_sends_identical_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="defer-message-2@example.com", html="<p>ä</p>")
            sent = await world.until_final(message_id)
            assert sent["status"] == "sent"
            hashes = [entry["sha256"] for entry in sent["timeline"] if "sha256" in entry]
            assert len(hashes) == 3
            assert len(set(hashes)) == 1

    run(main)


def test_the_default_schedule_and_its_end_after_five_days(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="tempfail-99@example.com")
            bounced = await world.until_final(message_id)
            assert bounced["status"] == "bounced"
            assert bounced["timeline"][-1]["reason"] == "expired"
            assert bounced["lastReply"]["bounceClass"] == "transient_failure"
            times = attempt_times(world)
            gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
            expected = [1, 5, 15, 30, 60, 120, 240] + [480] * (len(gaps) - 7)
            for gap, minutes in zip(gaps, expected, strict=True):
                assert 0.9 * minutes * MINUTE <= gap <= 1.1 * minutes * MINUTE
            assert times[-1] - times[0] <= 5 * 24 * 60 * MINUTE
            # The next attempt would have been too late.
            assert times[-1] - times[0] + 1.1 * 480 * MINUTE > 5 * 24 * 60 * MINUTE

    run(main)


@pytest.mark.parametrize(
    ("category", "hours"),
    [("login-link", 1), ("mfa-otp", 1), ("password-reset", 24), ("verification", 24), ("transactional", 120)],
)
def test_a_late_code_is_given_up_early(tmp_path: Path, category: str, hours: int) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="tempfail-99@example.com", category=category)
            await world.until_final(message_id)
            times = attempt_times(world)
            assert times[-1] - times[0] <= hours * 60 * MINUTE
            assert times[-1] - times[0] >= hours * 60 * MINUTE - 1.1 * 480 * MINUTE
            assert isinstance(world.events()[-1], MessageBounced)

    run(main)


def test_a_code_whose_time_passed_while_the_relay_was_down_is_not_sent_late(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", mute=True, stop=False) as world:
            message_id = await world.send(category="login-link")
            credentials = world.credentials
        await trio.sleep(2 * 60 * MINUTE)
        async with open_world(tmp_path / "data", enrol=False) as world:
            world.credentials = credentials
            bounced = await world.until_final(message_id)
            assert bounced["status"] == "bounced"
            assert bounced["lastReply"]["bounceClass"] == "message_expired"
            assert world.mx.messages == []

    run(main)


@pytest.mark.parametrize(
    ("recipient", "code", "bounce_class"),
    [
        ("permfail", 550, "invalid_recipient"),
        ("refuse-message", 554, "content_related"),
        ("refuse-early", 552, "quota_issues"),
    ],
)
def test_a_5xx_bounces_at_once(tmp_path: Path, recipient: str, code: int, bounce_class: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to=f"{recipient}@example.com")
            bounced = await world.until_final(message_id)
            assert bounced["status"] == "bounced"
            assert bounced["attempts"] == 1
            assert bounced["lastReply"]["code"] == code
            assert bounced["lastReply"]["bounceClass"] == bounce_class
            assert bounced["timeline"][-1]["reason"] == "rejected"

    run(main)


@pytest.mark.parametrize(
    ("options", "fields", "enhanced", "bounce_class"),
    [
        ({"smtputf8": False}, {"to": "jörg@example.com"}, "5.6.7", "protocol_errors"),
        ({"size_max": 100}, {}, "5.3.4", "quota_issues"),
    ],
)
def test_what_can_never_work_bounces_at_once(
    tmp_path: Path, options: dict[str, Any], fields: dict[str, Any], enhanced: str, bounce_class: str
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", **options) as world:
            bounced = await world.until_final(await world.send(**fields))
            assert bounced["status"] == "bounced"
            assert bounced["lastReply"]["enhanced"] == enhanced
            assert bounced["lastReply"]["bounceClass"] == bounce_class
            assert bounced["timeline"][-1]["reason"] == "undeliverable"
            assert world.mx.messages == []

    run(main)


@pytest.mark.parametrize(
    "recipient",
    [
        "garbage",
        "hang",
        "reset",
        "disconnect-in-data",
        "disconnect-after-dot",
        "421",
        "toomany",
        "full",
        "slow",
    ],
)
def test_a_receiver_that_misbehaves_costs_one_event_and_a_retry(tmp_path: Path, recipient: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to=f"{recipient}-1@example.com")
            after = await world.send(to="friend@example.com")
            message = await world.until_final(message_id)
            assert message["status"] == "sent"
            outcomes = [entry for entry in message["timeline"] if entry["type"] == "message.deferred"]
            assert len(outcomes) == (0 if recipient == "slow" else 1)
            assert (await world.until_final(after))["attempts"] == 1

    run(main)


def test_the_smoke_sink_is_accepted_and_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message = await world.until_final(await world.send(to="smoke-sink@relay.example"))
            assert message["status"] == "sent"
            assert world.mx.sessions == 0

    run(main)


def attempt_times(world: Any) -> list[float]:
    """When each attempt was started, in seconds since the virtual clock's start."""
    store = world.core.store
    found = [store.get(seq) for seq in range(1, store.last_seq + 1)]
    return [(item.time_us - EPOCH_US) / 1e6 for item in found if isinstance(item.event, AttemptStarted)]


def test_jitter_stays_within_ten_percent() -> None:
    assert next_attempt_at([60], 1, 0, 0.0) == 54_000_000
    assert next_attempt_at([60], 1, 0, 0.5) == 60_000_000
    assert next_attempt_at([60, 300], 7, 10, 0.5) == 300_000_010
    assert not is_given_up(5, 5)
    assert is_given_up(6, 5)


def test_a_wall_clock_that_jumps_ahead_makes_nothing_late(tmp_path: Path) -> None:
    """A machine that was suspended for two hours: the clock by which the relay sleeps has not moved meanwhile."""
    suspended_us = 0

    def wall_clock() -> int:
        return virtual_clock() + suspended_us

    async def main() -> None:
        nonlocal suspended_us
        config = make_directory(tmp_path / "data") / "relay.toml"
        config.write_text(config.read_text().replace("\n[retry]\n", "\n[retry]\ndelays_seconds = [7200]\n"))
        async with open_world(tmp_path / "data", clock=wall_clock) as world:
            message_id = await world.send(to="tempfail@example.com")
            await world.until(message_id, "deferred")
            await trio.sleep(100)
            suspended_us = 2 * 7200 * 1_000_000
            before = trio.current_time()
            assert (await world.until_final(message_id))["status"] == "sent"
            assert trio.current_time() - before <= ASLEEP_SECONDS_MAX

    run(main)
