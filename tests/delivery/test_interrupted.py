"""An attempt that was cut short between the dot and its outcome is named, and repeated with identical bytes."""

from pathlib import Path

from trio.testing import wait_all_tasks_blocked

from tests.world.directories import copy_of
from tests.world.relay import assert_views_are_the_log, open_world, run


def test_grace_over_after_the_dot_is_an_interrupted_attempt(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            credentials = world.credentials
            message_id = await world.send(to="hang-after-dot-1@example.com")
            await wait_all_tasks_blocked()  # the receiver has the whole message, and never says so
        async with open_world(tmp_path / "data", enrol=False) as world:
            world.credentials = credentials
            message = await world.message(message_id)
            assert message["status"] == "queued"
            assert [entry["type"] for entry in message["timeline"]] == [
                "message.queued",
                "attempt.started",
                "attempt.interrupted",
            ]
            sent = await world.until_final(message_id)
            # The new receiver does it once more, so that there is a second attempt to compare.
            assert (sent["status"], sent["attempts"]) == ("sent", 3)
            # Tried again after that attempt's ordinary delay, not at once.
            assert sent["timeline"][3]["time"] >= sent["timeline"][2]["nextAttemptAt"]
            assert len({entry["sha256"] for entry in sent["timeline"] if "sha256" in entry}) == 1

    run(main)


def test_grace_over_before_the_dot_is_a_deferral_because_nothing_was_delivered(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="hang@example.com")
            await wait_all_tasks_blocked()
            assert world.mx.commands[-1] == "RCPT"
            await world.relay.stop()
            message = await world.message(message_id)
            assert message["status"] == "deferred"
            assert message["lastReply"]["code"] is None

    run(main)


def test_a_start_without_an_outcome_is_named_at_the_next_start(tmp_path: Path) -> None:
    """What kill -9 leaves; here, a copy of the directory of a relay that waits for its receiver."""

    async def main() -> None:
        async with open_world(tmp_path / "data", mute=True) as world:
            credentials = world.credentials
            message_id = await world.send()
            await wait_all_tasks_blocked()
            assert (await world.message(message_id))["timeline"][-1]["type"] == "attempt.started"
            copy_of(tmp_path / "data", tmp_path / "killed")
        async with open_world(tmp_path / "killed", enrol=False) as world:
            world.credentials = credentials
            sent = await world.until_final(message_id)
            assert [entry["type"] for entry in sent["timeline"]] == [
                "message.queued",
                "attempt.started",
                "attempt.interrupted",
                "attempt.started",
                "message.sent",
            ]
            assert_views_are_the_log(world.relay, tmp_path / "killed")

    run(main)
