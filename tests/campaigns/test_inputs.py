"""Any octets: read, or refused as promised, by everything that reads what strangers or broken disks have written."""

import pytest

from tests.campaigns.inputs import PROPERTIES, run_property


@pytest.mark.parametrize("name", list(PROPERTIES))
def test_any_octets(name: str) -> None:
    run_property(name, 150, derandomize=True)
