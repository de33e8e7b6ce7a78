"""How commands are told which data directory, message, domain or key is meant: said once, and the same everywhere.

The directory is the first word, or else what ATMOS_RELAY_DIR names: `DirectoryArgument` says which word is which. A
message may be named by its id alone or by `--message`: `log audit DIR 14` and `log audit DIR --message 14` are one.
A domain and a key have one owner, so `--did` may be left out where it can be found.

What can be a node or a folder is a node where it is written as one (`two`, `two@HOST:PORT`), and a path has a slash:
`./two`. So it means the same wherever it is typed, whatever is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: The data directory, where a command line names none.
DIRECTORY_VARIABLE: Final = "ATMOS_RELAY_DIR"


class _MessageId(click.ParamType[int]):
    """A number that JSON has exactly. (click's own type would say so in each `--help`.)"""

    name = "integer"
    _range = click.IntRange(1, 2**53 - 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return self._range.convert(value, param, ctx)


MESSAGE_ID = _MessageId()

Command = Callable[..., None]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that names what is written most like it, with a space before it; nothing where nothing is."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1)
    return f" Did you mean {found[0]}?" if found else ""


class OneOf(click.Choice[str]):
    """One of these words; for any other it is said which was meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            known = ", ".join(self.choices)
            self.fail(f"{value!r} is none of {known}.{did_you_mean(str(value), self.choices)}", param, ctx)
        return str(value)


class Word(click.ParamType[str]):
    """A word of a long list, which is loaded when one is given, and to complete one."""

    def __init__(self, what: str, known: Callable[[], Iterable[str]]) -> None:
        self.name = what
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        known = tuple(self._known())
        if value not in known:
            self.fail(f"there is no {self.name} {value!r}.{did_you_mean(str(value), known)}", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(word) for word in self._known() if word.startswith(incomplete)]


owner_option = click.option("--did", help="The member; refuse where it is another's.")


class DirectoryArgument(click.Argument):
    """DIR. Where the variable is set, it may be left out, also before other words: `queue show 14` is
    `queue show DIR 14`.

    A first word is not DIR but what follows it, where the variable is set and either a word is missing without that, or
    the word is a number and there is room for it (a directory of that name is written `./14`).
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        metavar = "DIR" if options.get("required", True) else "[DIR]"
        super().__init__(*arguments, metavar=metavar, envvar=DIRECTORY_VARIABLE, **options)

    def get_error_hint(self, *arguments: Any) -> str:
        return f"{super().get_error_hint(*arguments)} (or {DIRECTORY_VARIABLE})"

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        if self.value_from_envvar(ctx) is not None and isinstance(opts.get(self.name or ""), str):
            self._move_words(ctx.command.params, opts)
        return super().handle_parse_result(ctx, opts, args)

    def _move_words(self, parameters: Iterable[click.Parameter], opts: Mapping[str, Any]) -> None:
        """This one's word to the argument after it, its words to the next, and so on, where that is what was meant.
        The others have not been looked at yet."""
        places = [one for one in parameters if isinstance(one, click.Argument)]
        places = places[places.index(self) + 1 :]
        words = [word for place in (self, *places) for word in _given(opts.get(place.name or ""))]
        is_number = words[0].isascii() and words[0].isdigit()
        if not is_number and all(_given(opts.get(place.name or "")) for place in places if place.required):
            return
        moved: dict[str, Any] = {}
        for place in places:
            count = len(words) if place.nargs < 0 else 1
            taken, words = words[:count], words[count:]
            if taken:
                moved[place.name or ""] = tuple(taken) if place.nargs < 0 else taken[0]
        if not words:
            assert isinstance(opts, dict)
            del opts[self.name or ""]
            opts.update(moved)


def _given(value: Any) -> tuple[str, ...]:
    """The words that an argument got."""
    if isinstance(value, tuple):
        return value
    return (value,) if isinstance(value, str) else ()


def one_message(*, required: bool = True, about: str = "The message.") -> Callable[[Command], Command]:
    """The command gets it as `message_id`; None where none is named and none has to be."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_message(
            *arguments: Any, message_given: int | None, message_id: int | None, **rest: Any
        ) -> None:
            if message_given is not None and message_id not in (None, message_given):
                raise click.UsageError(f"MESSAGE_ID is {message_given}, and --message is {message_id}")
            named = message_given if message_id is None else message_id
            if named is None and required:
                raise click.UsageError("say which message: MESSAGE_ID, or --message MESSAGE_ID")
            command(*arguments, message_id=named, **rest)

        click.option("--message", "message_id", type=MESSAGE_ID, metavar="MESSAGE_ID", help=about)(
            with_message
        )
        click.argument("message_given", metavar="[MESSAGE_ID]", type=MESSAGE_ID, required=False)(with_message)
        return with_message

    return decorate


def messages(*, about: str) -> Callable[[Command], Command]:
    """As `one_message`, of any number; the command gets them as `message_ids`."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_messages(
            *arguments: Any, messages_given: tuple[int, ...], message_ids: tuple[int, ...], **rest: Any
        ) -> None:
            command(*arguments, message_ids=tuple(dict.fromkeys((*messages_given, *message_ids))), **rest)

        click.option(
            "--message", "message_ids", type=MESSAGE_ID, metavar="MESSAGE_ID", multiple=True, help=about
        )(with_messages)
        click.argument("messages_given", metavar="[MESSAGE_ID]...", type=MESSAGE_ID, nargs=-1)(with_messages)
        return with_messages

    return decorate


def owner_of_domain(directory: Path, did: str | None, domain: str) -> str:
    """Whose domain it is: `did` where that was said. Refuses where it is nobody's, or several have it."""
    from relay.addresses import AddressError, parse_domain

    try:
        name = parse_domain(domain)
    except AddressError:
        name = domain  # the order says what is wrong with it
    return did or _owner(directory, "domain_list", "domain", name, f"{domain} is not enrolled.")


def owner_of_key(directory: Path, did: str | None, key_id: str) -> str:
    """As `owner_of_domain`."""
    return did or _owner(directory, "key_list", "keyId", key_id, f"there is no key {key_id}.")


def _owner(directory: Path, command: str, field: str, value: str, unknown: str) -> str:
    from relay.operator.client import administer

    rows: Any = administer(directory, command, {})
    owners = sorted({row["did"] for row in rows if row[field] == value})
    if not owners:
        raise click.ClickException(unknown + did_you_mean(value, {row[field] for row in rows}))
    if len(owners) > 1:
        raise click.UsageError(f"{value} is of several members; say --did: {', '.join(owners)}")
    return str(owners[0])


def folder_meant(given: str) -> Path | None:
    """None: it is written as a node (`tools.other_node.node_meant`). Raises UsageError where it is neither."""
    from relay.config_nodes import is_node_name

    if is_node_name(given.partition("@")[0]):
        return None
    folder = Path(given)
    if not folder.is_dir():
        raise click.UsageError(f"{given} is neither a directory nor a node: NAME, or NAME@HOST:PORT")
    return folder
