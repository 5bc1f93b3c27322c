"""A neighbour's word as it is stored: by earlier code, too; one that cannot be read names its row."""

from __future__ import annotations

import pytest

from adapters.sql.rows import read_register
from canonical.errors import InvariantViolated
from twins.core.contributions import CustomerCard, ItemCard, Value


@pytest.mark.parametrize("tag", ["shortage", "item"])
def test_a_word_that_cannot_be_read_names_its_row(tag: str) -> None:
    row = {"source": "item/SKU-1", "target": "order/SO-1", "version": 1, "value": f'{{"x":1,"tag":"{tag}"}}'}
    with pytest.raises(InvariantViolated, match="source item/SKU-1, target order/SO-1"):
        read_register(row)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "is_read"),
    [
        ('{"revision":1,"active":true,"title":"W","costs":[],"tag":"item"}', ItemCard(())),
        ('{"active":true,"tag":"customer"}', CustomerCard()),
    ],
)
def test_a_word_that_earlier_code_stored_is_read(told: str, is_read: Value) -> None:
    row = {"source": "item/SKU-1", "target": "order/SO-1", "version": 1, "value": told}
    assert read_register(row).value == is_read  # type: ignore[arg-type]
