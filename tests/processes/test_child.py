"""A child that answers, hangs, ends, lies or is shot: what it gives is an answer or none, and nothing is left of it."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from relay.processes import child as child_module
from relay.processes.child import Child, NoAnswer, Program, open_child
from relay.processes.frames import HEAD_BYTES_MAX, OCTETS_MAX
from tests.processes.odd_program import (
    HANGS,
    Echo,
    Echoed,
    End,
    Hang,
    Look,
    Looks,
    Raise,
    Say,
    Take,
    Work,
    Write,
)

MIB = 1024 * 1024
#: Nothing that should be answered takes so long, on the busiest machine.
PATIENCE = 60.0
PROGRAM = Program("odd", "tests.processes.odd_program", 64 * MIB, PATIENCE)


async def ask(child: Child, question: msgspec.Struct, octets: bytes = b"", seconds: float = PATIENCE) -> Any:
    return await child.ask(question, octets, answer=Echoed, seconds=seconds, party="a")


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def children() -> set[int]:
    """Of this process, those that have ended and were not reaped among them."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        # A thread that has ended meanwhile has left its children to another, whom the list has.
        with suppress(FileNotFoundError):
            found.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
    return found


@asynccontextmanager
async def nothing_left() -> AsyncIterator[Child]:
    """A child, of which no process and no descriptor is left behind."""
    before, children_before = descriptors(), children()
    async with open_child(PROGRAM) as child:
        yield child
    assert children() == children_before
    assert descriptors() == before


def run(main: Callable[[], Any]) -> None:
    async def bounded() -> None:
        with trio.fail_after(4 * PATIENCE):
            await main()

    # A loop has descriptors of its own, which are there before anything is counted.
    trio.run(bounded)


async def gone(pid: int) -> None:
    """Until it is reaped."""
    while pid in children():  # noqa: ASYNC110 - the kernel tells nobody
        await trio.sleep(0.005)


async def it_hangs(caplog: pytest.LogCaptureFixture) -> None:
    """Until a child that was asked to hang does. That it computes would not tell: its last answer may be here while it
    is still at the end of that."""
    while HANGS not in said(caplog):  # noqa: ASYNC110 - what is logged is told to nobody
        await trio.sleep(0.005)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """By children, each line."""
    return [record.line for record in caplog.records if record.getMessage() == "child.said"]  # type: ignore[attr-defined]


def test_it_answers_again_and_again_in_one_process() -> None:
    async def main() -> None:
        async with nothing_left() as child:
            first = await ask(child, Echo("ä"), b"\0" * 1000)
            assert first == Echoed("ä", 1000, child.pid or 0)
            assert await ask(child, Echo("b"), b"x" * OCTETS_MAX) == Echoed("b", OCTETS_MAX, first.pid)
            assert child.statistics() == (1, 2, {}, 0)

    run(main)


def test_it_can_do_nothing_but_compute() -> None:
    async def main() -> None:
        secret = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(secret, True)
        with open("/dev/null"), socket.socket():
            async with nothing_left() as child:
                looks = await child.ask(Look(), answer=Looks, seconds=PATIENCE, party=None)
        os.close(secret)
        assert isinstance(looks, Looks)
        kinds = sorted(what.partition(":")[0] for what in looks.descriptors.values())
        assert kinds == ["/dev/null", "/dev/null", "pipe", "socket"]
        assert looks.no_new_privs
        assert looks.core == (0, 0)
        assert looks.files == (16, 16)
        assert 64 * MIB < looks.data[0] == looks.data[1] < 64 * MIB + 512 * MIB
        assert looks.niceness >= 5
        assert looks.dies_with_parent == signal.SIGKILL
        assert set(looks.environment) <= {"PYTHONPATH", "LC_CTYPE"}
        # The two halves stand apart: a child has no event loop.
        assert "trio" not in looks.modules

    run(main)


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (End(), "ended"),
        (End(3), "ended"),
        (Raise("x"), "ended"),
        (Take(100 * MIB), "ended"),
        (Write(b"\0\0\0\x05\0\0\0\0ab", and_end=True), "ended"),
        (Write(b"\0\0\0\x02\0\0\0\0\xc1\xc1"), "nonsense"),
        (Write(b"\0\0\0\x01\0\0\0\0\x01"), "nonsense"),
        (Write((HEAD_BYTES_MAX + 1).to_bytes(4, "big") + b"\0\0\0\0"), "ended"),
        (Write(b"\0\0\0\0\0\0\0\x01x"), "ended"),
    ],
    ids=repr,
)
def test_what_is_no_answer_costs_nobody_else_anything(question: msgspec.Struct, why: str) -> None:
    async def main() -> None:
        async with nothing_left() as child:
            before = (await ask(child, Echo())).pid
            assert await ask(child, question) == NoAnswer(why)  # type: ignore[arg-type]
            await gone(before)
            after = await ask(child, Echo("next"), b"12")
            assert after == Echoed("next", 2, child.pid or 0)
            assert after.pid != before
            assert child.statistics() == (2, 2, {why: 1}, 0)

    run(main)


