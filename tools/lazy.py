"""A group of commands that imports a command when it is wanted, and not to say that it is there.

Most of the time that a command line takes is the import of what it does not use. So a group knows its commands by name,
by one line of help, and by where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Elsewhere(NamedTuple):
    """A command that stands in a module of its own."""

    module: str
    name: str
    #: Its one line in the list of commands: the first sentence of its help.
    help: str

    def load(self) -> click.Command:
        command = getattr(import_module(self.module), self.name)
        assert isinstance(command, click.Command)
        if isinstance(command, click.Group) and not isinstance(command, LazyGroup):
            for each in command.commands.values():
                # The whole first sentence. Click would cut it at 45 letters.
                each.short_help = each.get_short_help_str(limit=1000)
        return command


class LazyGroup(click.Group):
    """Its commands are `elsewhere`, by their names."""

    def __init__(self, *arguments: Any, elsewhere: Mapping[str, Elsewhere], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.elsewhere = elsewhere
        self.commands = _Loading(elsewhere)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.elsewhere[name].help) for name in self.list_commands(context)])

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(context) if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=self.elsewhere[name].help) for name in names]
        return commands + click.Command.shell_complete(self, context, incomplete)


class _Loading(MutableMapping[str, click.Command]):
    """Commands by their names; each is imported when it is first looked up."""

    def __init__(self, elsewhere: Mapping[str, Elsewhere]) -> None:
        self._commands: dict[str, click.Command | Elsewhere] = dict(elsewhere)

    def __getitem__(self, name: str) -> click.Command:
        found = self._commands[name]
        if isinstance(found, Elsewhere):
            found = self._commands[name] = found.load()
        return found

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)
