"""`completion`: what a shell needs to complete this command's names, options and values.

What it prints is click's own, in which the shell asks `atmos-relay` for each completion. Nothing is run to print it:
not the shell either, whose version click would ask for otherwise.
"""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from tools.naming import OneOf

PROGRAM = "atmos-relay"
VARIABLE = "_ATMOS_RELAY_COMPLETE"


@click.command("completion")
@click.argument("shell", type=OneOf(("bash", "zsh", "fish")))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print what completes commands, options and values in a shell.

    \b
    bash:  atmos-relay completion bash > ~/.local/share/bash-completion/completions/atmos-relay
    zsh:   atmos-relay completion zsh > DIRECTORY/_atmos-relay   (one of $fpath)
    fish:  atmos-relay completion fish > ~/.config/fish/completions/atmos-relay.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    completes = kind(context.find_root().command, {}, PROGRAM, VARIABLE)
    click.echo(ShellComplete.source(completes), nl=False)
