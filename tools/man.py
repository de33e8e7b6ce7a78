"""The man pages, made from the commands: `python -m tools.man DIRECTORY` (`make man`) writes them into DIRECTORY/man1.

One page is for `atmos-relay` itself, one for each command below it, and a group's page has all of the group. They say
what `--help` says, so there is nothing to keep up by hand. man(7) macros, one sentence a line. The same commands and
the same day give the same bytes; SOURCE_DATE_EPOCH names the day.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from tools.cli import cli
from tools.naming import DIRECTORY_VARIABLE

PROGRAM: Final = "atmos-relay"
_COLUMNS: Final = 78

_ENVIRONMENT = (
    (
        DIRECTORY_VARIABLE,
        "The data directory, where a command line names none. With it, a first word that is a number is not DIR, "
        "but what would follow: `queue show 14` is of message 14.",
    ),
    ("NO_COLOR", "Where it is set to anything, there is no colour. Elsewhere there is, on a terminal only."),
    ("CLICOLOR", "0: as NO_COLOR."),
    ("ATMOS_DID, ATMOS_KEY", "Whose events `watch` asks for, and the API key that it shows."),
)
_STATUS = (
    ("0", "All is well."),
    ("1", "A problem was found, or the order was refused."),
    ("2", "Wrong usage: nothing was done."),
    ("130", "It was broken off by Ctrl-C."),
)


def main(place: Path) -> None:
    directory = place / "man1"
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / f"{name}.1").write_text(text)


def pages() -> dict[str, str]:
    """Each by its name."""
    moment = int(os.environ.get("SOURCE_DATE_EPOCH") or datetime.now(UTC).timestamp())
    day = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
    root = click.Context(cli, info_name=PROGRAM, **cli.context_settings)
    found = {PROGRAM: "\n".join(_root_page(root, day)) + "\n"}
    for name in sorted(cli.commands):
        context = click.Context(cli.commands[name], info_name=name, parent=root)
        found[f"{PROGRAM}-{name}"] = "\n".join(_page(context, day)) + "\n"
    return found


def _root_page(context: click.Context, day: str) -> Iterator[str]:
    first, *rest = _paragraphs(cli.help or "")
    yield from _head(PROGRAM, day, first.partition(": ")[2].rstrip("."))
    yield from _synopsis(context)
    yield ".SH DESCRIPTION"
    yield from _text("\n\n".join([first, *rest]))
    yield ".SH COMMANDS"
    for name in sorted(cli.commands):
        yield from _tagged(f"{PROGRAM}-{name}(1)", cli.elsewhere[name].help)
    yield from _options(context, ".SH OPTIONS")
    yield ".SH ENVIRONMENT"
    for variable, meaning in _ENVIRONMENT:
        yield from _tagged(variable, meaning)
    yield ".SH EXIT STATUS"
    for status, meaning in _STATUS:
        yield from _tagged(status, meaning)
    yield ".SH SEE ALSO"
    yield f".BR {_escaped(PROGRAM)}\\-doctor (1)"


def _page(context: click.Context, day: str) -> Iterator[str]:
    command = context.command
    about = command.get_short_help_str(limit=1000).rstrip(".")
    yield from _head(f"{PROGRAM}-{context.info_name}", day, about)
    if isinstance(command, click.Group):
        yield from _synopsis(context)
        yield ".SH DESCRIPTION"
        yield from _text(command.help or "")
        yield ".SH COMMANDS"
        for name in sorted(command.commands):
            inner = click.Context(command.commands[name], info_name=name, parent=context)
            yield f'.SS "{_escaped(name)}"'
            yield ".B " + _escaped(_usage(inner))
            yield ".PP"
            yield from _text(_help_of(inner.command))
            yield from _options(inner, None)
    else:
        yield from _synopsis(context)
        yield ".SH DESCRIPTION"
        yield from _text(_help_of(command))
        yield from _options(context, ".SH OPTIONS")
    yield ".SH EXIT STATUS"
    for status, meaning in _STATUS:
        yield from _tagged(status, meaning)
    yield ".SH SEE ALSO"
    yield f".BR {_escaped(PROGRAM)} (1)"


def _head(name: str, day: str, about: str) -> Iterator[str]:
    yield f'.TH "{_escaped(name.upper())}" 1 "{day}" "{_escaped(f"{PROGRAM} {version(PROGRAM)}")}"'
    yield ".SH NAME"
    yield from textwrap.wrap(f"{_escaped(name)} \\- {_escaped(about)}", _COLUMNS, break_on_hyphens=False)


def _synopsis(context: click.Context) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield ".B " + _escaped(_usage(context))


def _usage(context: click.Context) -> str:
    return " ".join([context.command_path, *context.command.collect_usage_pieces(context)])


def _help_of(command: click.Command) -> str:
    return inspect.cleandoc(command.help or command.get_short_help_str(limit=1000))


def _options(context: click.Context, title: str | None) -> Iterator[str]:
    records = [
        record
        for parameter in context.command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None
    ]
    if records and title is not None:
        yield title
    for names, meaning in records:
        yield from _tagged(names, meaning)


def _tagged(tag: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_escaped(tag)}"
    yield from _sentences(text)


def _paragraphs(text: str) -> list[str]:
    return [part for part in inspect.cleandoc(text).split("\n\n") if part.strip()]


def _text(text: str) -> Iterator[str]:
    """Paragraphs. One that begins with click's \\b keeps its lines."""
    for number, paragraph in enumerate(_paragraphs(text)):
        if paragraph.startswith("\b"):
            yield ".PP"
            yield ".nf"
            yield from map(_line, paragraph.splitlines()[1:])
            yield ".fi"
            continue
        if number:
            yield ".PP"
        yield from _sentences(paragraph)


def _sentences(text: str) -> Iterator[str]:
    """One begins a line, so that the formatter sees where it ends."""
    for sentence in re.split(r"(?<=[.?!]) +(?=\S)", " ".join(text.split())):
        for line in textwrap.wrap(sentence, _COLUMNS, break_on_hyphens=False, break_long_words=False):
            yield _line(line)


def _line(text: str) -> str:
    """Of text: no macro, whatever it begins with. What stands in backquotes is what one types."""
    shown = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", _escaped(text))
    return f"\\&{shown}" if shown[:1] in (".", "'") else shown


def _escaped(text: str) -> str:
    """Every character as itself: a hyphen that is typed stays one, and no quote ends an argument."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
