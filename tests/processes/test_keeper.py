"""Workers that serve, hang, die, lie or are shot: the core learns it, never waits for them, and nothing is left."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from relay.processes import channel as channel_module
from relay.processes.channel import ChannelClosed
from relay.processes.keeper import Worker
from tests.processes.odd_worker import (
    GREETING,
    AskBack,
    Begin,
    CloseSocket,
    Echo,
    Echoed,
    Flood,
    Look,
    Looks,
    Wait,
    Work,
    Write,
)
from tests.processes.workers import PATIENT, hosting, run


async def echo(worker: Worker, text: str = "") -> Echoed:
    return await worker.channel.call(Echo(text), Echoed)


def test_workers_are_greeted_and_ask_and_are_asked() -> None:
    async def main() -> None:
        async with hosting(2) as host:
            keeper = host.keeper
            assert sorted(worker.name for worker in keeper.workers) == ["odd 1", "odd 2"]
            for worker in keeper.workers:
                assert await echo(worker, "ä") == Echoed(worker.name, "hello ä", worker.pid)
                assert await worker.channel.call(AskBack("x"), str) == "core: x"
            assert keeper.statistics() == (2, 2, 0)
            pids = set(host.pids)
            await keeper.stop(30)
            assert keeper.workers == []
            assert keeper.statistics() == (0, 2, 0)
        assert {pid for what, _, pid in host.events if what == "lost"} == pids

    run(main)


def test_none_is_kept_by_itself() -> None:
    async def main() -> None:
        async with hosting(0) as host:
            assert host.keeper.workers == []
            await host.keeper.stop(0)

    run(main)


#: 40 is a real-time signal, which has no name.
@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV"), (40, "signal 40")]
)
def test_one_that_is_shot_is_lost_and_another_is_there_within_a_second(
    number: int, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with hosting(2) as host:
            shot, other = host.keeper.workers
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(ChannelClosed):
                        await shot.channel.call(Wait(), bytes)
                    await shot.gone.wait()
                    assert ("lost", shot.name, shot.pid) in host.events

                nursery.start_soon(ask)
                await host.until(lambda: host.heard == [0])
                os.kill(shot.pid, number)
            began = trio.current_time()
            await host.until(lambda: len(host.keeper.workers) == 2)
            # Most of it is to load Python's modules, which takes a busy machine its time.
            assert trio.current_time() - began < 60
            assert host.events[2:4] == [("lost", shot.name, shot.pid), ("begun", shot.name, host.pids[1])]
            assert host.pids == [other.pid, host.pids[1]]
            assert (await echo(host.keeper.workers[1])).name == shot.name
            assert host.keeper.statistics() == (2, 3, 1)
            (ended,) = [record for record in caplog.records if record.getMessage() == "worker.ended"]
            assert ended.signal == name  # type: ignore[attr-defined]

    run(main)


def test_what_a_shot_one_had_asked_is_given_up_before_it_is_lost() -> None:
    async def main() -> None:
        async with hosting() as host:
            (worker,) = host.keeper.workers
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(ChannelClosed):
                        await worker.channel.call(AskBack("wait"), str)

                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked(0.05)
                while not host.unanswered:  # noqa: ASYNC110
                    await trio.sleep(0.005)
                os.kill(worker.pid, signal.SIGKILL)
                await worker.gone.wait()
                assert worker.channel._answering == {} or host.events[-1] == ("lost", worker.name, worker.pid)

    run(main)


def test_one_that_is_stopped_is_killed_when_it_has_been_silent(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with hosting(times=PATIENT._replace(beat=0.05, silent=0.5)) as host:
            (stopped,) = host.keeper.workers
            os.kill(stopped.pid, signal.SIGSTOP)
            began = trio.current_time()
            with pytest.raises(ChannelClosed):
                await echo(stopped)
            await stopped.gone.wait()
            assert 0.4 < trio.current_time() - began < 60
            await host.until(lambda: len(host.events) == 3)

    run(main)
    assert reasons(caplog) == ["it was silent"]


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.because for record in caplog.records if record.getMessage() == "worker.killed"]  # type: ignore[attr-defined]


def test_one_whose_loop_does_not_run_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with hosting(times=PATIENT._replace(beat=0.05, silent=3.0)) as host:
            (worker,) = host.keeper.workers
            # A moment is nothing.
            await worker.channel.call(Work(0.1), type(None))
            with pytest.raises(ChannelClosed):
                await worker.channel.call(Work(60), type(None))
            await worker.gone.wait()

    run(main)
    assert reasons(caplog) == ["it was silent"]


def test_neither_a_long_life_nor_a_core_that_was_suspended_is_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with hosting(times=PATIENT._replace(beat=0.05, silent=2.5)) as host:
            (worker,) = host.keeper.workers
            time.sleep(3)  # the loop stands still, and its clock does not
            # More beats than may be unanswered.
            await trio.sleep(3)
            assert host.pids == [worker.pid]

    run(main)
    assert reasons(caplog) == []


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        ("wait", ["it did not get ready"]),
        ("die", []),
        ("raise", []),
        ("nonsense", ["it sent what it may not"]),
    ],
)
def test_one_that_never_gets_ready_is_begun_later_and_later(
    instead: str, why: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    times = PATIENT._replace(start=1.0 if instead == "wait" else 60.0, back_off=0.05, back_off_max=0.15)

    async def main() -> None:
        async with hosting(times=times, greeting=GREETING("", instead), is_ready=False) as host:
            later: list[Any] = []
            while len(later) < 3:
                await trio.sleep(0.02)
                later = [r for r in caplog.records if r.getMessage() == "worker.begun_later"]
            assert [record.seconds for record in later[:3]] == [0.05, 0.1, 0.15]
            assert host.keeper.statistics().begun >= 4
            assert host.events == []
            # The others, and those that come later, have nothing of it, and may take their time.
            host.greeting = GREETING("better ")
            host.keeper._times = PATIENT
            await host.keeper.wait_ready()
            assert (await echo(host.keeper.workers[0])).text == "better "
            await host.keeper.stop(30)
            assert [what for what, _, _ in host.events] == ["begun", "lost"]

    with caplog.at_level(logging.INFO):
        run(main)
    assert reasons(caplog)[: len(why)] == why


def test_one_that_was_ready_for_long_enough_is_begun_again_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with hosting(times=PATIENT._replace(back_off=30.0, back_off_max=0.0)) as host:
            for count in range(2, 5):
                os.kill(host.pids[0], signal.SIGKILL)
                await host.until(lambda count=count: len(host.events) == 2 * count - 1)  # type: ignore[misc]

    run(main)
    assert not [record for record in caplog.records if record.getMessage() == "worker.begun_later"]


def test_stop_and_the_end_of_the_block_wait_for_no_back_off() -> None:
    async def main() -> None:
        for ends_in_order in (True, False):
            times = PATIENT._replace(back_off=3600.0, back_off_max=3600.0)
            async with hosting(times=times, greeting=GREETING("", "die"), is_ready=False) as host:
                while host.keeper.statistics().died < 2:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                if ends_in_order:
                    await host.keeper.stop(0)

    run(main)


def test_one_that_cannot_be_begun_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
        async with hosting(is_ready=False) as host:
            while len([r for r in caplog.records if r.getMessage() == "worker.not_begun"]) < 3:  # noqa: ASYNC110
                await trio.sleep(0.01)
            monkeypatch.undo()
            await host.keeper.wait_ready()

    run(main)


@pytest.mark.parametrize("with_calls", [False, True])
def test_one_that_floods_costs_itself(
    with_calls: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel_module, "CALLS_MAX", 500)

    async def main() -> None:
        async with hosting(2) as host:
            flooding, other = host.keeper.workers
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(ChannelClosed):
                        await flooding.channel.call(Flood(with_calls), type(None))

                nursery.start_soon(ask)
                for _ in range(20):
                    assert (await echo(other)).name == other.name
                if with_calls:
                    await flooding.gone.wait()
                else:
                    os.kill(flooding.pid, signal.SIGKILL)
            assert host.unanswered <= 500
            assert other.pid in host.pids

    run(main)
    assert reasons(caplog) == (["it sent what it may not"] if with_calls else [])


@pytest.mark.parametrize(
    "octets", [b"\xff" * 13, b"\0\0\0\0\x63" + b"\0" * 8, b"\0\0\0\x01\x00" + b"\0" * 8 + b"\xc1"]
)
def test_one_that_sends_what_it_may_not_is_killed(octets: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with hosting() as host:
            (worker,) = host.keeper.workers
            with pytest.raises(ChannelClosed):
                await worker.channel.call(Write(octets), type(None))
            await worker.gone.wait()
            await host.until(lambda: len(host.events) == 3)

    run(main)
    assert reasons(caplog) == ["it sent what it may not"]


def test_one_that_closes_its_socket_and_lives_on_is_dead_before_it_is_lost() -> None:
    """`Host.lost` looks whether there is such a process; what it had sent before is heard."""

    async def main() -> None:
        async with hosting(times=PATIENT._replace(leave=0.1)) as host:
            (worker,) = host.keeper.workers
            with pytest.raises(ChannelClosed):
                await worker.channel.call(CloseSocket(1000), type(None))
            await worker.gone.wait()
            assert host.heard == list(range(1000))

    run(main)


def test_what_a_dead_one_has_left_behind_with_its_socket_keeps_nobody() -> None:
    async def main() -> None:
        async with hosting() as host:
            (worker,) = host.keeper.workers
            left = set(pids_of_odd())
            with pytest.raises(ChannelClosed):
                await worker.channel.call(Begin(), type(None))
            await worker.gone.wait()
            assert host.heard == [7]
            for pid in set(pids_of_odd()) - left - set(host.pids) - {worker.pid}:
                if parent_of(pid) != os.getpid():
                    os.kill(pid, signal.SIGKILL)

    run(main)


def pids_of_odd() -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"tests.processes.odd_worker" in command:
                found.append(int(name))
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# --------------------------------------------------------------------------------------------------------- to stop them


def test_stop_waits_for_what_is_under_way_and_for_its_answer() -> None:
    async def main() -> None:
        async with hosting(2) as host:
            answered: list[Any] = []

            async def ask(worker: Worker) -> None:
                # More than a socket holds.
                answered.append(len(await worker.channel.call(Wait(3_000_000), bytes)))

            async with trio.open_nursery() as nursery:
                for worker in host.keeper.workers:
                    nursery.start_soon(ask, worker)
                await host.until(lambda: host.heard == [0, 0])
                await host.keeper.stop(60)
            assert answered == [3_000_000, 3_000_000]
            assert host.heard == [0, 0, 1, 1]
            assert host.keeper.statistics() == (0, 2, 0)

    run(main)


def test_stop_kills_what_has_not_stopped_in_its_time(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with hosting(2) as host:
            hung, other = host.keeper.workers
            os.kill(hung.pid, signal.SIGSTOP)
            began = trio.current_time()
            await host.keeper.stop(0.3)
            assert 0.3 <= trio.current_time() - began < 10
            assert [what for what, _, _ in host.events] == ["begun", "begun", "lost", "lost"]
            assert [pid for _, _, pid in host.events[2:]] == [other.pid, hung.pid]

    run(main)
    assert reasons(caplog) == ["it did not stop"]


def test_a_defect_of_the_core_goes_up() -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with hosting() as host:
                with trio.CancelScope(shield=True), pytest.raises(ChannelClosed):
                    await host.keeper.workers[0].channel.call(AskBack("defect"), str)
        assert raised.group_contains(ZeroDivisionError)

    run(main)


# ------------------------------------------------------------------------------------------------------ what it has


def test_it_has_what_it_needs_and_nothing_else() -> None:
    async def main() -> None:
        secret = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(secret, True)
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            async with hosting(2, sockets=[one, other]) as host:
                for worker in host.keeper.workers:
                    looks = await worker.channel.call(Look(), Looks)
                    kinds = sorted(what.partition(":")[0] for what in looks.descriptors.values())
                    # Of trio's loop: its epoll, and two pairs of sockets to wake it.
                    own = ["anon_inode", *4 * ["socket"]]
                    given = ["/dev/null", "/dev/null", "socket", "socket", "socket"]
                    errors = os.readlink("/proc/self/fd/2").partition(":")[0]
                    assert kinds == sorted([*own, *given, errors])
                    assert looks.sockets == [one.getsockname()[1], other.getsockname()[1]]
                    assert looks.inheritable == []
                    assert looks.dies_with_parent == signal.SIGKILL
                    assert looks.no_new_privs
                    assert set(looks.environment) <= {"PYTHONPATH", "LC_CTYPE"}
        os.close(secret)

    run(main)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_what_stops_a_relay_in_order_stops_no_worker(number: signal.Signals) -> None:
    async def main() -> None:
        async with hosting() as host:
            (worker,) = host.keeper.workers
            os.kill(worker.pid, number)
            for _ in range(3):
                assert (await echo(worker)).pid == worker.pid

    run(main)


CORE = """
import sys, trio
from relay.processes.channel import ChannelClosed
from tests.processes.odd_worker import Echo, Echoed, Fail, Log, Wait, Work
from tests.processes.workers import hosting

