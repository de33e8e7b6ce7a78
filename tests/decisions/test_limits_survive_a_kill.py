"""A limit of ten, a hundred requests at once, kill -9 in the middle: never more than ten, and in the end exactly ten.

Real processes, several rounds, each on a directory of its own; the kill comes after so many answers were read.
"""

from pathlib import Path

import pytest
import trio

from relay.codec import decode
from relay.events import SendAccepted
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.world.http import NoAnswerError, open_http
from tests.world.mx import open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess
from tests.world.relay import make_directory

LIMIT = 10
TIERS = f"\n[warming]\ntiers = [ {{ hour = {LIMIT}, day = 1000 }} ]\n"


@pytest.mark.parametrize("answers", [1, 3, 9])
def test_exactly_ten(tmp_path: Path, answers: int) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            directory = make_directory(tmp_path / "data", TIERS, route=mx.address)
            relay = RelayProcess(directory)
            credentials = relay.enrol()
            told = 0
            with relay.running(), trio.fail_after(PATIENCE_SECONDS):

                async def client(number: int, *, kill: bool) -> None:
                    nonlocal told
                    try:
                        async with open_http(relay.address) as http:
                            answer = await http.post_send(credentials, to=f"friend{number}@example.com")
                    except (NoAnswerError, OSError):
                        assert not relay.is_running
                        return
                    assert answer.status in (200, 429)
                    told += answer.status == 200
                    if kill and told == answers and relay.is_running:
                        relay.kill()

                for kill in (True, False):
                    async with trio.open_nursery() as nursery:
                        for number in range(100):
                            nursery.start_soon(lambda number=number, kill=kill: client(number, kill=kill))
                    if kill:
                        await trio.to_thread.run_sync(relay.start)
                assert await trio.to_thread.run_sync(relay.stop) == 0
            accepted = [decode(record).event for record in LogReader(directory / LOG_DIRECTORY).read(1)]
            assert sum(event.recipients for event in accepted if isinstance(event, SendAccepted)) == LIMIT
            assert answers <= told <= LIMIT

    trio.run(main)
