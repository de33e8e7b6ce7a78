"""What `python -m benchmarks.processes open_loop` found, as docs/PERFORMANCE.md shows it.

The rows of a run are many; here a case is a row and a form is a column, each figure a ratio to Postfix in the same
rounds. For speed more is better; processor time and memory are shown as parts of Postfix's, where less is better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from benchmarks.processes import (
    ACCEPT_USUAL,
    ACCEPTING,
    CPU,
    CPU_OF,
    CPU_RATIO_ASKED,
    END_TO_END,
    FORMS,
    MEMORY,
    MEMORY_BYTES_ASKED,
    PER_SECOND,
    SHARE,
    USUAL_FORM,
    case_of,
)
from benchmarks.report import Row, Run, number

CASES = (*ACCEPTING, END_TO_END)


def find(run: Run, name: str, server: object, what: str) -> Row | None:
    case = case_of(name, server)
    return next((row for row in run.rows if row.case == case and row.what == what), None)


def ratio(row: Row | None) -> float | None:
    """Postfix is 1; more is better."""
    return None if row is None else row.ratio


def cost(row: Row | None) -> float | None:
    """Ours as a part of Postfix's."""
    return None if row is None or not row.ratio else 1 / row.ratio


def _median(row: Row | None) -> float | None:
    return None if row is None else median(row.values)


# ------------------------------------------------------------------------------------------------ tables


def tables(run: Run) -> str:
    forms = [str(form) for form in FORMS]
    asked = f"asked of {USUAL_FORM}"
    return "\n\n".join(
        [
            _table(["messages/s, of Postfix's", asked, *forms, "Postfix"], _speeds(run)),
            _table(
                [
                    "processor time a message, of Postfix's",
                    "asked",
                    *forms,
                    "Postfix, ms",
                    "the load's share, %",
                ],
                _costs(run),
            ),
            _table(["whose processor time, ms a message", *forms], _roles(run)),
            _table(["memory, end to end", asked, *forms, "Postfix"], _memory(run)),
            _table([_open_case(run), asked, *forms], _waits(run)),
        ]
    )


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: float | None) -> str:
    return "" if value is None else number(value)


def _speeds(run: Run) -> Iterator[list[str]]:
    for case in CASES:
        rows = [find(run, case.name, form, PER_SECOND) for form in FORMS]
        ratios = [_cell(ratio(row)) for row in rows]
        yield [case.name, f"≥ {case.asked:g}", *ratios, _against(rows)]


def _costs(run: Run) -> Iterator[list[str]]:
    for case in CASES:
        rows = [find(run, case.name, form, CPU) for form in FORMS]
        asked = f"≤ {1 / CPU_RATIO_ASKED:.2f} (0+0, {USUAL_FORM})" if case is END_TO_END else ""
        share = find(run, case.name, USUAL_FORM, SHARE)
        parts = [_cell(cost(row)) for row in rows]
        yield [case.name, asked, *parts, _against(rows), _cell(_median(share))]


def _roles(run: Run) -> Iterator[list[str]]:
    for case in (ACCEPT_USUAL, END_TO_END):
        for role in CPU_OF:
            # One process does all of it.
            rows = [
                find(run, case.name, form, CPU if role == "core" and not any(form) else CPU_OF[role])
                for form in FORMS
            ]
            name = role if role == "core" else f"{role}s"
            yield [f"{case.name}: {name}", *(_cell(_median(row)) for row in rows)]


def _against(rows: Sequence[Row | None]) -> str:
    return next((number(median(row.against.values)) for row in rows if row and row.against), "")


def _memory(run: Run) -> Iterator[list[str]]:
    for what in dict.fromkeys(row.what for row in run.rows if row.case.startswith(MEMORY)):
        rows = [find(run, MEMORY, form, what) for form in FORMS]
        asked = any(row.asked for row in rows if row)
        cells = [_cell(_median(row)) for row in rows]
        yield [what, f"≤ {MEMORY_BYTES_ASKED / 1e6:g}" if asked else "", *cells, _against(rows)]


def _open_rows(run: Run) -> list[Row]:
    return [row for row in run.rows if row.question == "open_loop"]


def _open_case(run: Run) -> str:
    return next((row.case.partition(";")[0] for row in _open_rows(run)), "open loop")


def _waits(run: Run) -> Iterator[list[str]]:
    rows = _open_rows(run)
    for what in dict.fromkeys(row.what for row in rows):
        of_form = {row.case.rpartition("; ")[2]: row for row in rows if row.what == what}
        asked = next((str(row.asked) for row in of_form.values() if row.asked), "")
        cells = [_cell(_median(row)) for row in (of_form.get(str(form)) for form in FORMS)]
        yield [what, asked, *cells]