def test_what_fits_into_its_memory_is_answered() -> None:
    async def main() -> None:
        async with nothing_left() as child:
            for _ in range(5):
                assert (await ask(child, Take(40 * MIB))).octets == 40 * MIB
            assert child.statistics().begun == 1

    run(main)


def test_one_that_hangs_is_killed_after_its_time() -> None:
    async def main() -> None:
        async with nothing_left() as child:
            hung = (await ask(child, Echo())).pid
            began = trio.current_time()
            assert await ask(child, Hang(), seconds=0.3) == NoAnswer("late")
            assert 0.3 <= trio.current_time() - began < PATIENCE
            await gone(hung)
            assert (await ask(child, Echo("next"))).text == "next"

    run(main)


def test_one_that_has_used_up_its_processor_time_ends_in_the_middle_of_a_call_into_c() -> None:
    async def main() -> None:
        async with open_child(PROGRAM._replace(cpu_seconds_max=0.2)) as child:
            hung = (await ask(child, Echo())).pid
            assert await ask(child, Hang()) == NoAnswer("ended")
            await gone(hung)
            # It is counted for each question, and not while nobody asks.
            pids = {(await ask(child, Work(0.1))).pid for _ in range(5)}
            assert len(pids) == 1
            assert pids == {(await ask(child, Echo("next"))).pid}

    run(main)


def test_one_that_is_stopped_is_killed_after_its_time() -> None:
    async def main() -> None:
        async with nothing_left() as child:
            stopped = (await ask(child, Echo())).pid
            os.kill(stopped, signal.SIGSTOP)
            # More than its socket holds: it is stopped while it is being asked.
            assert await ask(child, Echo(), b"x" * OCTETS_MAX, seconds=0.3) == NoAnswer("late")
            await gone(stopped)
            assert (await ask(child, Echo("next"))).text == "next"

    run(main)


def test_one_that_was_shot_while_nobody_asked_is_nobodys_answer() -> None:
    async def main() -> None:
        async with nothing_left() as child:
            shot = (await ask(child, Echo())).pid
            os.kill(shot, signal.SIGKILL)
            await gone(shot)  # reaped without a question
            assert (await ask(child, Echo("next"))).text == "next"
            assert child.statistics().no_answers == {}

    run(main)


def test_one_that_is_shot_at_work_gives_none(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with nothing_left() as child, trio.open_nursery() as nursery:
            shot = (await ask(child, Echo())).pid
            answers: list[Any] = []

            async def hang() -> None:
                answers.append(await ask(child, Hang()))

            nursery.start_soon(hang)
            await it_hangs(caplog)
            os.kill(shot, signal.SIGKILL)
            while not answers:  # noqa: ASYNC110
                await trio.sleep(0.005)
            assert answers == [NoAnswer("ended")]

    run(main)


def test_parties_take_turns() -> None:
    async def main() -> None:
        answered: list[str] = []

        async def asks(party: str) -> None:
            await child.ask(Echo(), answer=Echoed, seconds=PATIENCE, party=party)
            answered.append(party)

        async with nothing_left() as child, trio.open_nursery() as nursery:
            for party in "aaaaaab":
                nursery.start_soon(asks, party)
                await trio.testing.wait_all_tasks_blocked()
        assert answered.index("b") <= 2

    run(main)


def test_to_give_up_waiting_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with nothing_left() as child:
            pid = (await ask(child, Echo())).pid
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, child, Hang())
                await it_hangs(caplog)
                with trio.move_on_after(0.1) as given_up:
                    await ask(child, Echo("never"))
                assert given_up.cancelled_caught
                assert child.pid == pid
                assert child.statistics().waiting == 0
                nursery.cancel_scope.cancel()
            assert (await ask(child, Echo("next"))).text == "next"

    run(main)


@pytest.mark.parametrize("is_begun", [True, False])
def test_to_give_up_an_answer_leaves_a_child_that_can_be_asked(
    is_begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with nothing_left() as child:
            if is_begun:
                await ask(child, Echo())
            given_up_on = child.pid or 0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, child, Hang())
                await (it_hangs(caplog) if is_begun else trio.testing.wait_all_tasks_blocked())
                nursery.cancel_scope.cancel()
            await gone(given_up_on)
            assert (await ask(child, Echo("next"))).text == "next"
            assert child.statistics().no_answers == {}

    run(main)


def test_the_block_ends_while_one_hangs() -> None:
    async def main() -> None:
        with trio.move_on_after(0.3):
            async with nothing_left() as child:
                await ask(child, Hang())

    run(main)


