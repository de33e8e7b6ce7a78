"""Every file in tests/scenarios runs through the whole relay, ends as it says, and is told as it always was.

A story changes when the relay behaves otherwise or tells it otherwise. Where that is meant:
`python -m tests.world.scenario tests/scenarios/*.toml`, and read what it wrote.
"""

from pathlib import Path

import msgspec
import pytest

from tests.world.scenario import Scenario, play, read_scenario, tell

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_ends_as_it_says_and_reads_like_its_story(path: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    assert play(read_scenario(path), directory) == []
    assert tell(directory) == path.with_suffix(".story").read_text()


def test_what_does_not_come_true_is_told(tmp_path: Path) -> None:
    """A scenario that expects the wrong things of a receiver that takes everything."""
    scenario = msgspec.convert(
        {
            "title": "Wishful",
            "members": {"did:plc:harbourharbourharbour234": "forum.example"},
            "domain": [{"names": ["fine.example"], "mx": ["mx.fine.example"]}],
            "mail": [
                {
                    "at": "day 1 00:01",
                    "from": "news@forum.example",
                    "to": "ann@fine.example",
                    "subject": "Hello",
                    "ends": "bounced",
                    "attempts": 2,
                    "says": ["Mailbox full"],
                }
            ],
        },
        Scenario,
    )
    mail = "day 1 00:01, 'Hello' to ann@fine.example: "
    assert play(scenario, tmp_path / "data") == [
        mail + "it does not say 'message 5: bounced'",
        mail + "it does not say 'Mailbox full'",
        mail + "1 attempts, not 2",
        mail + "received 1 times, not 0",
    ]
