"""The public collection of bounces, read as Sisimai reads it, but for the differences that are told and have a reason.

The collection (sisimai/set-of-emails, BSD-2) is no part of the repository: where it is not at hand, these tests are
skipped. What Sisimai says of it is (`sisimai_verdicts.txt`), so that nothing needs Perl.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.reports.read import read_mail
from tests.reports.bounds import assert_within_bounds

CORPUS = Path(os.environ.get("BOUNCES", Path(__file__).parents[2].parent / "shared" / "bounces"))
HERE = Path(__file__).parent
AGREEMENT_MIN = 0.95
FAILURES = ("permanent", "temporary")

pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="the collection of bounces is not here (BOUNCES=DIRECTORY)"
)


def _facts(name: str) -> list[list[str]]:
    lines = (HERE / name).read_text().splitlines()
    return [line.split(maxsplit=3) for line in lines if line and not line.startswith("#")]


def _verdicts() -> dict[str, tuple[str, str]]:
    """By file: Sisimai's verdict and ours."""
    return {
        name: (theirs, read_mail((CORPUS / name).read_bytes()).verdict)
        for name, theirs in _facts("sisimai_verdicts.txt")
        if (CORPUS / name).is_file()
    }


def test_the_verdict_is_that_of_sisimai_but_for_what_is_told() -> None:
    verdicts = _verdicts()
    differences = {name: (theirs, ours) for name, (theirs, ours) in verdicts.items() if theirs != ours}
    told = {
        name: (theirs, ours) for name, theirs, ours, reason in _facts("differences.txt") if name in verdicts
    }
    assert differences == told
    read = [pair for pair in verdicts.values() if pair[0] != "nothing"]
    agreed = sum(theirs == ours for theirs, ours in read)
    assert agreed >= AGREEMENT_MIN * len(read), f"{agreed} of {len(read)}"


def test_what_is_no_bounce_is_none() -> None:
    files = sorted((CORPUS / "maildir" / "not").iterdir())
    assert files
    for path in files:
        assert read_mail(path.read_bytes()).verdict not in (*FAILURES, "complaint"), path.name


def test_line_ends_make_no_difference() -> None:
    count = 0
    for path in sorted((CORPUS / "maildir").glob("*/*.eml")):
        octets = path.read_bytes()
        lines = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        reading = read_mail(octets)
        assert_within_bounds(reading)
        for line_end in (b"\n", b"\r\n", b"\r"):
            assert read_mail(lines.replace(b"\n", line_end)) == reading, path.name
        count += 1
    assert count > 600


def test_every_bounce_has_a_class() -> None:
    """In the one table that replies have, too."""
    for path in sorted((CORPUS / "maildir" / "bsd").iterdir()):
        reading = read_mail(path.read_bytes())
        assert (reading.bounce_class is not None) == (reading.verdict in FAILURES), path.name
