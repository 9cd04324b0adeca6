"""Messages agree with their numbers."""

import pytest

from stepstream.contract.text.wording import counted


@pytest.mark.parametrize(("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12_345, "12,345 rows")])
def test_a_noun_agrees_with_its_number(number: int, text: str) -> None:
    """One row is no `1 rows`, and thousands are separated."""
    assert counted(number, "row") == text
