"""Personal data that the operator has removed, in this process or by the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from relay.codec import decode
from relay.events import Event
from relay.file_names import LOG_DIRECTORY
from spool import LogReader
from tests.world.http import open_http
from tests.world.mx import open_mx
from tests.world.process import RelayProcess, make_process_directory
from tests.world.relay import World

FRIEND = "friend@example.com"


async def erase(world: World, **what: Any) -> Any:
    return await world.command("log_erase", by="maria", reason="ticket 4711", **what)


def relay_with_mail(tmp_path: Path, then: Callable[[RelayProcess, list[int]], None], count: int = 4) -> None:
    """A relay that has delivered so many mails, one of them to FRIEND, and runs while `then` is called in a thread."""

    async def main() -> None:
        async with open_mx() as mx:
            relay = RelayProcess(make_process_directory(tmp_path / "data", route=mx.address))
            credentials = relay.enrol()
            with relay.running():
                ids = []
                async with open_http(relay.address) as http:
                    for number in range(count):
                        to = FRIEND if number == 0 else f"friend{number}@example.com"
                        answer = await http.post_send(credentials, to=to, text=f"Dear {to}, " + "x" * 5000)
                        ids.append(answer.json()["accepted"][0]["messageId"])
                await trio.to_thread.run_sync(wait_final, relay, count)
                await trio.to_thread.run_sync(then, relay, ids)
            assert mx.violations == []

    trio.run(main)


def wait_final(relay: RelayProcess, count: int) -> None:
    relay.wait_until(
        lambda: sum(event.TYPE == "message.sent" for event in events(relay)) == count, "delivers them"
    )


def events(relay: RelayProcess) -> list[Event]:
    with LogReader(relay.directory / LOG_DIRECTORY) as reader:
        return [decode(record).event for record in reader.read(1)]
