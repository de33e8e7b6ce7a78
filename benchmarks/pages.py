"""The figures in the pages come from one run of `make bench`, which is kept beside them.

    python -m benchmarks.pages              write the tables again, from the newest file in benchmarks/results

A page has its figures between two comments; `all` is a table of all rows, `headlines` one of some, `three` a sentence
each for three of them:

    <!-- figures: headlines -->
    <!-- end of figures -->

`worst inputs` is the table of `python -m benchmarks.worst_inputs`, `finding` that of `python -m benchmarks.finding`,
and `cores` are those of `python -m benchmarks.processes`; of each, runs have files in a directory of their own. Of the
last there are plots, too, one for a light page and one for a dark one (`benchmarks.cores_plot`).

So no figure there is from memory, and a test compares them. Whoever wants other figures runs `make bench` on a quiet
machine, puts its JSON into `benchmarks/results/` under the date, and runs this.
"""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median

from benchmarks import cores_page, cores_plot
from benchmarks.report import Environment, Row, Run, closing_line, decode, describe, markdown, number

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
#: Runs of a benchmark by itself, which looks for what is slow and takes other machines than a quiet one.
WORST_INPUTS = RESULTS / "worst_inputs"
#: As these: they are wanted by themselves, beside Postfix, after each change of what processes do.
PROCESSES = RESULTS / "processes"
#: A million messages take a quarter of an hour to write.
FINDING = RESULTS / "finding"
#: Needs PostgreSQL, and minutes.
NODES = RESULTS / "nodes"
PAGES = (ROOT / "README.md", ROOT / "docs" / "PERFORMANCE.md")
#: What a stranger asks first: which row, and the sentence that its median completes.
THREE = (
    (
        ("accept", "32 connections, 1.5 KB, 1 recipient", "durable sends/s by the clock"),
        "sends a second are accepted, each on disk before its 200",
    ),
    (
        ("accept", "32 connections, 1.5 KB, 1 recipient", "p99, ms"),
        "ms is how long 99 of 100 of them wait at most for their 200, with 32 at a time",
    ),
    (
        ("deliver", "1.5 KB, 1 recipient a send, four signatures", "messages/s, from POST to receiver"),
        "mails a second go all the way from POST to a receiver, with four signatures each",
    ),
)
_PLACE = re.compile(
    r"(<!-- figures: (three|headlines|all|worst inputs|cores|finding|nodes) -->\n).*?(<!-- end of figures -->)",
    re.DOTALL,
)


def newest_results(directory: Path = RESULTS) -> Path:
    return max(directory.glob("*.json"))


def with_figures(page: str, run: Run) -> str:
    """The page with its tables as this run has them, and the one of the worst inputs as the newest of its runs."""

    def place(match: re.Match[str]) -> str:
        if match[2] == "three":
            return f"{match[1]}{_sentences(run)}\n\n{_where(run.environment)}\n{match[3]}"
        if match[2] == "worst inputs":
            worst = decode(newest_results(WORST_INPUTS).read_bytes())
            return f"{match[1]}{_table(worst, worst.rows)}{match[3]}"
        if match[2] == "finding":
            finding = decode(newest_results(FINDING).read_bytes())
            return f"{match[1]}{_table(finding, finding.rows)}{match[3]}"
        if match[2] == "nodes":
            several = decode(newest_results(NODES).read_bytes())
            return f"{match[1]}{_table(several, several.rows)}{match[3]}"
        if match[2] == "cores":
            cores = decode(newest_results(PROCESSES).read_bytes())
            return f"{match[1]}{cores_page.tables(cores)}\n\n{_about(cores)}{match[3]}"
        rows = [row for row in run.rows if match[2] == "all" or row.is_headline]
        return f"{match[1]}{_table(run, rows)}{match[3]}"

    return _PLACE.sub(place, page)


def _table(run: Run, rows: list[Row]) -> str:
    return f"{markdown(rows)}\n\n{_about(run)}"


def _about(run: Run) -> str:
    return f"{describe(run.environment)}. {closing_line(run.rows)}.\n"


def plots(run: Run) -> dict[Path, str]:
    """What is in each file of a plot."""
    return {
        ROOT / "docs" / f"cores-{colours}.svg": cores_plot.plot(run, palette)
        for colours, palette in cores_plot.PALETTES.items()
    }


def _sentences(run: Run) -> str:
    lines = []
    for (question, case, what), sentence in THREE:
        # A row of this name may stand against several ceilings; what was measured is the same.
        values = {
            tuple(row.values)
            for row in run.rows
            if (row.question, row.case, row.what) == (question, case, what)
        }
        assert len(values) == 1, f"not one row of {question}: {case}, {what}"
        lines.append(f"- **{number(median(values.pop()))}** {sentence}")
    return "\n".join(lines)


def _where(environment: Environment) -> str:
    return (
        f"{environment.date}; {environment.processor}, {environment.cores} cores, {environment.file_system}."
    )


def main() -> None:
    run = decode(newest_results().read_bytes())
    for page in PAGES:
        page.write_text(with_figures(page.read_text(), run))
    for path, plot in plots(decode(newest_results(PROCESSES).read_bytes())).items():
        path.write_text(plot)


if __name__ == "__main__":
    main()
