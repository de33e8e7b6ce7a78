"""Unplugging the database for an hour loses nothing, repeats nothing that is not named, and needs nobody's hand when it
is back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from relay.events import AttemptInterrupted, AttemptStarted
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import DOMAIN, run
from tests.world.stream import Stream, open_stream

HOUR_SECONDS = 3600
ROUNDS = 6
#: Sends under way when it happens, at each machine.
UNDER_WAY = 3


def received(machines: Machines) -> Counter[str]:
    return Counter(message.rcpt_to[0] for message in machines.mx.messages)


class Clients:
    """They note what they were told."""

    def __init__(self) -> None:
        #: recipient -> message, of each 200.
        self.told: dict[str, int] = {}
        #: Those to whom no send was answered so.
        self.untold: set[str] = set()

    async def send(self, machine: Machine, to: str) -> None:
        status, answer, headers = await machine.world.request(
            "POST",
            "/v1/send",
            json={"from": f"you@{DOMAIN}", "to": [to], "subject": "s", "text": "t"},
        )
        if status == 200:
            self.told[to] = answer["accepted"][0]["messageId"]
            return
        assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert int({name.lower(): value for name, value in headers.items()}["retry-after"]) > 0
        self.untold.add(to)


async def read_until(stream: Stream, message_ids: set[int]) -> list[Any]:
    """All that comes until these have been sent."""
    seen = []
    while message_ids:
        frame = await stream.next()
        seen.append(frame)
        if frame.get("status") == "sent":
            message_ids.discard(frame["messageId"])
    return seen


@pytest.mark.parametrize("names", [("anna", "bert"), ("anna", "bert", "carl")], ids=len)
def test_an_hour_without_the_database(tmp_path: Path, names: tuple[str, ...]) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, *names, drip_seconds=0.5) as machines:
            clients = Clients()
            first = await machines.until_led()
            for machine in machines.all:
                await clients.send(machine, f"before@{machine.name}.example")
                await clients.send(machine, f"tempfail-1@{machine.name}.example")
            for to, message_id in clients.told.items():
                await first.world.until(message_id, "deferred" if "tempfail" in to else "sent")
            await machines.until_level()
            cursor = first.seq

            # One waits for its dot, and each machine has sends under way.
            await clients.send(first, "at-its-dot@slow.example")
            started = sum(isinstance(event, AttemptStarted) for event in first.world.events())
            await machines.until(
                lambda: sum(isinstance(event, AttemptStarted) for event in first.world.events()) > started
            )
            reader = next(machine for machine in machines.all if machine is not first)
            async with open_stream(reader.world, cursor=cursor) as stream, trio.open_nursery() as nursery:
                for machine in machines.all:
                    for number in range(UNDER_WAY):
                        nursery.start_soon(
                            clients.send, machine, f"under-way-{number}@{machine.name}.example"
                        )
                await trio.lowlevel.checkpoint()
                for machine in machines.all:
                    machine.table.cut_off()
                # Whatever was acknowledged before is out by then, or waits.
                await trio.sleep(60)
                at_first = received(machines)
                for number in range(ROUNDS):
                    await trio.sleep(HOUR_SECONDS / ROUNDS)
                    for machine in machines.all:
                        await clients.send(machine, f"hour-{number}@{machine.name}.example")
                        for to, message_id in clients.told.items():
                            if "under-way" not in to:
                                message = await machine.world.message(message_id)
                                assert message["status"] == "sent" or "before" not in to
                        status, ready, _ = await machine.world.request("GET", "/readyz")
                        assert status == 503 or not ready["accepting"]
                assert not [to for to in clients.told if to.startswith("hour")]
                assert received(machines) == at_first, "nothing is sent meanwhile"
                assert "at-its-dot@slow.example" not in at_first

                # It is back, and nobody does anything.
                for machine in machines.all:
                    machine.table.rejoin()
                with trio.fail_after(60):
                    for machine in machines.all:
                        to = f"after@{machine.name}.example"
                        while to not in clients.told:
                            await trio.sleep(1)  # as a client that is told to come again
                            await clients.send(machine, to)
                after_cursor = {message_id for to, message_id in clients.told.items() if "before" not in to}
                seen = await read_until(stream, after_cursor)
            leader = await machines.until_led()
            for message_id in clients.told.values():
                await leader.world.until(message_id, "sent")
            # All that was told, and nothing twice that is not named.
            interrupted = Counter(
                event.message_id for event in leader.world.events() if isinstance(event, AttemptInterrupted)
            )
            counts = received(machines)
            for to, message_id in clients.told.items():
                assert 1 <= counts[to] <= 1 + interrupted[message_id], to
            for to in clients.untold:
                assert counts[to] <= 1, to
            assert not [to for to in counts if to.startswith("hour")]
            assert counts["at-its-dot@slow.example"] == 1
            assert all(machine.is_up for machine in machines.all)
            await machines.until_level()
            async with open_stream(leader.world, cursor=cursor) as stream:
                assert seen == [await stream.next() for _ in seen], "without gap or repeat"

    run(main)
