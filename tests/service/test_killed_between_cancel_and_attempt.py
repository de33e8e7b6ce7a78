"""kill -9 while mail waits for its time, and between an order to cancel it and its attempt: what was said holds.

Mails are scheduled for a moment that is near; when it comes, their member cancels them, all at once. The relay is
killed at one of the changes of the disk that this makes, or those attempts that came before it; every other round
besides while it only waits. Who heard nothing asks again, until there is an answer. In the end:

- what was cancelled (200) no receiver has, and what could not be (409) one has;
- each has one outcome; nothing was begun before its time; what a receiver got twice was interrupted.

For a campaign: `KILL_ROUNDS=100 KILL_SEED=7 python -m pytest tests/service/test_killed_between_cancel_and_attempt.py`.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
import trio

from relay.codec import Recorded, decode
from relay.events import AttemptInterrupted, AttemptStarted, MessageBounced, MessageQueued, MessageSent
from relay.file_names import LOG_DIRECTORY
from relay.times import SECOND_US, rfc3339
from spool.reader import LogReader
from tests.world.http import NoAnswerError, open_http
from tests.world.mx import open_mx
from tests.world.process import RelayProcess, configure, make_process_directory

ROUNDS = int(os.environ.get("KILL_ROUNDS", "4"))
SEED = int(os.environ.get("KILL_SEED", "1"))
MAILS = 8
AHEAD_SECONDS = 1.2
#: On however slow a machine. All are cancelled by then.
GOOD_TIME_SECONDS = 600
#: A cancel or an attempt changes the disk so often, more or less.
CHANGES_MAX = 12
ROUND_SECONDS_MAX = 60


# Its own limit ends it before, with more to say.
@pytest.mark.timeout(ROUND_SECONDS_MAX * (ROUNDS + 5))
def test_what_was_said_of_it_holds(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    said: dict[int, int] = {}
    killed = 0

    async def main() -> None:
        nonlocal killed
        async with open_mx() as mx:
            directory = make_process_directory(tmp_path / "data", route=mx.address)
            configure(directory, retry="delays_seconds = [1]", members="writes_per_minute = 1000000")
            die = tmp_path / "die"
            relay = RelayProcess(directory, command=["-m", "tests.world.sabotage", "die", str(die)])
            credentials = relay.enrol()
            with relay.running(), trio.fail_after(ROUND_SECONDS_MAX * (ROUNDS + 3)):
                for round_ in range(ROUNDS):
                    # The first in good time.
                    ahead = AHEAD_SECONDS if round_ else GOOD_TIME_SECONDS
                    at_us = time.time_ns() // 1000 + round(ahead * SECOND_US)
                    ids = await scheduled(relay, credentials, at_us)
                    if round_ % 2:
                        relay.kill()
                        await trio.to_thread.run_sync(relay.start)
                    before = dice.choice((0.15, 0.02, 0)) if round_ else ahead
                    await trio.sleep(max(0.0, at_us / 1e6 - time.time() - before))
                    arm(die, dice.randint(1, CHANGES_MAX))
                    async with trio.open_nursery() as nursery:
                        for message_id in ids:
                            nursery.start_soon(cancel, relay, credentials, message_id, die, said)
                        killed += await trio.to_thread.run_sync(started_again, relay, die, said, ids)
                await until_all_are_final(relay, credentials, said)
                assert await trio.to_thread.run_sync(relay.stop) == 0
                await trio.to_thread.run_sync(relay.command, "log", "verify", "--json")
            assert mx.violations == []
            check(directory, said, Counter(_id_of(message.mail_from) for message in mx.messages))

    trio.run(main)
    # Or nothing was tried.
    assert killed >= ROUNDS // 3
    assert 200 in said.values()


async def scheduled(relay: RelayProcess, credentials: dict[str, str], at_us: int) -> list[int]:
    async with open_http(relay.address) as http:
        answer = await http.post_send(
            credentials, to=[f"friend{n}@example.com" for n in range(MAILS)], scheduledAt=rfc3339(at_us)
        )
    assert answer.status == 200, answer
    return [accepted["messageId"] for accepted in answer.json()["accepted"]]


async def cancel(
    relay: RelayProcess, credentials: dict[str, str], message_id: int, die: Path, said: dict[int, int]
) -> None:
    """Until there is an answer."""
    while message_id not in said:
        try:
            async with open_http(relay.address) as http:
                answer = await http.request("POST", f"/v1/messages/{message_id}/cancel", credentials)
        except (NoAnswerError, OSError, trio.BrokenResourceError):
            await trio.sleep(0.02)
            continue
        if answer.status in (200, 409):
            said[message_id] = answer.status
        else:
            assert answer.status == 503, answer
            await trio.sleep(0.02)


def started_again(relay: RelayProcess, die: Path, said: dict[int, int], ids: list[int]) -> bool:
    """Whether it died before all was said. It runs again."""
    relay.wait_until(lambda: not relay.is_running or said.keys() >= set(ids), "is dead, or has said all")
    die.unlink(missing_ok=True)
    died = not relay.is_running
    relay.kill()  # also where it has not died yet: it counts on
    relay.start()
    return died


def arm(die: Path, changes: int) -> None:
    beside = die.with_name("die.new")
    beside.write_text(str(changes))
    beside.rename(die)


async def until_all_are_final(relay: RelayProcess, credentials: dict[str, str], said: dict[int, int]) -> None:
    waiting = set(said)
    async with open_http(relay.address) as http:
        while waiting:
            for message_id in sorted(waiting):
                message = (await http.request("GET", f"/v1/messages/{message_id}", credentials)).json()
                if message["status"] in ("sent", "bounced"):
                    waiting.remove(message_id)
            await trio.sleep(0.05)


def check(directory: Path, said: dict[int, int], received: Counter[int]) -> None:
    with LogReader(directory / LOG_DIRECTORY) as reader:
        records: list[Recorded] = [decode(record) for record in reader.read(1)]
    time_of = {
        item.seq: item.event.next_attempt_at for item in records if isinstance(item.event, MessageQueued)
    }
    assert set(time_of) == set(said)
    outcomes: Counter[int] = Counter()
    cancelled, interrupted = set(), set()
    for item in records:
        match item.event:
            case AttemptStarted(message_id=message_id):
                assert item.time_us >= time_of[message_id], "it was tried before its time"
                assert message_id not in cancelled
            case AttemptInterrupted(message_id=message_id):
                interrupted.add(message_id)
            case MessageSent(message_id=message_id):
                outcomes[message_id] += 1
            case MessageBounced(message_id=message_id, reason="cancelled"):
                outcomes[message_id] += 1
                cancelled.add(message_id)
            case _:
                pass
    assert outcomes == Counter(list(said))
    assert cancelled == {message_id for message_id, status in said.items() if status == 200}
    assert set(received) == {message_id for message_id, status in said.items() if status == 409}
    assert {message_id for message_id, count in received.items() if count > 1} <= interrupted


def _id_of(mail_from: str) -> int:
    return int(mail_from.partition("+")[2].partition("-")[0])
