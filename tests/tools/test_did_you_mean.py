"""Whoever mistypes a command, an option or a value is told what there is that looks like it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tests.world.operator import Operator
from tests.world.relay import DID
from tools.cli import cli


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("quue list DIR", "No such command 'quue'. Did you mean 'queue'?"),
        ("log cta DIR", "No such command 'cta'. Did you mean 'cat'?"),
        ("log cat DIR --typ x", "No such option '--typ'. (Did you mean one of: '--to', '--type'?)"),
        ("log cat DIR --type message.bounsed", "no event 'message.bounsed'. Did you mean message.bounced?"),
        ("log cat DIR --type xyz", "there is no event 'xyz'.\n"),
        ("log replay DIR --view mesages", "Did you mean messages?"),
        ("key issue DIR --did x --scope sned", "'sned' is none of send, full. Did you mean send?"),
        ("completion bsh", "'bsh' is none of bash, zsh, fish. Did you mean bash?"),
    ],
)
def test_of_a_command_line(typed: str, said: str) -> None:
    done = CliRunner().invoke(cli, typed.split())
    assert done.exit_code == 2
    assert said in done.output


def test_of_a_domain(operator: Operator) -> None:
    operator.run("member", "add", "DIR", "--did", DID, "--domain", "shop.example", "--offline")
    for typed, said in (
        ("shpo.example", "Error: shpo.example is not enrolled. Did you mean shop.example?\n"),
        ("else.test", "Error: else.test is not enrolled.\n"),
    ):
        assert operator.run("domain", "pause", "DIR", "--domain", typed) == (1, "", said)
