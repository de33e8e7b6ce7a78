"""A disk that does not answer: a send is answered within 8 s all the same, and nothing is said that may not be true."""

from pathlib import Path

import trio
import trio.testing

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
