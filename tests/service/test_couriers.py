"""Couriers as real processes, killed and stopped: their attempts are named at once, others go on, all mail arrives."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from relay.codec import Recorded, decode
from relay.couriers.host import SILENT_SECONDS_MAX
from relay.events import AttemptInterrupted, AttemptStarted, MessageSent
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.world.http import open_http
from tests.world.mx import Mx, open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, make_process_directory

#: Receivers, each a site of its own, and the attempts that each bears at first.
RECEIVERS = 10
#: What the recipients of one receiver are called: nothing is said to the dot of their first attempt, or to RCPT.
SLOW = ("hang-after-dot-1+a", "hang-after-dot-1+b", "hang-after-dot-1+c", "hang-1+d", "hang-1+e")
UNDER_WAY = RECEIVERS * len(SLOW)
BEHIND_THE_DOT = RECEIVERS * 3
#: From the death of a courier, on a machine that has much else to do. What it had under way would hang for minutes.
SECONDS_MAX = 60.0
#: The relay's own command, but that a courier may be silent for so long: there is time for what goes past it.
SILENT_SECONDS = 20.0
PATIENT = f"""
from relay.processes.keeper import Times, keep
keep.__wrapped__.__kwdefaults__["times"] = Times(silent={SILENT_SECONDS})
from tools.cli import main
main()
"""


class Scene:
    """A relay with couriers, and receivers on loopback."""

    def __init__(self, directory: Path, receivers: list[Mx], command: Sequence[str]) -> None:
        self.directory = directory
        self.relay = RelayProcess(directory, command=command)
        self.credentials = self.relay.enrol()
        self.receivers = receivers
        #: How often each message came whole, whatever was answered.
        self.arrived: Counter[bytes] = Counter()
        for mx in receivers:
            mx.arrived = lambda message, word: self.arrived.update([message.data])  # type: ignore[method-assign]

    async def send(self, names: tuple[str, ...] = SLOW, **fields: object) -> None:
        to = [f"{name}@receiver{number}.example" for number in range(len(self.receivers)) for name in names]
        async with open_http(self.relay.address) as http:
            for at in range(0, len(to), 25):
                answer = await http.post_send(
                    self.credentials, to=to[at : at + 25], category="transactional", **fields
                )
                assert answer.status == 200, answer

    def events(self, of: type) -> list[Recorded]:
        with LogReader(self.directory / LOG_DIRECTORY) as reader:
            recorded = [decode(record) for record in reader.read(1)]
        return [item for item in recorded if isinstance(item.event, of)]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        await trio.to_thread.run_sync(self.relay.wait_until, condition, what)

    async def until_sent(self, count: int) -> None:
        await self.until(lambda: len(self.events(MessageSent)) == count, f"{count} are sent")

    async def until_all_hang(self) -> None:
        """50 attempts are started, and 30 of them are behind their dot."""
        await self.until(lambda: len(self.events(AttemptStarted)) == UNDER_WAY, "all are started")
        await self.until(lambda: self.arrived.total() == BEHIND_THE_DOT, "30 are behind the dot")

    def couriers(self) -> list[int]:
        """Process ids of those that are ready, by their names."""
        ready = {line["worker"]: line["pid"] for line in self.relay.log_lines("worker.ready")}
        dead = {line["pid"] for line in self.relay.log_lines("worker.ended")}
        return [pid for _, pid in sorted(ready.items()) if pid not in dead]

    async def until_ready(self, count: int) -> list[int]:
        await self.until(lambda: len(self.couriers()) == count, f"{count} couriers are ready")
        return self.couriers()

    async def stop(self) -> None:
        assert await trio.to_thread.run_sync(self.relay.stop) == 0, self.relay.output


@asynccontextmanager
async def open_scene(
    tmp_path: Path, couriers: int, receivers: int = RECEIVERS, *, command: Sequence[str] = ("-m", "relay")
) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_mx()) for _ in range(receivers)]
        directory = make_process_directory(
            tmp_path / "data",
            route=opened[0].address,
            retry="delays_seconds = [1]",
            service=f"couriers = {couriers}\ngrace_seconds = 2",
        )
        routes = ", ".join(f'"receiver{n}.example" = "{mx.address}"' for n, mx in enumerate(opened))
        configure(directory, delivery=f"routes = {{ {routes} }}")
        scene = Scene(directory, opened, command)
        with scene.relay.running(), trio.fail_after(PATIENCE_SECONDS):
            await scene.until_ready(couriers)
            yield scene
        assert [mx.violations for mx in opened] == [[] for _ in opened]


def interrupted_within(scene: Scene, killed_at: float) -> list[Recorded]:
    found = scene.events(AttemptInterrupted)
    assert all(item.time_us / 1e6 - killed_at < SECONDS_MAX for item in found)
    return found


def test_killed_in_the_middle_of_fifty_attempts(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_scene(tmp_path, couriers=1) as scene:
            (pid,) = scene.couriers()
            await scene.send()
            await scene.until_all_hang()
            killed_at = time.time()
            os.kill(pid, signal.SIGKILL)
            await scene.until(lambda: len(scene.events(AttemptInterrupted)) == UNDER_WAY, "all are named")
            interrupted_within(scene, killed_at)
            await scene.until_sent(UNDER_WAY)
            # Each was tried twice. Those that had been behind the dot came twice, and are the same mail.
            assert len(scene.events(AttemptStarted)) == 2 * UNDER_WAY
            assert sorted(scene.arrived.values()) == [1] * (UNDER_WAY - BEHIND_THE_DOT) + [2] * BEHIND_THE_DOT
            assert len(scene.events(AttemptInterrupted)) == UNDER_WAY
            assert (await scene.until_ready(1)) != [pid]
            async with open_http(scene.relay.address) as http:
                page = (await http.request("GET", "/metrics")).body
            assert b'\natmos_workers{role="courier"} 1.0\n' in page
            assert b'\natmos_workers_died_total{role="courier"} 1.0\n' in page
            await scene.stop()

    trio.run(main)


def test_one_of_two_that_is_killed_disturbs_nobody_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_scene(tmp_path, couriers=2) as scene:
            pid, other = scene.couriers()
            await scene.send()
            await scene.until_all_hang()
            killed_at = time.time()
            os.kill(pid, signal.SIGKILL)
            half = UNDER_WAY // 2
            await scene.until(lambda: len(scene.events(AttemptInterrupted)) >= half, "its half is named")
            await scene.until_sent(half)
            # What the other one has under way hangs as before, until the relay stops in its grace time.
            assert len(interrupted_within(scene, killed_at)) == half
            assert other in scene.couriers()
            assert len(scene.events(AttemptStarted)) == UNDER_WAY + half
            await scene.stop()
            assert len(scene.relay.log_lines("service.grace_over")) == 1

    trio.run(main)


def test_one_that_is_stopped_is_killed_and_its_mail_arrives(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_scene(tmp_path, couriers=1, receivers=2, command=("-c", PATIENT)) as scene:
            (pid,) = scene.couriers()
            # Two connections to each are left for what comes.
            await scene.send(SLOW[:3])
            count = 6
            await scene.until(lambda: len(scene.events(AttemptStarted)) == count, "all are started")
            await scene.until(lambda: scene.arrived.total() == count, "all are behind the dot")
            os.kill(pid, signal.SIGSTOP)
            stopped_at = time.time()
            # Meanwhile nothing stands still: what is new goes past it as soon as it has been silent for a moment.
            await trio.sleep(3 * SILENT_SECONDS_MAX)
            await scene.send(("friend",))
            await scene.until(lambda: sum(len(mx.messages) for mx in scene.receivers) == 2, "news go past it")
            assert scene.events(AttemptInterrupted) == []
            await scene.until_sent(count + 2)
            named = scene.events(AttemptInterrupted)
            assert len(named) == count
            assert all(item.time_us / 1e6 - stopped_at > SILENT_SECONDS - 2 for item in named)
            assert [line["because"] for line in scene.relay.log_lines("worker.killed")] == ["it was silent"]
            await scene.stop()

    trio.run(main)


def test_a_stopped_one_does_not_keep_the_relay_from_ending(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_scene(tmp_path, couriers=1, receivers=1) as scene:
            (pid,) = scene.couriers()
            await scene.send()
            await scene.until(lambda: len(scene.events(AttemptStarted)) == len(SLOW), "all are started")
            os.kill(pid, signal.SIGSTOP)
            # Two seconds of grace, and two until it is killed.
            await scene.stop()
            assert len(scene.events(AttemptInterrupted)) == len(SLOW)
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    trio.run(main)


def test_when_it_dies_over_and_over_the_mail_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_scene(tmp_path, couriers=1, receivers=1) as scene:
            for number in range(4):
                (pid,) = await scene.until_ready(1)
                await scene.send((f"a{number}", f"b{number}"))
                os.kill(pid, signal.SIGKILL)
                await scene.send((f"c{number}",))
                await scene.until(lambda pid=pid: pid not in scene.couriers(), "it has ended")
            await scene.until_sent(12)
            assert scene.relay.log_lines("worker.begun_later")
            named = Counter(item.event.message_id for item in scene.events(AttemptInterrupted))
            assert scene.arrived.total() - 12 <= named.total()
            await scene.stop()

    trio.run(main)


def test_rotation_erasure_and_metrics(tmp_path: Path) -> None:
    """What every courier must hear, with real files and real readers."""

    async def main() -> None:
        async with open_scene(tmp_path, couriers=2, receivers=2) as scene:
            command = partial(trio.to_thread.run_sync, scene.relay.command)
            await scene.send(("first",))
            await scene.until_sent(2)
            await command("pepper", "rotate")
            configure(scene.directory, delivery="connections_per_site_max = 7")
            os.kill(scene.relay.pid, signal.SIGHUP)
            await scene.send(("second", "third"))
            await scene.until_sent(6)
            await command("log", "erase", "--recipient", "first@receiver0.example", "--reason", "asked for")
            for pid in scene.couriers():
                files = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.exists()]
                assert not [name for name in files if name.endswith("(deleted)")]
            await scene.send(("fourth",))
            await scene.until_sent(8)
            async with open_http(scene.relay.address) as http:
                counted = -1
                # Of one that is just being closed the receiver may have heard before the core, or the core before it.
                while counted != sum(mx.sessions_open for mx in scene.receivers):
                    page = (await http.request("GET", "/metrics")).body.decode()
                    found = re.search(r"^atmos_delivery_connections (\d+)", page, re.MULTILINE)
                    assert re.search(r'^atmos_workers{role="courier"} [1-9]', page, re.MULTILINE)
                    assert found is not None
                    counted = int(found[1])
            await scene.stop()
            # The core's own reading of the log makes the same octets that the couriers have sent.
            sent = [item.event.message_id for item in scene.events(MessageSent)]
            assert len(sent) == 8
            for message_id in sent[2:]:
                await command("log", "audit", str(message_id))

    trio.run(main)
