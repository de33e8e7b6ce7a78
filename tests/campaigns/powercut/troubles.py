"""The moments at which the power goes.

Each trouble begins with a running relay and ends on a machine that is on again, with no relay on it. What it has found
out itself it raises as a Violation; the rest is judged by `Home.judge`.
"""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from relay.config import CONFIG_FILE
from spool.backup.format import MANIFEST_NAME
from spool.backup.restore import UNFINISHED_NAME
from tests.campaigns.powercut.home import Ended, Home
from tests.campaigns.tally import Violation

Trouble = Callable[[Home], Awaitable[None]]

ANSWERS_MAX = 30
#: Of the disk: under load a batch makes one or two, and a start, or a command, some ten or twenty.
FLUSHES_UNDER_LOAD, WRITES_UNDER_LOAD = 60, 150
FLUSHES_AT_START, WRITES_AT_START = 20, 50
FLUSHES_OF_COMMAND, WRITES_OF_COMMAND = 20, 60


async def under_load(home: Home) -> None:
    """While clients send, members suppress and people click."""
    async with home.load():
        await home.life.wait_answers(home.dice.randint(1, ANSWERS_MAX))
        await home.wait_cut(flushes=FLUSHES_UNDER_LOAD, writes=WRITES_UNDER_LOAD, seconds=1)
        await home.lose_power()


async def while_starting(home: Home) -> None:
    """Under load, and then again while the relay recovers from that, once or more often."""
    await under_load(home)
    for _ in range(home.dice.randint(1, 3)):
        await home.life.judge()
        home.life.launch()
        await _cut_in_a_start(home)


async def _cut_in_a_start(home: Home) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(home.weather)
        await home.wait_cut(flushes=FLUSHES_AT_START, writes=WRITES_AT_START, seconds=1.5)
        await home.lose_power()


async def after_a_stop(home: Home) -> None:
    """After a stop in order; or after that and a start, when the views are open again and are being written."""
    async with home.load():
        await home.life.wait_answers(home.dice.randint(1, ANSWERS_MAX))
        await home.life.stop()
    after = home.dice.choice(("at once", "while it starts", "when it has started"))
    if after != "at once":
        home.machine.sync()
    if after == "when it has started":
        await home.life.start()
        await under_load(home)
    else:
        if after == "while it starts":
            home.life.launch()
        await _cut_in_a_start(home)


