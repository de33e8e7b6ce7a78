"""Completion in the shells themselves: a line is typed on a terminal, with Tab; what the shell runs is looked at."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.world.daemon import require_daemon
from tests.world.process import PATIENCE_SECONDS
from tools.cli import cli

#: Run when the shell has begun, of the file that `completion` printed.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {file}"),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -D -u; source {file}"),
    "fish": (["fish", "--no-config", "-i"], "source {file}"),
}
#: What is typed, and what of it the shell is to run.
LINES = {
    "log reb\t": "log rebuild",
    "queue list --wi\t": "queue list --wide",
    "log replay --view mess\t": "log replay --view messages",
    "log inspect there/da\t": "log inspect there/data",
    "completion zs\t": "completion zsh",
}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        require_daemon(name, name)
    return name


def run_in(shell: str, place: Path) -> str:
    """What a terminal shows in which LINES were typed."""
    (place / "there" / "data").mkdir(parents=True)
    (place / "there" / "different").mkdir()
    (place / "bin").mkdir()
    wrapper = place / "bin" / "atmos-relay"
    # As it is installed; but to be run it only says with what.
    real = Path(sys.executable).with_name("atmos-relay")
    wrapper.write_text(
        f'#!/bin/sh\n[ -n "$_ATMOS_RELAY_COMPLETE" ] && exec {real} "$@"\nprintf "ran:%s:\\n" "$*"\n'
    )
    wrapper.chmod(0o755)
    program = place / "program"
    program.write_text(CliRunner().invoke(cli, ["completion", shell]).output)
    words, begin = SHELLS[shell]
    typed = [begin.format(file=program), *(f"atmos-relay {line}" for line in LINES), "exit"]
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (50, 200))
    process = subprocess.Popen(
        ["setsid", "--ctty", *words],  # fish wants the terminal for its own
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=place,
        env={"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "HOME": str(place), "TERM": "xterm"},
    )
    os.close(its)
    shown = b""
    try:
        os.write(ours, "".join(f"{line}\r" for line in typed).encode())
        give_up = time.monotonic() + PATIENCE_SECONDS
        while select.select([ours], [], [], max(give_up - time.monotonic(), 0))[0]:
            octets = os.read(ours, 65536)
            if not octets:
                break
            shown += octets
    except OSError:
        pass  # how Linux says that nobody has the other end any more
    finally:
        os.close(ours)
        process.kill()
        process.wait()
    return shown.decode(errors="replace")


def test_a_shell_completes_what_is_typed(shell: str, tmp_path: Path) -> None:
    shown = run_in(shell, tmp_path)
    # zsh takes the slash behind a directory's name away again.
    ran = [line.partition("ran:")[2].strip().strip(":/") for line in shown.splitlines() if "ran:" in line]
    assert ran == list(LINES.values()), shown
