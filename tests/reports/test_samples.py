"""The mails of `samples` are read to the letter, with any line ends, cut anywhere, and whatever follows."""

from __future__ import annotations

import pytest

from relay.reports.read import read_mail
from tests.reports.bounds import assert_within_bounds
from tests.reports.samples import DIRECTORY, SAMPLES, sample


def test_each_file_is_told_of() -> None:
    assert {path.stem for path in DIRECTORY.iterdir()} == set(SAMPLES)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r"], ids=["CRLF", "LF", "CR"])
@pytest.mark.parametrize("name", SAMPLES)
def test_read_to_the_letter(name: str, line_end: bytes) -> None:
    verdict, expected = SAMPLES[name]
    reading = read_mail(sample(name).replace(b"\r\n", line_end))
    assert reading == expected
    assert reading.verdict == verdict


@pytest.mark.parametrize("name", SAMPLES)
def test_any_beginning_is_read(name: str) -> None:
    octets = sample(name)
    for end in range(0, len(octets), 7):
        assert_within_bounds(read_mail(octets[:end]))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_large_attachment_before_and_behind_changes_nothing(name: str) -> None:
    """A report is found behind parts of any size, and what is enclosed may be large."""
    octets = sample(name)
    boundary = next((line[2:] for line in octets.split(b"\r\n") if line.startswith(b"--")), None)
    if boundary is None or name == "dmarc_report":
        return
    filler = (
        b"--"
        + boundary
        + b"\r\nContent-Type: application/octet-stream\r\n\r\n"
        + b"A" * 75
        + b"\r\n" * 30_000
    )
    header, gap, body = octets.partition(b"\r\n\r\n")
    reading = read_mail(header + gap + filler + body + filler)
    assert reading == SAMPLES[name][1]