async def at_rest(home: Home) -> None:
    """When nothing is written any more, soon after a stop in order and a start: what is not yet durable stays so."""
    async with home.load():
        await home.life.wait_answers(home.dice.randint(1, ANSWERS_MAX // 2))
    await home.life.settle()
    home.machine.sync()
    await home.life.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(home.weather)
        await home.wait_cut(flushes=1, writes=20, seconds=2)
        await home.lose_power()


async def in_a_removal(home: Home) -> None:
    """While personal data are removed, by `log erase` or `log strip`, by the relay or without one."""
    life = home.life
    async with home.load():
        await life.wait_answers(home.dice.randint(5, ANSWERS_MAX))
    by_relay = home.dice.random() < 0.5
    if by_relay:
        # The log's end is not durable yet, and nobody should have looked at it.
        words = await life.order_to_erase(look=False)
    else:
        await life.stop()
        words = await life.order_to_erase()
        if home.dice.random() < 0.5:
            await life.let_a_day_pass()
            words = ["strip", str(life.directory), "--older-than", "1"]
    # It says so where a message is not over yet.
    ended = await _run(home, "log", *words, allowed=(0, 1))
    if ended.acknowledged and "--message" in words:
        home.erased.append(int(words[words.index("--message") + 1]))


async def in_a_backup(home: Home) -> None:
    """While `log backup` runs beside the relay, onto the same disk; what its last manifest says can be restored."""
    life, backup = home.life, home.root / "backup"
    async with home.load():
        await life.wait_answers(home.dice.randint(1, ANSWERS_MAX // 2))
    before = dict(life.told)
    ended = await _run(home, "log", "backup", str(life.directory), str(backup))
    if ended.acknowledged:
        home.in_backup = before
    if home.in_backup is not None:
        await _restore(home, home.in_backup)
    await life.command("log", "backup", str(life.directory), str(backup))
    home.in_backup = dict(life.told)
    await _restore(home, home.in_backup)


async def in_a_restore(home: Home) -> None:
    """While `log restore` runs: it has ended, or says that it has not and goes on."""
    life, backup = home.life, home.root / "backup"
    if home.in_backup is None:
        told = dict(life.told)
        await life.command("log", "backup", str(life.directory), str(backup))
        home.in_backup = told
        home.machine.sync()
    directory = home.root / f"restored-{home.new_number()}"
    ended = await _run(home, "log", "restore", str(backup), str(directory))
    if ended.acknowledged and not _is_whole(directory):
        raise Violation(f"log restore said that it had ended, and {sorted(_names(directory))} is there")
    if not _is_whole(directory):
        await life.command("log", "restore", str(backup), str(directory))
    life.judge_copy(directory, home.in_backup)
    _compare_secrets(life.directory, directory, backup)
    shutil.rmtree(directory)
    home.checks["a restore that was cut off or had ended, held against its backup"] += 1


async def in_an_enrolment(home: Home) -> None:
    """While `member add` runs, by the relay or without one: what was given out is there, and a half is nowhere."""
    life = home.life
    if home.dice.random() < 0.5:
        await life.stop()
    else:
        async with home.load():
            await life.wait_answers(home.dice.randint(1, ANSWERS_MAX // 2))
    number = home.new_number()
    did, domain = f"did:web:member{number}.example", f"member{number}.example"
    words = ["member", "add", str(life.directory), "--did", did, "--domain", domain, "--offline", "--json"]
    ended = await _run(home, *words)
    answer: Any = ended.json() if ended.acknowledged else None
    members = await _json(home, "member", "list", str(life.directory))
    is_there = did in [member["did"] for member in members]
    if answer is not None and not is_there:
        raise Violation(f"{did} was enrolled, and is no member")
    if not is_there:
        answer = await _json(home, *words[:-1])
    if answer is not None:
        home.keys.append((did, answer["apiKey"]))
    found = await _json(home, "dns", str(life.directory), "--domain", domain)
    records = [entry for entry in found["domains"] if entry["domain"] == domain]
    if not records or (answer is not None and records[0]["records"] != answer["domains"][0]["records"]):
        raise Violation(f"{domain} was given {answer}, and has {found}")
    home.checks["an enrolment that was cut off or had ended, held against DNS records and key"] += 1


async def in_a_rebuild(home: Home) -> None:
    """While `log rebuild` runs, after a stop in order or after a cut."""
    if home.dice.random() < 0.5:
        await under_load(home)
        await home.life.judge()
    else:
        await home.life.stop()
    # It says so where there is a torn tail, which has to be cut first.
    await _run(home, "log", "rebuild", str(home.life.directory), allowed=(0, 1))


async def in_an_init(home: Home) -> None:
    """While `init` runs: the directory is ready, or can be made so by running it again."""
    directory = home.root / f"new-{home.new_number()}"
    ended = await _run(home, "init", str(directory))
    if ended.acknowledged and not (directory / CONFIG_FILE).exists():
        raise Violation(f"init said that {directory.name} is ready, and {sorted(_names(directory))} is there")
    if not (directory / CONFIG_FILE).exists():
        await home.life.command("init", str(directory))
    found = await _json(home, "dns", str(directory))
    if not found["operator"]["records"]:
        raise Violation(f"{directory.name} has no records: {found}")
    home.checks["an init that was cut off or had ended, held against its DNS records"] += 1


async def _run(home: Home, *words: str, allowed: tuple[int, ...] = (0,)) -> Ended:
    """Sometimes, where a relay runs, with clients beside it: then others flush what it has not."""
    async with AsyncExitStack() as beside:
        if home.life.relay.is_running and home.dice.random() < 0.3:
            await beside.enter_async_context(home.load())
        else:
            nursery = await beside.enter_async_context(trio.open_nursery())
            nursery.start_soon(home.weather)
        return await home.run_until_cut(
            *words, flushes=FLUSHES_OF_COMMAND, writes=WRITES_OF_COMMAND, seconds=0.6, allowed=allowed
        )


async def _json(home: Home, *words: str) -> Any:
    return json.loads(await home.life.command(*words, "--json"))


async def _restore(home: Home, told: dict[int, tuple[str, str]]) -> None:
    backup = home.root / "backup"
    if not (backup / MANIFEST_NAME).exists():
        raise Violation(f"log backup said that it had ended, and {sorted(_names(backup))} is there")
    await home.life.command("log", "verify", str(backup))
    directory = home.root / f"restored-{home.new_number()}"
    await home.life.command("log", "restore", str(backup), str(directory))
    home.life.judge_copy(directory, told)
    shutil.rmtree(directory)


def _is_whole(directory: Path) -> bool:
    """What a restore says of itself: there is a configuration, and no mark."""
    return (directory / CONFIG_FILE).exists() and not (directory / UNFINISHED_NAME).exists()


def _compare_secrets(original: Path, restored: Path, backup: Path) -> None:
    names = [str(path.relative_to(backup)) for path in [*backup.glob("keys/*/*.pem"), backup / "pepper"]]
    _, different, missing = filecmp.cmpfiles(original, restored, names, shallow=False)
    if different or missing:
        raise Violation(f"restored, and not what they were: {different + missing}")


def _names(directory: Path) -> list[str]:
    return [str(path.relative_to(directory)) for path in directory.glob("**/*")] if directory.exists() else []


#: The deck that rounds are drawn from.
TROUBLES: dict[Trouble, int] = {
    under_load: 2,
    while_starting: 2,
    after_a_stop: 1,
    at_rest: 1,
    in_a_removal: 1,
    in_a_backup: 1,
    in_a_restore: 1,
    in_an_enrolment: 1,
    in_a_rebuild: 1,
    in_an_init: 1,
}
#: In the summary.
DESCRIPTIONS = {trouble.__name__: (trouble.__doc__ or "").split("\n")[0] for trouble in TROUBLES}
