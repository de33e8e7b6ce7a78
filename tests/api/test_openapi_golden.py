"""The OpenAPI document changes only on purpose: `tests/golden_openapi` has it as it was."""

from tests.golden_openapi.document import GOLDEN, text


def test_the_document_is_what_it_was() -> None:
    assert text().splitlines() == GOLDEN.read_text().splitlines()
