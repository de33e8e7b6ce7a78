"""Templates to HTML.

The invariant: **whatever a text is, it is shown as that text.** Jinja escapes what is HTML (`autoescape`), and every
text that goes into a page is made printable first (`finalize`): control characters, bidirectional marks and all else
that nobody can see stand there as escapes, `\\u202e`. A name that is not defined is an error and never an empty place
(`StrictUndefined`). Only what is made here is HTML already.

Templates are read once, and each is compiled when it is first wanted: that takes a tenth of a second, so it is done
beside the loop (`render`). The clock is the visit's: a template is told the time.

What a page was made of is let go of at once. Jinja ties what a template was given, rows and all, into a circle with the
macros that it has named; left alone, the pages of some minutes would be found by Python's collector together, and the
loop would stand still for as long as it takes to free them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import ChoiceLoader, DictLoader, Environment, StrictUndefined, pass_context
from jinja2.runtime import Context as JinjaContext
from markupsafe import Markup, escape

from relay.heavy_work import ON_LOOP_OCTETS_MAX, HeavyWork
from relay.story_in_words import quoted
from relay.times import DAY_US, HOUR_US, MINUTE_US, SECOND_US, rfc3339, time_in, utc

OWN_TEMPLATES: Final = Path(__file__).parent / "templates"
OWN_STATIC: Final = Path(__file__).parent / "static"

_DID_CHARACTERS: Final = 22


#: The name, which no template can write, of the list of a page's contexts.
_MADE: Final = " made"


class _OneTimeContext(JinjaContext):
    """What a template, or a part of it, sees while one page is made."""

    def __init__(
        self,
        environment: Environment,
        parent: dict[str, Any],
        name: str | None,
        blocks: dict[str, Any],
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 (Jinja calls it so)
    ) -> None:
        super().__init__(environment, parent, name, blocks, globals)
        made = parent.get(_MADE)
        assert made is not None, "a part is imported without `with context`: it would outlive the page"
        made.append(self)

    def let_go(self) -> None:
        """Of all that it names. Nothing can be made with it any more."""
        for names in (self.parent, self.vars, self.exported_vars, self.blocks):
            names.clear()


class Templates:
    """Those of all directories; the first that has a name gives it."""

    def __init__(self, directories: Sequence[Path] = (OWN_TEMPLATES,)) -> None:
        self._environment = Environment(
            loader=ChoiceLoader([DictLoader(_read(each)) for each in directories]),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(_FILTERS)
        self._environment.context_class = _OneTimeContext
        self._names = frozenset(self._environment.list_templates())
        self._ready: set[str] = set()

    async def render(
        self, work: HeavyWork, party: str, template: str, context: Mapping[str, Any], octets: int = 0
    ) -> bytes:
        """In this party's turn; beside the loop where the page may have as many octets as is too much for it."""
        if template not in self._ready:
            async with work.turn(party, ON_LOOP_OCTETS_MAX + 1) as do:
                await do(self._compile, template)
        async with work.turn(party, octets) as do:
            page: bytes = await do(self._rendered, template, context)
        return page

    def _rendered(self, template: str, context: Mapping[str, Any]) -> bytes:
        found = self._environment.get_template(template)
        made: list[_OneTimeContext] = []
        try:
            return found.render({**context, _MADE: made}).encode()
        finally:
            for each in made:
                each.let_go()

    def _compile(self, template: str) -> None:
        """It, and all that it names, as far as that is there: a page may show a part that only one door has."""
        if template not in self._ready and template in self._names:
            loader = self._environment.loader
            assert loader is not None
            source, _, _ = loader.get_source(self._environment, template)
            for name in _named_in(source):
                self._compile(name)
            self._environment.get_template(template)
            self._ready.add(template)


_named_in: Final = re.compile(r'{%-?\s*(?:extends|import|include|from)\s+"([\w.]+)"').findall


def _read(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(directory.glob("*.html"))}


def printable(text: str) -> str:
    """The text with everything escaped that does not show as itself, but line ends and tabs."""
    if text.isprintable():
        return text
    return text.translate(_ESCAPES)


