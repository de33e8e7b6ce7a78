"""An operator at a terminal: `atmos-relay`, run in this process, and what it said."""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from tools.cli import cli, main

#: Who gives the orders, as the kernel names the other end of the admin socket.
ME = pwd.getpwuid(os.getuid()).pw_name


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert (self.status, self.err) == (0, ""), self
        assert self.out.count("\n") == 1
        return json.loads(self.out)


class Operator:
    """Runs `atmos-relay` in this process, as `python -m relay` would."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.directory = directory
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *words: str) -> Said:
        """`DIR` among the words stands for the data directory."""
        named = [str(self.directory) if word == "DIR" else word for word in words]
        self._monkeypatch.setattr(sys, "argv", ["atmos-relay", *named])
        with pytest.raises(SystemExit) as leaving:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(leaving.value.code, int)
        return Said(leaving.value.code, out, err)

    def refused(self, *words: str) -> str:
        """What a command says that is refused: one sentence, no traceback, nothing on standard output."""
        said = self.run(*words)
        assert (said.status, said.out) == (1, "")
        assert re.fullmatch(r"atmos-relay: [^\n]+\n", said.err)
        return said.err.removeprefix("atmos-relay: ").rstrip("\n")

    def misused(self, *words: str) -> str:
        said = self.run(*words)
        assert (said.status, said.out) == (2, "")
        return said.err


def command(*arguments: object) -> Result:
    """One command without a terminal: what it printed and raised."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def good(*arguments: object) -> str:
    result = command(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def answer(*arguments: object) -> Any:
    return json.loads(good(*arguments, "--json"))