def test_one_that_keeps_ending_is_begun_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "BACK_OFF_SECONDS", 0.2)
    monkeypatch.setattr(child_module, "BACK_OFF_SECONDS_MAX", 0.5)

    #: How long it was to be waited when each had ended: at most, and at the least.
    waits: list[tuple[float, float]] = []
    fail = Child._fail

    def noted(child: Child, process: Any) -> None:
        before = trio.current_time()
        fail(child, process)
        waits.append((child._not_before - before, child._not_before - trio.current_time()))

    monkeypatch.setattr(Child, "_fail", noted)

    async def main() -> None:
        async with nothing_left() as child:
            for _ in range(5):
                assert await ask(child, End()) == NoAnswer("ended")
            assert waits[0][0] < 0
            for (most, least), seconds in zip(waits[1:], (0.2, 0.4, 0.5, 0.5), strict=True):
                assert least - 1e-6 <= seconds <= most + 1e-6
            assert (await ask(child, Echo("next"))).text == "next"
            assert await ask(child, End()) == NoAnswer("ended")
            assert child._not_before <= trio.current_time()

    run(main)


def test_one_that_cannot_be_begun_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def main() -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
        async with nothing_left() as child:
            assert await ask(child, Echo()) == NoAnswer("not_begun")
            monkeypatch.undo()
            assert (await ask(child, Echo("next"))).text == "next"

    run(main)


def test_one_that_is_never_ready_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        for program in (PROGRAM._replace(module="tests.processes.no_such_program"),):
            async with open_child(program) as child:
                assert await ask(child, Echo()) == NoAnswer("not_begun")
        monkeypatch.setattr(child_module, "START_SECONDS_MAX", 0.0)
        async with nothing_left() as child:
            assert await ask(child, Echo()) == NoAnswer("not_begun")

    run(main)


def test_after_many_answers_it_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "ANSWERS_MAX", 3)

    async def main() -> None:
        async with nothing_left() as child:
            pids = [(await ask(child, Echo())).pid for _ in range(7)]
            assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]

    run(main)


def test_what_it_says_is_logged_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with nothing_left() as child:
            await ask(child, Say("x" * 100_000))
            await ask(child, Say("é\x1b[1m", lines=5000))
            await ask(child, Raise("the text of an exception may quote a mail"))

    with caplog.at_level(logging.INFO):
        run(main)
    lines = said(caplog)
    assert 2 <= len(lines) <= child_module.SAID_LINES_MAX
    assert max(map(len, lines)) <= child_module.SAID_CHARACTERS_MAX
    assert not any("quote" in line for line in lines)


def test_an_exception_is_logged_by_its_place(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with nothing_left() as child:
            await ask(child, Raise("the text of an exception may quote a mail"))
            await gone(child.pid or 0)

    with caplog.at_level(logging.INFO):
        run(main)
    (line,) = said(caplog)
    assert line.startswith("builtins.ValueError at ")
    assert "odd_program.py" in line
    assert "quote" not in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_stops_a_relay_in_order_stops_no_answer(number: signal.Signals) -> None:
    async def main() -> None:
        async with nothing_left() as child:
            pid = (await ask(child, Echo())).pid
            os.kill(pid, number)
            assert (await ask(child, Echo("next"))).pid == pid

    run(main)


RELAY = """
import logging, sys, trio
from relay.processes.child import Program, open_child
from tests.processes.odd_program import Echo, Echoed, Hang

async def main():
    async with open_child(Program("odd", "tests.processes.odd_program", 1 << 26, 60.0)) as child:
        # Threads of the pool come and go.
        await trio.to_thread.run_sync(lambda: None)
        await child.ask(Echo(), answer=Echoed, seconds=60, party=None)
        print(child.pid, flush=True)
        logging.basicConfig(stream=sys.stdout, format="%(line)s")
        if sys.argv[1] == "busy":
            await child.ask(Hang(), answer=Echoed, seconds=60, party=None)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("work", ["busy", "idle"])
def test_kill_9_of_the_relay_ends_the_child_at_once(work: str) -> None:
    relay = subprocess.Popen([sys.executable, "-c", RELAY, work], stdout=subprocess.PIPE)
    try:
        assert relay.stdout is not None
        pid = int(relay.stdout.readline())
        descriptor = os.pidfd_open(pid)
        if work == "busy":
            assert relay.stdout.readline().decode().strip() == HANGS
        relay.kill()
        # Of itself a hanging one would never end.
        assert select.select([descriptor], [], [], PATIENCE)[0]
        os.close(descriptor)
    finally:
        relay.kill()
        relay.wait()
        if relay.stdout:
            relay.stdout.close()


def test_a_child_outlives_the_threads_of_the_pool() -> None:
    """The kernel ends it with the thread that made it, so that must be the loop's own: others end after ten seconds."""
    relay = subprocess.Popen([sys.executable, "-c", RELAY, "idle"], stdout=subprocess.PIPE)
    try:
        assert relay.stdout is not None
        pid = int(relay.stdout.readline())
        thread = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert thread == relay.pid
        assert str(pid) in Path(f"/proc/{relay.pid}/task/{relay.pid}/children").read_text().split()
    finally:
        relay.kill()
        relay.wait()
        if relay.stdout:
            relay.stdout.close()