class _Escapes(dict[int, str]):
    """For `str.translate`, which takes a tenth of the time of a loop: what is written for a code point."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character.isprintable() or character in "\n\t":
            written = character
        else:
            written = "" if character == "\r" else character.encode("unicode_escape").decode("ascii")
        if len(self) < _ESCAPES_KEPT_MAX:
            self[code] = written
        return written


#: There are more than a million code points, and anybody may write each of them.
_ESCAPES_KEPT_MAX: Final = 10_000
_ESCAPES: Final = _Escapes()


def _shown(value: Any) -> Any:
    """What Jinja writes for a value."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    assert value is not None, "a template shows something that is not there"
    return value


# ------------------------------------------------------------------------------------------------ filters


def _microseconds(moment: int | str) -> int:
    if isinstance(moment, int):
        return moment
    time_us = time_in(moment)
    assert time_us is not None, "no time"
    return time_us


def relative(time_us: int, now_us: int) -> str:
    """`3 min ago`, `in 2 h`."""
    distance = abs(now_us - time_us)
    if distance < 5 * SECOND_US:
        return "now"
    told = duration(distance)
    return f"{told} ago" if time_us < now_us else f"in {told}"


def duration(us: int) -> str:
    """In its largest unit, roughly: `40 s`, `3 min`, `5 h`, `12 days`."""
    if us < SECOND_US:
        return f"{us / 1000:.0f} ms"
    if us < 100 * SECOND_US:
        return f"{us // SECOND_US} s"
    if us < 100 * MINUTE_US:
        return f"{us // MINUTE_US} min"
    if us < 48 * HOUR_US:
        return f"{us // HOUR_US} h"
    return f"{us // DAY_US} days"


def exact(time_us: int) -> str:
    """To the second, in UTC."""
    return f"{utc(time_us):%Y-%m-%d %H:%M:%S} UTC"


@pass_context
def _when(context: JinjaContext, moment: int | str | None) -> Markup | str:
    """How long ago, with the exact time for who asks for it; a dash for never."""
    if moment is None:
        return "–"
    time_us = _microseconds(moment)
    told = relative(time_us, context["now_us"])
    return Markup('<time datetime="{}" title="{}">{}</time>').format(rfc3339(time_us), exact(time_us), told)


@pass_context
def _moment(context: JinjaContext, moment: int | str | None) -> Markup | str:
    """The exact time, and how long ago."""
    if moment is None:
        return "–"
    time_us = _microseconds(moment)
    told = relative(time_us, context["now_us"])
    return Markup('<time datetime="{}">{}</time> <span class="quiet nowrap">({})</span>').format(
        rfc3339(time_us), exact(time_us), told
    )


def size(octets: int) -> str:
    """`640 B`, `12 KB`, `3.4 MB`: thousands, as disks are sold."""
    if octets < 1000:
        return f"{octets} B"
    amount = float(octets)
    units = iter(("KB", "MB", "GB", "TB"))
    unit = "B"
    while amount >= 1000 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.0f} {unit}" if amount >= 10 else f"{amount:.1f} {unit}"


def number(count: int) -> str:
    return f"{count:,}"


def percent(part: float) -> str:
    """Of one: `0.4 %`."""
    return f"{part * 100:.2g} %" if 0 < part < 0.1 else f"{part * 100:.0f} %"


def _short_did(did: str) -> Markup:
    """The beginning, and all of it for who asks."""
    shown = did if len(did) <= _DID_CHARACTERS else did[: _DID_CHARACTERS - 1] + "…"
    return Markup('<code title="{}">{}</code>').format(printable(did), printable(shown))


def _commands(sentence: str) -> Markup:
    """Of a sentence of ours that has commands between backticks, as a terminal shows them."""
    parts = sentence.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(printable(part)) if at % 2 else printable(part)
        for at, part in enumerate(parts)
    )


def words(word: str) -> str:
    """`invalid_recipient` as people write it."""
    return word.replace("_", " ")


def _lines(text: str) -> Markup:
    """A text of several lines, with breaks where they end."""
    return Markup("<br>").join(escape(printable(line)) for line in text.split("\n"))


_FILTERS: Final[Mapping[str, Any]] = {
    "when": _when,
    "moment": _moment,
    "size": size,
    "number": number,
    "percent": percent,
    "short_did": _short_did,
    "duration": duration,
    "lines": _lines,
    "words": words,
    "commands": _commands,
    "quoted": quoted,
}
