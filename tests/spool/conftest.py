"""What holds for the tests of the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.world.spool import FORMS, form_of_durability


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs once by each form of durability; by some only: `parametrize("form", [...], indirect=True)`."""
    with form_of_durability(request.param):
        yield request.param
