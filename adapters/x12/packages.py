"""Marks on packages (MAN), and lines that several loops tell of together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from adapters.x12.document import built
from adapters.x12.segments import Segment
from canonical.facts.shipment import Package, ShipmentLine
from canonical.money import ZERO

_SSCC = ("GM", "AA")
"""Element 88 in MAN01 and MAN04: an SSCC with its application identifier, and without."""
_CARRIER_PACKAGE = "CP"
"""The carrier's number for the package, by which it is tracked."""

_Mark = tuple[Segment, int, str]
"""A MAN, the element that holds the number, and the number."""


def packages(segments: Iterable[Segment], lines: Sequence[ShipmentLine]) -> list[Package]:
    """The packages that MANs identify by SSCC or by the carrier's number, with *lines* in the only one.

    An SSCC and a carrier's number in two MANs are one package; where either repeats, each MAN is a package
    of its own, and nothing says what is in which. Raises: RefusedSet, also for a wrong check digit.
    """
    told = [(_mark(one, _SSCC), _mark(one, (_CARRIER_PACKAGE,))) for one in segments if one.id == "MAN"]
    told = [marks for marks in told if any(marks)]
    ssccs = [sscc for sscc, _ in told if sscc]
    numbers = [number for _, number in told if number]
    if len(ssccs) > 1 or len(numbers) > 1:
        return [_package(sscc, number, ()) for sscc, number in told]
    if not told:
        return []
    return [_package(next(iter(ssccs), None), next(iter(numbers), None), lines)]


def _mark(man: Segment, qualifiers: Sequence[str]) -> _Mark | None:
    for start in (1, 4):
        if man[start] in qualifiers and man[start + 1]:
            return man, start + 1, man[start + 1]
    return None


def _package(sscc: _Mark | None, number: _Mark | None, lines: Sequence[ShipmentLine]) -> Package:
    named = sscc or number
    assert named is not None
    segment, element, name = named
    return built(
        Package,
        segment,
        {"sscc": element, "package_id": element},
        package_id=name[-18:] if sscc else name,
        sscc=sscc[2] if sscc else None,
        tracking_number=number[2] if number else None,
        lines=tuple(lines),
    )


def merged(lines: Iterable[ShipmentLine]) -> tuple[ShipmentLine, ...]:
    """One line for each order line, SKU and unit: lots and cartons of the same line are added up.

    That they are told in one unit is checked where they are read, by `OneUnit`.
    """
    totals: dict[tuple[str, str, str, str], Decimal] = {}
    for line in lines:
        kind = (line.order_id, line.line_id, line.sku, line.unit)
        totals[kind] = totals.get(kind, ZERO) + line.quantity
    return tuple(
        ShipmentLine(order_id=order_id, line_id=line_id, sku=sku, unit=unit, quantity=quantity)
        for (order_id, line_id, sku, unit), quantity in totals.items()
    )
