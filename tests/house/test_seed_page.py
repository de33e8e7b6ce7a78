"""`SEED_PAGE.md` names a test for every sentence of the Send API page: each must be there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent


def test_every_sentence_has_a_test_that_exists() -> None:
    rows = re.findall(
        r"^\| (.+?) \| ((?:\w+/)?test_\w+\.py)::(test_\w+) \|$", (TESTS / "SEED_PAGE.md").read_text(), re.M
    )
    assert len(rows) >= 30
    for sentence, file, name in rows:
        assert re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.M), sentence