async def main():
    async with hosting(3) as host:
        # Threads of the pool come and go.
        await trio.to_thread.run_sync(lambda: None)
        print(*host.pids, flush=True)
        one = min(host.keeper.workers, key=lambda worker: worker.name)
        if sys.argv[1] == "busy":
            await one.channel.call(Work(60), type(None))
        if sys.argv[1] == "log":
            await one.channel.call(Log(), type(None))
            try:
                await one.channel.call(Fail(), type(None))
            except ChannelClosed:
                await one.gone.wait()
                return
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("work", ["busy", "idle"])
def test_kill_9_of_the_core_ends_all_within_a_second(work: str) -> None:
    core = subprocess.Popen([sys.executable, "-c", CORE, work], stdout=subprocess.PIPE)
    try:
        assert core.stdout is not None
        descriptors = [os.pidfd_open(int(pid)) for pid in core.stdout.readline().split()]
        began = time.monotonic()
        core.kill()
        for descriptor in descriptors:
            assert select.select([descriptor], [], [], 5)[0]
            os.close(descriptor)
        assert len(descriptors) == 3
        assert time.monotonic() - began < 1
    finally:
        core.kill()
        core.wait()
        if core.stdout:
            core.stdout.close()


def test_its_log_lines_say_which_process_it_is_and_quote_nothing() -> None:
    core = subprocess.run(
        [sys.executable, "-c", CORE, "log"], capture_output=True, text=True, timeout=120, check=False
    )
    lines = [json.loads(line) for line in core.stderr.splitlines() if line.startswith("{")]
    (said,) = [line for line in lines if line["event"] == "odd.said"]
    assert (said["process"], said["number"]) == ("odd 1", 5)
    (failed,) = [line for line in lines if line["event"] == "worker.failed"]
    assert failed["process"] == "odd 1"
    assert any("ValueError" in line and "odd_worker.py" in line for line in failed["exception"])
    assert "quote" not in core.stderr
