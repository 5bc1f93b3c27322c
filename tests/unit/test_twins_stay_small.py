"""A twin of one fact takes what it says and little more: many of them are in memory at once."""

from __future__ import annotations

import gc
import pickle
import sys
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MappingProxyType, ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical.envelope import Event, parse_structured
from canonical.facts.order import OrderLine, OrderPlaced
from canonical.facts.shipment import ShipmentCreated, ShipmentLine
from canonical.facts.stock import StockAdjusted, StockCounted
from canonical.identity import item, stock
from tests.stories import LOCATION, SKU, dispatched, master_data
from tests.world import World, tell
from twins.core.rules import NOTHING, put, without

SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType)


def counted(sku: str) -> Event:
    return tell(f"stock/{sku}@DC-01", StockCounted(count_id="OPENING", quantity=400, opening=True), 0)


def ordered(name: str) -> Event:
    lines = tuple(
        OrderLine(line_id=f"{name}-{number}", sku=f"SKU-{number}", quantity=2, unit_price="9.99", title="x")
        for number in (1, 2)
    )
    return tell(f"order/{name}", OrderPlaced(customer_id="C", currency="USD", lines=lines, channel="web"), 0)


def created(name: str) -> Event:
    lines = tuple(
        ShipmentLine(order_id=f"SO-{name}", line_id=f"{name}-{number}", sku=f"SKU-{number}", quantity=2)
        for number in (1, 2)
    )
    return tell(f"shipment/{name}", ShipmentCreated(location="DC-DALLAS", lines=lines), 0)


@pytest.mark.parametrize(("of", "bytes_max"), [(counted, 2_400), (ordered, 3_200), (created, 2_850)])
def test_a_small_twin_takes_little_beyond_what_it_shares(of: Callable[[str], Event], bytes_max: int) -> None:
    world = World()
    first, second = (parse_structured(of(name).structured()) for name in ("first", "other"))
    world.take_each([first, second])
    known: set[int] = set()
    _bytes(world.twins[first.subject], known)
    assert _bytes(world.twins[second.subject], known) < bytes_max


def _bytes(found: object, known: set[int]) -> int:
    """Of all that it refers to and that is not *known*."""
    waiting, total = [found], 0
    while waiting:
        one = waiting.pop()
        if id(one) in known or isinstance(one, SHARED):
            continue
        known.add(id(one))
        total += sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return total


def test_the_first_movement_of_a_neighbour_finds_the_counts_before_it() -> None:
    """Counts are summed between only once somebody has moved something: a late issue is in an old count."""
    shelf = f"stock/{SKU}@{LOCATION}"
    counts = (
        *master_data(),
        tell(shelf, StockCounted(count_id="C-1", quantity=94), 100),
        tell(shelf, StockAdjusted(adjustment_id="A-1", delta=-1), 150),
        tell(shelf, StockCounted(count_id="C-2", quantity=93), 200),
    )
    world = World().take_each([*counts, dispatched("SHP-1", 6, 60)])
    seen = world.twins[stock(SKU, LOCATION)].snapshot().view
    assert [seen.variance(seen.state.documents[f"count/sellable/{name}"]) for name in ("C-1", "C-2")] == [
        0,
        0,
    ]


def test_master_data_keeps_little_of_each_order_that_asks_for_it() -> None:
    world = World().take_each(map(ordered, map(str, range(2_000))))
    known: set[int] = set()
    _bytes(list(world.twins), known)
    hub = world.twins[item("SKU-1")]
    assert hub.snapshot().view.interested == 2_000
    assert _bytes(hub.inbox, known) < 2_000 * 64


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh"), st.integers())))
def test_a_small_map_is_as_a_dict(steps: list[tuple[bool, str, int]]) -> None:
    small: Mapping[str, int] = NOTHING
    known: dict[str, int] = {}
    for is_put, key, value in steps:
        before, as_before = small, dict(small.items())
        if is_put:
            small, known[key] = put(small, {key: value}), value
        elif key in known:
            small = without(small, key)
            del known[key]
        assert dict(small) == dict(small.items()) == known
        assert small == known
        assert (len(small), set(small), sorted(small.values())) == (
            len(known),
            set(known),
            sorted(known.values()),
        )
        assert all((one in small, small.get(one)) == (one in known, known.get(one)) for one in "abcdefgh")
        assert isinstance(before, dict) or dict(before.items()) == as_before, (
            "it has changed under its readers"
        )
    assert isinstance(small, MappingProxyType) or pickle.loads(pickle.dumps(small)) == known
    with pytest.raises(KeyError):
        small["z"]
