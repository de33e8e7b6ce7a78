"""A plot of what more cores bring, drawn from a run of `benchmarks.processes`: an SVG of our own few lines.

Two panels beside each other, a case on each line, a bar for each form: messages/s and processor time a message, both of
Postfix's, whose place is the line at 1. A small mark says what was asked of a bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from benchmarks.cores_page import CASES, cost, find, ratio
from benchmarks.processes import CPU, CPU_RATIO_ASKED, END_TO_END, FORMS, PER_SECOND, USUAL_FORM, Case, Form
from benchmarks.report import Run, number


class Palette(NamedTuple):
    ground: str
    text: str
    faint: str
    #: Of bars, a colour for each form.
    forms: Sequence[str]
    asked: str


LIGHT = Palette("#ffffff", "#1f2328", "#656d76", ("#8c959f", "#0969da", "#54aeff", "#1b7c83"), "#cf222e")
DARK = Palette("#0d1117", "#e6edf3", "#8d96a0", ("#6e7681", "#58a6ff", "#1f6feb", "#39c5cf"), "#ff7b72")
PALETTES = {"light": LIGHT, "dark": DARK}

_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_LABELS_WIDTH, _PANEL_WIDTH, _GAP = 310, 260, 50
_BAR, _CASE_GAP, _TOP, _BOTTOM = 10, 14, 64, 16
_CASE_HEIGHT = _BAR * len(FORMS) + _CASE_GAP
_WIDTH = _LABELS_WIDTH + 2 * (_PANEL_WIDTH + _GAP)
_HEIGHT = _TOP + _CASE_HEIGHT * len(CASES) + _BOTTOM


class Panel(NamedTuple):
    title: str
    left: float
    value: Callable[[Case, Form], float | None]
    asked: Callable[[Case, Form], float | None]


def plot(run: Run, palette: Palette) -> str:
    panels = (
        Panel(
            "messages/s (more is better)",
            _LABELS_WIDTH,
            lambda case, form: ratio(find(run, case.name, form, PER_SECOND)),
            lambda case, form: case.asked if form == USUAL_FORM else None,
        ),
        Panel(
            "processor time a message (less is better)",
            _LABELS_WIDTH + _PANEL_WIDTH + _GAP,
            lambda case, form: cost(find(run, case.name, form, CPU)),
            lambda case, form: (
                1 / CPU_RATIO_ASKED if case is END_TO_END and form in (Form(0, 0), USUAL_FORM) else None
            ),
        ),
    )
    shapes = [*_labels(palette), *(shape for panel in panels for shape in _panel(panel, palette))]
    inside = "\n".join(shapes)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">
<title>The relay in {len(FORMS)} forms beside Postfix</title>
<rect width="{_WIDTH}" height="{_HEIGHT}" fill="{palette.ground}"/>
<g font-family="{_FONT}" font-size="12" fill="{palette.text}">
{inside}
</g>
</svg>
"""


def _top(case: Case) -> float:
    return _TOP + CASES.index(case) * _CASE_HEIGHT


def _text(x: float, y: float, text: str, **attributes: object) -> str:
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:g}" y="{y:g}"{more}>{escape(text)}</text>'


def _labels(palette: Palette) -> Iterator[str]:
    x = 16.0
    for form, colour in zip(FORMS, palette.forms, strict=True):
        yield f'<rect x="{x:g}" y="16" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 17, 26, str(form))
        x += 56
    yield f'<line x1="{x:g}" x2="{x:g}" y1="15" y2="29" stroke="{palette.asked}" stroke-width="2"/>'
    yield _text(x + 7, 26, "asked")
    yield _text(16, 46, "edges + couriers", fill=palette.faint)
    for case in CASES:
        yield _text(16, _top(case) + _BAR * len(FORMS) / 2 + 4, case.name)


def _panel(panel: Panel, palette: Palette) -> Iterator[str]:
    values = {(case, form): panel.value(case, form) for case in CASES for form in FORMS}
    asked = {(case, form): panel.asked(case, form) for case in CASES for form in FORMS}
    most = max([1.0, *(each for each in (*values.values(), *asked.values()) if each is not None)])
    unit = (_PANEL_WIDTH - 30) / most
    yield _text(panel.left, 26, panel.title, font_weight="bold")
    for (case, form), value in values.items():
        number_of_bar = FORMS.index(form)
        y = _top(case) + number_of_bar * _BAR
        if value is not None:
            colour = palette.forms[number_of_bar]
            yield f'<rect x="{panel.left}" y="{y}" width="{value * unit:.1f}" height="{_BAR - 1}" fill="{colour}"/>'
            yield _text(round(panel.left + value * unit + 4, 1), y + 8, number(value), font_size=9)
        if (bound := asked[case, form]) is not None:
            at = round(panel.left + bound * unit, 1)
            yield (
                f'<line x1="{at}" x2="{at}" y1="{y - 1}" y2="{y + _BAR}" '
                f'stroke="{palette.asked}" stroke-width="2"/>'
            )
    at = round(panel.left + unit, 1)
    yield (
        f'<line x1="{at}" x2="{at}" y1="{_TOP - 8}" y2="{_HEIGHT - _BOTTOM}" stroke="{palette.text}" '
        'stroke-dasharray="2 3"/>'
    )
    yield _text(at, 46, "Postfix", text_anchor="middle", fill=palette.faint)
