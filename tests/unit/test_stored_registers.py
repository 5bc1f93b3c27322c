"""A neighbour's word that today's code cannot read names the row that holds it."""

from __future__ import annotations

import pytest

from adapters.sql.rows import read_register
from canonical.errors import InvariantViolated


@pytest.mark.parametrize("tag", ["shortage", "item"])
def test_a_word_that_cannot_be_read_names_its_row(tag: str) -> None:
    row = {"source": "item/SKU-1", "target": "order/SO-1", "version": 1, "value": f'{{"x":1,"tag":"{tag}"}}'}
    with pytest.raises(InvariantViolated, match="source item/SKU-1, target order/SO-1"):
        read_register(row)  # type: ignore[arg-type]
