"""The figures in the pages come from one run of `make bench`, which is kept beside them.

    python -m benchmarks.pages              write the tables again, from the newest file in benchmarks/results

A page has its table between two comments; `headlines` are some rows, `all` are all of them:

    <!-- figures: headlines -->
    <!-- end of figures -->

So no figure there is from memory, and a test compares them. Whoever wants other figures runs `make bench` on a quiet
machine, puts its JSON into `benchmarks/results/` under the date, and runs this.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.report import Run, closing_line, decode, describe, markdown

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "PERFORMANCE.md")
_PLACE = re.compile(r"(<!-- figures: (headlines|all) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def newest_results() -> Path:
    return max(RESULTS.glob("*.json"))


def with_figures(page: str, run: Run) -> str:
    """The page with its tables as this run has them."""

    def place(match: re.Match[str]) -> str:
        rows = [row for row in run.rows if match[2] == "all" or row.is_headline]
        return f"{match[1]}{markdown(rows)}\n\n{describe(run.environment)}. {closing_line(run.rows)}.\n{match[3]}"

    return _PLACE.sub(place, page)


def main() -> None:
    run = decode(newest_results().read_bytes())
    for page in PAGES:
        page.write_text(with_figures(page.read_text(), run))


if __name__ == "__main__":
    main()
