"""A disk that does not answer: a send is answered within 8 s all the same, and nothing is said that may not be true."""

from pathlib import Path

import trio
import trio.testing

from relay.events import RecipientSuppressed, ViewsRebuilt
from tests.world.gate import Gate
from tests.world.relay import open_world, run


def test_a_send_is_answered_although_the_disk_hangs(tmp_path: Path) -> None:
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            gate.shut()
            answers: list[tuple[int, str]] = []

            async def send(number: int) -> None:
                started = trio.current_time()
                status, answer = await world.post_send(to=f"friend{number}@example.com")
                assert trio.current_time() - started < 8
                answers.append((status, answer["code"]))

            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(send, number)
                    await trio.testing.wait_all_tasks_blocked()
            assert answers == [(503, "TEMPORARILY_UNAVAILABLE")] * 3
            gate.open()
            # The first had reached the log's writer: it may be, and here is, delivered. The others were never written.
            await world.mx.wait_messages(1)
            _, page, _ = await world.request("GET", "/v1/messages")
            assert [message["recipient"] for message in page["messages"]] == ["friend0@example.com"]

    run(main)


def test_hundreds_of_sends_may_wait_for_the_disk_at_once(tmp_path: Path) -> None:
    """More than LMDB's table of readers has places: who waits for the log must not hold a snapshot of the views."""
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            gate.shut()
            statuses: list[int] = []

            async def send(number: int) -> None:
                status, _ = await world.post_send(to=f"friend{number}@example.com")
                statuses.append(status)

            async with trio.open_nursery() as nursery:
                for number in range(300):
                    nursery.start_soon(send, number)
                await trio.testing.wait_all_tasks_blocked()
                gate.open()
            assert statuses == [200] * 300

    run(main)


def test_a_decision_waits_for_the_one_before_it_that_was_given_up(tmp_path: Path) -> None:
    """Found by the simulated world, seed 20485: it did not see what was on its way, and made the same true again."""
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:

            async def suppress() -> int:
                body = {"recipient": "friend@example.com"}
                status, _, _ = await world.request("POST", "/v1/suppressions", json=body)
                return int(status)

            statuses: list[int] = []

            async def suppress_again() -> None:
                statuses.append(await suppress())

            gate.shut()
            with trio.fail_after(20):
                # Neither the one that is on its way nor the one behind it waits for ever.
                assert [await suppress(), await suppress()] == [503, 503]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(suppress_again)
                await trio.testing.wait_all_tasks_blocked()
                gate.open()
            assert statuses[0] in (200, 201)
            assert sum(isinstance(event, RecipientSuppressed) for event in world.events()) == 1

    run(main)


def test_an_impatient_decision_does_not_wait_for_the_writer_for_ever(tmp_path: Path) -> None:
    gate = Gate()

    async def main() -> None:
        async with (
            open_world(tmp_path / "data", offload=gate.offload) as world,
            trio.open_nursery() as nursery,
        ):
            gate.shut()
            nursery.start_soon(world.core.store.append, [ViewsRebuilt(because="somebody patient")])
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(8):
                body = {"recipient": "friend@example.com"}
                status, _, _ = await world.request("POST", "/v1/suppressions", json=body)
            assert status == 503
            gate.open()
            await world.send()
            # It was told that it would not come true.
            assert not any(isinstance(event, RecipientSuppressed) for event in world.events())

    run(main)
